"""bootstrap/ without the CLI: `bash run.sh`, twice, and `bash down.sh`, with nothing but a few variables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .harness import Machine, Table


def by_hand(machine: Machine, script: str, *words: str) -> tuple[int, list[Table]]:
    workspace = machine.home / "my code"
    settings = {
        "MLOPS_ENV_ORCHESTRATOR": "toy",
        "MLOPS_ENV_WORKSPACE": str(workspace),
        "MLOPS_ENV_OWN_WORKSPACE": "1",
        "MLOPS_ENV_RUNTIME": "venv",
        "MLOPS_ENV_SYSTEM": "",  # root, as in CI, would equip the machine
        "MLOPS_ENV_UV": str(Path(sys.executable).with_name("uv")),
    }
    command = ["bash", str(machine.product / "bootstrap" / script), *words]
    done = subprocess.run(
        command, env={**machine.variables(), **settings}, stdout=subprocess.PIPE, text=True, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def steps(events: list[Table]) -> dict[str, str]:
    """Those that were called for. uv was given, so it is always there."""
    said = {event["name"]: event["status"] for event in events if event["type"] == "step"}
    assert said.pop("uv") == "ok"
    return {name: status for name, status in said.items() if status != "skipped"}


def test_run_twice_and_down_twice(toy: Machine) -> None:
    workspace = toy.home / "my code"
    workspace.mkdir()
    (workspace / "mlops-env.toml").write_text(
        '[pipeline]\nname = "mine"\nsteps = [{name = "a", run = "python a.py"}]\n'
    )

    code, events = by_hand(toy, "run.sh", "check")
    assert (code, set(steps(events).values())) == (10, {"pending"})
    assert not toy.state.exists()

    code, events = by_hand(toy, "run.sh")
    assert (code, set(steps(events).values())) == (0, {"changed"})
    assert {event["name"] for event in events if event["type"] == "page"} == {"mlflow", "toy"}

    code, events = by_hand(toy, "run.sh")
    assert (code, set(steps(events).values())) == (0, {"ok"})

    code, rows = by_hand(toy, "down.sh")
    assert code == 0
    assert {row["kind"] for row in rows if row["removed"]} >= {"process", "port", "venv", "state", "log", "directory"}
    assert sum(row["left"] for row in rows) == 0
    assert sorted(path.name for path in workspace.iterdir()) == [".mlops-env", "mlops-env.toml"]
    assert not toy.host().exists()

    assert by_hand(toy, "down.sh") == (0, [])
