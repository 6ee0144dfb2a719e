"""The orchestrator's native project: its own project.py generates it, in the tools venv's Python."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host import Host


def bring(host: Host, *words: str) -> bool:
    """Have it generated, or with `check` only compared; whether that is done, or there was nothing to do."""
    return begin(host, *words).wait() == 0


def begin(host: Host, *words: str) -> subprocess.Popen[bytes]:
    """The same for who has something to do meanwhile."""
    script = host.script(host.orchestrator, "project.py")
    command = [sys.executable, str(script), *words] if script.is_file() else ["true"]
    return subprocess.Popen(command, env={**os.environ, **host.settings(host.orchestrator)})
