"""Run one command in a process group that never outlives us, and pass its output on as it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import FrameType

_GRACE = 5.0  # seconds between TERM and KILL
_POLL = 0.02

# Reads a line when all is well; the end of the pipe instead means that we were killed with -9.
_GUARD = 'read -r _ || kill -s KILL -- "-$1"'


class Interrupted(Exception):
    """Somebody wants this to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code as a shell would tell it, and the end of its output."""

    code: int
    tail: tuple[str, ...]
    last_line: str  # the last non-empty line on stdout


class Interruptions:
    """TERM, INT and HUP become `Interrupted`, raised where it can be handled."""

    def __init__(self) -> None:
        self._deferred = False
        self._received: int | None = None
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._receive)

    def _receive(self, signum: int, _frame: FrameType | None) -> None:
        first = self._received is None
        self._received = signum
        if first and not self._deferred:
            raise Interrupted(signum)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Between starting a process and knowing it, nothing may get in."""
        self._deferred = True
        yield
        self._deferred = False
        if self._received is not None:
            raise Interrupted(self._received)


def run(argv: Sequence[str], cwd: Path, variables: Mapping[str, str], interruptions: Interruptions) -> Outcome:
    """Run to the end. Whatever the command left running in its group is ended too.

    Raises:
        Interrupted: after a signal, or when our own parent is gone; the group has been ended.
        OSError: the command could not be started.
    """
    parent = os.getppid()
    child: subprocess.Popen[bytes] | None = None
    try:
        with interruptions.deferred():
            child = subprocess.Popen(
                argv,
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        with _guarded(child.pid):
            output = _Output(child)
            _wait(child.pid, parent)
            _signal_group(child.pid, signal.SIGKILL)
            output.finish()
            return Outcome(_shell_code(child.wait()), output.tail, output.last_line)
    except Interrupted:
        if child is not None:
            _end(child)
        raise


def _wait(pid: int, parent: int) -> None:
    while not _has_exited(pid):
        if os.getppid() != parent:  # the orchestrator's task was killed: nobody wants the result any more
            raise Interrupted(signal.SIGTERM)
        time.sleep(_POLL)


class _Output:
    """Copies both streams to ours, line by line, and remembers their end."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child.pid
        self._tail: deque[str] = deque(maxlen=10)
        self.last_line = ""
        streams = ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
        # Daemons: a process that left the group may hold the pipe open for ever.
        self._threads = [threading.Thread(target=self._copy, args=pair, daemon=True) for pair in streams]
        for thread in self._threads:
            thread.start()

    def _copy(self, source: IO[bytes], target: TextIO) -> None:
        listening = True
        with source:
            for line in iter(lambda: source.readline(65536), b""):
                text = line.decode(errors="replace").rstrip()
                if text:
                    self._tail.append(text)
                    if target is sys.stdout:
                        self.last_line = text
                if listening:
                    try:
                        target.buffer.write(line)
                        target.buffer.flush()
                    except OSError:  # the orchestrator's task that read us is gone: so is the reason to go on
                        listening = False
                        _signal_group(self._child, signal.SIGTERM)

    def finish(self) -> None:
        for thread in self._threads:
            thread.join(timeout=2)

    @property
    def tail(self) -> tuple[str, ...]:
        return tuple(self._tail)


@contextmanager
def _guarded(group: int) -> Iterator[None]:
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "guard", str(group)],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate(b"\n")


def _has_exited(pid: int) -> bool:
    # Not reaped yet, so that its number, which is its group's, cannot belong to anybody else.
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.returncode is not None:
        return
    _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while not _has_exited(child.pid) and time.monotonic() < deadline:
        time.sleep(_POLL)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, when only a zombie is left
        os.killpg(group, signum)


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code
