"""Where an environment is on this host, outside its own directory."""

from __future__ import annotations

import os
from pathlib import Path


def runtime_directory(identity: str) -> Path:
    """Where the supervisor's socket is: a unix socket's path may be no longer than about 100 bytes."""
    return Path("/tmp") / f"mlops-env-{os.getuid()}-{identity[:8]}"  # noqa: S108 - made 0700 and checked by its user


def supervisor_socket(identity: str) -> Path:
    """There as long as there may be services under a supervisor."""
    return runtime_directory(identity) / "supervisor.sock"


def compose_settings(directory: Path) -> Path:
    """Compose's env file; there as long as there may be containers."""
    return directory / "compose.env"


def pulled_images(directory: Path) -> Path:
    """The base images that came to this host for us, one a line; there as soon as anything of ours may be in Docker."""
    return directory / "made" / "images"
