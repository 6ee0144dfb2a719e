"""The error that host-side scripts raise where they know the cause: its code and cure travel to whoever asked."""

from __future__ import annotations


class Failure(Exception):
    """Shown without a traceback. `code` names the cause, `hint` says what mends it; both may be empty."""

    def __init__(self, message: str, *, code: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
