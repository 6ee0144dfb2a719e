"""Ctrl-C, kill -9 and a power cut, at any moment: the next `up` goes on, and the next `down` leaves nothing."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from .harness import Machine, ask, mlflow_runs, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .harness import Running, Table

# An event of `up` from nothing, and what is going on then.
MOMENTS = {
    "note": "nothing is made yet",
    "step tools started": "the first venv is being made",
    "service toy venv installing": "three venvs are being made",
    "service toy starting": "the supervisor runs, services start",
    "run run started": "the key is recorded, the run is not triggered yet",
    "run train running": "the run goes on",
    "run run completed": "all is done, but the result is not told yet",
}


def words(event: Table) -> str:
    return " ".join(event[key] for key in ("type", "name", "status") if key in event)


def at(moment: str) -> Callable[[Table], bool]:
    return lambda event: words(event) == moment


def end_at_each_event(machine: Machine, end: Callable[[Running], object]) -> int:
    """`up` ended at its first event, its second, its third …, until one is done before its moment comes."""
    for number in range(1, 60):
        running = machine.start("up")
        while len(running.events) < number and running.next():
            pass
        if running.events[-1]["type"] == "result":
            running.wait().succeeded()
            return number
        end(running)
    raise AssertionError("`up` never gets to its end")


def test_killed_at_every_event_one_after_the_other(toy: Machine) -> None:
    assert end_at_each_event(toy, lambda running: running.kill()) > 5
    again = toy("up").succeeded()
    assert again.found_all_done()
    assert again.result["run"]["state"] == "completed"


def test_interrupted_at_every_event_one_after_the_other(toy: Machine) -> None:
    def interrupt(running: Running) -> None:
        ended = running.interrupt().wait()
        if ended.result["status"] != "ok":  # otherwise all was told already
            assert "up" in ended.failed("interrupted", 130).result["error"]["hint"]

    assert end_at_each_event(toy, interrupt) > 5
    assert toy("up").succeeded().result["run"]["state"] == "completed"


@pytest.mark.parametrize("moment", [m for m in MOMENTS if m.startswith(("step tools", "service", "run run started"))])
def test_up_after_a_kill(toy: Machine, moment: str) -> None:
    toy.start("up").until(at(moment)).kill()
    assert toy("up").succeeded().result["run"]["metrics"] == {"rmse": 1.5}
    assert len(mlflow_runs(toy("status").result["environments"][0]["services"][0]["url"], "toy-pipeline")) == 1


def test_down_after_a_kill(toy: Machine) -> None:
    for moment in MOMENTS:
        toy.start("up").until(at(moment)).kill()
        receipt = toy("down").succeeded().result
        assert receipt["left"] == 0, moment
        assert toy.leftovers() == [], moment
        assert not [path for path in toy.state.rglob("*") if not path.name.startswith(".default.")], moment


def test_down_after_a_killed_down(toy: Machine) -> None:
    for seconds in (0.4, 0.9):
        toy("up", "--no-run").succeeded()
        running = toy.start("down")
        time.sleep(seconds)
        running.kill()
        assert toy("down").succeeded().result["left"] == 0
        assert toy.leftovers() == []


@pytest.mark.parametrize("moment", ["service toy venv installing", "service toy starting", "run train running"])
def test_interrupted_nothing_of_the_command_goes_on(toy: Machine, moment: str) -> None:
    """The services do: they are not the command's, and the run in them is not either."""
    toy.start("up").until(at(moment)).interrupt().wait().failed("interrupted", 130)
    jobs = [process for process in toy.processes() if "MLOPS_ENV_JOB" in process.environ()]
    assert jobs == []
    toy("up").succeeded()


def test_a_second_interrupt_while_the_first_is_handled(toy: Machine) -> None:
    running = toy.start("up").until(at("service toy venv installing")).interrupt()
    os.killpg(running.process.pid, signal.SIGINT)
    assert running.wait().code == 130
    toy("up").succeeded()


def test_terminated_as_interrupted(toy: Machine) -> None:
    running = toy.start("up").until(at("service toy starting"))
    running.process.terminate()
    running.wait().failed("interrupted", 130)


def test_an_interrupted_wait_reattaches(standing: Machine) -> None:
    standing("up", "--no-run").succeeded()
    gate = standing.home / "wait for me"
    gate.touch()
    running = standing.start("up", "-p", f"wait={gate}").until(at("run train running"))
    key = standing.record()["run"]["key"]
    running.kill()
    again = standing.start("up", "-p", f"wait={gate}").until(at("run train running"))
    gate.unlink()
    result = again.wait().succeeded().result
    assert result["run"]["key"] == key
    assert [run["key"] for run in ask(f"{result['urls']['toy']}/runs")] == [key]
    assert [run["tags"]["run_key"] for run in mlflow_runs(result["urls"]["mlflow"], "toy-pipeline")] == [key]


def test_a_power_cut_with_all_files_kept(toy: Machine) -> None:
    before = toy("up").succeeded().result
    toy.kill_everything()
    assert any(toy.host().rglob("*.log"))
    status = toy("status").succeeded().result["environments"][0]
    assert status["health"] == "degraded"
    after = toy("up").succeeded().result
    assert after["urls"] == before["urls"]
    assert after["run"]["key"] == before["run"]["key"]
    toy.kill_everything()
    assert toy("down").succeeded().result["left"] == 0
    assert toy.leftovers() == []


def test_a_power_cut_in_the_middle_of_a_run(toy: Machine) -> None:
    gate = toy.home / "wait for me"
    gate.touch()
    toy.start("up", "-p", f"wait={gate}").until(at("run train running")).kill()
    toy.kill_everything()
    gate.unlink()
    result = toy("up", "-p", f"wait={gate}").succeeded().result
    statuses = {run["tags"]["run_key"]: run["status"] for run in mlflow_runs(result["urls"]["mlflow"], "toy-pipeline")}
    assert statuses.pop(result["run"]["key"]) == "FINISHED"
    assert set(statuses.values()) <= {"KILLED"}


@pytest.mark.parametrize("service", ["toy", "mlflow"])
def test_a_killed_service_comes_back(standing: Machine, service: str) -> None:
    standing("up").succeeded()
    main = standing.service(service)
    main.kill()
    wait_until(lambda: not main.is_running())
    wait_until(lambda: standing("status").result["environments"][0]["health"] == "up")
    assert len(standing.processes(f"{service}/serve.py")) == 1


def test_a_killed_supervisor(toy: Machine) -> None:
    toy("up").succeeded()
    toy.supervisor().kill()
    assert toy("up").succeeded().statuses("step")["services"] == "changed"
    assert len(toy.processes("serve.py")) == 2
    toy.supervisor().kill()
    receipt = toy("down").succeeded().result
    assert receipt["left"] == 0
    assert toy.leftovers() == []


def test_a_stopped_process_does_not_hold_down_up(toy: Machine) -> None:
    """SIGSTOP: it neither answers nor ends when asked."""
    toy("up").succeeded()
    toy.service("toy").suspend()
    toy.supervisor().suspend()
    assert toy("down").succeeded().result["left"] == 0
    assert toy.leftovers() == []
