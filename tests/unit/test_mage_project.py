"""Mage's project as generated, what becomes of the user's changes in it, and what is read from Mage's answers."""

from __future__ import annotations

import ast
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mage import api, names, project, serve, task, trigger
from workspace import Pipeline, Step

PIPELINE = Pipeline(
    "nyc-taxi", (Step("ingest", "nyc-taxi ingest"), Step("train", "nyc-taxi train")), {"month": "2023-01"}
)

METADATA = """\
blocks:
- downstream_blocks:
  - train
  executor_type: local_python
  language: python
  name: ingest
  type: custom
  upstream_blocks: []
  uuid: ingest
- downstream_blocks: []
  executor_type: local_python
  language: python
  name: train
  type: custom
  upstream_blocks:
  - ingest
  uuid: train
name: "nyc-taxi"
run_pipeline_in_one_process: true
type: python
uuid: nyc_taxi
variables:
  month: "2023-01"
"""


def pipeline_of(*steps: str) -> Pipeline:
    return Pipeline("p", tuple(Step(step, "true") for step in steps), {})


def as_mage_writes(pipeline: Pipeline, **more: Any) -> dict[str, Any]:
    """What Mage 0.9.79 made of our file when a block was saved and run in its editor."""
    ours = project.pipeline_metadata(pipeline)
    empty: dict[str, object] = {
        "color": None,
        "configuration": {},
        "executor_config": None,
        "retry_config": None,
        "timeout": None,
    }
    blocks = [
        {**block, **empty, "all_upstream_blocks_executed": True, "status": "executed"} for block in ours["blocks"]
    ]
    return {
        **ours,
        "blocks": blocks,
        "cache_block_output_in_memory": False,
        "created_at": None,
        "executor_count": 1,
        "settings": {"triggers": None},
        "tags": [],
        "variables_dir": "/anywhere",
        "widgets": [],
        **more,
    }


class TestGenerated:
    def test_one_block_a_step_each_after_the_one_before(self) -> None:
        files = project.project_files(PIPELINE, "an-id")
        assert sorted(files) == [
            "custom/ingest.py",
            "custom/train.py",
            "metadata.yaml",
            "pipelines/nyc_taxi/metadata.yaml",
        ]
        assert files["pipelines/nyc_taxi/metadata.yaml"].decode() == METADATA

    def test_mage_reports_nothing_to_its_makers(self) -> None:
        assert b"help_improve_mage: false\n" in project.project_files(PIPELINE, "an-id")["metadata.yaml"]

    def test_no_path_of_this_machine_is_in_it(self) -> None:
        assert not [path for path, text in project.project_files(PIPELINE, "an-id").items() if b"/home" in text]

    @pytest.mark.parametrize(
        ("steps", "blocks"),
        [
            (["train"], ["train"]),
            (["Train-It.now"], ["train_it_now"]),
            (["1st"], ["letter_1st"]),
            (["a-b", "a.b", "A_B"], ["a_b", "a_b_2", "a_b_3"]),
            (["a_2", "a", "A"], ["a_2", "a", "a_3"]),
        ],
    )
    def test_names_become_words_that_mage_does_not_change(self, steps: list[str], blocks: list[str]) -> None:
        assert names.block_uuids(pipeline_of(*steps)) == dict(zip(steps, blocks, strict=True))

    @pytest.mark.parametrize("run", ['echo \'"""\' \\', "true\nrm -rf x", "échó \r\n{step} %s", "sh -c 'a # b'"])
    def test_a_block_is_python_whatever_its_command_holds(self, run: str) -> None:
        tree = ast.parse(project.block_text(Step("train-it", run)))
        calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert "task['run']('train-it', kwargs)" in calls
        assert not any("rm -rf" in call for call in calls)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("linear", "linear"),
            ("2023-01-01", '"2023-01-01"'),
            ("yes", '"yes"'),
            ("1", '"1"'),
            ("", '""'),
            ("a: 'b' # \"c\"\n", '"a: \'b\' # \\"c\\"\\n"'),
            ("é\u2028\x7f", '"é\\u2028\\u007f"'),
        ],
    )
    def test_a_parameter_stays_text_in_yaml(self, value: str, text: str) -> None:
        assert project.yaml_text({"variables": {"p": value}}) == f"variables:\n  p: {text}\n"


class TestAsGenerated:
    def test_what_mage_adds_by_itself_is_not_a_change(self) -> None:
        assert project.as_generated(as_mage_writes(PIPELINE)) == project.pipeline_metadata(PIPELINE)

    @pytest.mark.parametrize(
        "more",
        [
            {"retry_config": {"retries": 3}},
            {"executor_count": 2},
            {"settings": {"triggers": {"save_in_code_automatically": True}}},
            {"variables": {"month": 5}},
            {"blocks": None},
        ],
    )
    def test_what_we_could_not_have_said_is_the_users(self, more: dict[str, Any]) -> None:
        assert project.as_generated(as_mage_writes(PIPELINE, **more)) is None

    @pytest.mark.parametrize("said", [None, [], "text", {}, {"blocks": [1]}])
    def test_half_written_files_are_the_users(self, said: object) -> None:
        assert project.as_generated(said) is None


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in directories with spaces and non-ASCII letters, its pipeline generated once."""
    root = tmp_path / "Ünï cödé dir"
    for name in ("WORKSPACE", "TREE", "VENVS", "STATE", "SECRETS"):
        monkeypatch.setenv(f"MLOPS_ENV_{name}", str(root / name.lower()))
        (root / name.lower()).mkdir(parents=True)
    for name in ("ID", "NAME", "ORCHESTRATOR"):
        monkeypatch.setenv(f"MLOPS_ENV_{name}", name.lower())
    monkeypatch.setenv("MLOPS_ENV_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    # Mage's venv has PyYAML, ours has not; JSON is YAML.
    monkeypatch.setitem(sys.modules, "yaml", SimpleNamespace(safe_load=json.loads, YAMLError=ValueError))
    write_steps(root / "workspace", "ingest", "train")
    assert project.main([]) == 0
    return root / "workspace"


def write_steps(workspace: Path, *steps: str) -> None:
    table = ", ".join(f'{{name = "{step}", run = "run {step}"}}' for step in steps)
    text = f'[pipeline]\nname = "p"\nsteps = [{table}]\nparams = {{month = "1"}}\n'
    (workspace / "mlops-env.toml").write_text(text, encoding="utf-8")


def mage_folder(workspace: Path) -> Path:
    return workspace / ".mlops-env" / "projects" / "mage"


def metadata_of(workspace: Path) -> Path:
    return mage_folder(workspace) / "pipelines" / "p" / "metadata.yaml"


class TestUpdates:
    def test_the_workspace_is_shown_in_the_project(self, workspace: Path) -> None:
        assert (mage_folder(workspace) / project.LINK).resolve() == workspace.resolve()
        assert project.LINK == serve.LINK

    def test_check_tells_without_writing(self, workspace: Path) -> None:
        assert project.main(["check"]) == 0
        write_steps(workspace, "ingest", "train", "evaluate")
        assert project.main(["check"]) == 1
        assert not (mage_folder(workspace) / "custom" / "evaluate.py").exists()

    def test_an_edited_block_is_kept_and_named(self, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        block = mage_folder(workspace) / "custom" / "train.py"
        block.write_text("print('mine')\n", encoding="utf-8")
        assert project.main([]) == 0
        assert block.read_text(encoding="utf-8") == "print('mine')\n"
        assert str(block) in capsys.readouterr().err

    def test_an_added_step_follows_after_mage_rewrote_the_pipeline(self, workspace: Path) -> None:
        steps = (Step("ingest", "run ingest"), Step("train", "run train"))
        rewritten = as_mage_writes(Pipeline("p", steps, {"month": "1"}))
        metadata_of(workspace).write_text(json.dumps(rewritten), encoding="utf-8")
        write_steps(workspace, "ingest", "train", "evaluate")
        assert project.main(["check"]) == 1
        assert project.main([]) == 0
        assert "uuid: evaluate" in metadata_of(workspace).read_text(encoding="utf-8")
        assert (mage_folder(workspace) / "custom" / "evaluate.py").is_file()

    @pytest.mark.parametrize("more", [{"retry_config": {"retries": 3}}, {"variables": {"month": "2"}}])
    def test_a_pipeline_changed_in_the_editor_is_kept(self, workspace: Path, more: dict[str, Any]) -> None:
        steps = (Step("ingest", "run ingest"), Step("train", "run train"))
        changed = as_mage_writes(Pipeline("p", steps, {"month": "1"}), **more)
        metadata_of(workspace).write_text(json.dumps(changed), encoding="utf-8")
        write_steps(workspace, "ingest", "train", "evaluate")
        assert project.main([]) == 0
        assert "evaluate" not in metadata_of(workspace).read_text(encoding="utf-8")

    def test_a_removed_step_goes(self, workspace: Path) -> None:
        write_steps(workspace, "ingest")
        assert project.main([]) == 0
        assert not (mage_folder(workspace) / "custom" / "train.py").exists()

    def test_without_a_pipeline_it_is_a_usage_error(self, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (workspace / "mlops-env.toml").unlink()
        assert project.main([]) == 2
        assert "mlops-env.toml is missing" in capsys.readouterr().err


class TestTask:
    @pytest.mark.parametrize(
        ("variables", "key"),
        [
            ({"run_key": "k", "pipeline_run_id": 3}, "k"),
            (
                {"pipeline_run_id": 3, "execution_partition": "1/20261124T071234_424311"},
                "mage-3-20261124T071234_424311",
            ),
        ],
    )
    def test_all_blocks_of_a_run_share_a_key(self, variables: dict[str, Any], key: str) -> None:
        assert task.run_key(variables) == key

    def test_a_block_run_by_hand_has_a_key_too(self) -> None:
        assert task.run_key({}).startswith("mage-editor-20")

    def test_output_is_streamed_and_a_failure_raises_its_last_lines(
        self, workspace: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.step_that(workspace, "print('é', *sys.argv[1:]); sys.exit(3)")
        with pytest.raises(Exception, match="step train ended with exit code 3:\né train --run-key k") as error:
            task.run("train", {"run_key": "k", "month": 2, "env": "prod"})
        assert "--param=month=2" in str(error.value)
        assert "env" not in str(error.value)  # Mage's own variables are no parameters
        assert capsys.readouterr().out == "é train --run-key k --param=month=2\n"

    def test_success_returns(self, workspace: Path) -> None:
        self.step_that(workspace, "pass")
        task.run("train", {"run_key": "k"})

    def step_that(self, workspace: Path, does: str) -> None:
        script = workspace.parent / "tree" / "orchestrators" / "step.py"
        script.parent.mkdir()
        script.write_text(f"import sys\nsys.stdout.reconfigure(encoding='utf-8')\n{does}\n", encoding="utf-8")


class TestAnswers:
    def test_an_error_with_status_200_is_an_error(self) -> None:
        body = b'{"error": {"code": 500, "exception": "Invalid token for pipeline schedule ID 1.", "message": "Trace"}}'
        with pytest.raises(api.MageError, match=r"POST /x: Invalid token for pipeline schedule ID 1. \(500\)"):
            api.parse(body, "POST /x")

    @pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
    def test_another_server_is_not_mage(self, body: bytes) -> None:
        with pytest.raises(api.Unreachable, match="not an answer of Mage's"):
            api.parse(body, "GET /x")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({}, ""),
            ({"repo_path": "/else"}, "another Mage answers on this port; it serves /else"),
            ({"server_process_id": 8}, "an earlier Mage of this project, process 8, still has the port"),
            ({"scheduler_status": "stopped"}, "the scheduler is stopped"),
        ],
    )
    def test_healthy_is_our_own_mage_with_its_scheduler(self, change: dict[str, Any], reason: str) -> None:
        status = {"repo_path": "/p/mage", "server_process_id": 7, "scheduler_status": "running", **change}
        assert trigger.unhealthy(status, Path("/p/mage"), "7") == reason

    def test_a_result_names_the_step_not_the_block(self) -> None:
        blocks = [{"block_uuid": "in_gest", "status": "completed"}, {"block_uuid": "tr_ain", "status": "failed"}]
        run = {"id": 3, "status": "failed", "pipeline_uuid": "p", "block_runs": blocks}
        assert trigger.result(run, {"in_gest": "in-gest", "tr_ain": "tr.ain"}) == {
            "id": "3",
            "state": "failed",
            "page": "/pipelines/p/runs/3",
            "failed_step": "tr.ain",
        }

    def test_a_run_with_the_key_is_found_and_not_started_again(self) -> None:
        started: list[dict[str, str]] = []

        def start(_trigger: object, variables: dict[str, str]) -> dict[str, int]:
            started.append(variables)
            return {"id": 3}

        fake: Any = SimpleNamespace(
            runs=lambda _: iter([{"id": 2, "variables": None}, {"id": 1, "variables": {"run_key": "k"}}]),
            api_trigger=lambda *_: {"id": 9, "token": "t"},
            start=start,
        )
        assert trigger.find_or_start(fake, "p", {"run_key": "k"})["id"] == 1
        assert started == []
        assert trigger.find_or_start(fake, "p", {"run_key": "new"})["id"] == 3
        assert started == [{"run_key": "new"}]

    def test_a_restart_while_waiting_is_survived_and_a_cancelled_run_told(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(trigger, "_POLL", 0)
        answers: list[dict[str, Any] | api.Unreachable] = [
            {"status": "running", "block_runs": [{"block_uuid": "tr_ain", "status": "running"}]},
            api.Unreachable("refused"),
            {"status": "running", "block_runs": [{"block_uuid": "tr_ain", "status": "running"}]},
            {"status": "cancelled", "block_runs": [{"block_uuid": "tr_ain", "status": "cancelled"}]},
        ]

        def run(_run_id: int) -> dict[str, Any]:
            answer = answers.pop(0)
            if isinstance(answer, api.Unreachable):
                raise answer
            return answer

        fake: Any = SimpleNamespace(run=run)
        assert trigger.wait(fake, 1, {"tr_ain": "tr.ain"})["status"] == "cancelled"
        assert capsys.readouterr().err == "step tr.ain: running\nstep tr.ain: cancelled\n"

    def test_patience_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trigger, "_POLL", 0)
        monkeypatch.setattr(trigger, "_PATIENCE", 0)

        def refuse() -> None:
            raise api.Unreachable("refused")

        with pytest.raises(api.Unreachable):
            trigger.patiently(refuse)


class TestFileBrowser:
    def test_it_follows_the_link_to_the_workspace_and_nothing_else(self, workspace: Path) -> None:
        asked: list[str] = []
        listed: list[bool] = []
        files = SimpleNamespace(
            ensure_file_is_in_project=asked.append,
            traverse=lambda _name, is_dir, _path: listed.append(is_dir),
            BLACKLISTED_DIRS=frozenset({".git"}),
        )
        mage = mage_folder(workspace)
        serve.show_workspace(files, mage, workspace.resolve())
        files.ensure_file_is_in_project(str(mage / "workspace" / "src" / "train.py"))
        assert asked == []
        outside = [str(mage / "workspace" / ".." / "secrets" / "mage-password"), "/etc/passwd"]
        for path in [*outside, str(workspace / ".mlops-env" / "manifest.json")]:
            files.ensure_file_is_in_project(path)
        assert len(asked) == 3  # Mage itself refuses these
        for name in ("workspace", "other"):
            files.traverse(name, False, os.fspath(mage / name))
        assert listed == [True, False]
        assert {".git", ".mlops-env", ".venv"} <= files.BLACKLISTED_DIRS
