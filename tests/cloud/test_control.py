"""The sandbox's process: when it starts, who it is, how it ends, and what is said when it cannot."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from mlops_env.errors import MlopsEnvError
from mlops_env.sandbox import control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_env.events import Event


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Of a sandbox that does not run yet, and not any more afterwards."""
    path = tmp_path / "a sandbox"
    yield path
    (path / "hosts").unlink(missing_ok=True)  # what a test says Docker has, it has not
    control.stop(path, lambda _: None)


def ensure(directory: Path, *, with_hosts: bool = False, by_hand: bool = False) -> tuple[control.Running, list[Event]]:
    told: list[Event] = []
    return control.ensure(directory, told.append, with_hosts=with_hosts, by_hand=by_hand), told


def stop(directory: Path) -> dict[str, tuple[int, int, int]]:
    return {row.kind: (row.found, row.removed, row.left) for row in control.stop(directory, lambda _: None)}


def kill(found: control.Running) -> None:
    os.kill(found.pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while control.running(found.directory):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_starts_once_and_ends_without_a_trace(directory: Path) -> None:
    assert control.running(directory) is None
    found, told = ensure(directory)
    assert [event.status for event in told] == ["started", "changed"]
    assert found.endpoint in told[-1].message
    assert control.running(directory) == found
    assert ensure(directory) == (found, [])
    assert stop(directory) == {"process": (1, 1, 0), "file": (1, 1, 0)}  # its log; its record goes with it
    assert not psutil.pid_exists(found.pid) or psutil.Process(found.pid).status() == psutil.STATUS_ZOMBIE
    assert list(directory.parent.glob("*sandbox*")) == []


def test_ending_what_does_not_run(directory: Path) -> None:
    assert stop(directory) == {"process": (0, 0, 0), "file": (0, 0, 0)}
    assert list(directory.parent.glob("*sandbox*")) == []


REAL = {"AWS_PROFILE": "work", "AWS_ACCESS_KEY_ID": "AKIAREAL", "AWS_SECRET_ACCESS_KEY": "real"}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control.Running]:
    """Started by somebody who has an account."""
    path = tmp_path_factory.mktemp("standing") / "sandbox"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in REAL.items():
            patch.setenv(name, value)
        yield ensure(path)[0]
    control.stop(path, lambda _: None)


def test_status(standing: control.Running, directory: Path) -> None:
    assert control.status(directory) == {"running": False, "directory": str(directory)}
    standing.break_(["slow", "quota"])
    told = control.status(standing.directory)
    assert (told["running"], told["endpoint"], told["pid"]) == (True, standing.endpoint, standing.pid)
    assert told["faults"] == ["quota", "slow"]
    assert standing.token not in json.dumps(told)
    assert standing.endpoint in control.as_text(told)


def test_only_its_user_reads_the_token(standing: control.Running) -> None:
    assert stat.S_IMODE((standing.directory / "cloud.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(standing.directory.stat().st_mode) == 0o700
    assert standing.token not in (standing.directory / "cloud.log").read_text()
    assert standing.token not in " ".join(psutil.Process(standing.pid).cmdline())


def test_it_has_nothing_of_the_users_account(standing: control.Running) -> None:
    assert not REAL.items() & psutil.Process(standing.pid).environ().items()
    assert not set(REAL.values()) & set(standing.variables().values())


@pytest.mark.parametrize("is_child", [True, False])
def test_after_a_kill_a_new_one_starts(directory: Path, is_child: bool) -> None:
    if is_child:
        found, _ = ensure(directory)
    else:
        found = _started_elsewhere(directory)
    kill(found)
    again, _ = ensure(directory)
    assert again.pid != found.pid
    assert again.call("GET", "/sandbox/status")["things"] == 0


def _started_elsewhere(directory: Path) -> control.Running:
    script = "import sys; from pathlib import Path; from mlops_env.sandbox import control; "
    script += "control.ensure(Path(sys.argv[1]), lambda _: None, with_hosts=False)"
    subprocess.run([sys.executable, "-c", script, str(directory)], check=True)
    found = control.running(directory)
    assert found
    return found


def test_it_outlives_who_started_it(directory: Path) -> None:
    found = _started_elsewhere(directory)
    assert found.call("GET", "/sandbox/status")["things"] == 0
    assert not found.started_by_hand


def test_another_process_with_its_number_is_not_it(directory: Path) -> None:
    found, _ = ensure(directory)
    record = json.loads((directory / "cloud.json").read_text())
    kill(found)
    (directory / "cloud.json").write_text(json.dumps({**record, "pid": os.getpid()}))
    assert control.running(directory) is None
    assert stop(directory)["process"] == (0, 0, 0)  # and we live


@pytest.mark.parametrize("text", ["", "{", "{}", '{"pid": 1}'])
def test_a_record_that_says_nothing(directory: Path, text: str) -> None:
    directory.mkdir()
    (directory / "cloud.json").write_text(text)
    assert control.running(directory) is None
    assert stop(directory) == {"process": (0, 0, 0), "file": (1, 1, 0)}


def test_two_at_once_start_one(directory: Path) -> None:
    found: list[control.Running] = []
    threads = [threading.Thread(target=lambda: found.append(ensure(directory)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 3


def test_one_that_does_not_end_by_itself_is_killed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_END_SECONDS", 0.3)
    found, _ = ensure(directory)
    os.kill(found.pid, signal.SIGSTOP)
    assert stop(directory)["process"] == (1, 1, 0)


# Started by hand


def test_started_by_hand(directory: Path) -> None:
    words = [sys.executable, "-m", "mlops_env.sandbox.cloud", str(directory)]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 20
        while not (found := control.running(directory)):
            assert time.monotonic() < end
            time.sleep(0.05)
        assert (found.pid, found.started_by_hand) == (process.pid, True)
        second = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (second.returncode, f"pid {found.pid}" in second.stderr) == (1, True)
        assert ensure(directory) == (found, [])
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert not (directory / "cloud.json").exists()


def test_who_wants_to_keep_it_says_so_later(directory: Path) -> None:
    assert not ensure(directory)[0].started_by_hand
    assert ensure(directory, by_hand=True)[0].started_by_hand
    assert ensure(directory)[0].started_by_hand


# What is said when it cannot


def test_a_process_that_ends_at_once_tells_its_last_words(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend(tmp_path, monkeypatch, "echo no room for moto >&2; exit 3")
    with pytest.raises(MlopsEnvError, match="exit code 3\nno room for moto") as raised:
        ensure(directory)
    assert raised.value.code == "sandbox-failed"
    assert str(directory / "cloud.log") in raised.value.hint


def test_a_process_that_never_answers_is_ended(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_START_SECONDS", 0.5)
    _pretend(tmp_path, monkeypatch, f"echo $$ >'{tmp_path}/pid'; exec sleep 600")
    with pytest.raises(MlopsEnvError, match=r"does not answer within 0\.5 s") as raised:
        ensure(directory)
    assert raised.value.code == "sandbox-failed"
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def _pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Another program than ours is started."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_one_that_hangs_while_it_is_asked(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_CALL_SECONDS", 0.3)
    found, _ = ensure(directory)
    os.kill(found.pid, signal.SIGSTOP)
    with pytest.raises(MlopsEnvError, match="the sandbox does not answer") as raised:
        found.break_([])
    os.kill(found.pid, signal.SIGCONT)
    assert raised.value.code == "sandbox-failed"


def test_who_has_not_installed_moto_is_told_how(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "moto" else find(name))
    with pytest.raises(MlopsEnvError, match="needs moto") as raised:
        ensure(directory)
    assert raised.value.code == "extra-missing"
    assert "mlops-env[ec2,sandbox]" in raised.value.hint


@pytest.fixture
def no_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    monkeypatch.setenv("PATH", "/nowhere")
    yield
    gc.collect()  # Docker's SDK leaves the socket open with which it reached nobody


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_hosts_need_docker_and_provisioning_alone_does_not(directory: Path, no_docker: None) -> None:
    del no_docker
    with pytest.raises(MlopsEnvError, match="instances of the sandbox are containers") as raised:
        ensure(directory, with_hosts=True)
    assert raised.value.code == "docker-missing"
    assert "--no-host" in raised.value.hint
    assert control.running(directory) is None
    ensure(directory)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_docker_has_and_cannot_be_asked_about_is_not_nothing(directory: Path, no_docker: None) -> None:
    del no_docker
    ensure(directory)
    (directory / "hosts").touch()
    with pytest.raises(MlopsEnvError) as raised:
        stop(directory)
    assert raised.value.code == "docker-missing"
    assert (directory / "hosts").exists()
    assert control.running(directory) is None
