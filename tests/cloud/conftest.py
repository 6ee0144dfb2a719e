"""An AWS of this machine's own, as new for each test, and nothing of whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from integration.harness import Machine

from mlops_env.sandbox import control

from .people import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlops_env.sandbox.control import Running

TRANSITION_SECONDS = 0.3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """When an engine dies, the SDK leaves the event loop of its program open, and Python says so some time later."""
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in os.environ:
        if variable.startswith(("AWS_", "MLOPS_ENV_")):
            monkeypatch.delenv(variable)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MLOPS_ENV_HOME", str(tmp_path / "records"))


@pytest.fixture(scope="module")
def _sandbox() -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="sb-"))
    yield control.ensure(folder / "sandbox", lambda _: None, with_hosts=False)
    control.stop(folder / "sandbox", lambda _: None)
    shutil.rmtree(folder)


@pytest.fixture
def sandbox(_sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """One for a file's tests, without hosts: an account as new, no faults, instances that change state at a walk.

    Not one for all: moto keeps what it had before a reset, and gets slower by it.
    """
    _sandbox.call("POST", "/sandbox/reset")
    _sandbox.call("PUT", "/sandbox/timing", {"transition": TRANSITION_SECONDS})
    monkeypatch.setenv("MLOPS_ENV_SANDBOX", str(_sandbox.directory))
    return _sandbox


@pytest.fixture
def client(sandbox: Running) -> Callable[..., Any]:
    """Makes plain boto3 clients of a service, in us-east-1 unless told where."""
    return lambda service, region="us-east-1": plain_client(sandbox, service, region)


def plain_client(sandbox: Running, service: str, region: str = "us-east-1") -> Any:
    """One that makes the session anew, and so keeps nothing from one test to the next."""
    words = sandbox.variables()
    session = boto3.Session(words["AWS_ACCESS_KEY_ID"], words["AWS_SECRET_ACCESS_KEY"], region_name=region)
    return session.client(service, endpoint_url=sandbox.endpoint)


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Of a sandbox that stays, so that it can be asked what is left in it."""
    with tempfile.TemporaryDirectory(prefix="sb-") as name:
        path = Path(name) / "sandbox"
        owner = Machine(Path(name) / "owner", Path(name) / "uv", ROOT, {"MLOPS_ENV_SANDBOX": str(path)})
        owner("sandbox", "start").succeeded()
        yield path
        owner("sandbox", "stop").succeeded()


@pytest.fixture
def aws(directory: Path) -> Running:
    """The account in it, as new."""
    running = control.running(directory)
    assert running is not None
    running.call("POST", "/sandbox/reset")
    running.call("PUT", "/sandbox/timing", {"transition": 0})
    return running


@pytest.fixture
def machines(directory: Path, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Makes people's machines, which share that account."""
    with ExitStack() as stack:

        def make(name: str = "m") -> Machine:
            machine = Machine(tmp_path / f"a {name}", tmp_path / "uv", ROOT, {"MLOPS_ENV_SANDBOX": str(directory)})
            stack.callback(machine.kill_everything)
            return machine

        yield make


@pytest.fixture
def machine(machines: Callable[..., Machine], aws: Running) -> Machine:
    del aws  # only to be as new
    return machines()
