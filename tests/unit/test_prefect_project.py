"""Prefect's project as generated, what becomes of the user's changes in it, and what is read from Prefect's answers."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import json_server
from triggers import main
from workspace import Environment, Pipeline, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message
    from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "orchestrators" / "prefect"


def _script(name: str) -> ModuleType:
    """As `python NAME.py` would find it: `import prefect` is no way to it where Prefect is installed."""
    specification = importlib.util.spec_from_file_location(f"prefect_{name}", FOLDER / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    before = list(sys.path)
    try:
        specification.loader.exec_module(module)
    finally:
        sys.path[:] = before
        sys.modules.pop("names", None)
    return module


names, project, trigger = (_script(name) for name in ("names", "project", "trigger"))

PIPELINE = Pipeline(
    "nyc-taxi",
    (Step("ingest", "nyc-taxi ingest"), Step("train-it", "python train.py --say 'a b'")),
    {"month": "2023-01", "learning-rate": '0.5 "é"'},
)


def flow_of(text: str) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Run a generated file with a Prefect that only notes: the flow's defaults, and the steps that it ran."""
    calls: list[tuple[str, ...]] = []
    tree = ast.parse(text)
    tree.body = [
        node
        for node in tree.body
        if not isinstance(node, ast.ImportFrom) and not (isinstance(node, ast.Assign) and "run_step" in ast.dump(node))
    ]

    class FlowRun:
        id = "an-id"

    def decorator(**_settings: object) -> Callable[[Any], Any]:
        return lambda function: function

    space: dict[str, Any] = {
        "flow": decorator,
        "task": decorator,
        "flow_run": FlowRun,
        "run_step": lambda step, key, params: calls.append((step, key, json.dumps(params, ensure_ascii=False))),
    }
    exec(compile(tree, "flow.py", "exec"), space)  # noqa: S102 (what we generated is what we test)
    pipeline = space["pipeline"]
    arguments = pipeline.__code__.co_varnames[: pipeline.__code__.co_argcount]
    pipeline()
    return dict(zip(arguments, pipeline.__defaults__, strict=True)), calls


def test_one_task_for_each_step_in_their_order() -> None:
    text = project.flow_text(PIPELINE)
    defaults, calls = flow_of(text)
    assert defaults == {"month": "2023-01", "learning_rate": '0.5 "é"', "run_key": None}
    params = json.dumps(dict(PIPELINE.params), ensure_ascii=False)
    assert calls == [("ingest", "prefect-an-id", params), ("train-it", "prefect-an-id", params)]
    assert '@task(name="train-it", task_run_name="train-it")\ndef step_train_it(' in text
    assert '@flow(name="nyc-taxi", log_prints=True)' in text
    assert "# python train.py --say 'a b'" in text


def test_no_path_of_this_machine_stands_in_the_project() -> None:
    text = project.flow_text(PIPELINE)
    assert str(FOLDER.parents[1]) not in text
    assert 'os.environ["MLOPS_ENV_TREE"]' in text


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=9)
LABEL = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)


@given(
    st.lists(LABEL, min_size=1, max_size=5, unique=True),
    st.dictionaries(TEXT, TEXT, max_size=4),
    TEXT,
)
def test_any_pipeline_becomes_a_flow_that_runs_its_steps(steps: list[str], params: dict[str, str], run: str) -> None:
    pipeline = Pipeline("p", tuple(Step(name, run) for name in steps), params)
    defaults, calls = flow_of(project.flow_text(pipeline))
    assert list(defaults.values()) == [*params.values(), None]
    assert calls == [(name, "prefect-an-id", json.dumps(params, ensure_ascii=False)) for name in steps]


@given(st.lists(st.text(), unique=True))
def test_identifiers_are_valid_and_differ(words: list[str]) -> None:
    found = names.identifiers(words)
    assert list(found) == words
    assert len(set(found.values())) == len(words)
    assert all(word.isidentifier() and word not in {"run_key", "class", "task"} for word in found.values())


def test_run_keys() -> None:
    assert names.run_key_of("id", {"run_key": "k"}) == "k"
    assert names.run_key_of("id", {"run_key": None}) == "prefect-id"
    assert names.run_key_of("id", {}) == "prefect-id"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    workspace = tmp_path / "wörk space"
    workspace.mkdir()
    (workspace / "mlops-env.toml").write_text(
        '[pipeline]\nname = "toy"\nsteps = [{name = "train", run = "true"}]\nparams = {"learning-rate" = "1"}\n',
        encoding="utf-8",
    )
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "prefect-password").write_text("pässword", encoding="utf-8")
    values = {name: name.lower() for name in ("ID", "NAME", "ORCHESTRATOR", "TREE", "VENVS", "STATE")}
    values |= {"WORKSPACE": str(workspace), "SECRETS": str(tmp_path / "secrets"), "URL": "http://127.0.0.1:9"}
    for name, value in values.items():
        monkeypatch.setenv(f"MLOPS_ENV_{name}", value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    return Environment.read()


@pytest.fixture
def generate(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    assert environment.workspace.is_dir()

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["project.py", *words])
        code: int = project.main()
        return code

    return run


def test_the_project_follows_the_pipeline_until_the_user_edits_it(
    environment: Environment, generate: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("check") == 1
    assert generate() == 0
    assert generate("check") == 0
    flow = environment.workspace / ".mlops-env" / "projects" / "prefect" / "flow.py"
    toml = environment.workspace / "mlops-env.toml"
    toml.write_text(toml.read_text(encoding="utf-8").replace('"train"', '"fit"'), encoding="utf-8")
    assert generate("check") == 1
    assert generate() == 0
    assert "def step_fit(" in flow.read_text(encoding="utf-8")

    flow.write_text("mine", encoding="utf-8")
    assert generate() == 0
    assert flow.read_text(encoding="utf-8") == "mine"
    assert f"kept, as you changed it: {flow}" in capsys.readouterr().err
    assert generate("check") == 0


def test_a_pipeline_that_is_not_one(environment: Environment, generate: Callable[..., int]) -> None:
    (environment.workspace / "mlops-env.toml").unlink()
    assert generate() == 2


class FakePrefect:
    """Answers by path; a list of answers is used up but for its last."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, Any]] = []

    def add(self, path: str, *answers: Any, status: int = 200) -> None:
        self.answers[f"/api{path}"] = [(status, answer) for answer in answers]

    def answer(self, path: str, body: Any, headers: Message) -> tuple[int, Any]:
        self.asked.append((path, body))
        # Of `admin` and the secret's text.
        assert headers["Authorization"] == "Basic YWRtaW46cMOkc3N3b3Jk"
        answers = self.answers.get(path, [(404, {"detail": "not found"})])
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def prefect(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePrefect]:
    assert environment.workspace.is_dir()
    monkeypatch.setattr(trigger, "_POLL_SECONDS", 0.01)
    fake = FakePrefect()
    with json_server.serving(fake.answer) as url:
        monkeypatch.setenv("MLOPS_ENV_URL", url)
        yield fake


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = main(trigger.health, trigger.run, words)
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if out else None, err


def polled(seconds_ago: float) -> dict[str, Any]:
    moment = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return {"id": "d", "last_polled": moment.isoformat().replace("+00:00", "Z")}


class TestHealth:
    PATH = "/deployments/name/toy/mlops-env"

    def test_healthy_with_a_server_and_a_worker(self, prefect: FakePrefect, capsys: pytest.CaptureFixture[str]) -> None:
        prefect.add(self.PATH, polled(1))
        assert ask(capsys, "health") == (0, {"healthy": True, "reason": ""}, "")

    @pytest.mark.parametrize(
        ("deployment", "reason"),
        [
            ({"id": "d", "last_polled": None}, "the worker has not asked for work yet"),
            (polled(60), "no worker has asked for work for "),
        ],
    )
    def test_without_a_worker(
        self, prefect: FakePrefect, capsys: pytest.CaptureFixture[str], deployment: dict[str, Any], reason: str
    ) -> None:
        prefect.add(self.PATH, deployment)
        code, answer, _ = ask(capsys, "health")
        assert code == 1
        assert answer["healthy"] is False
        assert answer["reason"].startswith(reason)

    @pytest.mark.usefixtures("prefect")
    def test_without_a_deployment(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert ask(capsys, "health")[1]["reason"] == "the worker has not registered the flow yet"

    @pytest.mark.usefixtures("environment")
    def test_without_a_server(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, answer, _ = ask(capsys, "health")
        assert code == 1
        assert answer["reason"].startswith("no answer from Prefect at http://127.0.0.1:9")


def task_run(name: str, state: str) -> dict[str, str]:
    return {"name": name, "state_type": state.upper(), "state_name": state}


class TestRun:
    @pytest.fixture(autouse=True)
    def _deployed(self, prefect: FakePrefect) -> None:
        prefect.add("/deployments/name/toy/mlops-env", polled(0))
        prefect.add("/deployments/d/create_flow_run", {"id": "f"})

    def test_waits_tells_and_reports(self, prefect: FakePrefect, capsys: pytest.CaptureFixture[str]) -> None:
        prefect.add(
            "/flow_runs/f", *({"id": "f", "state_type": state} for state in ("PENDING", "RUNNING", "COMPLETED"))
        )
        running, completed = task_run("train", "Running"), task_run("train", "Completed")
        prefect.add("/task_runs/filter", [], [running], [completed])
        code, answer, err = ask(capsys, "run", "--run-key", "k", "--param", "learning-rate=2")
        assert code == 0
        assert answer["state"] == "completed"
        assert answer["id"] == "f"
        assert answer["page"].endswith("/runs/flow-run/f")
        assert answer["failed_step"] is None
        assert err.splitlines() == ["step train: running", "step train: completed"]
        body = next(body for path, body in prefect.asked if path.endswith("create_flow_run"))
        assert body == {
            "name": "k",
            "parameters": {"learning_rate": "2", "run_key": "k"},
            "idempotency_key": "k",
        }

    @pytest.mark.parametrize(
        ("state", "tasks", "told", "failed_step"),
        [
            ("FAILED", [task_run("ingest", "Completed"), task_run("train", "Failed")], "failed", "train"),
            ("CRASHED", [task_run("ingest", "Completed"), task_run("train", "Running")], "failed", "train"),
            ("CRASHED", [], "failed", None),
            ("CANCELLED", [task_run("train", "Crashed")], "cancelled", "train"),
        ],
    )
    def test_a_run_that_does_not_complete(
        self,
        prefect: FakePrefect,
        capsys: pytest.CaptureFixture[str],
        state: str,
        tasks: list[dict[str, str]],
        told: str,
        failed_step: str | None,
    ) -> None:
        prefect.add("/flow_runs/f", {"id": "f", "state_type": state, "state": {"message": "exit code 3"}})
        prefect.add("/task_runs/filter", tasks)
        code, answer, err = ask(capsys, "run")
        assert code == 1
        assert (answer["state"], answer["failed_step"]) == (told, failed_step)
        assert "exit code 3" in err

    def test_a_worker_that_does_not_come_back(
        self, prefect: FakePrefect, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(trigger, "_WORKER_PATIENCE", 0.05)
        prefect.add("/deployments/name/toy/mlops-env", polled(60))
        prefect.add("/flow_runs/f", {"id": "f", "state_type": "SCHEDULED"})
        prefect.add("/task_runs/filter", [])
        code, answer, err = ask(capsys, "run")
        assert (code, answer) == (1, None)
        assert "the worker is gone" in err

    def test_a_server_that_is_away_for_a_moment(self, prefect: FakePrefect, capsys: pytest.CaptureFixture[str]) -> None:
        prefect.add("/task_runs/filter", [])
        prefect.answers["/api/flow_runs/f"] = [(503, {}), (200, {"id": "f", "state_type": "COMPLETED"})]
        assert ask(capsys, "run")[0] == 0

    @pytest.mark.parametrize("words", [["--param", "rate=1"], ["--param", "rate"], ["--run-key", "a b"]])
    def test_usage_errors(self, prefect: FakePrefect, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
        assert ask(capsys, "run", *words)[0] == 2
        assert not prefect.asked
