"""One copy of a workspace, as exchange.py sees it: which files it has, in which version, and what stands in their way.

Any Python from 3.9 on, and its standard library.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import os
import shutil
import stat
import time
from contextlib import closing as _closing
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

OURS = ".mlops-env"
DATABASE = ".mlops-env/mlflow/mlflow.db"
SIDECARS = ("-journal", "-wal", "-shm")  # of an SQLite database in use
CHUNK = 1 << 20

_RESULTS = (".mlops-env/runs/", ".mlops-env/mlflow/", ".mlops-env/projects/")
_IGNORE = ".mlops-env/.gitignore"
_MANIFEST = ".mlops-env/manifest.json"
_IDENTITY = ".mlops-env/exchange.id"

# Made by tools, nobody's work. Not here, though no code either: build, dist and mlruns, where some keep their results.
_JUNK = (
    *(".mlops-env", ".venv", "venv", ".git", ".hg", ".svn", ".tox", ".nox", ".eggs", "*.egg-info", "__pycache__"),
    *("node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".ipynb_checkpoints", ".cache"),
    *(".ds_store", ".*.mlops-env"),
)
_BIG = 1 << 20  # from here on a digest is worth remembering
_FRESH_NS = 2_000_000_000  # a file this young may change again without a change of its times


class Refused(Exception):
    """What was asked for cannot or must not be done; nothing was."""


def checked(name: str) -> str:
    """The name, if it is one of a file that travels: inside the workspace, and neither git's nor our own."""
    parts = name.split("/")
    inside = all(part not in {"", ".", ".."} and part.lower() != ".git" for part in parts) and "\0" not in name
    if not inside or (parts[0].lower() == OURS and not name.startswith(_RESULTS)):
        raise Refused(f"unsafe name: {name!r}")
    return name


def stays_inside(name: str, target: str) -> bool:
    """Whether a link of this name does not leave the workspace: `..` may only lead, as the folders above are real."""
    parts = target.split("/")
    up = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return bool(target) and not target.startswith("/") and ".." not in parts[up:] and up <= name.count("/")


def in_project(name: str) -> bool:
    return name.startswith(".mlops-env/projects/")


def mark_of(mode: int) -> str:
    return "+x" if mode & stat.S_IXUSR else ""


def digest_of(version: str) -> str:
    """Empty for a link."""
    return "" if version.startswith("-> ") else version.split("+", 1)[0]


class Side:
    """The copy below `root`. A file's version is its digest, `+x` behind it if it can be executed, or `-> TARGET`.

    `! NAME` in place of a version means that this other thing stands in the way: a folder, or a file that ought to be
    one. `skipped` has the names that cannot travel, with the reason. `scratch` is a folder for what to know again.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.scratch = scratch
        self.snapshot = scratch / "mlflow.db"
        self.skipped: dict[str, str] = {}
        self._folders: set[Path] = set()
        self._digests = read_json(scratch / "digests.json")
        self._known = dict(self._digests)

    @property
    def identity(self) -> str | None:
        """Of this very folder: one made anew in its place has not lost what it never had."""
        try:
            return (self.root / _IDENTITY).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    @property
    def manifest(self) -> dict[str, Any]:
        """What we generated here; see files.py."""
        return read_json(self.root / _MANIFEST)

    def path(self, name: str) -> Path:
        return self.root / checked(name)

    def content(self, name: str) -> Path:
        """Where the bytes of a file are: those of a database that is in use are in a copy of it."""
        return self.snapshot if name == DATABASE and self.snapshot.exists() else self.path(name)

    def version(self, name: str) -> tuple[str, int] | None:
        """The version and the size; None where there is nothing, or nothing that can travel."""
        self.path(name)  # checks it, also where there is nothing
        try:
            return self._version(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.skipped[name] = str(error.strerror)
            return None

    def _version(self, name: str) -> tuple[str, int] | None:
        path, content = self.path(name), self.content(name)
        if obstacle := self._obstacle(path.parent):
            return f"! {obstacle.relative_to(self.root).as_posix()}", 0
        status = content.lstat()
        if stat.S_ISREG(status.st_mode):
            return self._digest(content, status) + mark_of(status.st_mode), status.st_size
        if stat.S_ISLNK(status.st_mode):
            target = str(path.readlink())
            if stays_inside(name, target):
                return f"-> {target}", 0
            self.skipped[name] = f"a link to {target}, outside the workspace"
            return None
        is_empty = stat.S_ISDIR(status.st_mode) and not any(path.iterdir())
        return None if is_empty else (f"! {name}", 0)

    def _obstacle(self, folder: Path) -> Path | None:
        """What is no folder on the way there. A link to one is none either: who follows it may leave the workspace."""
        if folder == self.root or folder in self._folders:
            return None
        if obstacle := self._obstacle(folder.parent):
            return obstacle
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return folder
        self._folders.add(folder)
        return None

    def _digest(self, path: Path, status: os.stat_result) -> str:
        if status.st_size < _BIG:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        times = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        *then, known = self._digests.get(str(path), [""])
        if known and then == times:
            return str(known)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _FRESH_NS:
            self._digests[str(path)] = [*times, digest.hexdigest()]
        return digest.hexdigest()

    def remember(self) -> None:
        """Keep the digests of big files for the next time."""
        if self._digests != self._known:
            kept = {path: value for path, value in self._digests.items() if os.path.lexists(path)}
            write(self.scratch / "digests.json", json.dumps(kept).encode())

    def walk(self, folder: str = "") -> Iterator[str]:
        """All that is the user's or a result below this folder."""
        try:
            entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            self.skipped[folder] = str(error.strerror)
            return
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if any(fnmatch.fnmatchcase(entry.name.lower(), junk) for junk in _JUNK):
                continue
            # An orchestrator keeps its logs and variables in hidden folders of its project, and shows us by a link.
            if in_project(name) and (entry.name.startswith(".") or entry.is_symlink()):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self.walk(name)
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                yield name

    def results(self) -> Iterator[str]:
        """What is worth keeping of `.mlops-env`: MLflow's history, the runs, an orchestrator's projects."""
        passing = {f"{DATABASE}{middle}{end}" for middle in ("", ".new") for end in SIDECARS} | {f"{DATABASE}.new"}
        for folder in _RESULTS:
            yield from (name for name in self.walk(folder.rstrip("/")) if name not in passing)

    def generated(self) -> dict[str, str]:
        """Digests of what we generated, by name. A section of the manifest is a project's, but for the pipeline's."""
        return {
            name if section == "pipeline" else f".mlops-env/projects/{section}/{name}": digest
            for section, files in self.manifest.items()
            for name, digest in files.items()
        }

    def take_snapshot(self) -> None:
        """Copy MLflow's database as one moment saw it: the server may be writing."""
        self.snapshot.unlink(missing_ok=True)
        database = self.root / DATABASE
        if not database.is_file():
            return
        import sqlite3  # noqa: PLC0415 - some builds of Python lack it, and only histories need it

        self.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.scratch / "mlflow.db.part"
        part.unlink(missing_ok=True)
        try:
            with _closing(sqlite3.connect(database)) as live, _closing(sqlite3.connect(part)) as copy:
                live.backup(copy)
        except sqlite3.DatabaseError:  # not a database, or no longer one: what there is, then
            shutil.copyfile(database, part)
        part.replace(self.snapshot)

    def settle_database(self) -> bool:
        """Let what a killed server left beside its database go into it, as SQLite does at the first look.

        False if something is still there: the database is in use.
        """
        database = self.root / DATABASE
        beside = [path for path in (Path(f"{database}{end}") for end in SIDECARS) if path.exists()]
        if beside and database.exists():
            import sqlite3  # noqa: PLC0415 - as above

            with contextlib.suppress(sqlite3.Error), _closing(sqlite3.connect(database)) as connection:
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        elif beside:  # of a database that is gone: the next one must not be taken for it
            for path in beside:
                path.unlink()
        return not any(path.exists() for path in beside)

    def identify(self, identity: str) -> None:
        """Give the folder this identity, unless it has one."""
        if self.identity is not None:
            return
        if not (self.root / _IGNORE).exists():
            write(self.root / _IGNORE, b"*\n")
        write(self.root / _IDENTITY, identity.encode())

    def adopt(self, pipeline: dict[str, str]) -> None:
        """Know the taxi pipeline for ours here too, where it came from the other side."""
        if pipeline and self.manifest.get("pipeline") != pipeline:
            text = json.dumps({**self.manifest, "pipeline": pipeline}, indent=2, sort_keys=True, ensure_ascii=False)
            write(self.root / _MANIFEST, f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object in this file; an empty one if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write(path: Path, content: bytes) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.mlops-env")
    part.write_bytes(content)
    part.replace(path)
