"""Write generated files without ever losing a user's change.

A manifest remembers the digest of what was last written. A file whose digest is still that one is ours to
update or remove; any other is the user's and is left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Status = Literal["created", "updated", "ok", "kept", "removed"]

_NOT_A_FILE = "not a regular file"  # a link, a folder: never something that we wrote


@dataclass(frozen=True)
class Change:
    """What became of one file; `kept` means that it is the user's now."""

    path: str
    status: Status


def plan(root: Path, files: Mapping[str, bytes], manifest: Path, section: str) -> list[Change]:
    """What `write` would do, without doing it; `is_current` says whether that is nothing."""
    before = _read(manifest).get(section, {})
    changes = [Change(path, _status(root / path, content, before.get(path))) for path, content in sorted(files.items())]
    for path in sorted(before.keys() - files.keys()):
        found = _digest_on_disk(root / path)
        if found is not None:
            changes.append(Change(path, "removed" if found == before[path] else "kept"))
    return changes


def bring(root: Path, files: Mapping[str, bytes], manifest: Path, section: str, *, check: bool) -> bool:
    """`write` that names on stderr what it kept; with `check` only say whether there is nothing to write."""
    if check:
        return is_current(root, files, manifest, section)
    for change in write(root, files, manifest, section):
        if change.status == "kept":
            print(f"kept, as you changed it: {root / change.path}", file=sys.stderr)
    return True


def is_current(root: Path, files: Mapping[str, bytes], manifest: Path, section: str) -> bool:
    return all(change.status in ("ok", "kept") for change in plan(root, files, manifest, section))


def write(root: Path, files: Mapping[str, bytes], manifest: Path, section: str) -> list[Change]:
    """Bring the files under `root` to `files`, except those the user changed.

    Args:
        root: the folder that the relative paths in `files` start from.
        files: everything that this section should consist of; what it no longer names is removed.
        manifest: the JSON file with the digests, one object per section.
        section: whose files these are; one section's write never touches another's files.

    A killed write is repaired by the next one: a file that already has its new content is adopted.
    """
    manifest.parent.mkdir(parents=True, exist_ok=True)
    with locked(manifest.parent):
        sections = _read(manifest)
        before = sections.get(section, {})
        changes = plan(root, files, manifest, section)
        # The digest of a kept file stays: a user who undoes the change follows upgrades again.
        after = {path: digest for path, digest in before.items() if path in files}
        for path, status in ((change.path, change.status) for change in changes):
            if status in ("created", "updated"):
                replace(root / path, files[path])
            elif status == "removed":
                _remove(root, path)
            if status in ("created", "updated", "ok"):
                after[path] = _digest(files[path])
        if after != before:
            text = json.dumps({**sections, section: after}, indent=2, sort_keys=True, ensure_ascii=False)
            replace(manifest, f"{text}\n".encode())
        return changes


def _status(path: Path, content: bytes, ours: str | None) -> Status:
    found = _digest_on_disk(path)
    if found is None:
        return "created"
    if found == _digest(content):
        return "ok"
    return "updated" if found == ours else "kept"


def _remove(root: Path, path: str) -> None:
    (root / path).unlink()
    for folder in (root / path).parents:
        if folder == root:
            break
        with suppress(OSError):  # not empty: somebody else's files are there
            folder.rmdir()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_on_disk(path: Path) -> str | None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    except NotADirectoryError:  # the user has a file where we would have a folder
        return _NOT_A_FILE
    return _digest(path.read_bytes()) if stat.S_ISREG(mode) else _NOT_A_FILE


def _read(manifest: Path) -> dict[str, dict[str, str]]:
    try:
        sections: dict[str, dict[str, str]] = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        message = f"{manifest} is not valid JSON ({error}): delete it; files that differ from ours are then kept"
        raise ValueError(message) from error
    return sections


def replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for the temporary file, so that kill -9 leaves at most one, which the next write uses again.
    temporary = path.with_name(f".{path.name}.mlops-env")
    try:
        temporary.write_bytes(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself against other processes: there is no lock file to leave behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
