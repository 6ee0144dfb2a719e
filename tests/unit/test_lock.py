"""One command at a time for an environment, across processes that may be killed at any moment."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mlops_env import environment
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys
from mlops_env import environment
with environment.locked("default", "mlops-env up"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def other_holder() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds the lock until its stdin ends."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_the_second_is_told_who_holds_it_and_a_killed_holder_frees_it(records: Path) -> None:
    with other_holder() as process:
        with (
            pytest.raises(MlopsEnvError, match=rf"busy: `mlops-env up`, pid {process.pid}, has held it for \d+ s") as e,
            environment.locked("default", "mlops-env down"),
        ):
            pass
        assert e.value.code == "environment-busy"
        with environment.locked("another", "mlops-env up"):
            pass
        process.kill()
        process.wait()
        with environment.locked("default", "mlops-env down"):
            pass
    assert not records.exists()


def test_a_record_keeps_its_lock_file_and_loses_it_with_the_record(records: Path) -> None:
    with environment.locked("default", "mlops-env up"):
        env = environment.imagine(
            "default", {"target": "local", "orchestrator": "toy", "runtime": "venv", "workspace": "/w"}, None
        ).save()
    assert (records / ".default.lock").exists()
    with environment.locked("default", "mlops-env down"):
        (env.directory / "environment.json").unlink()
        env.directory.rmdir()
    assert not records.exists()


def test_a_command_that_fails_frees_it(records: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), environment.locked("default", "mlops-env up"):
        raise KeyboardInterrupt
    with environment.locked("default", "mlops-env up"):
        pass
    assert not records.exists()


def test_never_two_hold_it_while_its_file_comes_and_goes(records: Path) -> None:
    """Without a record the file goes at each release, and others open it meanwhile."""
    script = """
import os, sys
from pathlib import Path
from mlops_env import environment
from mlops_env.errors import MlopsEnvError
inside, got = Path(sys.argv[1]), 0
while got < 40:
    try:
        with environment.locked("default", "x"):
            os.mkdir(inside)  # fails if another one is inside
            os.rmdir(inside)
            got += 1
    except MlopsEnvError:
        pass
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", script, str(records.with_name("inside"))], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [(racer.wait(), racer.communicate()[1]) for racer in racers] == [(0, b"")] * 3
    assert not records.exists()
