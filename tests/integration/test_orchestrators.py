"""What the directory of every orchestrator promises, and a user's own code on each of them in three commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .harness import ROOT, TOY, Ended, Machine, mlflow_runs
from .users import path_with_python, two_file_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ByHand = Callable[..., subprocess.CompletedProcess[str]]

DIRECTORIES = {path.parent.name: path.parent for path in sorted((ROOT / "orchestrators").glob("*/project.py"))}
DIRECTORIES["toy"] = TOY / "toy"


@pytest.fixture(scope="module", params=DIRECTORIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def directory(name: str) -> Path:
    return DIRECTORIES[name]


@pytest.fixture(scope="module")
def machines(folder: Path, cache: Path, product: Path, toy_product: Path) -> Iterator[Callable[[str], Machine]]:
    """One machine for all real ones, each in the place of the one before; another for the toy."""
    made: dict[bool, Machine] = {}

    def get(name: str) -> Machine:
        toy = name == "toy"
        if toy not in made:
            made[toy] = Machine(folder / f"users-{name}", cache, toy_product if toy else product)
            made[toy].settings["PATH"] = path_with_python()
            repository = two_file_repository(made[toy])
            made[toy]("init", "--run", "python train.py", cwd=repository).succeeded()
        return made[toy]

    yield get
    for machine in made.values():
        machine.tear_down()


@dataclass(frozen=True)
class Up:
    machine: Machine
    repository: Path
    ended: Ended


@pytest.fixture(scope="module")
def up(name: str, machines: Callable[[str], Machine]) -> Up:
    """The user's code on this orchestrator."""
    machine = machines(name)
    repository = machine.home / "my models"
    words = [] if name in {"mage", "toy"} else ["--orchestrator", name]
    return Up(machine, repository, machine("up", *words, cwd=repository).succeeded())


@pytest.fixture
def by_hand(directory: Path, tmp_path: Path) -> ByHand:
    """One of its scripts, told what every script on the host is told, where nothing runs."""
    (tmp_path / "mlops-env.toml").write_text('[pipeline]\nname = "p"\nsteps = [{name = "train", run = "true"}]\n')
    (tmp_path / "secrets").mkdir()
    for secret in tomllib.loads((directory / "orchestrator.toml").read_text())["secrets"]:
        (tmp_path / "secrets" / secret).write_text("secret")
    nobody = "http://127.0.0.1:9"
    paths = {"WORKSPACE": tmp_path, "TREE": ROOT, "VENVS": tmp_path, "STATE": tmp_path, "SECRETS": tmp_path / "secrets"}
    values = {"ID": "1", "NAME": "n", "ORCHESTRATOR": directory.name, "URL": nobody, **paths}
    told = {f"MLOPS_ENV_{key}": str(value) for key, value in values.items()}
    told |= {"MLFLOW_TRACKING_URI": nobody, "PYTHONPATH": str(ROOT / "orchestrators")}  # the toy is not in there

    def run(script: str, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *options, str(directory / script), *words]
        variables = {**os.environ, **told}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=30)

    return run


def test_it_has_all_its_files(directory: Path) -> None:
    declared = tomllib.loads((directory / "orchestrator.toml").read_text())
    assert declared["name"] == directory.name
    assert declared["title"]
    assert declared["download_mb"] < declared["disk_mb"]
    assert declared["login"]["secret"] in declared["secrets"]
    assert declared["services"][0]["port"]
    for service in (one for one in declared["services"] if "runtime" not in one):  # that one is a public image
        script = directory / "services" / f"{service['name']}.sh"
        text = script.read_text()
        assert "set -eu" in text
        assert re.search(r"(?m)^exec ", text)
        subprocess.run(["bash", "-n", script], check=True)  # noqa: S607 - as the supervisor finds it
    lock = (directory / "requirements.lock").read_text()
    assert all("==" in line for line in lock.splitlines() if re.match(r"\w", line))
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert (directory / "requirements.in").is_file()
    assert declared["python"].startswith(">=3.")
    assert (directory / "Dockerfile").is_file()
    composed = (directory / "compose.yaml").read_text()
    assert all(re.search(rf"(?m)^  {service['name']}:( |$)", composed) for service in declared["services"])


def test_its_scripts_need_the_standard_library_alone(by_hand: ByHand) -> None:
    without_packages = ("-S",)
    assert by_hand("trigger.py", "health", options=without_packages).returncode == 1
    assert by_hand("project.py", options=without_packages).returncode == 0


def test_it_is_not_healthy_before_its_start(by_hand: ByHand) -> None:
    done = by_hand("trigger.py", "health")
    assert done.returncode == 1
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["healthy"] is False
    assert told["reason"]


def test_its_project_is_generated_once_and_what_the_user_changed_is_kept(
    by_hand: ByHand, tmp_path: Path, name: str
) -> None:
    project = tmp_path / ".mlops-env" / "projects" / name

    def contents() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and not path.is_symlink()}

    assert by_hand("project.py", "check").returncode == 1
    assert not project.exists()
    assert by_hand("project.py").returncode == 0
    first = contents()
    assert first
    assert by_hand("project.py", "check").returncode == 0
    assert (by_hand("project.py").stderr, contents()) == ("", first)
    file = next(path for path in first if path.suffix in {".py", ".json"})
    file.write_bytes(first[file] + b"# mine\n")
    again = by_hand("project.py")
    assert again.returncode == 0
    assert str(file) in again.stderr
    assert file.read_bytes().endswith(b"# mine\n")
    assert by_hand("project.py", "check").returncode == 0
    file.unlink()
    assert by_hand("project.py").returncode == 0
    assert contents() == first


@pytest.mark.parametrize("words", [[], ["run", "--run-key", "no key"], ["run", "--param", "unknown=1"], ["walk"]])
def test_wrong_usage_is_told_apart(by_hand: ByHand, words: list[str]) -> None:
    done = by_hand("trigger.py", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_my_own_code_runs_on_it(up: Up) -> None:
    result = up.ended.result
    assert result["run"]["metrics"] == {"mean": 3.0, "pandas": 3.0, "python": 13.0}
    run = mlflow_runs(result["urls"]["mlflow"], "my-models")[0]
    assert run["metrics"] == result["run"]["metrics"]
    assert (run["status"], run["tags"]["run_key"]) == ("FINISHED", result["run"]["key"])
    left = {".mlops-env", "mlops-env.toml", "model.txt", "pyproject.toml", "train.py"}
    assert {path.name for path in up.repository.iterdir()} == left
    assert result["workspace"] == str(up.repository)


def test_what_a_run_writes_is_no_new_code(up: Up) -> None:
    again = up.machine("up", cwd=up.repository).succeeded()
    assert again.statuses("run") == {"run": "ok"}
    assert again.found_all_done()


def test_it_is_healthy(up: Up) -> None:
    code, told, _ = up.machine.script("trigger.py", "health")
    assert (code, told) == (0, {"healthy": True, "reason": ""})


def test_a_run_is_one_for_its_key(up: Up, name: str) -> None:
    key = f"mine-{name}"
    first = up.machine.script("trigger.py", "run", "--run-key", key)
    again = up.machine.script("trigger.py", "run", "--run-key", key)
    assert first[0] == again[0] == 0
    assert first[1] == again[1]
    assert (first[1]["state"], first[1]["failed_step"]) == ("completed", None)
    assert first[1]["page"].startswith("/")
    assert "step train: completed" in first[2]
    runs = mlflow_runs(up.ended.result["urls"]["mlflow"], "my-models")
    assert [run["status"] for run in runs if run["tags"]["run_key"] == key] == ["FINISHED"]


def test_a_failed_step_is_named(up: Up, name: str) -> None:
    key = f"broken-{name}"
    (up.repository / "broken").touch()
    code, told, _ = up.machine.script("trigger.py", "run", "--run-key", key)
    (up.repository / "broken").unlink()
    assert (code, told["state"], told["failed_step"]) == (1, "failed", "train")
    assert up.machine.script("trigger.py", "run", "--run-key", key)[:2] == (1, told)
    code, recorded, _ = up.machine.script("runs.py", "show", key)
    assert (recorded["status"], recorded["failed_step"]) == ("FAILED", "train")
    assert "no such column: distance" in recorded["error"]


def test_it_gives_a_run_a_key(up: Up) -> None:
    code, told, _ = up.machine.script("trigger.py", "run")
    assert (code, told["state"]) == (0, "completed")
