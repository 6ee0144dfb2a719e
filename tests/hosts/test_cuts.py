"""Whatever ends in the middle, here, on the way or there, the next `up` goes on, and the next `down` leaves nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from integration.harness import mlflow_runs

from . import faults
from .harness import HOME
from .proxy import Proxy
from .tenant import Tenant, edited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integration.harness import Ended, Running, Table

    from .harness import Host
    from .laptop import Laptop

_BEGINS = {"started", "installing", "pulling", "building", "starting", "running"}

# With an event that says so, and what is going on then.
MOMENTS = {
    "step base started": "packages are being installed",
    "step uv started": "a venv is being made",
    "service toy venv installing": "three venvs are being made",
    "service toy starting": "the supervisor runs, services start",
    "run train running": "the run goes on",
}


def words(event: Table) -> str:
    return " ".join(event[key] for key in ("type", "name", "status") if key in event)


def at(moment: str) -> Callable[[Table], bool]:
    return lambda event: words(event) == moment


@pytest.fixture
def laptop(laptops: Callable[[Path], Laptop], toy_product: Path) -> Laptop:
    return laptops(toy_product)


@pytest.fixture
def tenant(laptop: Laptop, host: Host) -> Iterator[Tenant]:
    """Somebody with a bare host, on which nothing is left of us in the end."""
    laptop.know(host)
    made = Tenant(laptop, host)
    yield made
    made.leaves()


@pytest.fixture
def gate(host: Host) -> str:
    """A file on the host that a run given it as `wait` waits for to go."""
    path = f"{HOME}/gate"
    host.owner(f"touch {path}")
    return path


def end_whatever_begins(tenant: Tenant, gate: str, end: Callable[[Running], Ended]) -> dict[str, Ended]:
    """`up` again and again, ended whenever something begins that has not begun before, and once more a moment later.

    Returns how each of them ended, by what had begun.
    """
    ended: dict[str, Ended] = {}
    for _ in range(80):
        if "run train running, later" in ended:
            tenant.host.shell(f"rm -f {gate}")
        running = tenant.up("-p", f"wait={gate}")
        while event := running.next():
            if event.get("status") in _BEGINS and f"{words(event)}, later" not in ended:
                moment = words(event)
                if moment in ended:
                    moment += ", later"
                    time.sleep(0.4)
                ended[moment] = end(running)
                break
        else:
            running.wait().succeeded()
            check_much_was_seen(set(ended))
            return ended
    raise AssertionError("`up` never gets to its end")


def check_much_was_seen(moments: set[str]) -> None:
    """But what had begun beside what was seen, or goes on for a moment, may be over when the next `up` comes."""
    assert {"step base started", "step uv started", "step services started", "run train running"} <= moments


def check_only_one_run_finished(tenant: Tenant) -> None:
    runs = mlflow_runs(tenant.converges().result["urls"]["mlflow"], "toy-pipeline")
    statuses = [run["status"] for run in runs]
    assert statuses.count("FINISHED") >= 1, runs
    assert "RUNNING" not in statuses, runs


def test_killed_whatever_begins(tenant: Tenant, gate: str) -> None:
    """With -9: `up` itself."""
    end_whatever_begins(tenant, gate, lambda running: running.kill())
    check_only_one_run_finished(tenant)


def test_what_sshd_started_is_killed_whatever_begins(tenant: Tenant, gate: str) -> None:
    def end(running: Running) -> Ended:
        faults.kill_sessions(tenant.host)
        ended = running.wait()
        if ended.code:
            tenant.named(ended, "connection-lost")
        return ended

    ended = end_whatever_begins(tenant, gate, end)
    assert "in step base" in ended["step base started"].result["error"]["message"]
    check_only_one_run_finished(tenant)


def test_dockerd_is_killed_in_the_middle(laptop: Laptop, host: Host) -> None:
    """While it makes images, starts services, runs the pipeline; systemd has it back in a moment."""
    laptop.know(host)
    tenant = Tenant(laptop, host, "compose")
    gate = f"{HOME}/mlops-env/default/gate"
    moments = {
        "service python image pulling": ("docker-stopped", "image-pull"),  # EOF may be the registry's
        "service toy image building": ("docker-stopped",),
        "service toy starting": ("docker-stopped", "docker-hangs"),
        "run train running": ("host-script", "run-failed"),
    }
    for moment, codes in moments.items():
        if moment.startswith("run"):
            host.owner(f"touch {gate}")
        running = tenant.up("-p", f"wait={gate}")
        while event := running.next():
            if words(event) == moment:
                break
        else:  # the one before was ridden out
            running.wait().succeeded()
            laptop("down").succeeded()
            running = tenant.up("-p", f"wait={gate}").until(at(moment))
        faults.kill_docker(host)
        host.shell(f"rm -f {gate}")
        ended = running.wait()
        if ended.code:
            tenant.named(ended, *codes)
        host.wait_for('[ "$(systemctl is-active docker)" != activating ]', seconds=120)
    check_only_one_run_finished(tenant)
    tenant.leaves()


class TestTheWire:
    @pytest.fixture
    def wire(self, host: Host) -> Iterator[Proxy]:
        with Proxy(host.address) as proxy:
            yield proxy

    @pytest.fixture
    def tenant(self, laptop: Laptop, host: Host, wire: Proxy) -> Iterator[Tenant]:
        laptop.know(host, wire.port)
        made = Tenant(laptop, host, destination=f"ssh://me@127.0.0.1:{wire.port}")
        yield made
        made.leaves()

    def test_a_cut_of_ten_seconds_is_ridden_out(self, tenant: Tenant, wire: Proxy) -> None:
        running = tenant.up().until(at("step base started"))
        wire.cut()
        time.sleep(10)
        wire.mend()
        running.wait().succeeded()
        tenant.converges()

    def test_a_cut_without_end_and_a_reset(
        self, tenant: Tenant, wire: Proxy, gate: str, toy_product: Path, folder: Path
    ) -> None:
        """Two of each: in a step, and in the run."""
        soon = {"ALIVE_SECONDS = 15.0": "ALIVE_SECONDS = 0.5", "DEAD_SECONDS = 40.0": "DEAD_SECONDS = 3.0"}
        tenant.laptop.product = edited(toy_product, folder / "soon", "src/mlops_env/ssh.py", soon)
        ends = {"base": wire.reset, "uv": wire.cut, "services": wire.reset}
        for step, end in ends.items():
            running = tenant.up("-p", f"wait={gate}").until(at(f"step {step} started"))
            end()
            error = tenant.named(running.wait(), "connection-lost")
            assert f"in step {step}" in error["message"]
            wire.reset()  # what was cut does not come back
            wire.mend()
        for end in (wire.cut, wire.reset):
            running = tenant.up("-p", f"wait={gate}").until(at("run train running"))
            key = tenant.laptop.record()["run"]["key"]
            end()
            tenant.named(running.wait(), "connection-lost")
            wire.reset()
            wire.mend()
        running = tenant.up("-p", f"wait={gate}").until(at("run train running"))
        tenant.host.shell(f"rm {gate}")
        assert running.wait().succeeded().result["run"]["key"] == key  # it is the same run all the time
        tenant.laptop.product = toy_product


class TestPower:
    @pytest.mark.parametrize("how", ["power", "reboot"])
    def test_it_goes_at_each_moment(self, tenant: Tenant, gate: str, how: str) -> None:
        for moment in MOMENTS:
            running = tenant.up("-p", f"wait={gate}").until(at(moment))
            if "base" in moment:
                tenant.host.wait_for("pgrep -x dpkg")
            if how == "power":
                tenant.host.lose_power()
                self._is_named(tenant, running, moment)
                tenant.host.power_on()
            else:
                tenant.host.reboot()
                self._is_named(tenant, running, moment)
        tenant.host.shell(f"rm {gate}")
        check_only_one_run_finished(tenant)

    @staticmethod
    def _is_named(tenant: Tenant, running: Running, moment: str) -> None:
        error = tenant.named(running.wait(), "connection-lost")
        if moment.startswith("step"):
            assert f"in step {moment.split()[1]}" in error["message"]


class TestInterrupted:
    def test_nothing_of_the_command_goes_on_there(self, tenant: Tenant, gate: str) -> None:
        """The services do: they are not the command's, and the run in them is not either."""
        for moment in MOMENTS:
            running = tenant.up("-p", f"wait={gate}").until(at(moment)).interrupt()
            running.wait().failed("interrupted", 130)
            identity = tenant.laptop.record()["id"]
            assert tenant.processes(identity, jobs=True) == [], moment
        tenant.host.shell(f"rm {gate}")
        assert len(mlflow_runs(tenant.converges("-p", f"wait={gate}").result["urls"]["mlflow"], "toy-pipeline")) == 1
