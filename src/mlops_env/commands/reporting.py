"""From a command's outcome to what is shown and to the exit code; the one place that handles errors."""

from __future__ import annotations

import signal
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from mlops_env.errors import CommandFailed, MlopsEnvError, UsageError
from mlops_env.events import HumanSink, JsonSink

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from mlops_env.events import Emit, Sink

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_ENDING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Outcome:
    """What a command comes to: `text` for people, `fields` for programs, and whether it did what it was for."""

    text: str
    fields: dict[str, Any] = field(default_factory=dict)
    ok: bool = True


def run(command: str, body: Callable[[Emit], Outcome], *, as_json: bool, debug: bool) -> NoReturn:
    """Run a command's body, show its outcome or its error, and exit with the code that belongs to it."""
    for number in _ENDING:
        signal.signal(number, _interrupt)
    start = time.monotonic()
    sink: Sink = JsonSink() if as_json else HumanSink(verbose=debug)
    with sink:
        try:
            outcome = body(sink.emit)
            _let_nothing_interrupt()
            code, text = (DONE if outcome.ok else FAILED), outcome.text
            result = {"status": "ok" if outcome.ok else "failed", **outcome.fields}
        except KeyboardInterrupt:
            code, hint = (
                INTERRUPTED,
                f"`mlops-env {command}` continues where it stopped; `mlops-env down` removes",
            )
            text, result = f"Interrupted. {hint}.", _failed("interrupted", "interrupted", hint)
        except MlopsEnvError as error:
            code = USAGE if isinstance(error, UsageError) else FAILED
            text, result = _explain(error), _failed(error.code, error.message, error.hint)
            if isinstance(error, CommandFailed):
                result["error"]["log"] = error.result.tail()
            if debug:
                text += "\n" + traceback.format_exc()
        except Exception as error:  # noqa: BLE001 - the last line of defence: log it and say where
            code, what = FAILED, f"{type(error).__name__}: {error}"
            where = _write_traceback(command)
            text = f"Error: {what}\n  This is a defect of mlops-env. The details are in {where}"
            result = _failed("internal", what, f"the details are in {where}")
            if debug:
                text += "\n" + traceback.format_exc()
        _let_nothing_interrupt()
        result["seconds"] = round(time.monotonic() - start, 2)
        sink.result({"command": command, **result}, text)
    raise typer.Exit(code)


def _write_traceback(command: str) -> str:
    with tempfile.NamedTemporaryFile(
        "w", prefix=f"mlops-env-{command}-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(traceback.format_exc())
    return log.name


class _Interrupted(KeyboardInterrupt):
    """Not the class itself: Python ends by the signal, whatever the exit code, if it saw that one in an `exec`."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise _Interrupted


def _let_nothing_interrupt() -> None:
    """From here on the outcome is certain: it is told whole, and the exit code is its."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _failed(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"status": "failed", "error": {"code": code, "message": message, "hint": hint}}


def _explain(error: MlopsEnvError) -> str:
    lines = [f"Error: {error.message}"]
    if isinstance(error, CommandFailed) and error.result.tail():
        lines += [f"  | {line}" for line in error.result.tail().splitlines()]
    if error.hint:
        lines.append(f"Hint: {error.hint}")
    return "\n".join(lines)
