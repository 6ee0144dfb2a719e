"""Acting on a host elsewhere, over ssh. Import it late: it imports paramiko, as only `ssh_login` does beside it."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from typing import IO, TYPE_CHECKING, Self

import paramiko

from mlops_env.connection import GRACE_SECONDS, SLICE_SECONDS, Output, Result, quoted
from mlops_env.errors import ConnectionLost
from mlops_env.ssh_login import SIGNALLED, Login, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import ReadableBuffer as Buffer

    from mlops_env.connection import OnLine
    from mlops_env.events import Emit
    from mlops_env.ssh_config import Host

ALIVE_SECONDS = 15.0
"""How often the host is asked for a sign of life."""

DEAD_SECONDS = 40.0
"""How long it may take to give it. Shorter cuts are ridden out: TCP sends again."""

_MARK = "mlops-env-session"

# `exec` all the way: what sshd started, the leader of a process group of its own, becomes the command. Both streams
# begin with a mark that has its number; what the login shell's start-up files print is before it.
_START = f'echo "{_MARK} $$"; echo "{_MARK} $$" >&2; exec "$@"'

_END = """
kill -s TERM -- "-$1"
tenths=0
while [ "$tenths" -lt "$2" ] && kill -s 0 -- "-$1"; do sleep 0.1; tenths=$((tenths + 1)); done
kill -s KILL -- "-$1"
"""

_CHUNK = 1 << 18


class SSHConnection:
    """One login, and a channel of it for each command."""

    def __init__(self, host: Host, emit: Emit, *, accept_new: bool = False) -> None:
        """`accept_new`: a host that no file knows becomes known by the key that it has now."""
        self._host = host
        self._login = Login(host, emit, accept_new=accept_new)
        self._transports: list[paramiko.Transport] = []
        self._lost_because = ""

    def __enter__(self) -> Self:
        self._transports = self._login.transports()
        self._lost_because = ""
        threading.Thread(target=self._watch, args=(self._transports[-1],), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for transport in reversed(self._transports):
            transport.close()
        self._transports = []

    def renew(self) -> None:
        self.__exit__()
        self.__enter__()

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None, into: IO[bytes] | None = None
    ) -> Result:
        start = time.monotonic()
        if not self._transports:
            raise self._lost("it could not be renewed")
        try:
            command = _Command(self._transports[-1].open_session(), Output(on_line, into))
            try:
                exited = command.run(argv, stdin)
            except BaseException:
                self._end(command)
                raise
        except (paramiko.SSHException, EOFError, OSError) as error:
            if self._transports[-1].is_active():
                raise
            raise self._lost(reason_of(error)) from error
        if exited is None:
            raise self._lost("the host closed it, or the program that served it there was killed")
        return command.output.result(argv, exited, start)

    def _lost(self, reason: str) -> ConnectionLost:
        return ConnectionLost(
            f"the connection to {self._host.destination} broke: {self._lost_because or reason}",
            code="connection-lost",
            hint="when the host can be reached, run the same command again: it continues where it stopped",
        )

    def _end(self, command: _Command) -> None:
        """End it with all its children, if the host can still be reached."""
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            leader = command.wait_for_leader()
            if leader:
                killer = _Command(self._transports[-1].open_session(), Output(None, None))
                killer.run(["sh", "-c", _END, "end", str(leader), str(int(GRACE_SECONDS * 10))], b"")
        command.channel.close()

    def _watch(self, transport: paramiko.Transport) -> None:
        """Close a connection whose host gives no sign of life; without this, nobody would ever notice."""

        def give_up() -> None:
            self._lost_because = f"no sign of life for {DEAD_SECONDS:.0f} s"
            transport.close()

        while True:
            transport.join(ALIVE_SECONDS)
            if not transport.is_active():
                return
            timer = threading.Timer(DEAD_SECONDS, give_up)
            timer.daemon = True
            timer.start()
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.global_request("keepalive@openssh.com", wait=True)
            timer.cancel()


class _Command:
    """One command in its channel."""

    def __init__(self, channel: paramiko.Channel, output: Output) -> None:
        self.channel = channel
        self.output = output
        self._leader = 0

    def run(self, argv: Sequence[str], stdin: bytes) -> int | None:
        """Its exit code, or None if the connection broke before that was known."""
        threads = [
            threading.Thread(target=self._drain, args=(receive, name), daemon=True)
            for name, receive in (("stdout", self.channel.recv), ("stderr", self.channel.recv_stderr))
        ]
        for thread in threads:
            thread.start()
        line = f"exec {quoted(['sh', '-c', _START, 'sh', *argv])}"
        self.channel.exec_command(line.encode(errors="surrogateescape"))
        if stdin:
            threading.Thread(target=self._send, args=(stdin,), daemon=True).start()
        else:
            self.channel.shutdown_write()
        self.output.wait_for(threads)
        while not self.channel.exit_status_ready():
            self.channel.status_event.wait(SLICE_SECONDS)
        exited = self.channel.exit_status
        self.channel.close()
        if exited == -1:
            return None
        return SIGNALLED - exited if exited > SIGNALLED else exited

    def wait_for_leader(self) -> int:
        """Its process group, which is known a moment after it was started; 0 if it never was."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not (self._leader or self.channel.exit_status_ready() or time.monotonic() > deadline):
            self.channel.status_event.wait(SLICE_SECONDS / 10)
        return self._leader

    def _send(self, stdin: bytes) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # it may end without reading it all
            for begin in range(0, len(stdin), _CHUNK):  # since `sendall` copies the rest again and again
                self.channel.sendall(stdin[begin : begin + _CHUNK])
            self.channel.shutdown_write()

    def _drain(self, receive: Callable[[int], bytes], name: str) -> None:
        pipe: IO[bytes] = io.BufferedReader(_Stream(receive), _CHUNK)
        before: list[bytes] = []
        for line in pipe:
            _, mark, leader = line.partition(f"{_MARK} ".encode())
            if mark:
                self._leader = int(leader)
                break
            before.append(line)
        else:  # no command was started: then these are the words of whoever refused it
            pipe = io.BytesIO(b"".join(before))
        self.output.drain(pipe, name)


class _Stream(io.RawIOBase):
    """One of a channel's two streams as a file."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__()
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._receive(len(view))
        view[: len(data)] = data
        return len(data)
