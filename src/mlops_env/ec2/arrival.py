"""A host that was made or started is there when its sshd answers; and what is known of one that never does."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, NoReturn

from mlops_env.ec2 import instance
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from mlops_env.ec2.aws import Aws
    from mlops_env.ec2.instance import Instance
    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_SSH_PATIENCE = 240.0
"""Seconds. A Debian host answers half a minute after it runs."""

_SSH_PAUSE = 0.5
_LOOK_AGAIN = 10.0


def wait(env: Environment, aws: Aws, found: Instance, emit: Emit) -> None:
    """Returns when the host runs, and its sshd answers; an error tells what its console said, where it does not."""
    if found.state in {"stopping", "stopped"}:
        found = instance.start(aws, found, emit)
    if env.record.cloud["no_host"]:
        return
    end = time.monotonic() + _SSH_PATIENCE
    looked = time.monotonic()
    emit(Event("resource", "started", "ssh", f"waiting for {found.address} to answer"))
    while not _speaks_ssh(found.address):
        if time.monotonic() > end:
            raise _silent(env, aws, found)
        time.sleep(_SSH_PAUSE)
        if time.monotonic() - looked > _LOOK_AGAIN:
            found, looked = instance.look(aws, env.record.id) or gone(), time.monotonic()
    emit(Event("resource", "ok", "ssh", f"{found.address} answers"))


def _speaks_ssh(address: str) -> bool:
    if not address:  # which would be this machine
        return False
    try:
        with socket.create_connection((address, instance.SSH_PORT), timeout=2) as connection:
            connection.settimeout(5)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _silent(env: Environment, aws: Aws, found: Instance) -> MlopsEnvError:
    said = instance.console(aws, found.id)
    return MlopsEnvError(
        f"the host {found.id} runs, but {found.address} did not answer ssh within {_SSH_PATIENCE:.0f} s"
        + (f"; its console says:\n{said}" if said else ""),
        code="ssh-never",
        hint=f"`mlops-env up --name {env.name}` waits on, and with --replace-host makes it anew; "
        f"`mlops-env down --name {env.name}` ends it",
    )


def gone() -> NoReturn:
    raise MlopsEnvError(
        "the host was terminated while we were at work on it",
        code="host-gone",
        hint="the same command again makes a new one; `mlops-env down` removes the rest",
    )
