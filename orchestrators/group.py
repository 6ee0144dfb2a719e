"""Run one service so that nothing of it outlives it: `python group.py SPEC.json`, a program of the supervisor.

The supervisor ends a process group only when it is told to stop; when a service's main process dies, its orphans
stay, and the restarted service meets them (two Mage schedulers on one database were seen). So: what an earlier
start left is ended before this one begins, and all that this one started is ended before we exit.
SPEC.json: {"argv": […], "cwd": "…", "settings": {variable: value}}.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import processes

if TYPE_CHECKING:
    from types import FrameType

_STOP_SECONDS = 10.0


class _Stop(Exception):
    pass


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    identity, service = spec["settings"]["MLOPS_ENV_ID"], spec["settings"]["MLOPS_ENV_SERVICE"]
    _, left = processes.end_all(identity, service=service)
    if left:
        print(f"{left} processes of an earlier start of {service} cannot be ended", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    child = subprocess.Popen(
        spec["argv"], cwd=spec["cwd"], env={**os.environ, **spec["settings"]}, start_new_session=True
    )
    try:
        code = child.wait()
        print(f"{service} ended with {code}", file=sys.stderr)
    except _Stop:
        code = 0
        child.terminate()  # first the main process alone: it knows best in which order its children end
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    processes.end_all(identity, service=service)
    return code if code >= 0 else 128 - code


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stop


if __name__ == "__main__":
    sys.exit(main())
