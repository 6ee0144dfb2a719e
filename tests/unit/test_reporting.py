"""From the end of a command's body to an exit code, a text and a result; real signals, real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer

from fakes import has_ended
from mlops_env.commands import reporting
from mlops_env.connection import Result
from mlops_env.errors import CommandFailed, MlopsEnvError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlops_env.events import Emit

FAILED_COMMAND = Result(("uv", "sync"), 3, "", "\n".join(f"line {number}" for number in range(1, 13)), 0.1)


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> Callable[[Emit], reporting.Outcome]:
    def body(_: Emit) -> reporting.Outcome:
        raise error

    return body


def ending(outcome: reporting.Outcome) -> Callable[[Emit], reporting.Outcome]:
    return lambda _: outcome


def report(body: Callable[[Emit], reporting.Outcome], *, as_json: bool = False, debug: bool = False) -> int:
    with pytest.raises(typer.Exit) as exit_:
        reporting.run("up", body, as_json=as_json, debug=debug)
    return int(exit_.value.exit_code)


def result_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        (ending(reporting.Outcome("done")), 0, None),
        (ending(reporting.Outcome("the run failed", ok=False)), 1, None),
        (raising(MlopsEnvError("no", code="disk-full", hint="free some")), 1, "disk-full"),
        (raising(UsageError("no", code="configuration")), 2, "configuration"),
        (raising(CommandFailed("no", code="network", result=FAILED_COMMAND)), 1, "network"),
        (raising(KeyboardInterrupt()), 130, "interrupted"),
        (raising(ZeroDivisionError("oops")), 1, "internal"),
    ],
    ids=["done", "failed", "error", "usage", "command", "interrupted", "unexpected"],
)
def test_each_end_has_its_exit_code_and_its_result(
    body: Callable[[Emit], reporting.Outcome],
    code: int,
    error: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert report(body, as_json=True) == code
    result = result_of(capsys)
    assert result["command"] == "up"
    assert result["status"] == ("ok" if code == 0 else "failed")
    assert result.get("error", {}).get("code") == error
    assert result["seconds"] >= 0


def test_an_error_is_shown_with_its_cure(capsys: pytest.CaptureFixture[str]) -> None:
    report(raising(MlopsEnvError("the disk is full", code="disk-full", hint="free some space")))
    assert capsys.readouterr() == ("", "Error: the disk is full\nHint: free some space\n")


def test_a_failed_command_shows_its_last_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report(raising(CommandFailed("step tools failed", code="step-tools", result=FAILED_COMMAND)))
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["Error: step tools failed", *(f"  | line {number}" for number in range(3, 13))]


def test_a_failed_command_has_them_in_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    report(raising(CommandFailed("no", code="network", result=FAILED_COMMAND, hint="check it")), as_json=True)
    assert result_of(capsys)["error"] == {
        "code": "network",
        "message": "no",
        "hint": "check it",
        "log": "\n".join(f"line {number}" for number in range(3, 13)),
    }


def test_without_stderr_the_last_words_are_those_on_stdout() -> None:
    assert Result(("x",), 1, "said here\n", " \n", 0.0).tail() == "said here"


def test_an_unexpected_error_writes_a_log_and_says_where(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert report(raising(ZeroDivisionError("oops"))) == 1
    shown = capsys.readouterr().err
    (log,) = tmp_path.glob("mlops-env-up-*.log")
    assert "Error: ZeroDivisionError: oops" in shown
    assert str(log) in shown
    assert "Traceback" not in shown
    assert "Traceback" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("error", [MlopsEnvError("no", code="x"), ZeroDivisionError("oops")])
def test_a_traceback_is_shown_only_with_debug(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    report(raising(error), debug=True)
    assert "Traceback" in capsys.readouterr().err
    report(raising(error))
    assert "Traceback" not in capsys.readouterr().err


WAITING = """
import os, sys
from mlops_env.commands import reporting
from mlops_env.connection import LocalConnection

def body(emit):
    with LocalConnection() as connection:
        connection.run(
            ["sh", "-c", "sleep 60 & echo $!; wait"], on_line=lambda _, line: print(line, file=sys.stderr, flush=True)
        )

try:
    reporting.run("up", body, as_json=True, debug=False)
except BaseException as exit_:
    sys.exit(exit_.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_runs_and_exits_130(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        child = int(process.stderr.readline())
        process.send_signal(number)
        stdout, _ = process.communicate()
    assert process.returncode == 130
    result = json.loads(stdout.splitlines()[-1])
    assert result["error"]["code"] == "interrupted"
    assert "mlops-env down" in result["error"]["hint"]
    assert has_ended(child)


IN_AN_EXEC = """\
import os, signal, sys, typer
from mlops_env.commands import reporting

def body(emit):
    exec("os.kill(os.getpid(), signal.SIGINT)")

try:
    reporting.run("up", body, as_json=True, debug=False)
except typer.Exit as exit_:
    os.kill(os.getpid(), signal.SIGINT)  # once more, when all is told
    sys.exit(exit_.exit_code)
"""


def test_ctrl_c_at_the_worst_moments_is_130_and_not_an_end_by_signal() -> None:
    """In an `exec`, which every dataclass is made with, and after the result."""
    done = subprocess.run([sys.executable, "-c", IN_AN_EXEC], capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stdout.splitlines()[-1])["error"]["code"]) == (130, "interrupted")
