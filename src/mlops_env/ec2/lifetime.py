"""When a host in the cloud stops itself, whatever becomes of us: a deadline that is kept on the host."""

from __future__ import annotations

import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

from mlops_env.ec2 import offer
from mlops_env.errors import CommandFailed
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_DEADLINE = "/usr/local/sbin/mlops-env-deadline"
_FILE = "/var/lib/mlops-env/deadline"
_TIMER = "mlops-env-deadline.timer"
_SHORT = 900.0
"""Seconds: with less left, who says `up` or `start` wants more. Half of a lifetime that is shorter than twice that."""


def keep(connection: Connection, environment: Environment, emit: Emit) -> Environment:
    """Have the host stop itself as the record wants it; returns the environment, not saved, with its deadline.

    The first boot has armed it. Where that failed it is armed now; where it is nearly over, or past and the host was
    started again, it begins anew; and so it does where another lifetime is wanted than before.
    """
    cloud, now = environment.record.cloud, time.time()
    ttl = cloud["ttl"]
    deadline = _shown(connection, emit)
    is_other = cloud.get("armed_ttl", ttl) != ttl or (deadline is None) == bool(ttl)
    if is_other or (deadline is not None and deadline - now < min(_SHORT, ttl / 2)):
        deadline = int(now + ttl) if ttl else None
        put(connection, deadline)
    return environment.changed(cloud={**cloud, "deadline": deadline, "armed_ttl": ttl})


def extend(connection: Connection, environment: Environment, seconds: int, emit: Emit) -> Environment:
    """Move the deadline by so much, counting from now where it is past; with 0 there is none any more."""
    deadline: int | None = None
    if seconds:
        deadline = max(int(time.time()), _shown(connection, emit) or 0) + seconds
    put(connection, deadline)
    return environment.changed(cloud={**environment.record.cloud, "deadline": deadline})


def text(cloud: Mapping[str, Any]) -> str:
    """When the host ends by itself, for people."""
    deadline = cloud.get("deadline")
    if not deadline:
        return "its host runs until `stop` or `down`"
    at = time.strftime("%a %H:%M", time.localtime(deadline))
    what = "stops itself" if cloud["ttl_action"] == "stop" else "ends itself, disk and all,"
    return f"its host {what} in {offer.duration(deadline - time.time())}, {at}"


def put(connection: Connection, deadline: int | None) -> None:
    """Set the deadline, in seconds since the epoch, or remove it."""
    how = [_DEADLINE, "set", str(deadline)] if deadline else ["rm", "-f", _FILE]
    _must(connection.run(["sudo", "-n", *how]))


# A first boot arms it at its end, and may still be at work when it lets us in.
_SHOW = f"""
systemctl is-active --quiet {_TIMER} || timeout 300 cloud-init status --wait >&2
systemctl is-active --quiet {_TIMER} && {_DEADLINE} show
"""


def _shown(connection: Connection, emit: Emit) -> int | None:
    """The deadline as the host has it; what keeps it is put there if the first boot did not come so far."""
    looked = connection.run(["sh", "-c", _SHOW])
    if not looked.ok:
        emit(Event("note", message="the host has nothing yet that stops it: its lifetime is set from here"))
        _must(connection.run(["sudo", "-n", "tar", "-x", "-C", "/", "--no-same-owner", "-f", "-"], stdin=_files()))
        _must(connection.run(["sudo", "-n", "systemctl", "enable", "--quiet", "--now", _TIMER]))
        looked = _must(connection.run([_DEADLINE, "show"]))
    return int(looked.stdout) if looked.stdout.strip() else None


def _files() -> bytes:
    from mlops_env_infra import userdata  # noqa: PLC0415 - imports no pulumi; only a first boot that failed needs it

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, (content, mode) in userdata.files().items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content.encode()), mode
            tar.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


def _must(result: Result) -> Result:
    if result.ok:
        return result
    raise CommandFailed(
        "the host's lifetime could not be set, so it would run for ever",
        code="lifetime",
        result=result,
        hint="run the same command again; `mlops-env down` ends the host",
    )
