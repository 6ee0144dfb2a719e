"""One environment on the real AWS, from nothing to nothing: `E2E=1 python tests/run.py e2e`. It costs some cents.

The account is that of the usual AWS variables or profile; MLOPS_ENV_REGION chooses where. Standard output is the
transcript.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

CLI = str(Path(sys.executable).parent / "mlops-env")
METRICS = {"train_rmse": 7.0399374, "validation_rmse": 7.3561704}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """State and workspace of its own; credentials stay the user's."""
    return tmp_path


def run(home: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """A command; what it ends with."""
    variables = {**os.environ, "MLOPS_ENV_HOME": str(home / "state"), "MLOPS_ENV_WORKSPACE": str(home / "workspace")}
    command = [CLI, *words, "--json"]
    print(f"$ mlops-env {' '.join(words)}", flush=True)
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    assert done.returncode == code, done.stdout
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_up_trains_and_down_leaves_nothing(home: Path) -> None:
    try:
        made = run(home, "up", "--target", "ec2", "--ttl", "1h", "--yes")
        assert {name: made["run"]["metrics"][name] for name in METRICS} == pytest.approx(METRICS, abs=1e-6)
        assert run(home, "up")["run"] == made["run"]
        run(home, "stop")
        assert run(home, "start")["urls"] == made["urls"]
        (seen,) = run(home, "status")["environments"]
        assert seen["health"] == "up"
    finally:
        record = json.loads((home / "state" / "default" / "environment.json").read_text(encoding="utf-8"))
        ended = run(home, "down", "--discard")
    assert ended["left"] == 0
    ec2 = boto3.client("ec2", region_name=record["cloud"]["region"])
    filters = [{"Name": "key", "Values": ["mlops-env:id"]}, {"Name": "value", "Values": [record["id"]]}]
    left = ec2.describe_tags(Filters=filters)["Tags"]
    assert [tag for tag in left if tag["ResourceType"] != "instance"] == []  # which AWS shows for an hour, terminated
