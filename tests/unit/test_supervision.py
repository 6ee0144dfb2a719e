"""A real supervisor with a trivial service, in a folder whose name holds everything that a name can."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from typing import TYPE_CHECKING, Any

import pytest

import processes
from conftest import ROOT
from fakes import eventually, has_ended
from places import runtime_directory
from supervision import Supervisor, SupervisorError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDENTITY = str(uuid.uuid4())


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """One for all tests, each of which leaves it running."""
    host = tmp_path_factory.mktemp("a b") / "50%s é 日本 'x'"
    one = Supervisor(IDENTITY, host, ROOT)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLOPS_ENV_ID", IDENTITY)
            patch.setenv("MLOPS_ENV_JOB", "1")
            one.start()
        yield one
    finally:
        processes.end_all(IDENTITY)
        shutil.rmtree(runtime_directory(IDENTITY), ignore_errors=True)


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_ENV_ID", IDENTITY)


def sleeper(name: str, folder: Path, seconds: int = 600) -> dict[str, Any]:
    settings = {"MLOPS_ENV_ID": IDENTITY, "MLOPS_ENV_SERVICE": name}
    return {"argv": ["sleep", str(seconds)], "cwd": str(folder), "settings": settings}


def state(supervisor: Supervisor, name: str) -> str:
    return str((supervisor.states() or {}).get(name, {}).get("statename"))


def pid(supervisor: Supervisor, name: str) -> int:
    assert eventually(lambda: bool((supervisor.states() or {}).get(name, {}).get("pid")))
    return int((supervisor.states() or {})[name]["pid"])


def runs(name: str, *command: str) -> bool:
    """Whether the service itself, below its wrapper, comes to run with this command and no other."""

    def found() -> bool:
        lines = [process.cmdline() for process in processes.find(IDENTITY, service=name)]
        return lines == [list(command)]

    return eventually(found)


def test_a_service_is_started_once_and_then_left_alone(supervisor: Supervisor, tmp_path: Path) -> None:
    specification = sleeper("one", tmp_path)
    assert not supervisor.is_current("one", specification)
    supervisor.run("one", specification)
    first = pid(supervisor, "one")
    assert supervisor.is_current("one", specification)
    assert runs("one", "sleep", "600")
    supervisor.run("one", specification)
    supervisor.start()
    assert pid(supervisor, "one") == first


def test_a_changed_specification_restarts_it(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run("one", sleeper("one", tmp_path))
    first = pid(supervisor, "one")
    assert runs("one", "sleep", "600")
    supervisor.run("one", sleeper("one", tmp_path, 601))
    assert pid(supervisor, "one") != first
    assert runs("one", "sleep", "601")
    assert supervisor.is_current("one", sleeper("one", tmp_path, 601))
    assert not supervisor.is_current("one", sleeper("one", tmp_path, 600))


def test_a_stopped_one_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run("one", sleeper("one", tmp_path))
    assert runs("one", "sleep", "600")
    supervisor.halt("one")
    assert state(supervisor, "one") == "STOPPED"
    supervisor.halt("one")
    supervisor.run("one", sleeper("one", tmp_path))
    assert state(supervisor, "one") in {"STARTING", "RUNNING"}


def test_the_services_of_another_orchestrator_go(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run("one", sleeper("one", tmp_path))
    supervisor.run("two", sleeper("two", tmp_path))
    assert runs("two", "sleep", "600")
    supervisor.keep_only({"one"})
    assert (supervisor.states() or {}).keys() == {"one"}
    assert processes.find(IDENTITY, service="two") == []
    assert not supervisor.is_current("two", sleeper("two", tmp_path))


def test_its_log_is_where_the_environment_keeps_logs(supervisor: Supervisor, tmp_path: Path) -> None:
    log = supervisor.host / "logs" / "echo.log"
    supervisor.run("echo", {**sleeper("echo", tmp_path), "argv": ["sh", "-c", "echo grüße; exec sleep 600"]})
    assert eventually(lambda: log.is_file() and "grüße" in log.read_text(encoding="utf-8"))
    supervisor.keep_only({"one"})


def test_the_socket_is_only_its_owners(supervisor: Supervisor) -> None:
    assert supervisor.socket.stat().st_mode & 0o777 == 0o600
    assert supervisor.socket.parent.stat().st_mode & 0o777 == 0o700


def test_the_daemon_does_not_carry_the_mark_of_the_job_that_started_it(supervisor: Supervisor) -> None:
    assert supervisor.states() is not None
    assert processes.find(IDENTITY, jobs=True) == []


def test_killed_it_starts_again_over_its_stale_files_and_leftovers_do_not_stay(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.run("one", sleeper("one", tmp_path))
    assert runs("one", "sleep", "600")
    (left,) = processes.find(IDENTITY, service="one")
    daemon = int((supervisor.socket.parent / "supervisord.pid").read_text())
    os.kill(daemon, signal.SIGKILL)
    assert has_ended(daemon)
    assert supervisor.states() is None
    assert supervisor.socket.exists()
    supervisor.start()
    assert eventually(lambda: state(supervisor, "one") in {"STARTING", "RUNNING"})
    assert has_ended(left.pid)
    assert runs("one", "sleep", "600")


def test_shut_down_ends_the_services_and_itself_and_twice_is_fine(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.run("one", sleeper("one", tmp_path))
    assert runs("one", "sleep", "600")
    supervisor.shut_down()
    assert supervisor.states() is None
    assert processes.find(IDENTITY, service="one") == []
    supervisor.shut_down()
    supervisor.start()
    assert supervisor.states() is not None


def test_a_runtime_directory_of_another_user_is_refused(
    tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 54321)
    runtime = runtime_directory(identity)
    try:
        with pytest.raises(SupervisorError, match=f"{runtime} belongs to another user"):
            Supervisor(identity, tmp_path, ROOT).start()
    finally:
        runtime.rmdir()
