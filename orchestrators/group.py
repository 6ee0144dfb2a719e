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

import processes

_STOP_SECONDS = 10.0


class _Service:
    """The main process, and what the supervisor's signals do to it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)

    def run(self, argv: list[str], cwd: str, variables: dict[str, str]) -> int:
        """Its exit code, as a shell tells it; 0 if it was to stop."""
        self._child = subprocess.Popen(argv, cwd=cwd, env=variables, start_new_session=True)
        if self._stopping:  # a signal came while it was being started
            self._stop()
        code = self._child.wait()
        if self._stopping:
            return 0
        print(f"{variables['MLOPS_ENV_SERVICE']} ended with {code}", file=sys.stderr)
        return code if code >= 0 else 128 - code

    def _stop(self, *_: object) -> None:
        self._stopping = True
        if self._child:
            self._child.terminate()  # the main process alone: it knows best in which order its children end
            signal.setitimer(signal.ITIMER_REAL, _STOP_SECONDS)

    def _kill(self, *_: object) -> None:
        if self._child:
            self._child.kill()


def main() -> int:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    settings: dict[str, str] = spec["settings"]
    identity, service = settings["MLOPS_ENV_ID"], settings["MLOPS_ENV_SERVICE"]
    _, left = processes.end_all(identity, service=service)
    if left:
        print(f"{left} processes of an earlier start of {service} cannot be ended", file=sys.stderr)
        return 1
    code = _Service().run(spec["argv"], spec["cwd"], {**os.environ, **settings})
    processes.end_all(identity, service=service)
    return code


if __name__ == "__main__":
    sys.exit(main())
