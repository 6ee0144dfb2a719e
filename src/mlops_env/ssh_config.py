"""How a host is reached: what ssh itself makes of the user's configuration, so that all of it counts."""

from __future__ import annotations

import getpass
import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_env.connection import LocalConnection
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SYSTEM_KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
_DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")
_DEFAULT_TIMEOUT = 15.0


@dataclass(frozen=True)
class Host:
    """A host as the user names it: `me@box`, `ssh://me@box:22`, or an alias of his ssh configuration.

    `known_hosts` is a file of the environment's, for the host keys accepted for it; `config` is written beside it.
    With an `address` that changes, `destination` is a name of ours, by which the host's key is known, too. Who does not
    know where it is at the moment says "", and it is where it was the last time.
    """

    destination: str
    known_hosts: Path
    port: int | None = None
    identity: Path | None = None
    address: str | None = None
    user: str | None = None

    @property
    def config(self) -> Path:
        return self.known_hosts.with_name("ssh_config")

    def options(self) -> list[str]:
        """What ssh is to be told beside the name."""
        port = ["-p", str(self.port)] if self.port else []
        return [*port, *(["-i", str(self.identity)] if self.identity else [])]


def ssh_command(host: Host, *options: str, remote: Sequence[str] = ()) -> list[str]:
    """The system's ssh to this host; it needs what the first `SSHConnection` leaves beside `known_hosts`.

    It never asks about a host key. Where nobody is there to answer other questions, add `-o BatchMode=yes`.
    """
    return ["ssh", "-F", str(host.config), *host.options(), *options, "--", host.destination, *remote]


def config_text(host: Host) -> str:
    """The configuration for the system's ssh: strict about host keys, ours beside the user's own, his settings.

    A file and not options, because only a file counts for the hosts of a `ProxyJump` too.
    """
    home = Path.home()
    known = " ".join(map(_in_quotes, (host.known_hosts, *_SYSTEM_KNOWN_HOSTS)))
    lines = [
        *(_of_a_moving_host(host) if host.address else []),
        f"GlobalKnownHostsFile {known}",
        "StrictHostKeyChecking yes",
        f"Include {_in_quotes(home / '.ssh' / 'config')}",
        "Include /etc/ssh/ssh_config",
    ]
    if str(home) != pwd.getpwuid(os.getuid()).pw_dir:  # ssh itself does not look at HOME
        tokens = str(home).replace("%", "%%")
        lines.append("Match all")
        lines.append(f"UserKnownHostsFile {_in_quotes(f'{tokens}/.ssh/known_hosts')}")
        lines += [f"IdentityFile {_in_quotes(f'{tokens}/.ssh/{name}')}" for name in _DEFAULT_KEYS]
    return "\n".join(lines) + "\n"


def _of_a_moving_host(host: Host) -> list[str]:
    return [
        f"Host {host.destination}",
        f"HostName {host.address}",
        f"HostKeyAlias {host.destination}",
        f"User {host.user}",
        "IdentitiesOnly yes",
        "Match all",
    ]


def _in_quotes(path: Path | str) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(frozen=True)
class Settings:
    """How to reach one host, jump hosts included: all questions answered."""

    hostname: str
    port: int
    user: str
    known_as: str
    known_hosts: tuple[Path, ...]
    identities: tuple[Path, ...]
    identities_only: bool
    agent: str
    jump: str
    proxy_command: str
    timeout: float

    def __str__(self) -> str:
        return f"{self.user}@{self.hostname}" + ("" if self.port == 22 else f" port {self.port}")  # noqa: PLR2004


def read_settings(host: Host, destination: str, *options: str) -> Settings:
    """Have ssh tell the settings for `destination`, which is the host itself or one on the way to it."""
    write_config(host)
    result = LocalConnection().run(["ssh", "-G", "-F", str(host.config), *options, "--", destination])
    if result.exited == 127:  # noqa: PLR2004 - what a shell says when there is no such program
        hint = "install the OpenSSH client (Debian: apt-get install openssh-client)"
        raise MlopsEnvError("there is no `ssh` on PATH", code="ssh-missing", hint=hint)
    if not result.ok:
        hint = "mend ~/.ssh/config or the host's name; `ssh -G` with the same name shows the same"
        raise MlopsEnvError(f"ssh cannot use {destination!r}: {result.tail()}", code="ssh-config", hint=hint)
    said: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        key, _, value = line.partition(" ")
        said.setdefault(key, []).append(value)
    values = {key: values[0] for key, values in said.items() if values[0] != "none" or key == "identityagent"}
    return _settings(host, values, said.get("identityfile", []))


def _settings(host: Host, said: Mapping[str, str], identities: Sequence[str]) -> Settings:
    port = int(said["port"])
    named = {"h": said["hostname"], "p": str(port), "r": said["user"], "n": said.get("host", said["hostname"])}
    tokens = {**named, "%": "%", "d": str(Path.home()), "u": getpass.getuser(), "k": said.get("hostkeyalias", "")}
    name = said["hostname"].lower()
    # A path begins with a slash: ssh quotes nothing here, and a path may contain blanks.
    users = re.split(r" (?=/)", said.get("userknownhostsfile", ""))
    agent = said.get("identityagent", "SSH_AUTH_SOCK")
    if agent == "SSH_AUTH_SOCK":
        agent = os.environ.get(agent, "none")
    return Settings(
        hostname=said["hostname"],
        port=port,
        user=said["user"],
        known_as=said.get("hostkeyalias") or (name if port == 22 else f"[{name}]:{port}"),  # noqa: PLR2004
        known_hosts=(host.known_hosts, *map(Path, users), *_SYSTEM_KNOWN_HOSTS),
        identities=tuple(Path(_expanded(path, tokens)).expanduser() for path in identities if path != "none"),
        identities_only=said.get("identitiesonly") == "yes",
        agent="" if agent == "none" else os.path.expandvars(agent),
        jump=said.get("proxyjump", ""),
        proxy_command=_expanded(said.get("proxycommand", ""), tokens),
        timeout=float(said.get("connecttimeout", _DEFAULT_TIMEOUT)),
    )


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    return re.sub("%(.)", lambda match: tokens.get(match[1], match[0]), text)


def write_config(host: Host) -> None:
    """What `ssh_command` reads; a connection that is made has written it."""
    if host.address == "" and host.config.is_file():
        return
    text = config_text(host)
    host.config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not host.config.is_file() or host.config.read_text(encoding="utf-8") != text:
        host.config.write_text(text, encoding="utf-8")
