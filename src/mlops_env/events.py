"""What the user may want to know, and the only two places that write it to the terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Types: `step`, `service`, `run` and `check` (a line each, by `name`), `note`, `warning`, `page` (of a service, with
    `url`), `log` (a tool's own line), `output` (a line the user asked to see).
    Statuses of a step: started, ok, changed, failed, skipped, pending.
    """

    type: str
    status: str = ""
    name: str = ""
    message: str = ""
    time: float = field(default_factory=time.time)
    fields: dict[str, Any] = field(default_factory=dict)


Emit = Callable[[Event], None]


class Sink(Protocol):
    """Shows events as they come, and at the end one result."""

    def emit(self, event: Event) -> None: ...

    def result(self, result: dict[str, Any], text: str) -> None:
        """Show the outcome once: `result` for programs, `text` for people."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonSink:
    """NDJSON on stdout, one object a line: the version first, the result last. Readers ignore unknown keys."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def _write(self, value: dict[str, Any]) -> None:
        # One write, newline included: `print` makes two, and Ctrl-C between them leaves two objects on one line.
        self._stream.write(json.dumps(value, ensure_ascii=False) + "\n")
        self._stream.flush()

    def emit(self, event: Event) -> None:
        value: dict[str, Any] = {"type": event.type, "time": round(event.time, 3)}
        for key in ("status", "name", "message"):
            if getattr(event, key):
                value[key] = getattr(event, key)
        self._write({**value, **event.fields})

    def result(self, result: dict[str, Any], text: str) -> None:  # noqa: ARG002 - people read the other sink
        self._write({"type": "result", **result})

    def __enter__(self) -> Self:
        self._write({"type": "version", "version": "1.0"})
        return self

    def __exit__(self, *_: object) -> None:
        return


_MARKS = {
    "ok": ("✓", "green"),
    "changed": ("✓", "yellow"),
    "completed": ("✓", "green"),
    "healthy": ("✓", "green"),
    "failed": ("✗", "red"),
    "cancelled": ("✗", "red"),
    "pending": ("·", "cyan"),
    "skipped": ("-", "dim"),
    "warning": ("!", "yellow"),
}


class HumanSink:
    """People's view, on stderr: a live line with elapsed time for what runs, a plain line for what is done."""

    def __init__(self, *, verbose: bool = False) -> None:
        from rich.console import Console  # noqa: PLC0415 - `--help` and `--json` never need it
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        self._verbose = verbose
        self._console: Console = Console(stderr=True, highlight=False)
        self._live: Progress | None = None
        self._tasks: dict[tuple[str, str], tuple[TaskID, float]] = {}
        if self._console.is_terminal:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )

    def emit(self, event: Event) -> None:
        key = (event.type, event.name)
        if event.type == "output":
            print(event.message, flush=True)
        elif event.type == "log":
            if self._verbose:
                self._print(f"    {event.message}", "dim")
        elif event.type == "page" or (event.status == "skipped" and not self._verbose):
            return
        elif event.type in {"note", "warning"}:
            self._finished("warning" if event.type == "warning" else "skipped", "", event.message)
        elif event.status in _MARKS:
            task = self._tasks.pop(key, None)
            seconds = event.fields.get("seconds", time.monotonic() - task[1] if task else None)
            if task and self._live:
                self._live.remove_task(task[0])
            took = f"{seconds:.1f} s" if seconds is not None else ""
            self._finished(event.status, event.name, event.message or event.status, took)
        else:
            self._running(key, f"{event.name:<14} {event.message or event.status}")

    def _running(self, key: tuple[str, str], description: str) -> None:
        if not self._live:
            self._print(f"  … {description}", "")
            return
        from rich.markup import escape  # noqa: PLC0415

        if key in self._tasks:
            self._live.update(self._tasks[key][0], description=escape(description))
        else:
            self._tasks[key] = (self._live.add_task(escape(description), total=None), time.monotonic())

    def _finished(self, status: str, name: str, message: str, took: str = "") -> None:
        from rich.text import Text  # noqa: PLC0415

        mark, style = _MARKS[status]
        line = Text("  ").append(mark, style).append(f" {name:<14} " if name else " ").append(message)
        self._console.print(line.append(f"  {took}", "dim") if took else line, soft_wrap=True)

    def _print(self, text: str, style: str) -> None:
        self._console.print(text, style=style or None, markup=False, soft_wrap=True)

    def result(self, result: dict[str, Any], text: str) -> None:  # noqa: ARG002 - programs read the other sink
        if self._live:
            self._live.stop()
        self._console.print(text, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
