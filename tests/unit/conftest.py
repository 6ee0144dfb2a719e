"""No network, no real home, no settings of whoever runs the tests; and whatever a test starts is ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

import events
import processes
from places import runtime_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]

hypothesis.settings.register_profile("unit", deadline=None, derandomize=True, max_examples=60, database=None)
hypothesis.settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in os.environ:
        if variable.startswith(("AWS_", "MLOPS_ENV_", "MLFLOW_", "XDG_", "GIT_")) or variable == "NO_COLOR":
            monkeypatch.delenv(variable)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MLOPS_ENV_HOME", str(tmp_path / "records"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.chdir(home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "localhost", "::1"}:
            raise AssertionError(f"a unit test connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def home() -> Path:
    return Path.home()


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Where the records of all environments are."""
    return tmp_path / "records"


@pytest.fixture
def identity() -> Iterator[str]:
    """An environment's id; its processes and its runtime directory are gone when the test is."""
    value = str(uuid.uuid4())
    yield value
    processes.end_all(value)
    shutil.rmtree(runtime_directory(value), ignore_errors=True)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The events that host-side scripts told so far."""
    path = tmp_path / "events.ndjson"
    with path.open("wb", buffering=0) as stream:
        monkeypatch.setattr(events, "_STREAM", stream.fileno())
        yield lambda: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True)
class Done:
    """How a command of ours ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def result(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def mlops_env() -> Iterator[Callable[..., Done]]:
    """Run `mlops-env WORDS…` in this process."""
    from typer.testing import CliRunner  # noqa: PLC0415 - most tests need none of it

    from mlops_env.cli import app  # noqa: PLC0415

    def invoke(*words: str, answer: str | None = None) -> Done:
        done = CliRunner().invoke(app, words, input=answer, catch_exceptions=False)
        return Done(done.exit_code, done.stdout, done.stderr)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield invoke
    for number, handler in handlers.items():
        signal.signal(number, handler)
