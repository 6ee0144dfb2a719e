"""Everything that can go wrong in a way a user can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_env.connection import Result


class MlopsEnvError(Exception):
    """What happened (`message`), a stable name for it (`code`), and what to do about it (`hint`)."""

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


class UsageError(MlopsEnvError):
    """The request itself cannot be carried out as given: exit code 2, nothing was done."""


class CommandFailed(MlopsEnvError):
    """A command on a host ended badly; carries its `Result`, whose last lines are shown."""

    def __init__(self, message: str, *, code: str, result: Result, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint)
        self.result = result


class ConnectionLost(MlopsEnvError):
    """The way to the host broke while something ran there: whether that came to its end is not known."""
