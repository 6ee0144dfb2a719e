"""What the containers of an environment are made from: the values for each compose.yaml, and digests over all of it.

A container is as it should be when its label `mlops-env.digest` is the digest over its owner's compose.yaml and the
values that this file names; among them is the image, whose tag is a digest over its Dockerfile and what this copies.
"""

from __future__ import annotations

import hashlib
import pwd
import re
from typing import TYPE_CHECKING

from engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from host import Host

_COPY = re.compile(r"^COPY (.+) \S+$", re.MULTILINE)
_VARIABLE = re.compile(r"\$\{(\w+)")


def project(host: Host) -> str:
    """What Compose calls this environment."""
    return f"mlops-env-{host.identity[:8].lower()}"


def values(host: Host) -> dict[str, str]:
    """Every variable of the compose.yaml files; no secret is among them."""
    owner = host.workspace.stat()
    # In the containers of an engine that runs as an ordinary user, that user is root.
    uid, gid = (0, 0) if Engine.here().is_rootless else (owner.st_uid, owner.st_gid)
    found = {
        "COMPOSE_PROJECT_NAME": project(host),
        "MLOPS_ENV_ID": host.identity,
        "MLOPS_ENV_NAME": host.name,
        "MLOPS_ENV_WORKSPACE": str(host.workspace),
        "MLOPS_ENV_SECRETS": str(host.directory / "secrets"),
        "MLOPS_ENV_USER": _user(owner.st_uid),
        "MLOPS_ENV_UID": str(uid),
        "MLOPS_ENV_GID": str(gid),
    }
    for service in host.services:
        if service.preferred_port is not None:
            found[f"{_variable(service.name)}_PORT"] = str(host.ports.get(service.name, ""))
    for name in host.owners:
        tag = image_digest(host, name, uid, gid)
        found[f"{_variable(name)}_IMAGE"] = f"mlops-env-{name}:{tag}"
    for name in host.owners:
        found[f"{_variable(name)}_DIGEST"] = digest(host, name, found)
    return found


def image(owner: str, found: Mapping[str, str]) -> str:
    return found[f"{_variable(owner)}_IMAGE"]


def service_digest(owner: str, found: Mapping[str, str]) -> str:
    return found[f"{_variable(owner)}_DIGEST"]


def compose_file(host: Host) -> Path:
    """The orchestrator's; it includes the tracking server's."""
    return host.script(host.orchestrator, "compose.yaml")


def digest(host: Host, owner: str, found: Mapping[str, str]) -> str:
    """Over all that makes this owner's services what they are."""
    text = host.script(owner, "compose.yaml").read_text(encoding="utf-8")
    named = sorted({name for name in _VARIABLE.findall(text) if name in found})
    return _digest(text, *(f"{name}={found[name]}" for name in named))


def image_digest(host: Host, owner: str, uid: int, gid: int) -> str:
    """Over the Dockerfile and what it copies; with the environment's id, since an image belongs to one of them."""
    dockerfile = host.script(owner, "Dockerfile").read_text(encoding="utf-8")
    made = hashlib.sha256(_digest(dockerfile, host.identity, str(uid), str(gid)).encode())
    for path in copied(host.tree, dockerfile):
        made.update(f"{path.relative_to(host.tree)}\0".encode() + path.read_bytes())
    return made.hexdigest()[:16]


def copied(tree: Path, dockerfile: str) -> Iterator[Path]:
    """The files that this Dockerfile takes out of the tree."""
    for words in _COPY.findall(dockerfile.replace("\\\n", " ")):
        for name in words.split():
            path = tree / name
            found = sorted(path.rglob("*")) if path.is_dir() else [path]
            yield from (file for file in found if file.is_file() and file.suffix != ".pyc")


def env_file(found: Mapping[str, str]) -> str:
    """For `docker compose --env-file`, by us and by hand."""
    lines = [f"{name}={_quoted(value)}\n" for name, value in found.items()]
    return "# All that the compose.yaml files need to know; written by `services.py apply`.\n" + "".join(lines)


def _quoted(value: str) -> str:
    """Taken as it is; in single quotes nothing is special, but there is no way to write such a quote."""
    if "'" not in value:
        return f"'{value}'"
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def _variable(owner: str) -> str:
    return f"MLOPS_ENV_{owner.upper().replace('-', '_')}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a uid without a name
        return str(uid)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
