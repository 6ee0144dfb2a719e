"""End and remove all that an environment made on this host, and say what was found, removed and left.

`python sweep.py` prints one JSON row a line: {"kind", "found", "removed", "left"}. It needs nothing of what it
removes and trusts no file: it works after a kill -9, after a reboot, half-way through an install, and twice.
The workspace is the user's and is not touched.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import processes

_KINDS = {
    "venv": "venvs",
    "secret": "secrets",
    "state": "state",
    "log": "logs",
    "tree": "tree",
}


def main() -> int:
    identity, host = os.environ["MLOPS_ENV_ID"], Path(os.environ["MLOPS_ENV_HOST_DIR"])
    rows = _processes(identity)
    rows.append(_row("file", *_take_back_gitconfig(host / "made" / "gitconfig")))
    rows += [_row(kind, *_remove_children(host / directory)) for kind, directory in _KINDS.items()]
    rows.append(_row("directory", *_remove([host, runtime_directory(identity)])))
    for row in rows:
        print(json.dumps(row))
    return 0


def runtime_directory(identity: str) -> Path:
    """Where the supervisor's socket is: a unix socket's path may be no longer than about 100 bytes."""
    return Path("/tmp") / f"mlops-env-{os.getuid()}-{identity[:8]}"  # noqa: S108 - made 0700 and checked by its user


def _row(kind: str, found: int, left: int) -> dict[str, str | int]:
    return {"kind": kind, "found": found, "removed": found - left, "left": left}


def _processes(identity: str) -> list[dict[str, str | int]]:
    ports = processes.listening(processes.find(identity))
    found, left = processes.end_all(identity)
    ports_left = processes.listening(processes.find(identity)) if left else set()
    return [_row("process", found, left), _row("port", len(ports), len(ports_left & ports))]


def _take_back_gitconfig(made: Path) -> tuple[int, int]:
    """A ~/.gitconfig that bootstrap wrote goes too, while it still is what bootstrap wrote."""
    config = Path.home() / ".gitconfig"
    if not made.is_file() or not config.is_file() or made.read_bytes() != config.read_bytes():
        return 0, 0
    return _remove([config])


def _remove_children(directory: Path) -> tuple[int, int]:
    try:
        children = list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return 0, 0
    return _remove(children)


def _remove(paths: list[Path]) -> tuple[int, int]:
    found = [path for path in paths if path.exists() or path.is_symlink()]
    for path in found:
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            print(f"{path}: {error.strerror}", file=sys.stderr)
    return len(found), sum(path.exists() or path.is_symlink() for path in found)


if __name__ == "__main__":
    sys.exit(main())
