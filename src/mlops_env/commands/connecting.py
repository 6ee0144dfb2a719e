"""How a verb reaches the host of its environment, and what it needs there: the same for every target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env import bootstrap
from mlops_env.config import FILE
from mlops_env.connection import LocalConnection
from mlops_env.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.bootstrap import HostScripts
    from mlops_env.connection import Connection
    from mlops_env.environment import Environment
    from mlops_env.events import Emit
    from mlops_env.ssh_config import Host

_FACTS = 'printf "%s\\n" "$HOME" "$(id -un)"'
_LAST_STEP_BEFORE_FILES = "tools"


def connect(environment: Environment, emit: Emit, *, accept_new: bool = False) -> Connection:
    """The way to the environment's host; a `with` opens it. `accept_new` takes a host key that nobody knows yet."""
    if not environment.is_remote:
        return LocalConnection()
    from mlops_env.ssh import SSHConnection  # noqa: PLC0415 - only hosts need paramiko

    return SSHConnection(found(environment, emit), emit, accept_new=accept_new)


def found(environment: Environment, emit: Emit) -> Host:
    """As `host_of`; a host in the cloud is looked up first, as its address changes."""
    host = host_of(environment)
    if environment.record.target != "ec2":
        return host
    from mlops_env.ec2 import reach  # noqa: PLC0415 - only target ec2 needs AWS

    return replace(host, address=reach.address(environment, emit), user=environment.record.cloud["plan"]["user"])


def host_of(environment: Environment) -> Host:
    """How ssh is to be called for the host, once a connection has been made to it."""
    from mlops_env.ssh_config import Host  # noqa: PLC0415 - only hosts need it

    host = environment.record.host
    identity = Path(host["identity"]) if host["identity"] else None
    address = "" if environment.record.target == "ec2" else None
    return Host(host["destination"], environment.known_hosts, identity=identity, address=address)


def introduced(connection: Connection, environment: Environment) -> Environment:
    """The environment, not saved, with what the host tells at the first contact and later is taken as known."""
    host = environment.record.host
    if not environment.is_remote or "home" in host:
        return environment
    result = connection.run(["sh", "-c", _FACTS])
    lines = result.stdout.splitlines()
    if not result.ok or len(lines) != len(("home", "user")):
        raise CommandFailed(
            f"{host['destination']} lets us in, but runs no commands",
            code="no-shell",
            result=result,
            hint="that account needs a login shell and no forced command: log in as another user",
        )
    home, user = lines
    facts = {"home": home, "user": user, "git_name": _git("user.name"), "git_email": _git("user.email")}
    return environment.changed(host={**host, **facts})


def _git(key: str) -> str:
    """Who the user is to git on this machine; the same there, unless they said otherwise there."""
    return LocalConnection().run(["git", "config", "--global", key]).stdout.strip()


def bring(connection: Connection, environment: Environment, emit: Emit) -> tuple[HostScripts, Mapping[str, str]]:
    """Send the user's files, converge the host, have its pages answer here; returns their addresses by service."""
    if environment.is_remote:
        _send(connection, environment, emit)
    scripts, converged = bootstrap.bring(connection, environment, emit)
    return scripts, forwarded(environment, converged.urls, emit)


def _send(connection: Connection, environment: Environment, emit: Emit) -> None:
    """The pipeline's files as they are here; the taxi pipeline that nobody has pulled yet is only there."""
    from mlops_env import exchange  # noqa: PLC0415 - only hosts need it

    if not (environment.workspace / FILE).is_file():
        return
    scripts = bootstrap.present(connection, environment)
    if not connection.run(["test", "-x", scripts.python()]).ok:
        bootstrap.bring(connection, environment, emit, until=_LAST_STEP_BEFORE_FILES)
    exchange.push(connection, environment, scripts, emit)


def forwarded(environment: Environment, urls: Mapping[str, str], emit: Emit) -> Mapping[str, str]:
    """Have the host's pages answer here; returns where."""
    if not environment.is_remote:
        return urls
    from mlops_env import forward  # noqa: PLC0415 - only hosts need it
    from mlops_env.ssh_config import ssh_command  # noqa: PLC0415 - as above

    return forward.ensure(LocalConnection(), environment, ssh_command(host_of(environment)), urls, emit)


def seen_from_here(environment: Environment, services: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of services with the address that their page has on this machine; nothing is started."""
    if not environment.is_remote:
        return services
    from mlops_env import forward  # noqa: PLC0415 - only hosts need it

    urls = forward.urls(environment, {row["owner"]: row["url"] for row in services if row["url"]})
    reason = forward.state(LocalConnection(), environment).reason
    seen = [{**row, "url": urls.get(row["owner"], "") if row["url"] else ""} for row in services]
    return [
        {**row, "healthy": False, "reason": reason} if row["url"] and reason and row["healthy"] else row for row in seen
    ]


def end_forward(environment: Environment) -> None:
    """Pages that are stopped need no tunnel; `start` and `up` make it again."""
    if environment.is_remote:
        from mlops_env import forward  # noqa: PLC0415 - only hosts need it

        forward.stop(LocalConnection(), environment)
