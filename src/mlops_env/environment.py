"""A named environment: its directories, its record of intent, its lock."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlops_env.errors import MlopsEnvError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCHEMA = 1
_PART = "environment.json.part"


@dataclass(frozen=True)
class Record:
    """What was asked for; written before anything is made, so that every later command needs no flags.

    `host` is empty for target local. For others: `destination` and `identity`, for ssh as asked; then, as the host told
    at the first contact, `user`, `home`, and `git_name` and `git_email` for its ~/.gitconfig as this machine has them.
    `cloud`, for target ec2, is what was asked of AWS, what was settled once, and what came of it (`ec2/creation.py`).
    `run` is the last run: `key` (written before the trigger), then `id`, `state`, `page`.
    `stopped` is the user's wish, not an observation.
    """

    id: str
    name: str
    target: str
    orchestrator: str
    runtime: str
    workspace: str
    created: float
    own_workspace: bool = False
    stopped: bool = False
    host: dict[str, Any] = field(default_factory=dict)
    cloud: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True)
class Environment:
    """Where one environment lives; `directory`, on this machine, holds its record."""

    name: str
    directory: Path
    record: Record

    @property
    def is_remote(self) -> bool:
        return self.record.target != "local"

    @property
    def host(self) -> PurePath:
        """The directory, on the host, of all that bootstrap makes there; local ones have it beside their record."""
        if self.is_remote:
            return PurePosixPath(self.record.host["home"], ".local/state/mlops-env", self.name, "host")
        return self.directory / "host"

    @property
    def workspace(self) -> Path:
        """On this machine; for a remote host the folder that is pushed there and pulled into."""
        return Path(self.record.workspace)

    @property
    def host_workspace(self) -> PurePath:
        """The same folder as it is on the host."""
        if self.is_remote:
            return PurePosixPath(self.record.host["home"], "mlops-env", self.name)
        return self.workspace

    @property
    def known_hosts(self) -> Path:
        """The host keys that the user accepted for this environment."""
        return self.directory / "known_hosts"

    def changed(self, **changes: object) -> Environment:
        """The same environment with these changes of its record, not on disk."""
        return replace(self, record=replace(self.record, **changes))  # type: ignore[arg-type]

    def save(self, **changes: object) -> Environment:
        """Write the record with these changes, atomically, and return the environment that has them."""
        record = self.changed(**changes).record
        with _named_failure(self.directory):
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self.directory / _PART
            part.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
            part.replace(self.directory / "environment.json")
        return replace(self, record=record)


def state_root() -> Path:
    """Where the records of all environments are; `MLOPS_ENV_HOME` overrides."""
    override = os.environ.get("MLOPS_ENV_HOME")
    if override:
        return Path(override).expanduser().absolute()
    import platformdirs  # noqa: PLC0415 - not needed for `--help`

    return platformdirs.user_state_path("mlops-env", appauthor=False)


def imagine(name: str, intent: Mapping[str, Any], found: Environment | None) -> Environment:
    """The environment that `up` makes, with a fresh identity, or changes; not on disk until it is saved."""
    if found:
        return found.changed(**intent)
    record = Record(id=str(uuid.uuid4()), name=name, created=time.time(), **intent)
    return Environment(name, state_root() / name, record)


def find(name: str) -> Environment | None:
    """The recorded environment of this name, if there is one."""
    path = state_root() / name / "environment.json"
    try:
        record = _record(name, json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise MlopsEnvError(
            f"the record {path} cannot be read: {error}",
            code="record-unreadable",
            hint=f"restore it, or end what runs by hand and remove {path.parent}",
        ) from error
    return Environment(name, path.parent, record)


def _record(name: str, values: Mapping[str, Any]) -> Record:
    schema = int(values.get("schema", 0))
    if schema > SCHEMA:
        raise UsageError(
            f"environment {name!r} was made by a newer mlops-env (record schema {schema}, this one knows {SCHEMA})",
            code="record-newer",
            hint="upgrade mlops-env",
        )
    return Record(**{key: value for key, value in values.items() if key in Record.__dataclass_fields__})


@contextlib.contextmanager
def unborn(name: str) -> Iterator[None]:
    """Whatever ends this before there is a record leaves no folder either."""
    try:
        yield
    finally:
        if find(name) is None:
            discard_unborn(name)


def discard_unborn(name: str) -> None:
    """Remove the folder of a creation that was cut short: one with half a record, or with how to reach a host."""
    directory = state_root() / name
    for part in (_PART, "known_hosts", "ssh_config"):
        (directory / part).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        directory.rmdir()
    if directory.exists():
        raise MlopsEnvError(
            f"{directory} has lost its record environment.json, so nothing says what belongs to it",
            code="record-lost",
            hint="restore the record, or end what runs from there by hand and remove the folder",
        )


def need(name: str) -> Environment:
    """As `find`, but its absence is the user's error."""
    environment = find(name)
    if environment is None:
        others = ", ".join(e.name for e in find_all())
        raise UsageError(
            f"there is no environment {name!r}" + (f"; there are: {others}" if others else ""),
            code="no-environment",
            hint="`mlops-env up` makes one",
        )
    return environment


def find_all() -> list[Environment]:
    """Every recorded environment, by name."""
    names = sorted(path.parent.name for path in state_root().glob("*/environment.json"))
    return [environment for environment in map(find, names) if environment]


@contextlib.contextmanager
def locked(name: str, command: str) -> Iterator[None]:
    """Hold the environment's lock, or say who does.

    The kernel frees the lock of a dead holder, so there is nothing to clean up after a kill -9. The file goes with the
    environment; it does so while it is locked, and who locks a file that has gone opens it anew (filelock sees to it).
    """
    import filelock  # noqa: PLC0415 - as above

    root = state_root()
    with _named_failure(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = filelock.FileLock(root / f".{name}.lock", timeout=0.1)
        holder = root / f".{name}.holder"
        try:
            lock.acquire()
        except filelock.Timeout:
            raise MlopsEnvError(
                f"environment {name!r} is busy: {_holder(holder)}",
                code="environment-busy",
                hint="wait for it to end, or use another --name",
            ) from None
    try:
        with _named_failure(root):
            holder.write_text(
                json.dumps({"pid": os.getpid(), "command": command, "since": time.time()}), encoding="utf-8"
            )
        yield
    finally:
        holder.unlink(missing_ok=True)
        if not (root / name / "environment.json").exists():
            with contextlib.suppress(PermissionError):  # Windows keeps an open file
                Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # not empty: there are other environments
            root.rmdir()


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"`{who['command']}`, pid {who['pid']}, has held it for {time.time() - who['since']:.0f} s"
    except (OSError, ValueError, KeyError):
        return "another command holds its lock"


@contextlib.contextmanager
def _named_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MlopsEnvError(
            f"cannot write {path}: {error.strerror}",
            code="state-not-writable",
            hint="free space or mend the permissions there, or set MLOPS_ENV_HOME to a directory you can write",
        ) from error
