"""Whether Docker on this machine is usable by this user, and if not, why: the only module that imports the SDK.

The same verdicts, by the same codes, as bootstrap/steps/25-daemon.sh gives of a host.
"""

from __future__ import annotations

import grp
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_env.connection import Connection

_SECONDS = 10
_HERE = ("unix://", "npipe://", "http+docker://")


class DockerTrouble(Exception):
    """Docker cannot be used: a stable `code`, what is the matter, and the cure."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint


def version(connection: Connection) -> str:
    """What the daemon says it is. Raises DockerTrouble with the cause where it, or Compose, cannot be used."""
    if not shutil.which("docker"):
        raise DockerTrouble(
            "docker-missing",
            "there is no `docker` on PATH",
            "install Docker Engine with the Compose plugin, or use --runtime venv, which needs no Docker",
        )
    address = endpoint()
    if not address.startswith(_HERE):
        raise DockerTrouble(
            "docker-context",
            f"docker's context points to {address}, which is another machine",
            "`docker context use default`, or unset DOCKER_HOST and DOCKER_CONTEXT",
        )
    said = _ask(address)
    _need_compose(connection)
    return said


def endpoint() -> str:
    """Where the `docker` command would go: DOCKER_HOST, else the current context, else the usual socket."""
    from docker.context import ContextAPI  # noqa: PLC0415 - only who asks about Docker pays for its SDK

    if address := os.environ.get("DOCKER_HOST"):
        return address
    name = os.environ.get("DOCKER_CONTEXT")
    context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    return str(context.Host) if context and context.Host else "unix:///var/run/docker.sock"


def _ask(address: str) -> str:
    from docker import DockerClient  # noqa: PLC0415 - as above
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import Timeout  # noqa: PLC0415 - what the SDK lets through

    try:
        client = DockerClient(base_url=address.replace("http+docker://", "unix://"), timeout=_SECONDS)
        try:
            told = client.version()
        finally:
            client.close()
    except Timeout as error:
        raise _hangs() from error
    except (DockerException, OSError) as error:
        raise _why(address, error) from error
    return f"Docker {told['Version']}"


def _why(address: str, error: BaseException) -> DockerTrouble:
    socket = Path(address.removeprefix("unix://").removeprefix("http+docker://"))
    words = str(error)
    if "Timeout" in words or "timed out" in words:
        return _hangs()
    if "Permission denied" in words or "PermissionError" in words:
        return _permission(socket)
    if not socket.exists():
        installed = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin")
        if installed:
            return _stopped(f"the Docker daemon is stopped: there is no {socket}")
        return DockerTrouble(
            "docker-no-daemon",
            f"there is a `docker` command, but no daemon: no {socket}, and no dockerd is installed",
            "install Docker Engine or start Docker Desktop, or use --runtime venv",
        )
    if "Connection refused" in words or "ConnectionRefused" in words:
        return _stopped(f"the Docker daemon is stopped: nobody listens on {socket}")
    return DockerTrouble("docker-stopped", f"the Docker daemon at {socket} does not answer: {words}", _START)


_START = "start it: `sudo systemctl start docker`, or start Docker Desktop"


def _hangs() -> DockerTrouble:
    return DockerTrouble(
        "docker-hangs",
        f"the Docker daemon does not answer within {_SECONDS} s",
        "restart it: `sudo systemctl restart docker`, or restart Docker Desktop",
    )


def _stopped(message: str) -> DockerTrouble:
    return DockerTrouble("docker-stopped", message, _START)


def _permission(socket: Path) -> DockerTrouble:
    """Membership counts from the next login on: that is the one case with nothing to install or to change."""
    user, group = os.environ.get("USER") or str(os.getuid()), _group_of(socket)
    try:
        is_member = user in grp.getgrnam(group).gr_mem
    except KeyError:
        is_member = False
    if is_member:
        return DockerTrouble(
            "docker-permission",
            f"{user} is in group {group}, but not yet in this login, so {socket} is closed to it",
            f"log in anew, or `newgrp {group}` in this terminal",
        )
    return DockerTrouble(
        "docker-permission",
        f"{user} may not use {socket}: it is for group {group}",
        f"`sudo usermod -aG {group} {user}`, then log in anew (whoever is in that group is as good as root)",
    )


def _group_of(socket: Path) -> str:
    try:
        return grp.getgrgid(socket.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "docker"


def _need_compose(connection: Connection) -> None:
    if connection.run(["docker", "compose", "version", "--short"]).ok:
        return
    if shutil.which("docker-compose"):
        raise DockerTrouble(
            "docker-compose-v1",
            "only `docker-compose` is installed, which is Compose v1; Compose v2 is a plugin of `docker`",
            "install the plugin: package docker-compose-plugin of Docker's repository, or docker-compose-v2 of Ubuntu",
        )
    raise DockerTrouble(
        "docker-missing",
        "`docker compose` is not there: Docker has no Compose plugin",
        "install the plugin: package docker-compose-plugin of Docker's repository, or docker-compose-v2 of Ubuntu",
    )
