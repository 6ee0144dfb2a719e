"""A stack on disk, laid out as the real engine's own `file://` backend: state, locks, history."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION = "v3.260.0-embedded"
"""The release whose behaviour and words this engine follows. The SDK sends events by gRPC above 3.205."""


class EngineError(Exception):
    """What the command line says instead of doing what was asked."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stack:
    """One stack of a project. The deployment is as `stack export` shows it, version 3; its secrets are encrypted."""

    def __init__(self, root: Path, project: str, name: str) -> None:
        self.project = project
        self.name = name
        self._directory = root / ".pulumi"
        self._file = self._directory / "stacks" / project / f"{name}.json"
        self._history = self._directory / "history" / project / name
        self._locks = self._directory / "locks" / "organization" / project / name

    @property
    def exists(self) -> bool:
        return self._file.exists()

    def read(self) -> dict[str, Any]:
        if not self.exists:
            raise EngineError(f"no stack named '{self.name}' found", exit_code=6)
        try:
            latest: dict[str, Any] | None = json.loads(self._file.read_text(encoding="utf-8"))["checkpoint"]["latest"]
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"failed to load checkpoint: {self._file}: {error!r}") from error
        return latest or {}

    def write(self, deployment: dict[str, Any]) -> None:
        """Replace the state at once, so that no death leaves half of one; the one before is kept beside it."""
        name = f"organization/{self.project}/{self.name}"
        checkpoint = {"version": 3, "checkpoint": {"stack": name, "latest": deployment}}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".json.part")
        part.write_text(json.dumps(checkpoint), encoding="utf-8")
        if self.exists:
            shutil.copyfile(self._file, self._file.with_suffix(".json.bak"))
        part.replace(self._file)

    def remove(self) -> None:
        self._file.unlink()
        for entry in self._history.glob("*.json"):
            entry.unlink()

    def updates(self) -> list[dict[str, Any]]:
        """Newest first."""
        entries = sorted(self._history.glob("*.history.json"), reverse=True)
        return [json.loads(entry.read_text(encoding="utf-8")) for entry in entries]

    def record(self, update: dict[str, Any]) -> None:
        self._history.mkdir(parents=True, exist_ok=True)
        # Zero-padded, so that names sort as time does.
        entry = self._history / f"{self.name}-{time.time_ns():020}.history.json"
        entry.write_text(json.dumps(update), encoding="utf-8")

    @contextlib.contextmanager
    def locked(self) -> Iterator[Path]:
        """Hold the stack; the lock is a file, which a killed process leaves behind."""
        self._refuse_if_locked()
        own = self._locks / f"{uuid.uuid4()}.json"
        self._locks.mkdir(parents=True, exist_ok=True)
        part = own.with_suffix(".part")
        part.write_text(json.dumps(_holder()), encoding="utf-8")
        part.replace(own)
        try:
            self._refuse_if_locked(own)  # of two that come at once both may end here, as with the real engine
            yield own
        finally:
            own.unlink(missing_ok=True)

    def _refuse_if_locked(self, own: Path | None = None) -> None:
        locks = [lock for lock in self._locks.glob("*.json") if lock != own]
        holders = [_described(lock) for lock in locks]
        if holders:
            raise EngineError(
                f"the stack is currently locked by {len(holders)} lock(s). Either wait for the other process(es) to "
                "end or delete the lock file with `pulumi cancel`." + "".join(holders)
            )

    def unlock(self) -> None:
        """Delete all locks, whoever holds them."""
        for lock in self._locks.glob("*.json"):
            lock.unlink(missing_ok=True)


def now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{nanoseconds:09}Z", time.gmtime(seconds))


def _holder() -> dict[str, Any]:
    import getpass  # noqa: PLC0415 - only who takes a lock needs it

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # as in a container with a user of no name
        user = str(os.getuid())
    return {"pid": os.getpid(), "username": user, "hostname": os.uname().nodename, "timestamp": now()}


def _described(lock: Path) -> str:
    try:
        holder = json.loads(lock.read_text(encoding="utf-8"))
    except FileNotFoundError:  # just released, and counted all the same: the next try will do
        return f"\n  {lock.as_uri()}"
    who = f"{holder['username']}@{holder['hostname']} (pid {holder['pid']})"
    since = holder["timestamp"].partition(".")[0].removesuffix("Z") + "Z"
    return f"\n  {lock.as_uri()}: created by {who} at {since}"
