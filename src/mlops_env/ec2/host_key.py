"""The keys of a host in the cloud: known before it exists, so that nobody can be in between, and its own soon after."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from mlops_env.errors import CommandFailed
from mlops_env.known_hosts import remember

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment

KIND = "ssh-ed25519"

# Who may read user-data can read the first key of a host: so it makes one that never left it. The new one is told
# before it is used, and whoever is interrupted in between knows both.
_MAKE = """
set -eu
[ -s /etc/ssh/mlops_env_next_key.pub ] || {
  rm -f /etc/ssh/mlops_env_next_key
  ssh-keygen -q -t ed25519 -N "" -C "" -f /etc/ssh/mlops_env_next_key
}
cat /etc/ssh/mlops_env_next_key.pub
"""
_USE = """
set -eu
mv /etc/ssh/mlops_env_next_key /etc/ssh/ssh_host_ed25519_key
mv /etc/ssh/mlops_env_next_key.pub /etc/ssh/ssh_host_ed25519_key.pub
systemctl reload ssh
"""


def make(path: Path) -> str:
    """A key pair in `path` and `path`.pub, unless it is there; returns the public half."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - only a new host needs keys
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above

    public_path = path.with_name(f"{path.name}.pub")
    if not public_path.exists():
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
        write_secret(path, private)
        public_path.write_bytes(public + b"\n")
    return public_path.read_text(encoding="ascii").strip()


def write_secret(path: Path, content: bytes) -> None:
    """A new file that only its owner can read; it is there whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(content)
    part.replace(path)


def pin(environment: Environment, public: str) -> None:
    """Know the host by this key, and by no other."""
    only = environment.known_hosts.with_name("known_hosts.part")
    only.unlink(missing_ok=True)
    remember(environment.record.host["destination"], KIND, _blob(public), only)
    only.replace(environment.known_hosts)


def replace(connection: Connection, environment: Environment) -> None:
    """Have the host make a key of its own, and know it by that one from now on."""
    public = _said(connection.run(["sudo", "-n", "sh", "-c", _MAKE]))
    remember(environment.record.host["destination"], KIND, _blob(public), environment.known_hosts)
    _said(connection.run(["sudo", "-n", "sh", "-c", _USE]))
    pin(environment, public)


def _blob(public: str) -> bytes:
    return base64.b64decode(public.split()[1])


def _said(result: Result) -> str:
    if result.ok:
        return result.stdout.strip()
    raise CommandFailed(
        "the host could not change its host key",
        code="host-key",
        result=result,
        hint="run the same command again; `mlops-env ssh` shows what is wrong there",
    )
