"""What the two sinks write, and where."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING, Any

from mlops_env.events import Event, HumanSink, JsonSink

if TYPE_CHECKING:
    import pytest

EVENTS = [
    Event("step", "started", "tools"),
    Event("log", name="tools", message="Resolved 7 packages"),
    Event("step", "changed", "tools"),
    Event("service", "healthy", "grüße", "healthy at http://127.0.0.1:5000", fields={"seconds": 1.25}),
    Event("page", name="grüße", fields={"url": "http://127.0.0.1:5000"}),
    Event("note", message="needs 620 MB [of disk]"),
    Event("warning", message="little memory"),
    Event("run", "failed", "train"),
    Event("output", message="a line that was asked for"),
]


def as_json(events: list[Event], result: dict[str, Any]) -> list[dict[str, Any]]:
    stream = io.StringIO()
    with JsonSink(stream) as sink:
        for event in events:
            sink.emit(event)
        sink.result(result, "for people")
    return [json.loads(line) for line in stream.getvalue().rstrip("\n").split("\n")]


class TestJson:
    def test_the_version_is_first_and_the_result_last_with_one_object_a_line(self) -> None:
        lines = as_json(EVENTS, {"command": "up", "status": "ok"})
        assert lines[0] == {"type": "version", "version": "1.0"}
        assert lines[-1] == {"type": "result", "command": "up", "status": "ok"}
        assert [line["type"] for line in lines[1:-1]] == [event.type for event in EVENTS]

    def test_an_event_has_what_it_has_and_nothing_empty(self) -> None:
        event = Event("service", "healthy", "toy", time=12.34567, fields={"seconds": 1.5})
        assert as_json([event], {})[1] == {
            "type": "service",
            "time": 12.346,
            "status": "healthy",
            "name": "toy",
            "seconds": 1.5,
        }

    def test_other_letters_and_line_ends_stay_within_their_line(self) -> None:
        message = "naïve 日本 \u2028 two\nlines\r\n"
        assert as_json([Event("log", message=message)], {})[1]["message"] == message

    def test_an_event_is_one_write_so_that_ctrl_c_cannot_leave_two_on_a_line(self) -> None:
        class Interrupted(io.StringIO):
            def write(self, text: str) -> int:
                super().write(text)
                raise KeyboardInterrupt

        stream = Interrupted()
        for event in EVENTS:
            with contextlib.suppress(KeyboardInterrupt):
                JsonSink(stream).emit(event)
        written = [json.loads(line) for line in stream.getvalue().rstrip("\n").split("\n")]
        assert [line["type"] for line in written] == [event.type for event in EVENTS]

    def test_goes_to_stdout(self, capsys: pytest.CaptureFixture[str]) -> None:
        with JsonSink() as sink:
            sink.emit(Event("output", message="x"))
        written = capsys.readouterr()
        assert (len(written.out.splitlines()), written.err) == (2, "")


class TestHuman:
    def show(self, *, verbose: bool = False) -> None:
        with HumanSink(verbose=verbose) as sink:
            for event in EVENTS:
                sink.emit(event)
            sink.result({}, "Environment [default] is up.")

    def test_without_a_terminal_there_are_plain_lines_on_stderr(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.show()
        written = capsys.readouterr()
        assert written.err.splitlines() == [
            "  … tools          started",
            "  ✓ tools          changed",
            "  ✓ grüße          healthy at http://127.0.0.1:5000  1.2 s",
            "  - needs 620 MB [of disk]",
            "  ! little memory",
            "  ✗ train          failed",
            "Environment [default] is up.",
        ]

    def test_only_what_was_asked_for_is_on_stdout(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.show()
        assert capsys.readouterr().out == "a line that was asked for\n"

    def test_debug_shows_the_tools_own_words(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.show(verbose=True)
        assert "    Resolved 7 packages\n" in capsys.readouterr().err

    def test_long_lines_are_not_cut_or_wrapped(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        words = "a very long path /" + "x" * 100
        with HumanSink(verbose=True) as sink:
            sink.emit(Event("note", message=words))
            sink.emit(Event("step", "started", "s", words))
            sink.emit(Event("log", message=words))
            sink.result({}, words)
        assert [line.endswith(words) for line in capsys.readouterr().err.splitlines()] == [True] * 4

    def test_colours_need_a_terminal_that_wants_them(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
        self.show()
        assert "\x1b[32m" in capsys.readouterr().err
        monkeypatch.setenv("NO_COLOR", "1")
        self.show()
        assert "\x1b[32m" not in capsys.readouterr().err
        monkeypatch.delenv("FORCE_COLOR")
        self.show()
        assert "\x1b" not in capsys.readouterr().err
