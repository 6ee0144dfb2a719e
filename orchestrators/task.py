"""What every native task calls: one step of the pipeline, its output in the task's own log.

Generated projects get at it by `runpy`, so that nothing of ours is imported by name into an orchestrator's process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class StepFailed(Exception):
    """The step's process ended with another exit code than 0."""


def run_step(step: str, run_key: str, params: Mapping[str, str]) -> None:
    """Raises StepFailed with the step's exit code and last lines, which the orchestrator shows as the task's error."""
    command = [sys.executable, str(Path(os.environ["MLOPS_ENV_TREE"], "orchestrators", "step.py")), step]
    command += ["--run-key", run_key, *(f"--param={name}={value}" for name, value in params.items())]
    tail: deque[str] = deque(maxlen=10)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 (by PIPE above)
        try:
            for line in process.stdout:
                tail.append(line)
                print(line.rstrip())
        except BaseException:  # some orchestrators cancel a run by an exception in their main thread
            process.terminate()
            raise
    if process.returncode:
        raise StepFailed(f"step {step} ended with exit code {process.returncode}:\n{''.join(tail)}")
