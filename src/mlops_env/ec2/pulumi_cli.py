"""Where the Pulumi CLI is: on PATH, or downloaded once and verified."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_env.connection import LocalConnection
from mlops_env.ec2 import pulumi_download
from mlops_env.events import Event

if TYPE_CHECKING:
    from mlops_env.events import Emit

MINIMUM = (3, 206, 0)
"""The first version that sends its events over gRPC, which is how we hear them."""


def find(emit: Emit, *, releases: str = pulumi_download.RELEASES) -> Path:
    """The root of a CLI, `bin/pulumi` under it: the one on PATH, else the one of the SDK's version, fetched once."""
    import platformdirs  # noqa: PLC0415 - needed only where no Pulumi is installed

    found = installed()
    if found:
        return found
    if shutil.which("pulumi"):
        wanted = ".".join(map(str, MINIMUM))
        emit(Event("note", message=f"the `pulumi` on PATH is not {wanted} or a later 3.x, and is left alone"))
    version = importlib.metadata.version("pulumi")
    root = platformdirs.user_data_path("mlops-env", appauthor=False) / "pulumi" / f"v{version}"
    return root if root.is_dir() else pulumi_download.fetch(version, root, emit, releases=releases)


def installed() -> Path | None:
    """The root of the CLI on PATH, if it is one that the SDK can work with."""
    found = shutil.which("pulumi")
    if not found:
        return None
    executable = Path(found).resolve()
    # Elsewhere it is some version manager's shim, which answers by the directory it is called in.
    if executable.parent.name != "bin" or executable.stem != "pulumi":
        return None
    root = executable.parents[1]
    return root if MINIMUM <= _version(root) < (MINIMUM[0] + 1,) else None


def title(root: Path) -> str:
    """What people call it: `Pulumi v3.260.0`."""
    return f"Pulumi v{'.'.join(map(str, _version(root)))}"


@functools.cache
def _version(root: Path) -> tuple[int, ...]:
    """Empty if it does not tell."""
    told = LocalConnection().run(["env", "PULUMI_SKIP_UPDATE_CHECK=true", str(root / "bin" / "pulumi"), "version"])
    parts = re.match(r"v?(\d+)\.(\d+)\.(\d+)", told.stdout)
    return tuple(map(int, parts.groups())) if parts else ()
