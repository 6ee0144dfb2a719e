"""One ssh with the pages of a host on ports of this computer: its command, its last words, what comes through it."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ANSWER_SECONDS = 3.0
NO_SIGN = f"no answer for {_ANSWER_SECONDS:.0f} s"

# What the user's ssh configuration says of the host holds, except for these. The first value that ssh meets counts.
_OPTIONS = (
    "BatchMode=yes",  # nobody is there to answer a question
    "StrictHostKeyChecking=yes",
    "ExitOnForwardFailure=yes",
    "ServerAliveInterval=10",
    "ServerAliveCountMax=3",
    "ConnectTimeout=10",
    "ControlMaster=no",  # a shared connection would end with whoever owns it
    "ControlPath=none",
    "PermitLocalCommand=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=INFO",
)


def command(ssh: Sequence[str], ports: dict[int, int]) -> list[str]:
    """The whole command, from the words that stand before a remote command: `ssh`, options and destination."""
    options = [word for option in _OPTIONS for word in ("-o", option)]
    pages = [word for remote, local in ports.items() for word in ("-L", f"127.0.0.1:{local}:127.0.0.1:{remote}")]
    return [ssh[0], "-N", "-T", *options, *pages, *ssh[1:]]


def silence(ports: dict[int, int]) -> dict[int, str]:
    """Why a page does not answer through the tunnel, for those that do not: each is asked for a line, all at once."""
    asked: dict[int, socket.socket] = {}
    silent: dict[int, str] = {}
    with contextlib.ExitStack() as stack:
        for remote, local in ports.items():
            try:
                one = stack.enter_context(socket.create_connection(("127.0.0.1", local), _ANSWER_SECONDS))
                one.sendall(f"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:{local}\r\nConnection: close\r\n\r\n".encode())
                asked[remote] = one
            except OSError as error:
                silent[remote] = f"port {local} here: {error.strerror or error}"
        for remote, one in asked.items():
            try:
                answers = one.recv(1)
            except TimeoutError:
                silent[remote] = NO_SIGN
                continue
            except OSError:
                answers = b""
            if not answers:  # ssh closes what the host refuses
                silent[remote] = f"nothing answers at port {remote} of the host"
    return silent


def last_words(log: Path, since: int = 0) -> str:
    """What ssh said when it last ended, of the log from this byte on."""
    try:
        text = log.read_bytes()[since:].decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if " ssh ended after " in line]
    return lines[-1].partition(" s: ")[2] if lines else ""
