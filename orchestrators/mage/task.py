"""What every block of the Mage project calls: one step of the pipeline, its output in the block's log.

A block gets at it by `runpy`, so that nothing of ours is imported under a name of its own into Mage's process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class StepFailed(Exception):
    """The step's process ended with another exit code than 0."""


def run(step: str, variables: Mapping[str, Any]) -> None:
    """Run one step with the variables of this pipeline run, Mage's own among them.

    Raises:
        StepFailed: with the step's exit code and last lines; Mage shows it as the block's error.
    """
    command = [sys.executable, str(Path(os.environ["MLOPS_ENV_TREE"], "orchestrators", "step.py")), step]
    command += ["--run-key", run_key(variables)]
    for name in _parameters(Path(os.environ["MLOPS_ENV_WORKSPACE"])):
        if name in variables:
            command += ["--param", f"{name}={_text(variables[name])}"]
    tail: deque[str] = deque(maxlen=10)
    # step.py ends its own process when this one, its parent, is killed: that is how Mage cancels a run.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - by PIPE above
        for line in process.stdout:
            tail.append(line)
            print(line.rstrip())
    if process.returncode:
        raise StepFailed(f"step {step} ended with exit code {process.returncode}:\n{''.join(tail)}")


def run_key(variables: Mapping[str, Any]) -> str:
    """The key given by `mlops-env run`, else one of this pipeline run that no other database repeats."""
    if given := variables.get("run_key"):
        return str(given)
    if "pipeline_run_id" in variables:
        moment = str(variables["execution_partition"]).rpartition("/")[2]
        return f"mage-{variables['pipeline_run_id']}-{moment}"
    return f"mage-editor-{datetime.now(tz=UTC):%Y-%m-%d}"  # a block run by hand: all of a day share a run


def _parameters(workspace: Path) -> list[str]:
    table = tomllib.loads((workspace / "mlops-env.toml").read_text(encoding="utf-8"))
    return list(table["pipeline"].get("params", {}))


def _text(value: object) -> str:
    # Mage's editor turns what is typed there into numbers and truth values.
    return json.dumps(value) if isinstance(value, bool | int | float | list | dict) else str(value)
