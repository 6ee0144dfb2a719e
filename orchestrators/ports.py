"""The ports of an environment's services: chosen once, kept for as long as they are free."""

from __future__ import annotations

import json
import pwd
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from events import say
from failures import Failure
from files import replace
from host import recorded_ports

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from host import Host

_TRIES = 100
_LISTEN = "0A"


class NoPortError(Failure):
    """Every port that was tried is taken."""


def choose(host: Host, running: AbstractSet[str]) -> None:
    """Keep the ports of services that run; for the others the last one, the preferred one, or the next free."""
    taken = _of_other_environments(host)
    for service in host.services:
        if service.preferred_port is None:
            continue
        last = host.ports.get(service.name)
        if not (last and service.name in running):
            last = _free(service.name, last, service.preferred_port, taken)
        taken.add(last)
        host.ports[service.name] = last
    replace(host.directory / "ports.json", json.dumps(host.ports).encode())


def is_free(port: int) -> bool:
    """Whether we could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free(service: str, last: int | None, preferred: int, taken: set[int]) -> int:
    wished: list[int] = [last] if last else []
    for port in dict.fromkeys(wished + list(range(preferred, preferred + _TRIES))):
        if port not in taken and is_free(port):
            return port
        if port not in taken and port in {last, preferred}:
            say("note", service, message=f"{service}: port {port} is taken by {squatter(port)}")
    raise NoPortError(
        f"{service}: no free port from {preferred} to {preferred + _TRIES - 1}",
        code="port-taken",
        hint="end what listens there (`ss -ltnp` shows it)",
    )


def _of_other_environments(host: Host) -> set[int]:
    """Also of stopped ones, and of forwards to hosts: theirs to come back to."""
    records = host.directory.parent.parent.glob("*/*/ports.json")
    others = (path.parent for path in records if path.parent != host.directory)
    return {port for path in others for port in recorded_ports(path).values()}


def squatter(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"pid {connection.pid} ({command[:80]})"
    except psutil.Error:
        pass
    owner = _owner_of(port)
    return f"a process of {owner} (`sudo ss -ltnp` says which)" if owner else "another process"


def _owner_of(port: int) -> str:
    """Whose socket listens there, which Linux tells everybody; empty elsewhere."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError, KeyError):
            for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state, *_ = words = line.split()
                if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                    return pwd.getpwuid(int(words[7])).pw_name
    return ""
