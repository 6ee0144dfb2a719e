"""A kill -9 of the command and of its engine at every call that changes AWS; then `down`, and nothing may be left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from mlops_env.ec2 import pulumi_cli
from mlops_env.sandbox import control

from . import apart

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

UP = ("up", "--target", "ec2", "--sandbox", "--no-host", "--no-run", "--yes", "--fault", "no-default-vpc")
WORKERS = 3
ENGINES = ("embedded", "real") if pulumi_cli.installed() else ("embedded",)


@dataclass(frozen=True)
class Machine:
    """Somebody's, with a sandbox of its own in which instances come and go at once."""

    home: Path
    sandbox: control.Running
    environ: dict[str, str]

    def command(self, *arguments: str) -> BaseProcess:
        return apart.start(arguments, self.environ, self.output)

    @property
    def output(self) -> Path:
        return self.home / "output"

    def done(self, *arguments: str) -> None:
        process = self.command(*arguments)
        process.join(100)
        assert process.exitcode == 0, f"{arguments[0]} ended with {process.exitcode}: {self.output.read_text()}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        return self.sandbox.call(method, f"/sandbox/{path}", body)

    def kill(self, process: BaseProcess) -> None:
        """The command, and the engine if there is one: it has the lock."""
        engines = [
            json.loads(lock.read_text())["pid"] for lock in self.home.glob("records/*/pulumi/.pulumi/locks/**/*.json")
        ]
        process.kill()
        for engine in engines:
            with contextlib.suppress(ProcessLookupError):
                os.kill(engine, signal.SIGKILL)
        process.join()


@contextlib.contextmanager
def machine(number: int, engine: str) -> Iterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix=f"kills-{number}-"))
    sandbox = control.ensure(home / "sandbox", lambda _: None, with_hosts=False, by_hand=True)
    sandbox.call("PUT", "/sandbox/timing", {"transition": 0})
    path = os.environ["PATH"]
    if engine == "embedded":
        path = ":".join(part for part in path.split(":") if not Path(part, "pulumi").exists())
    environ = {
        "PATH": path,
        "HOME": str(home),
        "MLOPS_ENV_HOME": str(home / "records"),
        "MLOPS_ENV_SANDBOX": str(home / "sandbox"),
    }
    try:
        yield Machine(home, sandbox, environ)
    finally:
        control.stop(home / "sandbox", lambda _: None)
        shutil.rmtree(home)


@dataclass(frozen=True)
class Point:
    """A moment: `when` a call, the `number`th of a command's, is before AWS or its answer before the engine."""

    command: str
    number: int
    action: str
    when: str


def recorded(one: Machine) -> tuple[list[Point], list[str]]:
    """The moments of one creation and one destruction, and the kinds of all that was there in between."""

    def points(command: str, *moments: str) -> list[Point]:
        return [
            Point(command, call["number"], call["action"], when)
            for call in one.call("GET", "calls")
            for when in moments
        ]

    one.done(*UP)
    created, whole = points("up", "before", "after"), kinds(one)
    one.call("DELETE", "calls")
    one.done("down")
    # Before a deletion it is as after the one before it.
    return created + points("down", "after"), whole


def killed(point: Point, one: Machine) -> None:
    """The command up to this point."""
    if point.command == "down":
        one.done(*UP)
    rule = {"action": "*", "nth": point.number, "hold": point.when, "hold_seconds": 60}
    if point.when == "before":
        rule |= {"code": "InternalError", "message": "this call never reached AWS"}
    one.call("PUT", "faults", {"rules": [rule]})
    process = one.command(*(UP if point.command == "up" else ("down",)))
    end = time.monotonic() + 60
    while not one.call("GET", "held"):
        assert process.is_alive(), f"{point} was not reached: {one.output.read_text()}"
        assert time.monotonic() < end, f"{point} was not reached"
        time.sleep(0.02)
    one.kill(process)
    one.call("DELETE", "held")
    one.call("DELETE", "faults")


def left_after(point: Point, whole: list[str], one: Machine) -> str:
    """What is wrong when all was killed at this point, and `up` (where something was just made) and `down` were run."""
    killed(point, one)
    if point.command == "up" and point.when == "after":
        one.done(*UP)
        there = kinds(one)
        if there != whole:
            return f"then `up` made {there}, and not {whole}"
    one.done("down")
    return " ".join(kinds(one))


def kinds(one: Machine) -> list[str]:
    return sorted(thing["kind"] for thing in one.call("GET", "things"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_kill_at_any_call_leaves_nothing_after_down(engine: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        free: SimpleQueue[Machine] = SimpleQueue()
        for number in range(WORKERS):
            free.put(stack.enter_context(machine(number, engine)))

        def outcome(point: Point) -> str:
            one = free.get()
            try:
                return left_after(point, whole, one)
            except AssertionError as error:
                return str(error)
            finally:
                free.put(one)

        one = free.get()
        points, whole = recorded(one)
        free.put(one)
        with ThreadPoolExecutor(WORKERS) as pool:
            outcomes = dict(zip(points, pool.map(outcome, points), strict=True))
    bad = {point: wrong for point, wrong in outcomes.items() if wrong}
    seconds = time.monotonic() - start
    with capsys.disabled():
        print(f"\n{engine} engine: killed at {len(points)} points, {len(bad)} went wrong, {seconds:.0f} s")
    assert bad == {}
    assert {"CreateVpc", "RunInstances", "TerminateInstances", "DeleteVpc"} <= {point.action for point in points}
