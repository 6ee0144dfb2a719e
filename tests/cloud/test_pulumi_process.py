"""Signals and the engine: what a terminal, a shell and the kernel do to us, and what of it the engine gets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mlops_env.ec2.pulumi_process import PulumiProcess
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROC = Path("/proc")

# Works until it is let go, notes the signals that it gets, and says more than a pipe holds when it ends.
ENGINE = """#!/bin/sh
trap 'echo interrupt >> notes' INT
trap 'echo hangup >> notes' HUP
echo "started $$" >> notes
while [ ! -e let-go ]; do sleep 0.02; done
head -c 200000 /dev/zero | tr '\\0' x
echo ended >> notes
"""

# As `mlops_env.commands.reporting` has them: both signals raise.
DRIVER = """
import signal, sys
from pathlib import Path
from mlops_env.ec2.pulumi_process import PulumiProcess

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, signal.SIG_IGN if sys.argv[1] == "deaf" else interrupt)
signal.signal(signal.SIGTERM, interrupt)
say = lambda event: print(event.message, flush=True)
try:
    done = PulumiProcess(Path("pulumi").absolute(), {"PATH": "/usr/bin:/bin"}, say, lambda: None).run(["up"], ".", {})
    print("finished", len(done.stdout))
except KeyboardInterrupt:
    print("interrupted")
"""


def until(happened: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@dataclass
class Case:
    """A driver with its engine, in `directory`."""

    directory: Path
    driver: subprocess.Popen[str]

    def notes(self) -> list[str]:
        file = self.directory / "notes"
        return file.read_text(encoding="utf-8").split("\n")[:-1] if file.exists() else []

    @property
    def engine(self) -> int:
        return int(self.notes()[0].split()[1])

    def let_go(self) -> None:
        (self.directory / "let-go").touch()

    def end(self) -> str:
        """What the driver said, to its end."""
        return self.driver.communicate(timeout=20)[0]

    def engine_ended(self) -> bool:
        return self.notes()[-1] == "ended"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Case]]:
    cases: list[Case] = []

    def begin(how: str = "") -> Case:
        put(tmp_path, ENGINE)
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, how], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        cases.append(Case(tmp_path, driver))
        until(lambda: bool(cases[-1].notes()))
        return cases[-1]

    yield begin
    for case in cases:
        case.let_go()
        case.driver.kill()
        case.driver.communicate()
        until(lambda case=case: not _runs(case.engine))  # type: ignore[misc]  # bound now


def put(directory: Path, text: str) -> Path:
    program = directory / "pulumi"
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return program


def _runs(pid: int) -> bool:
    try:
        state = (PROC / str(pid) / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_the_first_interrupt_lets_the_engine_end_what_it_has_begun(start: Callable[[], Case], number: int) -> None:
    case = start()
    case.driver.send_signal(number)
    until(lambda: "interrupt" in case.notes())
    assert case.driver.poll() is None
    case.let_go()
    assert case.end().splitlines() == [
        "interrupted: waiting for Pulumi to end what it has begun (Ctrl-C again kills it)",
        "interrupted",
    ]
    assert case.notes()[1:] == ["interrupt", "ended"]


def test_a_terminals_ctrl_c_reaches_the_engine_once(start: Callable[[], Case]) -> None:
    case = start()
    os.killpg(case.driver.pid, signal.SIGINT)
    until(lambda: "interrupt" in case.notes())
    case.let_go()
    assert case.end().endswith("interrupted\n")
    assert case.notes()[1:] == ["interrupt", "ended"]


def test_the_second_interrupt_kills(start: Callable[[], Case]) -> None:
    case = start()
    case.driver.send_signal(signal.SIGINT)
    until(lambda: "interrupt" in case.notes())
    case.driver.send_signal(signal.SIGINT)
    assert case.end().endswith("interrupted\n")
    assert not _runs(case.engine)
    assert case.notes()[1:] == ["interrupt"]


def test_a_hangup_ends_us_and_not_the_engine(start: Callable[[], Case]) -> None:
    case = start()
    os.killpg(case.driver.pid, signal.SIGHUP)
    case.end()
    assert case.driver.returncode == -signal.SIGHUP
    case.let_go()
    until(case.engine_ended)
    assert case.notes()[1:] == ["ended"]


def test_the_engine_outlives_our_death(start: Callable[[], Case]) -> None:
    case = start()
    case.driver.kill()
    case.end()
    case.let_go()
    until(case.engine_ended)


def test_who_ignores_ctrl_c_goes_on_ignoring_it(start: Callable[[str], Case]) -> None:
    case = start("deaf")
    case.driver.send_signal(signal.SIGINT)
    case.let_go()
    assert case.end() == "finished 200000\n"
    assert case.notes()[1:] == ["ended"]


def test_an_engine_that_somebody_killed_is_called_so(tmp_path: Path) -> None:
    put(tmp_path, "#!/bin/sh\nkill -9 $$\n")
    engine = PulumiProcess(tmp_path / "pulumi", os.environ, lambda _: None, lambda: None)
    with pytest.raises(MlopsEnvError, match="SIGKILL") as failed:
        engine.run(["up"], str(tmp_path), {})
    assert failed.value.code == "engine-killed"


def test_an_engine_that_does_not_start_is_named(tmp_path: Path) -> None:
    put(tmp_path, "#!/no/such/interpreter\n")
    engine = PulumiProcess(tmp_path / "pulumi", os.environ, lambda _: None, lambda: None)
    with pytest.raises(MlopsEnvError, match=f"{tmp_path}/pulumi does not start") as failed:
        engine.run(["up"], str(tmp_path), {})
    assert failed.value.code == "engine-broken"


def test_where_we_fail_the_engine_is_not_left_to_itself(tmp_path: Path) -> None:
    put(tmp_path, ENGINE.replace("interrupt >> notes'", "interrupt >> notes; touch let-go'"))

    def fail() -> None:
        if (tmp_path / "notes").exists():
            raise BrokenPipeError

    engine = PulumiProcess(tmp_path / "pulumi", os.environ, lambda _: None, fail)
    with pytest.raises(BrokenPipeError):
        engine.run(["up"], str(tmp_path), {})
    assert (tmp_path / "notes").read_text(encoding="utf-8").splitlines()[1:] == ["interrupt", "ended"]


def test_what_it_says_and_how_it_is_called(tmp_path: Path) -> None:
    put(tmp_path, '#!/bin/sh\necho "$PWD $*"\necho "$GIVEN $MORE $PULUMI_AUTOMATION_API" >&2\n')
    engine = PulumiProcess(tmp_path / "pulumi", {"GIVEN": "1"}, lambda _: None, lambda: None)
    done = engine.run(["stack", "ls"], str(tmp_path), {"MORE": "2"})
    assert done.stdout == f"{tmp_path} --non-interactive stack ls"
    assert done.stderr == "1 2 true"
