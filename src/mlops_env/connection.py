"""Acting on a host: the only module that starts processes. `ssh.py` has the same for a host elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, NoReturn, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

OnLine = Callable[[str, str], None]
"""Called with `"stdout"` or `"stderr"` and each line as it comes, without its end; never twice at once."""

SLICE_SECONDS = 0.2
"""How long to wait at a time: a Ctrl-C just before an endless wait would be lost in it."""

GRACE_SECONDS = 5.0
"""How long an interrupted command has to end by itself."""

_UNPACK = 'set -eu; rm -rf "$1.part"; mkdir -p "$1.part"; tar -xf - -C "$1.part"; rm -rf "$1"; mv "$1.part" "$1"'


@dataclass(frozen=True)
class Result:
    """One finished command. `exited` is the exit code, negative for a signal."""

    argv: tuple[str, ...]
    exited: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.exited == 0

    def last_line(self) -> str:
        """The last line of stdout: where our host-side scripts put their result."""
        return self.stdout.rstrip("\n").rpartition("\n")[2]

    def tail(self, lines: int = 10) -> str:
        """The last lines of stderr, or of stdout if nothing went to stderr."""
        return "\n".join((self.stderr.strip() or self.stdout.strip()).splitlines()[-lines:])


class Connection(Protocol):
    """A way to act on a host."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None, into: IO[bytes] | None = None
    ) -> Result:
        """Run to the end. A failing command is a `Result`, not an exception.

        With `into`, stdout's bytes go there as they are, and neither to `on_line` nor into the `Result`.
        Interrupted (Ctrl-C), it ends the command with all its children before it raises.
        A connection that breaks raises `ConnectionLost`; what the command did by then is done.
        """

    def renew(self) -> None:
        """Log in anew: groups that the user joined meanwhile count from here on."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def put(connection: Connection, tar: bytes, directory: str) -> Result:
    """Unpack a tar into `directory` on the host; the name appears only when all of it is there."""
    return connection.run(["sh", "-c", _UNPACK, "put", directory], stdin=tar)


class Output:
    """What a command says, on its way to those who want it."""

    def __init__(self, on_line: OnLine | None, into: IO[bytes] | None) -> None:
        self._on_line = on_line
        self._into = into
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._one_at_a_time = threading.Lock()
        self._failure: BaseException | None = None

    def drain(self, pipe: IO[bytes], name: str) -> None:
        """Read to the end, in a thread of its own; `wait_for` raises what goes wrong here."""
        try:
            with pipe:
                if self._into and name == "stdout":
                    shutil.copyfileobj(pipe, self._into)
                    return
                for raw in pipe:
                    self._tell(name, raw.decode(errors="replace").rstrip("\r\n"))
        except BaseException as error:  # noqa: BLE001 - a thread cannot raise; see `wait_for`
            self._failure = error

    def _tell(self, name: str, line: str) -> None:
        self._lines[name].append(line)
        if self._on_line:
            with self._one_at_a_time:
                self._on_line(name, line)

    def wait_for(self, threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive() and not self._failure:
                thread.join(SLICE_SECONDS)
        if self._failure:
            raise self._failure

    def result(self, argv: Sequence[str], exited: int, start: float) -> Result:
        text = {name: "".join(f"{line}\n" for line in lines) for name, lines in self._lines.items()}
        return Result(tuple(argv), exited, text["stdout"], text["stderr"], time.monotonic() - start)


class LocalConnection:
    """This machine. Commands get a session of their own, so the terminal's Ctrl-C reaches only us."""

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None, into: IO[bytes] | None = None
    ) -> Result:
        start = time.monotonic()
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return Result(tuple(argv), 127, "", f"{argv[0]}: {error.strerror}", 0.0)
        output = Output(on_line, into)
        readers = [
            threading.Thread(target=output.drain, args=(pipe, name), daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        try:
            for reader in readers:
                reader.start()
            if process.stdin:
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(stdin)
            output.wait_for(readers)
            exited = process.wait()
        except BaseException:
            _end_group(process)
            for pipe, reader in zip((process.stdout, process.stderr), readers, strict=True):
                if pipe and reader.ident is None:  # a reader that was started closes its pipe itself
                    pipe.close()
            raise
        return output.result(argv, exited, start)

    def renew(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def quoted(argv: Sequence[str]) -> str:
    """One line that every login shell takes apart into these words again.

    Each word is in quotes, else `=ls` is a path to zsh, and `if` a keyword; backslashes are in double ones,
    since fish, alone, does not take them literally in single ones.
    """
    return " ".join("'" + word.replace("'", "'\"'\"'").replace("\\", "'\"\\\\\"'") + "'" for word in argv)


def become(argv: Sequence[str]) -> NoReturn:
    """End as this program: an interactive one wants the terminal for itself."""
    os.execvp(argv[0], list(argv))  # noqa: S606 - an argv list, no shell


class Piped(socket.socket):
    """The other end of a shell command's stdin and stdout, as for ssh's `ProxyCommand`; closing it ends the command."""

    def __init__(self, command: str, stderr: IO[bytes]) -> None:
        ours, theirs = socket.socketpair()
        super().__init__(fileno=ours.detach())
        with theirs:
            end = theirs.fileno()
            words = ["/bin/sh", "-c", f"exec {command}"]
            self._process = subprocess.Popen(words, stdin=end, stdout=end, stderr=stderr, start_new_session=True)
        threading.Thread(target=self._process.wait, daemon=True).start()  # no zombie is left of it

    def close(self) -> None:
        super().close()
        self._process.send_signal(signal.SIGHUP)
