"""End and remove all that an environment made on this host, and say what was found, removed and left.

`python sweep.py` prints one JSON row a line: {"kind", "found", "removed", "left"}. It needs nothing of what it
removes and trusts no file: it works after a kill -9, after a reboot, half-way through an install, and twice.
The workspace is the user's and is not touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from pathlib import Path

import processes
import sweep_docker
from places import runtime_directory

_KINDS = {
    "venv": "venvs",
    "secret": "secrets",
    "state": "state",
    "log": "logs",
    "tree": "tree",
}


def main() -> int:
    identity, host = os.environ["MLOPS_ENV_ID"], Path(os.environ["MLOPS_ENV_HOST_DIR"])
    jobs, _ = processes.end_all(identity, jobs=True)  # of ours, killed: they would go on making what is removed here
    docker = sweep_docker.sweep(identity, host)
    rows = [_row(kind, found, left) for kind, (found, left) in docker.items()]
    rows += _processes(identity, jobs)
    rows.append(_row("file", *_take_back_gitconfig(host / "made" / "gitconfig")))
    rows += [_row(kind, *_remove_children(host / directory)) for kind, directory in _KINDS.items()]
    # What is left in Docker is to be found by the next sweep too, which goes by what is written there.
    directories = [] if any(left for _, left in docker.values()) else [host]
    rows.append(_row("directory", *_remove([*directories, runtime_directory(identity)])))
    _remove_empty(host.parent, host.parent.parent)
    for row in rows:
        print(json.dumps(row))
    return 0


def _remove_empty(*directories: Path) -> None:
    """What we made to put ours in; on the machine of who typed, the record is still there, and so they stay."""
    with contextlib.suppress(OSError):
        for directory in directories:
            directory.rmdir()


def _row(kind: str, found: int, left: int) -> dict[str, str | int]:
    return {"kind": kind, "found": found, "removed": found - left, "left": left}


def _processes(identity: str, ended: int) -> list[dict[str, str | int]]:
    ports = processes.listening(processes.find(identity))
    found, left = processes.end_all(identity)
    ports_left = processes.listening(processes.find(identity)) if left else set()
    return [_row("process", ended + found, left), _row("port", len(ports), len(ports_left & ports))]


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
