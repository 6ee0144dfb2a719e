"""Acting on a host: the only module that starts processes (and, for ssh, the only importer of paramiko)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from types import TracebackType

OnLine = Callable[[str, str], None]
"""Called with `"stdout"` or `"stderr"` and each line as it comes, without its end; never twice at once."""

_GRACE_SECONDS = 5.0
_SLICE_SECONDS = 0.2

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

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None) -> Result:
        """Run to the end. A failing command is a `Result`, not an exception.

        Interrupted (Ctrl-C), it ends the command with all its children before it raises.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def put(connection: Connection, tar: bytes, directory: str) -> Result:
    """Unpack a tar into `directory` on the host; the name appears only when all of it is there."""
    return connection.run(["sh", "-c", _UNPACK, "put", directory], stdin=tar)


class LocalConnection:
    """This machine. Commands get a session of their own, so the terminal's Ctrl-C reaches only us."""

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None) -> Result:
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
        captured: dict[str, list[str]] = {"stdout": [], "stderr": []}
        one_at_a_time = threading.Lock()

        def told(stream: str, line: str) -> None:
            captured[stream].append(line)
            if on_line:
                with one_at_a_time:
                    on_line(stream, line)

        readers = [
            threading.Thread(target=_read, args=(pipe, name, told), daemon=True)
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        try:
            for reader in readers:
                reader.start()
            if process.stdin:
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(stdin)
            for reader in readers:
                while reader.is_alive():  # in slices: a Ctrl-C just before an endless wait would be lost in it
                    reader.join(_SLICE_SECONDS)
            exited = process.wait()
        except BaseException:
            _end_group(process)
            raise
        text = {name: "".join(f"{line}\n" for line in lines) for name, lines in captured.items()}
        return Result(tuple(argv), exited, text["stdout"], text["stderr"], time.monotonic() - start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def _read(pipe: IO[bytes] | None, name: str, told: OnLine) -> None:
    if pipe is None:
        return
    with pipe:
        for raw in pipe:
            told(name, raw.decode(errors="replace").rstrip("\r\n"))


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
