"""Target ec2 on the sandbox, without machines and without the time that AWS's own take: our side and the engine's.

Provisioning is what lies between the choice of the engine and the last resource; an `up` with nothing to do is timed as
a whole, its interpreter included. The account has no default network, so that eleven resources are made. Each engine
that is there has environments of its own; the first is not in the figures, as it compiles bytecode.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mlops_env.sandbox import control

CLI = str(Path(sys.executable).parent / "mlops-env")
ROUNDS, REPEATS, RESOURCES = 3, 5, 11
_UP = ("up", "--target", "ec2", "--sandbox", "--no-host", "--fault", "no-default-vpc", "--yes", "--json")

Row = dict[str, Any]


def rows() -> list[Row]:
    real = shutil.which("pulumi")
    path = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not Path(folder, "pulumi").exists()
    )
    found = _of_engine("embedded engine", path)
    return [*found, *(_of_engine("Pulumi", f"{Path(real).parent}{os.pathsep}{path}") if real else [])]


def _of_engine(title: str, path: str) -> list[Row]:
    made, whole, looked, ended = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="mlops-env-bench-") as name:
        sandbox = Path(name) / "sandbox"
        foreign = ("MLOPS_ENV_", "AWS_", "PULUMI_", "PYTHONDONTWRITEBYTECODE")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        variables = {**kept, "PATH": path, "HOME": name, "MLOPS_ENV_SANDBOX": str(sandbox)}
        running = control.ensure(sandbox, lambda _: None, with_hosts=False, by_hand=True)
        try:
            running.call("PUT", "/sandbox/timing", {"transition": 0, "consistency": 0})
            for number in range(ROUNDS + 1):
                seconds, events = _timed(variables, *_UP, "--name", f"n{number}")
                if not events[-1]["engine"].startswith(title):
                    raise SystemExit(f"{events[-1]['engine']} was taken, not {title}")
                looks = [_timed(variables, *_UP, "--name", f"n{number}")[0] for _ in range(REPEATS)]
                end, _ = _timed(variables, "down", "--json", "--name", f"n{number}")
                if number:
                    made.append(_provisioning(events))
                    whole.append(seconds)
                    looked += looks
                    ended.append(end)
        finally:
            control.stop(sandbox, lambda _: None)
    detail = f"the whole `up` {statistics.median(whole):.2f} s, `down` with its sweep {statistics.median(ended):.2f} s"
    return [
        _row(f"provisioning 11 resources, seconds ({title})", statistics.median(made), 3.0, detail),
        _row(f"`up` of ec2 with nothing to do, seconds ({title})", statistics.median(looked), 2.0, ""),
    ]


def _provisioning(events: list[dict[str, Any]]) -> float:
    made = [event for event in events if event["type"] == "resource" and event.get("status") == "changed"]
    if len(made) != RESOURCES:
        raise SystemExit(f"{len(made)} resources were made, not {RESOURCES}")
    chosen = next(event for event in events if event.get("message", "").startswith("engine "))
    return float(made[-1]["time"] - chosen["time"])


def _timed(variables: dict[str, str], *words: str) -> tuple[float, list[dict[str, Any]]]:
    start = time.monotonic()
    done = subprocess.run([CLI, *words], env=variables, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds, [json.loads(line) for line in done.stdout.splitlines()]


def _row(name: str, figure: float, bar: float, detail: str) -> Row:
    return {"name": name, "value": round(figure, 3), "bar": f"<= {bar}", "met": figure <= bar, "detail": detail}
