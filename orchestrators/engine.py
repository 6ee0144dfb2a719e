"""The Docker Engine's API over its unix socket: what needs no docker CLI, and so takes milliseconds."""

from __future__ import annotations

import json
import os
import socket
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failures import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL = "mlops-env.id"  # on everything that Docker keeps for us

_DEFAULT = "unix:///var/run/docker.sock"
_SECONDS = 20.0
_NOT_FOUND = 404
_REFUSED = 400


class EngineError(Failure):
    """The engine refused a call; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Container:
    """One line of the list of containers. `health` is healthy, unhealthy, starting, or empty where nobody looks."""

    id: str
    service: str
    state: str
    health: str
    digest: str
    is_job: bool

    @classmethod
    def of(cls, row: dict[str, Any]) -> Container:
        labels, status = row.get("Labels") or {}, row.get("Status", "")
        words = ("unhealthy", "healthy", "starting")  # the first is within the second's reach
        return cls(
            id=row["Id"],
            service=labels.get("com.docker.compose.service", ""),
            state=row["State"],
            health=next((word for word in words if f"{word})" in status), ""),
            digest=labels.get("mlops-env.digest", ""),
            is_job=labels.get("com.docker.compose.oneoff") == "True",
        )

    @property
    def is_healthy(self) -> bool:
        return self.state == "running" and self.health == "healthy"


@dataclass(frozen=True)
class Engine:
    """The engine behind one socket."""

    socket: Path

    @classmethod
    def here(cls) -> Engine:
        """The one that the docker CLI would use too; raises Failure where that one is on another machine."""
        address = os.environ.get("DOCKER_HOST") or _of_context() or _DEFAULT
        scheme, _, path = address.partition("://")
        if scheme != "unix":
            raise Failure(
                f"docker is set to talk to {address}, which is not this machine",
                code="docker-context",
                hint="unset DOCKER_HOST, or choose the local one: `docker context use default`",
            )
        return cls(Path(path))

    @property
    def is_rootless(self) -> bool:
        """Whether the engine runs as an ordinary user, who then is root in its containers."""
        try:
            return self.socket.stat().st_uid != 0
        except OSError:
            return False

    def get(self, path: str, **query: str) -> Any:
        return json.loads(self.call("GET", path, query) or b"null")

    def call(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, seconds: float = _SECONDS
    ) -> bytes:
        """One request; without a version in its path, so that the engine's own is used, new or old.

        As HTTP 1.0: the answer ends with the connection, and http.client would take longer to import than all the rest.
        """
        target = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(seconds)
                connection.connect(str(self.socket))
                connection.sendall(f"{method} {target} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
                with connection.makefile("rb") as answer:
                    head, _, body = answer.read().partition(b"\r\n\r\n")
            status = int(head.split()[1])
        except (OSError, ValueError, IndexError) as error:
            raise _unreachable(self.socket, error) from error
        if status >= _REFUSED:
            raise EngineError(f"docker: {_message(body)}", status)
        return body

    def find(self, kind: str, identity: str, **query: str) -> list[dict[str, Any]]:
        """All objects of one kind (`containers`, `networks`, `volumes`, `images`) with the environment's label."""
        path = {"containers": "/containers/json", "images": "/images/json"}.get(kind, f"/{kind}")
        found = self.get(path, filters=json.dumps({"label": [f"{LABEL}={identity}"]}), **query)
        rows: list[dict[str, Any]] = found["Volumes"] or [] if kind == "volumes" else found
        return rows

    def containers(self, identity: str) -> list[Container]:
        return [Container.of(row) for row in self.find("containers", identity, all="1")]

    def image(self, name: str) -> dict[str, Any] | None:
        return self._look(f"/images/{name}/json")

    def volume(self, name: str) -> dict[str, Any] | None:
        return self._look(f"/volumes/{name}")

    def _look(self, path: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.get(path)
        except EngineError as error:
            if error.status == _NOT_FOUND:
                return None
            raise
        return found

    def remove(self, path: str, **query: str) -> bool:
        """Whether it is gone; what was gone already counts too."""
        try:
            self.call("DELETE", path, query, seconds=120)
        except EngineError as error:
            return error.status == _NOT_FOUND
        return True


def _of_context() -> str:
    """The address in the docker CLI's current context; empty for the default one."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    import hashlib  # noqa: PLC0415 - hardly ever needed

    try:
        name = os.environ.get("DOCKER_CONTEXT") or json.loads((folder / "config.json").read_bytes())["currentContext"]
        meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        return str(json.loads(meta.read_bytes())["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace")[:200]


def _unreachable(path: Path, error: Exception) -> Failure:
    """In the words of the socket: who needs more asks bootstrap's own step for the daemon."""
    match error:
        case PermissionError():
            words = (f"{path} may not be used by this user", "docker-permission", "join the group docker, log in again")
        case FileNotFoundError():
            words = (f"there is no {path}", "docker-no-daemon", "start Docker, or install it")
        case ConnectionRefusedError():
            words = (f"nobody listens at {path}", "docker-stopped", "start it: `sudo systemctl start docker`")
        case TimeoutError():
            words = (f"Docker does not answer at {path}", "docker-hangs", "restart it: `sudo systemctl restart docker`")
        case _:
            words = (f"Docker does not answer at {path}: {error}", "docker-stopped", "is it being restarted?")
    message, code, hint = words
    return Failure(message, code=code, hint=hint)
