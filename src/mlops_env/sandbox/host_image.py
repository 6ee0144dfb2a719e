"""The image of an instance: built once for each state of its recipe, or another one that the user names."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from docker import DockerClient

    from mlops_env.events import Emit

LABEL = "mlops-env.sandbox-image"
OVERRIDE = "MLOPS_ENV_SANDBOX_IMAGE"
_RECIPE = Path(__file__).with_name("host")
_SHOWN = 10


def ensure(client: DockerClient, emit: Emit) -> str:
    """The name of the image, which is there then."""
    from docker.errors import ImageNotFound  # noqa: PLC0415 - only a sandbox with hosts needs the SDK

    named = os.environ.get(OVERRIDE, "")
    files = {path.name: path.read_bytes() for path in sorted(_RECIPE.iterdir()) if path.is_file()}
    name = named or f"mlops-env-sandbox-host:{_digest(files)}"
    try:
        client.images.get(name)
    except ImageNotFound:
        start = time.monotonic()
        does = f"getting {name}" if named else "building it, once; it downloads some 150 MB"
        emit(Event("sandbox", "started", name="host image", message=does))
        _pull(client, name) if named else _build(client, name, files, emit)
        emit(Event("sandbox", "changed", name="host image", fields={"seconds": round(time.monotonic() - start, 1)}))
    return name


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _pull(client: DockerClient, name: str) -> None:
    from docker.errors import DockerException  # noqa: PLC0415 - as above

    try:
        client.images.pull(name)
    except DockerException as error:
        raise MlopsEnvError(
            f"the image {name} is not there and cannot be had: {error}",
            code="sandbox-image",
            hint=f"load it with `docker load`, name another one in {OVERRIDE}, or unset that to build ours",
        ) from error


def _build(client: DockerClient, name: str, files: dict[str, bytes], emit: Emit) -> None:
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for file, content in files.items():
            entry = tarfile.TarInfo(file)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    said = client.api.build(
        fileobj=io.BytesIO(context.getvalue()),
        custom_context=True,
        tag=name,
        labels={LABEL: "host"},
        rm=True,
        forcerm=True,
        decode=True,
    )
    _follow(said, emit)


def _follow(said: Iterable[dict[str, Any]], emit: Emit) -> None:
    lines: list[str] = []
    for message in said:
        for line in str(message.get("stream", "")).splitlines():
            if line.strip():
                emit(Event("log", message=line))
                lines.append(line)
        if "error" in message:
            raise MlopsEnvError(
                f"the image of an instance cannot be built: {message['error']}\n" + "\n".join(lines[-_SHOWN:]),
                code="sandbox-image",
                hint="mend what it says and run this again (it needs debian:bookworm-slim and Debian's archive), "
                f"name an image of yours in {OVERRIDE}, or rehearse provisioning alone: --no-host",
            )
