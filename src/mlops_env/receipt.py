"""What `down` found, removed and left, by kind."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops_env.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path, PurePath

    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment


@dataclass(frozen=True)
class Row:
    kind: str
    found: int
    removed: int
    left: int


@dataclass(frozen=True)
class Receipt:
    rows: tuple[Row, ...]

    @property
    def left(self) -> int:
        return sum(row.left for row in self.rows)

    @property
    def found(self) -> int:
        return sum(row.found for row in self.rows)

    def plus(self, *rows: Row) -> Receipt:
        return Receipt((*self.rows, *rows))

    def as_json(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]

    def as_text(self) -> str:
        """A table of four columns, 44 wide."""
        lines = [f"  {'kind':<18}{'found':>8}{'removed':>10}{'left':>8}"]
        lines += [f"  {row.kind:<18}{row.found:>8}{row.removed:>10}{row.left:>8}" for row in self.rows]
        return "\n".join(lines)


def parse(result: Result) -> Receipt:
    """The receipt a sweep printed: one JSON row a line of stdout."""
    try:
        rows: Iterable[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
        receipt = Receipt(tuple(Row(**row) for row in rows))
    except (ValueError, TypeError):
        receipt = Receipt(())
    if not result.ok or not receipt.rows:
        raise CommandFailed(
            "the sweep did not finish, so nothing can be said about what is left",
            code="sweep-failed",
            result=result,
            hint="run `mlops-env down` again; it is safe to repeat",
        )
    return receipt


def release_workspace(connection: Connection, env: Environment, *, delete: bool) -> Row:
    """Give the workspace back, or remove what we laid out: all of ours, or `.mlops-env` in the user's own."""
    if not delete:
        connection.run(["rm", "-f", str(env.host_workspace / ".mlops-env" / "environment.json")])
        return Row("workspace", 0, 0, 0)
    folder = str(laid_out(env))
    if not _is_there(connection, folder):
        return Row("workspace", 0, 0, 0)
    connection.run(["rm", "-rf", folder])
    left = int(_is_there(connection, folder))
    return Row("workspace", 1, 1 - left, left)


def release_copy(here: Connection, env: Environment, *, delete: bool) -> Row:
    """The copy on this machine of a workspace whose host is gone: kept, unless it is to be deleted."""
    folder = str(laid_out(env))
    if not delete or not _is_there(here, folder):
        return Row("workspace", 0, 0, 0)
    here.run(["rm", "-rf", folder])
    left = int(_is_there(here, folder))
    return Row("workspace", 1, 1 - left, left)


def laid_out(env: Environment) -> PurePath:
    """What of the workspace is ours to delete: all of it, or `.mlops-env` in the user's own on this machine.

    Of a host that goes with its disk only the copy here is left to speak of.
    """
    is_here = not env.is_remote or env.record.target == "ec2"
    folder = env.workspace if is_here else env.host_workspace
    return folder / ".mlops-env" if is_here and env.record.own_workspace else folder


def kept(connection: Connection, env: Environment) -> str:
    """Where the workspace still is, for people; empty if it is gone."""
    if not _is_there(connection, str(env.host_workspace)):
        return ""
    return f"{env.record.host['destination']}:{env.host_workspace}" if env.is_remote else str(env.host_workspace)


def _is_there(connection: Connection, path: str) -> bool:
    return connection.run(["test", "-e", path]).ok


def forget(env: Environment) -> Row:
    """Remove the record, last: without it `down` knows nothing any more."""
    return _remove("record", env.directory)


def _remove(kind: str, directory: Path) -> Row:
    if not directory.exists():
        return Row(kind, 0, 0, 0)
    shutil.rmtree(directory, ignore_errors=True)
    left = int(directory.exists())
    return Row(kind, 1, 1 - left, left)
