"""Which code counts as the same code, and what MLflow is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

import fake_mlflow
import runs
from tracking import Mlflow, MlflowError
from workspace import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fake_mlflow import FakeMlflow

GIT = shutil.which("git") or "git"

TOML = """\
[pipeline]
name = "toy"
steps = [{name = "train", run = "python train.py"}]
params = {month = "2023-01", rate = 0.5, day = 2023-01-02}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "wörk space"
    (folder / "src").mkdir(parents=True)
    (folder / "mlops-env.toml").write_text(TOML, encoding="utf-8")
    (folder / "src" / "train.py").write_text("print(1)\n", encoding="utf-8")
    return folder


@pytest.fixture
def mlflow() -> Iterator[FakeMlflow]:
    with fake_mlflow.serving() as fake:
        yield fake


@pytest.fixture
def environment(workspace: Path, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ID", "NAME", "ORCHESTRATOR", "TREE", "VENVS", "STATE", "SECRETS", "URL"):
        monkeypatch.setenv(f"MLOPS_ENV_{name}", name.lower())
    monkeypatch.setenv("MLOPS_ENV_WORKSPACE", str(workspace))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.url)
    return workspace


def git(folder: Path, *words: str) -> None:
    settings = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    subprocess.run([GIT, *settings, "-C", str(folder), *words], check=True, capture_output=True)


def refuse_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.mark.parametrize("with_git", [True, False])
class TestCodeDigest:
    @pytest.fixture(autouse=True)
    def _maybe_git(self, workspace: Path, with_git: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        if with_git:
            git(workspace, "init")
        else:
            refuse_git(monkeypatch)

    def test_is_of_content_and_of_names(self, workspace: Path) -> None:
        before = runs.code_digest(workspace)
        assert runs.code_digest(workspace) == before
        (workspace / "src" / "train.py").write_text("print(2)\n", encoding="utf-8")
        edited = runs.code_digest(workspace)
        (workspace / "src" / "train.py").rename(workspace / "src" / "tränen.py")
        assert len({before, edited, runs.code_digest(workspace)}) == 3

    @pytest.mark.parametrize(
        "path",
        [
            ".mlops-env/runs/k/x",
            ".venv/bin/python",
            "src/__pycache__/a.pyc",
            "src/a.egg-info/PKG-INFO",
            "node_modules/a",
        ],
    )
    def test_is_not_of_what_tools_make(self, workspace: Path, path: str) -> None:
        before = runs.code_digest(workspace)
        (workspace / path).parent.mkdir(parents=True)
        (workspace / path).write_text("x", encoding="utf-8")
        assert runs.code_digest(workspace) == before

    def test_notices_each_change(self, workspace: Path) -> None:
        seen = {runs.code_digest(workspace)}
        (workspace / "link").symlink_to("a")
        seen.add(runs.code_digest(workspace))
        (workspace / "link").unlink()
        (workspace / "link").symlink_to("b")
        seen.add(runs.code_digest(workspace))
        name = os.fsdecode(b"latin-\xe9")
        (workspace / name).write_text("x", encoding="utf-8")
        seen.add(runs.code_digest(workspace))
        assert len(seen) == 4

    def test_reads_no_big_data(self, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runs, "_BIG", 10)
        data = workspace / "data.csv"
        data.write_text("x" * 100, encoding="utf-8")
        before = runs.code_digest(workspace)
        os.utime(data, ns=(1, 1))
        assert runs.code_digest(workspace) != before


def test_git_decides_what_belongs_to_the_code(workspace: Path) -> None:
    git(workspace, "init")
    (workspace / ".gitignore").write_text("data/\n", encoding="utf-8")
    (workspace / "build").mkdir()
    (workspace / "build" / "kept.py").write_text("1", encoding="utf-8")
    git(workspace, "add", "build/kept.py")
    before = runs.code_digest(workspace)
    (workspace / "data").mkdir()
    (workspace / "data" / "x.csv").write_text("1", encoding="utf-8")
    assert runs.code_digest(workspace) == before
    (workspace / "build" / "kept.py").write_text("2", encoding="utf-8")
    assert runs.code_digest(workspace) != before


def test_a_repository_around_the_workspace_that_ignores_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(workspace.parent, "init")
    (workspace.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    ignored = runs.code_digest(workspace)
    (workspace / "src" / "train.py").write_text("print(2)\n", encoding="utf-8")
    assert runs.code_digest(workspace) != ignored
    with_git = runs.code_digest(workspace)
    refuse_git(monkeypatch)
    assert runs.code_digest(workspace) == with_git


def test_a_repository_within_the_workspace(workspace: Path) -> None:
    git(workspace, "init")
    inner = workspace / "library"
    inner.mkdir()
    git(inner, "init")
    (inner / "a.py").write_text("1", encoding="utf-8")
    before = runs.code_digest(workspace)
    (inner / "a.py").write_text("2", encoding="utf-8")
    assert runs.code_digest(workspace) != before


def test_the_git_of_a_hook_is_not_asked(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(workspace, "init")
    before = runs.code_digest(workspace)
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert runs.code_digest(workspace) == before


def test_sources_alone(workspace: Path) -> None:
    before = runs.code_digest(workspace, runs.SOURCES)
    (workspace / "model.pkl").write_text("x", encoding="utf-8")
    assert runs.code_digest(workspace, runs.SOURCES) == before
    shutil.copy(workspace / "model.pkl", workspace / "new.py")
    assert runs.code_digest(workspace, runs.SOURCES) != before


def record(mlflow: FakeMlflow, environment: Path, *, status: str = "FINISHED", **tags: str) -> str:
    """A run as step.py leaves it, with some tags changed."""
    client = Mlflow(mlflow.url)
    params = {"month": "2023-01", "rate": "0.5", "day": "2023-01-02"}
    everything = {
        "run_key": f"key-{len(mlflow.runs)}",
        "mlops_env.id": "id",
        "mlops_env.orchestrator": "orchestrator",
        "mlops_env.code": runs.code_digest(environment),
        "mlops_env.params": runs.params_digest(params),
        "mlops_env.completed": "true",
        **tags,
    }
    run = client.create_run(client.ensure_experiment("toy"), everything["run_key"], "me", everything)
    client.log(run["info"]["run_id"], params=params, metrics={"rmse": 1.5})
    client.update_run(run["info"]["run_id"], status)
    return everything["run_key"]


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert runs.main(words) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_find_tells_the_latest_finished_run(
    mlflow: FakeMlflow, environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(capsys, "find") is None
    record(mlflow, environment)
    latest = record(mlflow, environment)
    found = ask(capsys, "find")
    assert found["run_key"] == latest
    assert found["status"] == "FINISHED"
    assert found["metrics"] == {"rmse": 1.5}
    assert found["params"]["day"] == "2023-01-02"
    assert found["ended"] >= found["started"]
    assert ask(capsys, "find", "--param", "rate=0.5") == found
    assert ask(capsys, "find", "--param", "rate=0.7") is None


@pytest.mark.parametrize(
    "tag", ["mlops_env.id", "mlops_env.orchestrator", "mlops_env.code", "mlops_env.params", "mlops_env.completed"]
)
def test_find_ignores_other_runs(
    mlflow: FakeMlflow, environment: Path, capsys: pytest.CaptureFixture[str], tag: str
) -> None:
    record(mlflow, environment, **{tag: "other"})
    assert ask(capsys, "find") is None


def test_show_and_list(mlflow: FakeMlflow, environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = record(mlflow, environment, status="FAILED")
    second = record(mlflow, environment, status="RUNNING")
    record(mlflow, environment, **{"mlops_env.id": "another environment"})
    assert ask(capsys, "show", first)["status"] == "FAILED"
    assert ask(capsys, "show", second)["ended"] is None
    assert ask(capsys, "show", "nothing") is None
    assert [run["run_key"] for run in ask(capsys, "list")] == [second, first]


def test_usage_errors(environment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert environment.is_dir()
    assert runs.main(["find", "--param", "mont=1"]) == 2
    assert "no parameter mont" in capsys.readouterr().err
    assert runs.main(["show", "it's"]) == 2
    assert runs.main(["find", "--param", "month"]) == 2


@pytest.mark.usefixtures("environment")
def test_without_a_server(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert runs.main(["find"]) == 1
    assert "no answer from MLflow at http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
def test_missing_variables_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.main(["list"]) == 2
    assert "MLOPS_ENV_ID, MLOPS_ENV_NAME" in capsys.readouterr().err


class TestClient:
    def test_waits_for_a_server_that_restarts(self, mlflow: FakeMlflow) -> None:
        mlflow.failures = [503]
        assert Mlflow(mlflow.url, patience=5).ensure_experiment("toy") == "1"
        mlflow.failures = [503]
        with pytest.raises(MlflowError, match="answered 503"):
            Mlflow(mlflow.url).experiment("toy")

    def test_a_refusal_is_not_tried_again(self, mlflow: FakeMlflow) -> None:
        mlflow.failures = [400, 400]
        with pytest.raises(MlflowError, match="answered 400"):
            Mlflow(mlflow.url, patience=60).experiment("toy")
        assert mlflow.failures == [400]

    def test_a_deleted_experiment_is_restored(self, mlflow: FakeMlflow) -> None:
        client = Mlflow(mlflow.url)
        client.ensure_experiment("toy")
        mlflow.experiments[0]["lifecycle_stage"] = "deleted"
        assert client.ensure_experiment("toy") == "1"
        assert mlflow.experiments[0]["lifecycle_stage"] == "active"

    def test_a_proxy_is_not_asked(self, mlflow: FakeMlflow, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert Mlflow(mlflow.url).ensure_experiment("toy") == "1"

    def test_numbers_that_json_lacks(self, mlflow: FakeMlflow) -> None:
        client = Mlflow(mlflow.url)
        run = client.create_run(client.ensure_experiment("toy"), "k", "me", {})["info"]["run_id"]
        client.log(run, metrics={"a": float("nan"), "b": float("inf"), "c": float("-inf"), "d": 1.5})
        values = {metric["key"]: metric["value"] for metric in mlflow.runs[0]["data"]["metrics"]}
        assert values == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 1.5}

    def test_patience_has_an_end(self) -> None:
        start = time.monotonic()
        with pytest.raises(MlflowError):
            Mlflow("http://127.0.0.1:9", patience=0.2).experiment("toy")
        assert time.monotonic() - start < 10


def test_abandon_ends_what_runs_and_nothing_else(mlflow: FakeMlflow, environment: Path) -> None:
    finished = record(mlflow, environment)
    running = record(mlflow, environment, status="RUNNING")
    known = Environment.read(os.environ)
    for key in (finished, running, "unknown"):
        runs.abandon(Mlflow(mlflow.url), known, key)
    assert [run["info"]["status"] for run in mlflow.runs] == ["FINISHED", "KILLED"]
