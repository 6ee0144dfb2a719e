"""A connection that knows only what a test declares, and looks at the world that wait for it."""

from __future__ import annotations

import fnmatch
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Self

import psutil

from mlops_env.connection import Result

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlops_env.connection import OnLine


_REAL = ("rm -f *", "rm -rf *", "test -e *")
"""On files of the test's own, these are as good as any answer."""


@dataclass(frozen=True)
class Answer:
    """How a declared command ends. `does` is called first: to look around, to interrupt, to make what is expected."""

    stdout: str = ""
    stderr: str = ""
    exited: int = 0
    does: Callable[[], object] | None = None


class UndeclaredCommand(AssertionError):
    """The code under test ran something that the test did not expect."""


class FakeConnection:
    """Answers declared commands and raises on any other.

    `answers` maps a pattern (as for file names) to what a command that matches it comes to; the first match counts.
    `names` maps texts that differ from run to run to words that do not. `transcript` is what was run, in order,
    with these words and without the `env` prefix.
    """

    def __init__(self, answers: Mapping[str, Answer], names: Mapping[str, str]) -> None:
        self._answers = dict(answers)
        self._names = dict(names)
        self.transcript: list[str] = []
        self.settings: list[dict[str, str]] = []

    def declare(self, pattern: str, answer: Answer) -> None:
        self._answers[pattern] = answer

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None, into: IO[bytes] | None = None
    ) -> Result:
        line = self._line(argv)
        self.transcript.append(f"{line} < stdin" if stdin else line)
        answer = next((answer for pattern, answer in self._answers.items() if fnmatch.fnmatch(line, pattern)), None)
        if answer is None and any(fnmatch.fnmatch(line, pattern) for pattern in _REAL):
            return Result(tuple(argv), subprocess.run(argv, check=False).returncode, "", "", 0.0)
        if answer is None:
            raise UndeclaredCommand(line)
        if answer.does:
            answer.does()
        if into:
            into.write(answer.stdout.encode())
        for stream, text in (("stdout", answer.stdout), ("stderr", answer.stderr)):
            for one in text.splitlines():
                if on_line:
                    on_line(stream, one)
        return Result(tuple(argv), answer.exited, answer.stdout, answer.stderr, 0.0)

    def _line(self, argv: Sequence[str]) -> str:
        words = list(argv)
        if words[0] == "env":
            end = next(i for i, word in enumerate(words[1:], 1) if "=" not in word)
            self.settings.append(dict(word.split("=", 1) for word in words[1:end]))
            words = words[end:]
        for text, name in self._names.items():
            words = [word.replace(text, name) for word in words]
        return shlex.join(words)

    def renew(self) -> None:
        self.transcript.append("(a new login)")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def has_ended(pid: int) -> bool:
    """Whether this process ends soon; one that its parent has not looked at yet has ended."""

    def gone() -> bool:
        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True

    return eventually(gone)
