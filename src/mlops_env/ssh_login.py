"""Getting into a host over ssh: the way there, its key, our key, and each of their bad days by name."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import stat
import tempfile
from typing import IO, TYPE_CHECKING

import paramiko
from paramiko.agent import AgentSSH
from paramiko.common import MSG_CHANNEL_REQUEST

from mlops_env.connection import Piped
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event
from mlops_env.known_hosts import fingerprint, known_keys, remember
from mlops_env.ssh_config import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from paramiko.message import Message

    from mlops_env.events import Emit
    from mlops_env.known_hosts import Known
    from mlops_env.ssh_config import Host, Settings

SIGNALLED = 1 << 16
"""Added to the signal that ended a command, in a channel's exit status."""

_MOST_JUMPS = 8
_BROKEN = (paramiko.SSHException, EOFError, OSError)

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # its lines would go to the terminal


class Login:
    """How to get into a host."""

    def __init__(self, host: Host, emit: Emit, *, accept_new: bool) -> None:
        self._host = host
        self._emit = emit
        self._accept_new = accept_new

    def transports(self) -> list[paramiko.Transport]:
        """The jump hosts' and last the host's own: logged in, each through the one before."""
        return self._reach(self._host.destination, *self._host.options())

    def _reach(self, destination: str, *options: str, via: str = "", jumps: int = 0) -> list[paramiko.Transport]:
        settings = read_settings(self._host, destination, *options)
        if jumps > _MOST_JUMPS:
            hint = "mend ProxyJump in ~/.ssh/config: a jump host must not be reached through itself"
            raise MlopsEnvError(f"the way to {settings} has no end", code="ssh-unreachable", hint=hint)
        way: list[paramiko.Transport] = []
        try:
            if via := via or settings.jump:
                before, _, last = via.rpartition(",")
                way = self._reach(last if "://" in last else f"ssh://{last}", via=before, jumps=jumps + 1)
            with tempfile.TemporaryFile() as said:
                try:
                    way.append(_handshake(settings, _way_in(settings, way, said)))
                except _BROKEN as error:
                    said.seek(0)
                    raise _unreachable(settings, error, said.read().decode(errors="replace")) from error
            self._check_host_key(settings, way[-1].get_remote_server_key())
            self._prove_who_we_are(settings, way[-1], None if jumps else self._host.identity)
        except BaseException:
            for transport in reversed(way):
                transport.close()
            raise
        return way

    def _check_host_key(self, settings: Settings, key: paramiko.PKey) -> None:
        shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
        known = known_keys(settings.known_as, settings.known_hosts)
        same = [one for one in known if one.key == key.asbytes()]
        if any(one.is_revoked for one in same):
            message = f"the host key of {settings}, {shown}, is marked as revoked in {same[0].where}"
            hint = "do not connect: somebody else may have this key; ask whoever runs the host"
            raise MlopsEnvError(message, code="host-key-changed", hint=hint)
        if same:
            return
        others = [one for one in known if not one.is_revoked]
        if others:
            raise _changed(settings, shown, others)
        if not self._accept_new:
            message = f"the host key of {settings} is not known yet; it is {shown}"
            hint = "compare it with what whoever runs the host says, then accept it with --accept-new-host-key"
            raise MlopsEnvError(message, code="host-key-unknown", hint=hint)
        remember(settings.known_as, key.get_name(), key.asbytes(), self._host.known_hosts)
        message = f"accepted the host key of {settings}: {shown}"
        self._emit(Event("note", message=message, fields={"fingerprint": fingerprint(key.asbytes())}))

    def _prove_who_we_are(self, settings: Settings, transport: paramiko.Transport, identity: Path | None) -> None:
        tried: list[str] = []
        problems: list[str] = []
        with contextlib.ExitStack() as stack:
            for name, key in _keys(settings, identity, problems, stack):
                tried.append(name)
                wanted = _refused(transport.auth_publickey, settings.user, key)
                if wanted is None:
                    return
                if wanted or not transport.is_active():
                    break
            else:  # some hosts know us by the network we come from; the others say here what they want
                wanted = _refused(transport.auth_none, settings.user)
                if wanted is None:
                    return
        raise _not_let_in(settings, tried, problems, wanted, is_closed=not transport.is_active())


class _Transport(paramiko.Transport):
    """With what paramiko leaves out: the signal that ended a command."""

    def __init__(self, way: socket.socket | paramiko.Channel) -> None:
        super().__init__(way)
        handlers = self._channel_handler_table  # type: ignore[has-type]
        self._channel_handler_table = {**handlers, MSG_CHANNEL_REQUEST: _answer}


def _answer(channel: paramiko.Channel, message: Message) -> None:
    kind = message.get_text()
    message.get_boolean()
    if kind == "exit-signal":
        name = f"SIG{message.get_text().partition('@')[0]}"
        channel.exit_status = SIGNALLED + getattr(signal, name, signal.SIGKILL)
        channel.status_event.set()
        return
    message.rewind()
    message.get_int()  # the channel, which is read already
    channel._handle_request(message)  # type: ignore[attr-defined]  # noqa: SLF001 - what the table said


class _Prompt(socket.socket):
    """Acknowledges at once what it gets: sshd keeps its next small packet until then, 40 ms at each login."""

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        if hasattr(socket, "TCP_QUICKACK"):  # Linux; it holds for one time
            self.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return data


def _way_in(settings: Settings, way: list[paramiko.Transport], said: IO[bytes]) -> socket.socket | paramiko.Channel:
    if way:
        return way[-1].open_channel(
            "direct-tcpip", (settings.hostname, settings.port), ("127.0.0.1", 0), timeout=settings.timeout
        )
    if settings.proxy_command:
        return Piped(settings.proxy_command, said)
    direct = socket.create_connection((settings.hostname, settings.port), settings.timeout)
    direct.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _Prompt(fileno=direct.detach())


def _handshake(settings: Settings, way: socket.socket | paramiko.Channel) -> paramiko.Transport:
    """Prefers the kinds of key that the host is known by, and ciphers without a separate MAC."""
    transport = _Transport(way)
    transport.banner_timeout = transport.handshake_timeout = settings.timeout
    options = transport.get_security_options()
    known = [one.kind for one in known_keys(settings.known_as, settings.known_hosts)]
    options.key_types = sorted(options.key_types, key=lambda kind: _known_kind(kind) not in known)
    options.ciphers = sorted(options.ciphers, key=lambda cipher: "gcm" not in cipher)
    try:
        transport.start_client(timeout=settings.timeout)
        transport.get_remote_server_key()
    except BaseException:
        transport.close()
        way.close()
        raise
    return transport


def _known_kind(kind: str) -> str:
    """As known_hosts calls it: there an RSA key is one kind, whatever it signs with."""
    return "ssh-rsa" if kind.startswith("rsa-") else kind


def _keys(
    settings: Settings, identity: Path | None, problems: list[str], stack: contextlib.ExitStack
) -> Iterator[tuple[str, paramiko.PKey]]:
    """What to offer, in this order: the key we were told to use, the agent's, the files'; none of them twice."""
    offered: set[bytes] = set()
    if identity and (key := _key_in(identity, problems)):
        offered.add(key.asbytes())
        yield str(identity), key
    public = {_public_half(path): path for path in settings.identities}
    for held in _agent_keys(settings.agent, stack):
        blob = held.asbytes()
        if blob not in offered and (blob in public or not settings.identities_only):
            offered.add(blob)
            yield f"{held.comment or held.get_name()} (agent)", held
    for path in settings.identities:
        if path == identity or _public_half(path) in offered or not path.is_file():
            continue
        key = _key_in(path, problems)
        if key and key.asbytes() not in offered:
            offered.add(key.asbytes())
            yield str(path), key


def _refused(try_in: Callable[..., list[str]], *words: object) -> list[str] | None:
    """None if that let us in; else what the host wants instead, or besides, as far as it says."""
    try:
        return try_in(*words) or None
    except paramiko.BadAuthenticationType as error:
        return error.allowed_types
    except _BROKEN:
        return []


def _agent_keys(path: str, stack: contextlib.ExitStack) -> tuple[paramiko.AgentKey, ...]:
    """`AgentSSH` and not `Agent`, since that one knows no agent but SSH_AUTH_SOCK's."""
    if not path:
        return ()
    agent = AgentSSH()
    way = stack.enter_context(socket.socket(socket.AF_UNIX))
    try:
        way.connect(path)
        agent._connect(way)  # type: ignore[attr-defined]  # noqa: SLF001
    except (OSError, paramiko.SSHException):
        return ()
    return agent.get_keys()


def _public_half(path: Path) -> bytes:
    with contextlib.suppress(OSError, ValueError):
        blob: bytes = paramiko.pkey.PublicBlob.from_file(f"{path}.pub").key_blob
        return blob
    return b""


def _key_in(path: Path, problems: list[str]) -> paramiko.PKey | None:
    """The private key in a file; where there is none to be had, why is added to `problems`."""
    try:
        about = path.stat()
        if about.st_uid == os.getuid() and about.st_mode & 0o077:
            mode = stat.S_IMODE(about.st_mode)
            problems.append(f"{path} was not used, as others may read it (mode {mode:04o}): chmod 600 '{path}'")
            return None
        key: paramiko.PKey = paramiko.PKey.from_path(path)
    except OSError as error:
        problems.append(f"{path}: {error.strerror}")
    except (TypeError, paramiko.PasswordRequiredException):
        problems.append(f"{path} has a passphrase, and no agent has the key: ssh-add '{path}'")
    except Exception as error:  # noqa: BLE001 - whatever the libraries raise about a file they cannot read
        problems.append(f"{path} is not a private key that we can use ({error})")
    else:
        return key
    return None


def reason_of(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "there is no host of this name"
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, EOFError):
        return "it was closed"
    if isinstance(error, paramiko.ChannelException):
        return f"the jump host says: {error.text}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _unreachable(settings: Settings, error: BaseException, said: str) -> MlopsEnvError:
    message = f"cannot reach {settings}: {said.strip() or reason_of(error)}"
    hint = (
        f"check the name, that the machine runs, and that its port {settings.port} is open to you; `ssh -v` says more"
    )
    return MlopsEnvError(message, code="ssh-unreachable", hint=hint)


def _changed(settings: Settings, shown: str, known: list[Known]) -> MlopsEnvError:
    before = ", ".join(f"{one.kind} {fingerprint(one.key)} ({one.where})" for one in known)
    files = sorted({one.where.rpartition(":")[0] for one in known})
    removal = "; ".join(f"ssh-keygen -R '{settings.known_as}' -f '{file}'" for file in files)
    return MlopsEnvError(
        f"the host key of {settings} has changed: it is {shown}, but was {before}",
        code="host-key-changed",
        hint="if you know why (a new machine, a new system on it), forget the old key with "
        f"`{removal}` and accept the new one with --accept-new-host-key; if not, somebody may be in between",
    )


def _not_let_in(
    settings: Settings, tried: list[str], problems: list[str], wanted: list[str], *, is_closed: bool
) -> MlopsEnvError:
    message = f"{settings} does not let us in; tried {', '.join(tried)}" if tried else f"there is no key for {settings}"
    message = "; ".join([message, *problems])
    hint = (
        f"name the right key with --identity, or give the host yours: ssh-copy-id {settings.user}@{settings.hostname}"
    )
    if wanted and "publickey" not in wanted:
        message += f"; the host wants {' and '.join(wanted)}, which we cannot give"
    elif is_closed and len(tried) > 1:
        message += "; after these the host closed the connection"
        hint = "name the right key with --identity: hosts allow few wrong ones"
    elif problems:
        hint = "do what is said above about the key's file, or name another with --identity"
    return MlopsEnvError(message, code="ssh-auth", hint=hint)
