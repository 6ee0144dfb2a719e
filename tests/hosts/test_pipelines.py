"""A user's own two files, with pins that no orchestrator meets, on a host: in three commands, and what then changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from integration.harness import Ended, mlflow_runs
from integration.users import PYTHON, two_file_repository

from .harness import HOME
from .laptop import borrowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .harness import Host, Yard
    from .laptop import Laptop

THERE = f"{HOME}/mlops-env/default"


@pytest.fixture(scope="module")
def box(yard: Yard) -> Iterator[Host]:
    host = yard.start()
    yield host
    yard.stop(host)


@pytest.fixture(scope="module")
def laptop(yard: Yard, product: Path, box: Host) -> Iterator[Laptop]:
    with borrowed(yard, product, box) as made:
        yield made


@pytest.fixture(scope="module")
def repository(laptop: Laptop) -> Iterator[Path]:
    folder = two_file_repository(laptop)
    project = folder / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    assert f"=={PYTHON}.*" in text
    project.write_text(text.replace(f"=={PYTHON}.*", ">=3.11"), encoding="utf-8")  # a host has the Python that it has
    laptop("init", "--run", "python train.py", "-p", "factor=1", cwd=folder).succeeded()
    yield folder
    assert laptop("down", cwd=folder).succeeded().result["left"] == 0


@pytest.fixture(scope="module", params=["venv", "compose"])
def up(request: pytest.FixtureRequest, laptop: Laptop, box: Host, repository: Path) -> Ended:
    """In one runtime, then in the other: the same environment, with its history."""
    with (repository / "train.py").open("a", encoding="utf-8") as script:
        script.write(f"# for {request.param}\n")  # so that there is something to run
    return laptop("up", "--host", box.destination, "--runtime", request.param, cwd=repository).succeeded()


def runs(up: Ended) -> list[dict[str, float]]:
    found = mlflow_runs(up.result["urls"]["mlflow"], "my-models")
    assert {run["status"] for run in found} == {"FINISHED"}
    return [run["metrics"] for run in found]


def test_my_own_code_runs_there(up: Ended) -> None:
    assert up.statuses("run") == {"run": "completed", "train": "completed"}
    metrics = up.result["run"]["metrics"]
    assert (metrics["pandas"], metrics["python"]) == (3.0, 11.0)
    assert runs(up)[0] == metrics


def test_run_sends_what_was_edited_here(up: Ended, laptop: Laptop, repository: Path) -> None:
    before = runs(up)
    script = repository / "train.py"
    text = script.read_text(encoding="utf-8")
    mean = 'float(Path("model.txt").read_text())'
    script.write_text(text.replace(mean, f'{mean} * float(__import__("os").environ["PARAM_FACTOR"])'), encoding="utf-8")
    ended = laptop("run", "-p", "factor=2", cwd=repository).succeeded()
    script.write_text(text, encoding="utf-8")
    assert ended.result["run"]["metrics"]["mean"] == 6.0
    assert runs(up) == [ended.result["run"]["metrics"], *before]


def test_what_was_made_and_changed_there_comes_here(up: Ended, laptop: Laptop, box: Host, repository: Path) -> None:
    del up
    box.owner(f"echo 'looks good' >>{THERE}/notes.md")
    laptop("pull", cwd=repository).succeeded()
    assert (repository / "notes.md").read_text(encoding="utf-8").startswith("looks good\n")
    assert (repository / "model.txt").read_text(encoding="utf-8") == "3.0"
    assert (repository / ".mlops-env" / "mlflow" / "mlflow.db").is_file()


def test_a_file_changed_on_both_sides_stops_a_run(up: Ended, laptop: Laptop, box: Host, repository: Path) -> None:
    before = runs(up)
    script = repository / "train.py"
    text = script.read_text(encoding="utf-8")
    script.write_text(f"{text}# here\n", encoding="utf-8")
    box.owner(f"echo '# there' >>{THERE}/train.py")
    error = laptop("run", cwd=repository).failed("exchange-conflict").result["error"]
    assert "train.py" in error["message"]
    assert "--force" in error["hint"]
    assert script.read_text(encoding="utf-8") == f"{text}# here\n"
    assert box.owner(f"tail -n 1 {THERE}/train.py") == "# there"
    assert runs(up) == before
    laptop("push", "--force", cwd=repository).succeeded()
    assert box.owner(f"tail -n 1 {THERE}/train.py.orig") == "# there"
    assert laptop("run", cwd=repository).succeeded().result["run"]["state"] == "completed"
