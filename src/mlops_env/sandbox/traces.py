"""What a sandbox has in Docker, and how all of that is found and removed, also after a kill -9 of whoever made it."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

from mlops_env import docker_check
from mlops_env.connection import LocalConnection
from mlops_env.errors import MlopsEnvError
from mlops_env.receipt import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from docker import DockerClient

LABEL = "mlops-env.sandbox"
_WITHOUT = "rehearse provisioning alone: --no-host"
_SECONDS = 60


def digest(directory: Path) -> str:
    """What the labels say of whose sandbox something is."""
    return hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]


def docker() -> DockerClient:
    """This machine's Docker. Raises with the cause where it cannot be used for instances."""
    from docker import DockerClient  # noqa: PLC0415 - only a sandbox with hosts needs the SDK
    from docker.errors import DockerException  # noqa: PLC0415 - as above
    from requests.exceptions import RequestException  # noqa: PLC0415 - what the SDK lets through

    try:
        client = DockerClient(base_url=docker_check.endpoint().replace("http+docker://", "unix://"), timeout=_SECONDS)
        system = str(client.info().get("OperatingSystem", ""))
    except (DockerException, RequestException, OSError) as error:
        raise _verdict(error) from error
    if system == "Docker Desktop":
        raise MlopsEnvError(
            "an instance of the sandbox is a container with an address of its own, and Docker Desktop lets nobody "
            "reach such addresses from outside its virtual machine",
            code="sandbox-docker-desktop",
            hint=f"use Docker Engine on Linux, or {_WITHOUT}",
        )
    return client


def _verdict(error: Exception) -> MlopsEnvError:
    try:
        docker_check.version(LocalConnection())
    except docker_check.DockerTrouble as trouble:
        cure = "install Docker Engine" if trouble.code in {"docker-missing", "docker-no-daemon"} else trouble.hint
        message = f"instances of the sandbox are containers, and {trouble}"
        return MlopsEnvError(message, code=trouble.code, hint=f"{cure}; or {_WITHOUT}")
    message = f"instances of the sandbox are containers, and Docker does not answer: {error}"
    return MlopsEnvError(message, code="docker-stopped", hint=f"run this again, or {_WITHOUT}")


def sweep(client: DockerClient, directory: Path) -> tuple[Row, ...]:
    """Remove whatever bears the label of this sandbox, ask again, and say what was found and is left."""
    ours: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={digest(directory)}"}
    return (
        _removed("container", lambda: client.containers.list(all=True, filters=ours), {"force": True, "v": True}),
        _removed("volume", lambda: client.volumes.list(filters=ours), {"force": True}),
        _removed("network", lambda: client.networks.list(filters=ours), {}),
    )


def remove_images(client: DockerClient, label: str) -> Row:
    return _removed(
        "image",
        lambda: client.images.list(filters={"label": label}),
        {},
        lambda image: client.images.remove(image.id, force=True),
    )


def _removed(
    kind: str,
    find: Callable[[], Sequence[Any]],
    how: dict[str, bool],
    remove: Callable[[Any], None] | None = None,
) -> Row:
    from docker.errors import APIError  # noqa: PLC0415 - as above

    found = find()
    for one in found:
        with contextlib.suppress(APIError):  # gone meanwhile, or left: the second look tells
            remove(one) if remove else one.remove(**how)
    left = len(find()) if found else 0
    return Row(kind, len(found), len(found) - left, left)
