"""Working local URLs for the pages of a remote host, and the end of the tunnel that makes them work.

The tunnel is orchestrators/forwards.py on this computer: it outlives the command that started it.
"""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlops_env import receipt
from mlops_env.bootstrap import parse_event
from mlops_env.bundle import bundled
from mlops_env.errors import CommandFailed, MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment
    from mlops_env.events import Emit, Event


@dataclass(frozen=True)
class State:
    """`health` is up, down or stopped; up means that every page answers through the tunnel."""

    health: str
    reason: str


def ensure(
    connection: Connection, environment: Environment, ssh: Sequence[str], urls: Mapping[str, str], emit: Emit
) -> dict[str, str]:
    """The local URL of each page, all of them answering; started, mended or left alone.

    Args:
        connection: to this computer.
        environment: the one whose pages these are.
        ssh: what stands before a remote command: `ssh`, its options, the destination.
        urls: where each page is on the host itself.
        emit: is told where a page could not have the port that it has on the host.
    """
    if not urls:
        return {}
    cause: Event | None = None

    def on_line(stream: str, line: str) -> None:
        nonlocal cause
        event = parse_event(line) if stream == "stdout" else None
        if event and event.type == "cause":
            cause = event
        elif event:
            emit(event)

    wish = {"ssh": list(ssh), "ports": sorted({_port(url) for url in urls.values()})}
    result = connection.run(_script(environment, "forwards", "apply"), stdin=json.dumps(wish).encode(), on_line=on_line)
    if cause:
        raise MlopsEnvError(cause.message, code="forward-failed", hint=str(cause.fields.get("hint", "")))
    return _local(urls, _answer(result)["ports"])


def urls(environment: Environment, remote: Mapping[str, str]) -> dict[str, str]:
    """The local URL of each page of which one is recorded, whether or not it answers now."""
    try:
        ports = json.loads((directory(environment) / "ports.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return _local(remote, ports)


def state(connection: Connection, environment: Environment) -> State:
    seen = _answer(connection.run(_script(environment, "forwards", "state")))
    return State(seen["state"], seen["reason"])


def stop(connection: Connection, environment: Environment) -> dict[str, int]:
    """End the tunnel, keep its ports: how many processes were `stopped` and are `left`."""
    done: dict[str, int] = _answer(connection.run(_script(environment, "forwards", "stop")))
    return done


def end(connection: Connection, environment: Environment) -> tuple[receipt.Row, ...]:
    """End the tunnel and remove its files, also after a kill -9 of anything: what was found, removed and left."""
    swept = receipt.parse(connection.run(_script(environment, "sweep"))).rows
    kinds = {"process": "local process", "port": "local port"}  # beside those of the host
    rows: dict[str, receipt.Row] = {}
    for row in swept:
        kind = kinds.get(row.kind, "local file")
        so_far = rows.get(kind, receipt.Row(kind, 0, 0, 0))
        rows[kind] = receipt.Row(kind, so_far.found + row.found, so_far.removed + row.removed, so_far.left + row.left)
    return tuple(rows.values())


def directory(environment: Environment) -> Path:
    return environment.directory / "forward"


def identity(environment: Environment) -> str:
    """Another one than the environment's, from the first letter: its host may be this very computer."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{environment.record.id}-forward"))


def _script(environment: Environment, name: str, *words: str) -> list[str]:
    values = {
        "MLOPS_ENV_ID": identity(environment),
        "MLOPS_ENV_HOST_DIR": str(directory(environment)),
        "MLOPS_ENV_JOB": "1",
        "PYTHONUTF8": "1",
    }
    settings = [f"{key}={value}" for key, value in values.items()]
    return ["env", *settings, sys.executable, str(bundled("orchestrators") / f"{name}.py"), *words]


def _answer(result: Result) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(result.last_line())
    except ValueError:
        raise CommandFailed(
            "the tunnel's script ended without an answer",
            code="forward-failed",
            result=result,
            hint="its own words are above; the same command tries again",
        ) from None
    return answer


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}[parts.scheme]


def _local(urls: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """Each URL with the local port of its port, without those that have none."""
    found = {name: (url, ports.get(str(_port(url)))) for name, url in urls.items()}
    return {
        name: urlsplit(url)._replace(netloc=f"127.0.0.1:{port}").geturl() for name, (url, port) in found.items() if port
    }
