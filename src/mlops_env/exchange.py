"""The user's files to a host and what came of them back, never over a change that only one side has.

What both sides had when they last exchanged says who changed what since. Both sides run orchestrators/exchange.py.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import sys
import uuid
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from mlops_env import environment as environments
from mlops_env.bundle import bundled
from mlops_env.config import FILE
from mlops_env.connection import LocalConnection
from mlops_env.errors import CommandFailed, MlopsEnvError, UsageError
from mlops_env.events import Event
from mlops_env.three_way import HISTORY, RUNS, is_made, make_plan, supposed_base

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path, PurePath

    from mlops_env.bootstrap import HostScripts
    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment
    from mlops_env.events import Emit
    from mlops_env.three_way import Plan

_OURS = ".mlops-env/"
_T = TypeVar("_T")

_DATABASE = ".mlops-env/mlflow/mlflow.db"
_SHOWN = 8
_NOT_THERE = {126, 127}  # exit codes of a command that cannot be started


@dataclass(frozen=True)
class Exchanged:
    """What one `push` or `pull` did.

    `left` are the names that only the other side has changed, `skipped` those that cannot travel, with the reason.
    `aside` is where the losers of a forced exchange are now, by name.
    """

    files: int = 0
    deleted: int = 0
    runs: int = 0
    bytes: int = 0
    left: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Such as `14 files, 3 runs`."""
        parts = [counted(self.files, "file")]
        parts += [counted(self.runs, "run")] if self.runs else []
        parts += [f"{self.deleted} deleted"] if self.deleted else []
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        counts = {"files": self.files, "deleted": self.deleted, "runs": self.runs, "bytes": self.bytes}
        return {**counts, "left": list(self.left), "skipped": dict(self.skipped), "aside": dict(self.aside)}


def push(
    connection: Connection, env: Environment, scripts: HostScripts, emit: Emit, *, force: bool = False
) -> Exchanged:
    """Send the pipeline's files as git lists them, so that the host has what is here.

    A host that is new to a workspace gets the runs too that were made elsewhere. Nothing is sent from a folder without
    a pipeline: its files may be on the host alone.
    """
    need_remote(env, "push")
    if not (env.workspace / FILE).is_file():
        return Exchanged()
    return _Exchange("push", _here(env), _there(connection, env, scripts), env, emit).run(force=force)


def pull(
    connection: Connection, env: Environment, scripts: HostScripts, emit: Emit, *, force: bool = False
) -> Exchanged:
    """Bring what was saved in the browser, results, models, MLflow's history and changes to generated projects."""
    need_remote(env, "pull")
    _refuse_history_in_use(env)
    return _Exchange("pull", _there(connection, env, scripts), _here(env), env, emit).run(force=force)


def need_remote(env: Environment, verb: str) -> None:
    if not env.is_remote:
        raise UsageError(
            f"nothing to {verb}: the workspace of environment {env.name!r} is on this machine already",
            code="no-remote",
            hint=f"it is {env.workspace}",
        )


def _refuse_history_in_use(env: Environment) -> None:
    """MLflow of a local environment has its database open; one that is replaced under it is lost."""
    try:
        owner = json.loads((env.workspace / _OURS / "environment.json").read_text(encoding="utf-8"))
        other = environments.find(owner["name"])
    except (OSError, ValueError, LookupError, TypeError):
        return
    if other and other.record.id == owner["id"] and other.record.id != env.record.id:
        raise UsageError(
            f"{env.workspace} is the workspace of environment {other.name!r} too, whose history would be replaced",
            code="workspace-in-use",
            hint=f"`mlops-env down --name {other.name}` first: it keeps the workspace",
        )


@dataclass(frozen=True)
class _Copy:
    """One side: where it is, and the command that acts on it."""

    connection: Connection
    command: tuple[str, ...]
    workspace: PurePath
    scratch: PurePath
    title: str

    def run(self, verb: str, *words: str, stdin: object, into: IO[bytes] | None = None) -> Result:
        argv = [*self.command, verb, str(self.workspace), str(self.scratch), *words]
        data = stdin if isinstance(stdin, mmap.mmap) else json.dumps(stdin).encode()
        result = self.connection.run(argv, stdin=cast("bytes", data), into=into)
        if not result.ok:
            raise _failure(self, result)
        return result

    def look(self, what: str, names: Iterable[str]) -> dict[str, Any]:
        return dict(json.loads(self.run("list", what, stdin=sorted(names)).last_line()))


def _here(env: Environment) -> _Copy:
    script = bundled("orchestrators") / "exchange.py"
    # -S: the script needs no packages, and their start-up files would take longer than all it does
    command = (sys.executable, "-S", str(script))
    return _Copy(LocalConnection(), command, env.workspace, env.directory / "exchange", "here")


def _there(connection: Connection, env: Environment, scripts: HostScripts) -> _Copy:
    command = (*scripts.settings(), scripts.python(), "-S", str(scripts.tree / "orchestrators" / "exchange.py"))
    return _Copy(connection, command, env.host_workspace, env.host / "exchange", "on the host")


@dataclass(frozen=True)
class _Exchange:
    """One way: look at both sides, plan, let the source pack and the target unpack, and remember what they share."""

    verb: str
    source: _Copy
    target: _Copy
    env: Environment
    emit: Emit

    def run(self, *, force: bool) -> Exchanged:
        self._say("started", "comparing files")
        then, base = _read_state(self.env.directory)
        asked = {name for name in base if self._travels(name)}
        source, target = self._look("pipeline" if self.is_push else "everything", asked)
        if self.is_push and not target["identity"]:
            again = self._look("again", asked)
            has_history, had_history = (any(map(_is_history, side["files"])) for side in again)
            if has_history and not had_history:
                self.emit(Event("note", message="the host is new to this workspace: its runs go along"))
                source, target = again
        identities = [side["identity"] for side in self._here_and_there(source, target)]
        if then != identities or FILE not in source["files"]:
            base = {}  # a folder is not the one that it was: nothing is known of its past
        skipped = {**source["skipped"], **target["skipped"]}
        known, plan = self._plan(base, source, target, {*skipped, *source["ignored"]})
        if plan.conflicts and not force:
            raise _conflict(self.verb, sorted(plan.conflicts))
        order = self._order(plan, source, target)
        done: dict[str, Any] = {"written": {}, "aside": {}}
        is_news = not all(identities) or order["pipeline"] not in ({}, target["pipeline"])
        if order["send"] or order["delete"] or (is_news and source["files"]):
            done = self._transfer(order)
            identities = list(self._here_and_there(order["source"], order["target"]))
        unasked = {name: was for name, was in base.items() if name not in known}
        _write_state(self.env.directory, identities, {**unasked, **plan.base, **done["written"]})
        exchanged = Exchanged(
            files=len(done["written"]),
            deleted=len(plan.delete),
            runs=len({name.split("/")[2] for name in done["written"] if name.startswith(RUNS)}),
            bytes=sum(source["files"][name][1] for name in done["written"]),
            left=tuple(name for name in plan.left if not name.startswith(HISTORY)),
            skipped=skipped,
            aside=done["aside"],
        )
        self._tell(exchanged)
        return exchanged

    def _look(self, what: str, asked: set[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        source = self.source.look(what, asked)
        return source, self.target.look("names", asked | source["files"].keys())

    def _plan(
        self, base: Mapping[str, str], source: Mapping[str, Any], target: Mapping[str, Any], out: set[str]
    ) -> tuple[dict[str, str], Plan]:
        """The plan, and the part of the base that it is about: all but what is `out` of the question."""
        known = {name: was for name, was in base.items() if self._travels(name) and not _is_in(name, out)}
        ours, theirs = (
            {name: version for name, (version, _) in side["files"].items() if name not in out}
            for side in (source, target)
        )
        made = source["generated"], target["generated"]
        if self.is_push:  # what we laid out here, a host lays out for itself, and maybe a newer one
            ours = {
                name: v for name, v in ours.items() if name in {*known, *theirs} or not is_made(v, made[0].get(name))
            }
            return known, make_plan(supposed_base(known, ours, theirs, *made), ours, theirs)
        return known, make_plan(supposed_base(known, theirs, ours, *reversed(made)), ours, theirs)

    def _order(self, plan: Plan, source: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
        """What both scripts are told. A conflict that comes this far is sent, its loser put aside."""
        send = [*plan.send, *sorted(plan.conflicts)]
        is_ours = not self.is_push and FILE in source["pipeline"]  # the taxi pipeline, laid out on the host
        return {
            "source": source["identity"] or str(uuid.uuid4()),
            "target": target["identity"] or str(uuid.uuid4()),
            "send": send,
            "delete": list(plan.delete),
            "expect": {name: target["files"].get(name, (None,))[0] for name in (*send, *plan.delete)},
            "aside": dict(plan.conflicts),
            "bytes": sum(source["files"][name][1] for name in send),
            "pipeline": source["pipeline"] if is_ours else {},
        }

    @property
    def is_push(self) -> bool:
        return self.verb == "push"

    def _here_and_there(self, source: _T, target: _T) -> tuple[_T, _T]:
        return (source, target) if self.is_push else (target, source)

    def _travels(self, name: str) -> bool:
        return not self.is_push or not name.startswith(_OURS)

    def _transfer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The tar is a file on this machine in between: the target begins once the source has ended well."""
        self._say("started", f"{counted(len(order['send']), 'file')}, {order['bytes'] / 1e6:.1f} MB")
        tar = self.env.directory / "exchange" / "transfer.tar"
        try:
            tar.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.is_push:
                self.source.run("pack", str(tar), stdin=order)
                with tar.open("rb") as file:  # mapped, and so not in memory; whoever still reads it keeps the map
                    result = self.target.run("unpack", stdin=mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            else:
                with tar.open("wb") as file:
                    self.source.run("pack", stdin=order, into=file)
                result = self.target.run("unpack", str(tar), stdin=order)
        except OSError as error:
            raise _cannot_write(tar, error) from error
        finally:
            with contextlib.suppress(OSError):  # Windows keeps a file that is still mapped; the next one replaces it
                tar.unlink(missing_ok=True)
        done: dict[str, Any] = json.loads(result.last_line())
        if done["changed"]:
            raise MlopsEnvError(
                f"changed {self.target.title} in this very moment, so nothing was written: {shown(done['changed'])}",
                code="exchange-raced",
                hint=f"`mlops-env {self.verb}` again, when nobody writes to these",
            )
        return done

    def _say(self, status: str, message: str) -> None:
        self.emit(Event("step", status, self.verb, message))

    def _tell(self, exchanged: Exchanged) -> None:
        is_same = not (exchanged.files or exchanged.deleted)
        self._say("ok" if is_same else "changed", "nothing new" if is_same else exchanged.text)
        if exchanged.left and self.is_push:
            message = f"left as the host has it, since only there changed: {shown(exchanged.left)}; `mlops-env pull`"
            self.emit(Event("note", message=f"{message} brings it"))
        elif exchanged.left:
            message = f"left as you have it, since only here changed: {shown(exchanged.left)}; `mlops-env push`"
            self.emit(Event("note", message=f"{message} sends it"))
        for name, reason in exchanged.skipped.items():
            self.emit(Event("warning", message=f"left out: {printable(name)}: {reason}"))
        for name, other in exchanged.aside.items():
            self.emit(
                Event("note", message=f"{self.target.title}, what was {printable(name)} is now {printable(other)}")
            )


def _is_history(name: str) -> bool:
    return name.startswith(HISTORY)


def _is_in(name: str, skipped: set[str]) -> bool:
    """Whether it, or a folder that it is in, cannot be looked at."""
    parts = name.split("/")
    return any("/".join(parts[:end]) in skipped for end in range(1, len(parts) + 1))


def _read_state(directory: Path) -> tuple[list[str], dict[str, str]]:
    """Which folders exchanged last, here and there, and what both had then."""
    try:
        state = json.loads((directory / "exchange.json").read_text(encoding="utf-8"))
        return list(state["folders"]), dict(state["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return [], {}


def _write_state(directory: Path, folders: Sequence[str], files: Mapping[str, str]) -> None:
    path = directory / "exchange.json"
    text = json.dumps({"folders": folders, "files": files}, indent=1, sort_keys=True)
    try:
        part = path.with_name("exchange.json.part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _conflict(verb: str, names: Sequence[str]) -> MlopsEnvError:
    way = "`mlops-env pull --force` takes the host's, and keeps yours beside it as FILE.orig"
    if not any(name.startswith(_OURS) for name in names):
        way += "; `mlops-env push --force` sends yours, and keeps the host's there as FILE.orig"
    lines = [f"  {printable(name)}" + (" (MLflow's history)" if name == _DATABASE else "") for name in names]
    head = f"changed both here and on the host, so nothing was written by {verb}:"
    return MlopsEnvError("\n".join([head, *lines]), code="exchange-conflict", hint=way)


def _cannot_write(path: Path, error: OSError) -> MlopsEnvError:
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return MlopsEnvError(
        f"cannot write {path}: {error.strerror}",
        code="disk-full" if is_full else "permission",
        hint="free some space on this machine, then again" if is_full else "mend the permissions there, then again",
    )


_CAUSES = (
    (("No space left on device", "Disk quota exceeded"), "disk-full", "free some space {where}, then again"),
    (("Permission denied", "Read-only file system"), "permission", "mend the permissions {where}, then again"),
    (("unsafe name", "unsafe link"), "exchange-unsafe", "nothing was written; rename it"),
)


def _failure(copy: _Copy, result: Result) -> CommandFailed:
    code, hint = "exchange-failed", "the same command again is safe: a file is replaced as a whole or not at all"
    if result.exited in _NOT_THERE:
        code, hint = "host-not-ready", "`mlops-env up` first: it brings what is needed there"
    for words, cause, way in _CAUSES:
        if any(word in result.stderr for word in words):
            code, hint = cause, way.format(where=copy.title)
    return CommandFailed(f"cannot exchange files: it failed {copy.title}", code=code, result=result, hint=hint)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(map(printable, names[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def printable(name: str) -> str:
    """For people: a name may have a line's end in it, or bytes that are no text."""
    return name if name.isprintable() else ascii(name)
