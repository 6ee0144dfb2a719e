"""Ctrl-C, and its like from other programs."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Self

from mlops_env.sandbox.engine_events import say

if TYPE_CHECKING:
    from collections.abc import Callable

TERMINATED = 8
"""The exit code after a second one."""


class Interrupts:
    """The first lets what is in flight finish; the second ends the process there and then."""

    def __init__(self) -> None:
        self.asked = False
        self._tell: Callable[[str], object] = say
        self._terminate: Callable[[], object] = lambda: sys.exit(TERMINATED)
        self._before: dict[int, Any] = {}

    def attend(self, tell: Callable[[str], object], terminate: Callable[[], object]) -> None:
        """From here on there is somebody to tell, and something to leave in order."""
        self._tell = tell
        self._terminate = terminate

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: object) -> None:
        name = "^C" if number == signal.SIGINT else "SIGTERM"
        if self.asked:
            self._tell(f"{name} received; terminating")
            self._terminate()
            return
        self.asked = True
        self._tell(
            f"{name} received; cancelling. If you would like to terminate immediately, send it again.\n"
            "Note that terminating immediately may lead to orphaned resources and other inconsistencies."
        )
