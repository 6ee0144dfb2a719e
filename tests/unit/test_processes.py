"""Ending what belongs to an environment, and nothing else; real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

import processes
from conftest import ROOT
from fakes import eventually, has_ended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def start(identity: str) -> Callable[..., subprocess.Popen[bytes]]:
    """Start a shell script as a process of the environment; it is ready when it has said a word."""

    def popen(script: str, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["bash", "-c", script],
            env={**os.environ, "MLOPS_ENV_ID": identity, **variables},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout
        with process.stdout:
            process.stdout.readline()
        return process

    return popen


def pids(found: list[psutil.Process]) -> set[int]:
    return {process.pid for process in found}


class TestFind:
    def test_an_environments_processes_are_those_that_carry_its_id(
        self, identity: str, start: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        mine = start("echo; exec sleep 60")
        other = start("echo; exec sleep 60", MLOPS_ENV_ID=f"{identity}-other")
        try:
            assert pids(processes.find(identity)) == {mine.pid}
        finally:
            other.kill()
            other.wait()
            mine.kill()
            mine.wait()

    def test_those_in_a_container_go_with_it(
        self, identity: str, start: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = start("echo; exec sleep 60")
        monkeypatch.setattr(processes, "_namespace", lambda pid: "theirs" if pid == mine.pid else "ours")
        assert processes.find(identity) == []
        mine.kill()
        mine.wait()

    def test_services_and_our_own_jobs_are_told_apart(
        self, identity: str, start: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        service = start("echo; exec sleep 60", MLOPS_ENV_SERVICE="toy")
        job = start("echo; exec sleep 60", MLOPS_ENV_JOB="1")
        assert pids(processes.find(identity, service="toy")) == {service.pid}
        assert pids(processes.find(identity, jobs=True)) == {job.pid}
        assert pids(processes.find(identity, jobs=False)) == {service.pid}
        processes.end_all(identity)
        service.wait()
        job.wait()


class TestEnd:
    def test_an_orphan_in_a_session_of_its_own_is_found_and_ended(
        self, identity: str, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
    ) -> None:
        start(f"setsid sleep 60 & echo $! >{tmp_path}/orphan; echo").wait()
        orphan = int((tmp_path / "orphan").read_text())
        assert processes.end_all(identity) == (1, 0)
        assert has_ended(orphan)

    def test_one_that_ignores_being_asked_is_killed(
        self, identity: str, start: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        deaf = start(DEAF)
        assert processes.end([psutil.Process(deaf.pid)], grace=0.2) == []
        assert deaf.wait() == -signal.SIGKILL
        processes.end_all(identity)

    def test_one_that_no_parent_takes_note_of_has_ended(
        self, start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
    ) -> None:
        careless = start(f"sleep 60 & echo $! >{tmp_path}/child; echo; kill -STOP $$")
        child = psutil.Process(int((tmp_path / "child").read_text()))
        assert eventually(lambda: psutil.Process(careless.pid).status() == psutil.STATUS_STOPPED)
        began = time.monotonic()
        assert processes.end([child], grace=30.0) == []
        assert time.monotonic() - began < 30
        assert child.status() == psutil.STATUS_ZOMBIE
        careless.kill()
        careless.wait()

    def test_twice_is_as_good_as_once(self, identity: str) -> None:
        assert [processes.end_all(identity) for _ in range(2)] == [(0, 0)] * 2

    def test_ports_are_those_that_are_listened_on(
        self, identity: str, start: Callable[..., subprocess.Popen[bytes]]
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        code = (
            f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); print(flush=True); time.sleep(60)"
        )
        server = start(f'exec {sys.executable} -c "{code}"')
        assert processes.listening(processes.find(identity)) == {port}
        processes.end_all(identity)
        server.wait()
        assert processes.listening(processes.find(identity)) == set()


@pytest.fixture
def run_group(identity: str, tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Run a script as a service under group.py, in a folder of its own, with a short patience."""
    with contextlib.ExitStack() as stack:

        def popen(script: str) -> subprocess.Popen[bytes]:
            spec = tmp_path / "spec.json"
            settings = {"MLOPS_ENV_ID": identity, "MLOPS_ENV_SERVICE": "toy"}
            spec.write_text(json.dumps({"argv": ["bash", "-c", script], "cwd": str(tmp_path), "settings": settings}))
            code = "import group, sys; group._STOP_SECONDS = 0.3; sys.exit(group.main())"
            process = subprocess.Popen(
                [sys.executable, "-c", code, str(spec)], cwd=ROOT / "orchestrators", stderr=subprocess.PIPE
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield popen


class TestGroup:
    def started(self, folder: Path, name: str) -> int:
        path = folder / name
        assert eventually(lambda: path.is_file() and path.read_text().endswith("\n"))
        return int(path.read_text())

    def test_when_the_main_process_is_killed_its_orphan_goes_before_the_wrapper_does(
        self, run_group: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
    ) -> None:
        wrapper = run_group("setsid sleep 60 & echo $! >orphan; echo $$ >main; exec sleep 60")
        orphan = psutil.Process(self.started(tmp_path, "orphan"))
        os.kill(self.started(tmp_path, "main"), signal.SIGKILL)
        assert wrapper.wait(10) == 128 + signal.SIGKILL
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE

    def test_asked_to_stop_all_of_it_goes_and_that_is_no_failure(
        self, run_group: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
    ) -> None:
        wrapper = run_group("setsid sleep 60 & echo $! >orphan; echo $$ >main; exec sleep 60")
        orphan, main = self.started(tmp_path, "orphan"), self.started(tmp_path, "main")
        wrapper.terminate()
        assert wrapper.wait(10) == 0
        assert has_ended(orphan)
        assert has_ended(main)

    def test_one_that_ignores_the_request_is_killed_within_bounds(
        self, run_group: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
    ) -> None:
        wrapper = run_group(f"echo $$ >main; {DEAF}")
        main = self.started(tmp_path, "main")
        wrapper.terminate()
        assert wrapper.wait(10) == 0
        assert has_ended(main)

    def test_what_a_killed_wrapper_left_is_ended_before_the_next_begins(
        self, run_group: Callable[[str], subprocess.Popen[bytes]], tmp_path: Path
    ) -> None:
        wrapper = run_group("echo $$ >main; exec sleep 60")
        left = psutil.Process(self.started(tmp_path, "main"))
        wrapper.kill()
        wrapper.wait()
        assert left.is_running()
        # What has ended, but was not taken note of, has no command line.
        command = f"$(tr -d '\\0' </proc/{left.pid}/cmdline)"
        again = run_group(f'[ -z "{command}" ]; echo $? >met; exec sleep 60')
        assert self.started(tmp_path, "met") == 0
        again.terminate()
        assert again.wait(10) == 0

    def test_its_exit_code_is_the_services(self, run_group: Callable[[str], subprocess.Popen[bytes]]) -> None:
        wrapper = run_group("exit 7")
        assert wrapper.wait(10) == 7
        assert wrapper.stderr
        assert b"toy ended with 7" in wrapper.stderr.read()
