"""Where an environment is on this host, outside its own directory."""

from __future__ import annotations

import os
from pathlib import Path


def runtime_directory(identity: str) -> Path:
    """Where the supervisor's socket is: a unix socket's path may be no longer than about 100 bytes."""
    return Path("/tmp") / f"mlops-env-{os.getuid()}-{identity[:8]}"  # noqa: S108 - made 0700 and checked by its user


def pulled_images(directory: Path) -> Path:
    """The base images that came to this host for us, one a line; there as soon as anything of ours may be in Docker."""
    return directory / "made" / "images"
