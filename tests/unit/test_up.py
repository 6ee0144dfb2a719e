"""Whole commands against a host that is only declared: what is run on it, in which order, and what comes of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections import namedtuple
from typing import TYPE_CHECKING, Any

import pytest

from fakes import Answer, FakeConnection
from mlops_env import bootstrap, bundle, config, environment
from mlops_env.connection import Result

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Done

CONVERGED = """\
{"type":"step","name":"tools","status":"ok"}
{"type":"step","name":"services","status":"started"}
{"type":"service","name":"mage","status":"healthy"}
{"type":"page","name":"mage","url":"http://127.0.0.1:6789"}
{"type":"page","name":"mlflow","url":"http://127.0.0.1:5000"}
{"type":"step","name":"services","status":"changed"}
"""
TRIGGERED = {"id": "7", "state": "completed", "page": "/pipelines/nyc_taxi/runs/7", "failed_step": None}
RECORDED = {
    "run_key": "default-1",
    "status": "FINISHED",
    "pipeline": "nyc-taxi",
    "mlflow_run_id": "abc",
    "experiment_id": "1",
    "metrics": {"train_rmse": 7.0399374},
}
LOOKED = "PYTHON SHIPPED/orchestrators/workspace.py SHIPPED/pipeline"
PREFLIGHT = [
    "UV python find --system --no-project '>=3.11,<3.13'",
    "UV python find --system --no-project '>=3.11,<3.14'",
]
BROUGHT = [
    "bash TREE/bootstrap/run.sh apply",
    "test -d TREE",
    "sh -c UNPACK put TREE < stdin",
    "bash TREE/bootstrap/run.sh apply",
    "find HOST/tree -mindepth 1 -maxdepth 1 '!' -name DIGEST -exec rm -rf '{}' +",
]


class Host(FakeConnection):
    """A host on which everything goes well, unless declared otherwise."""

    def __init__(self, records: Path) -> None:
        digest = bundle.tree().digest
        host = records / "default" / "host"
        answers = {
            "UV python find *": Answer("/usr/bin/python3.12\n"),
            "PYTHON */workspace.py *": Answer(),
            "sh -c UNPACK put TREE": Answer(does=self.put),
            "bash TREE/bootstrap/run.sh apply": Answer(CONVERGED, "Resolved 7 packages"),
            "find HOST/tree *": Answer(),
            "SERVICES exec runs.py find*": Answer("null\n"),
            "SERVICES exec trigger.py run *": Answer(json.dumps(TRIGGERED), "step ingest: completed\nhello"),
            "SERVICES exec runs.py show *": Answer(json.dumps(RECORDED)),
        }
        names = {
            f"{host}/venvs/tools/bin/python": "TOOLS-PYTHON",
            str(host / "tree" / digest): "TREE",
            digest: "DIGEST",
            str(host): "HOST",
            bootstrap.uv(): "UV",
            sys.executable: "PYTHON",
            str(bundle.bundled("pipeline").parent): "SHIPPED",
        }
        super().__init__(answers, names)
        self._has_tree = False

    def put(self) -> None:
        self._has_tree = True

    def run(self, argv: Any, **options: Any) -> Result:
        line = self._line(argv)
        if line == "test -d TREE" or (line.startswith("bash TREE/") and not self._has_tree):
            self.transcript.append(line)
            return Result(tuple(argv), 0 if self._has_tree else 111, "", "", 0.0)
        return super().run(argv, **options)

    def _line(self, argv: Any) -> str:
        line = super()._line(argv).replace("TOOLS-PYTHON TREE/orchestrators/services.py", "SERVICES")
        if line.startswith("sh -c ") and " put " in line:
            return "sh -c UNPACK " + line[line.index("put ") :]
        return line.partition(" sh TREE ")[2] or line


@pytest.fixture
def host(records: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    connection = Host(records)
    for module in ("connection", "preflight", "commands.connecting"):
        monkeypatch.setattr(f"mlops_env.{module}.LocalConnection", lambda: connection)
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil's own
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 0, 10**12))
    return connection


def record() -> environment.Record:
    return environment.need("default").record


class TestUp:
    def test_first_it_looks_then_records_then_brings_up_then_runs(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        def put_after_the_record() -> None:
            assert record()
            host.put()

        host.declare("sh -c UNPACK put TREE", Answer(does=put_after_the_record))
        done = mlops_env("up", "--json", "-p", "train=2023-02")
        key = record().run["key"]
        assert host.transcript == [
            f"{LOOKED} train=2023-02",
            *PREFLIGHT,
            *BROUGHT,
            "SERVICES exec runs.py find --param train=2023-02",
            f"SERVICES exec trigger.py run --run-key {key} --param train=2023-02",
            f"SERVICES exec runs.py show {key}",
        ]
        assert done.code == 0

    def test_its_result_has_all_that_a_program_needs(
        self, host: Host, mlops_env: Callable[..., Done], home: Path
    ) -> None:
        assert host
        result = mlops_env("up", "--json").result
        assert result.pop("seconds") >= 0
        key = record().run["key"]
        assert result == {
            "type": "result",
            "command": "up",
            "status": "ok",
            "environment": "default",
            "target": "local",
            "orchestrator": "mage",
            "runtime": "venv",
            "workspace": str(home / "mlops-env" / "default"),
            "urls": {"mage": "http://127.0.0.1:6789", "mlflow": "http://127.0.0.1:5000"},
            "run": {
                "id": "7",
                "key": key,
                "state": "completed",
                "page": "http://127.0.0.1:6789/pipelines/nyc_taxi/runs/7",
                "failed_step": None,
                "mlflow_run_id": "abc",
                "pipeline": "nyc-taxi",
                "metrics": {"train_rmse": 7.0399374},
            },
        }

    def test_people_see_where_to_look_and_what_to_do_next(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        assert host
        done = mlops_env("up")
        for words in (
            "http://127.0.0.1:6789",
            "mlops-env credentials",
            "train_rmse 7.03994",
            "mlops-env down",
            "costs",
        ):
            assert words in done.stderr
        assert done.stdout == ""
        assert max(map(len, done.stderr.splitlines())) <= 120

    def test_every_script_is_told_which_environment_it_acts_for(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        mlops_env("up")
        assert {settings["MLOPS_ENV_ID"] for settings in host.settings} == {record().id}
        assert {settings["MLOPS_ENV_WORKSPACE"] for settings in host.settings} == {record().workspace}

    def test_the_run_is_recorded_before_it_is_triggered(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        states: list[Any] = []
        answer = Answer(json.dumps(TRIGGERED), does=lambda: states.append(record().run["state"]))
        host.declare("SERVICES exec trigger.py run *", answer)
        mlops_env("up")
        assert states == ["triggered"]
        assert record().run["state"] == "completed"

    def test_an_interrupted_wait_is_taken_up_with_the_same_key(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        host.declare("SERVICES exec trigger.py run *", Answer(does=interrupt))
        assert mlops_env("up").code == 130
        key = record().run["key"]
        host.declare("SERVICES exec trigger.py run *", Answer(json.dumps(TRIGGERED)))
        assert mlops_env("up").code == 0
        assert record().run["key"] == key
        assert sum(key in line and "trigger" in line for line in host.transcript) == 2

    def test_a_finished_run_of_this_code_is_not_repeated(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        mlops_env("up")
        host.declare("SERVICES exec runs.py find*", Answer(json.dumps({**RECORDED, "run_key": record().run["key"]})))
        host.transcript.clear()
        result = mlops_env("up", "--json").result
        assert (result["status"], result["run"]["state"], result["run"]["id"]) == ("ok", "completed", "7")
        assert not [line for line in host.transcript if "trigger" in line]

    def test_no_run_means_none(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        assert "run" not in mlops_env("up", "--no-run", "--json").result
        assert host.transcript == [LOOKED, *PREFLIGHT, *BROUGHT]

    def test_a_failed_run_is_exit_1_with_its_step_and_last_lines(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        failed = {**TRIGGERED, "state": "failed", "failed_step": "train"}
        host.declare("SERVICES exec trigger.py run *", Answer(json.dumps(failed), exited=1))
        host.declare("SERVICES exec runs.py show *", Answer(json.dumps({**RECORDED, "error": "ValueError: no rows"})))
        done = mlops_env("up", "--json")
        assert (done.code, done.result["status"]) == (1, "failed")
        assert done.result["error"]["code"] == "run-failed"
        assert done.result["error"]["message"] == "environment is up; the run failed in step train"
        assert "  | ValueError: no rows" in mlops_env("up").stderr

    def test_a_run_that_mlflow_does_not_have_is_no_success(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        host.declare("SERVICES exec runs.py show *", Answer("null"))
        done = mlops_env("up", "--json")
        assert (done.code, done.result["run"]["state"]) == (1, "failed")

    @pytest.mark.parametrize("said", ["", "Traceback", "{"])
    def test_an_orchestrator_that_cannot_be_asked_is_a_failure(
        self, host: Host, mlops_env: Callable[..., Done], said: str
    ) -> None:
        host.declare("SERVICES exec trigger.py run *", Answer(said, "connection refused", exited=1))
        done = mlops_env("up", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "host-script")
        assert done.result["error"]["log"] == "connection refused"

    def test_a_failed_step_stops_it_and_is_named(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        said = Answer('{"type":"step","name":"tools","status":"failed"}', "error: dns error", exited=1)
        host.declare("bash TREE/bootstrap/run.sh apply", said)
        done = mlops_env("up", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "network")
        assert host.transcript[-1] == "bash TREE/bootstrap/run.sh apply"
        assert record().orchestrator == "mage"

    def test_what_preflight_finds_stops_it_before_anything_is_made(
        self, host: Host, mlops_env: Callable[..., Done], records: Path
    ) -> None:
        host.declare("UV python *", Answer(exited=2))
        host.declare("UV python find *", Answer(exited=2))
        done = mlops_env("up", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "python-missing")
        assert "Mage needs Python >=3.11,<3.13" in done.result["error"]["message"]
        assert not records.exists()

    def test_a_full_disk_stops_it_too(
        self, host: Host, mlops_env: Callable[..., Done], records: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert host
        usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as above
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**7))
        done = mlops_env("up", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "disk-full")
        assert not records.exists()

    def test_a_bad_pipeline_file_is_a_usage_error_in_its_readers_words(
        self, host: Host, mlops_env: Callable[..., Done], tmp_path: Path
    ) -> None:
        (tmp_path / config.FILE).touch()
        host.declare("PYTHON */workspace.py *", Answer(stderr="there is no [pipeline] table\n", exited=2))
        done = mlops_env("up", "--json", "--workspace", str(tmp_path))
        assert (done.code, done.result["error"]["code"]) == (2, "pipeline-file")
        assert done.result["error"]["message"] == "there is no [pipeline] table"


class TestOtherVerbs:
    @pytest.fixture(autouse=True)
    def _up(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        mlops_env("up", "--no-run")
        host.transcript.clear()

    @pytest.mark.parametrize("verb", ["run", "train"])
    def test_run_always_runs(self, host: Host, mlops_env: Callable[..., Done], verb: str) -> None:
        done = mlops_env(verb, "--json", "-p", "model=linear")
        assert (done.code, done.result["command"]) == (0, "run")
        assert not [line for line in host.transcript if "runs.py find" in line]
        assert host.transcript[-2].endswith("--param model=linear")

    def test_stop_remembers_that_it_was_wanted_and_start_that_not(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        host.declare("*/services.py stop", Answer('{"stopped": 4, "left": 0}'))
        assert "4 processes ended" in mlops_env("stop").stderr
        assert record().stopped
        assert mlops_env("start").code == 0
        assert not record().stopped

    def test_stop_that_leaves_something_fails(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        host.declare("*/services.py stop", Answer('{"stopped": 4, "left": 1}'))
        assert mlops_env("stop").code == 1

    @pytest.mark.parametrize(
        ("states", "stopped", "health"),
        [
            ("running running", False, "up"),
            ("running stopped", False, "degraded"),
            ("stopped stopped", False, "degraded"),
            ("stopped stopped", True, "stopped"),
            ("", False, "degraded"),
        ],
    )
    def test_status_says_how_it_is(
        self, host: Host, mlops_env: Callable[..., Done], states: str, stopped: bool, health: str
    ) -> None:
        services = [
            {"name": f"s{i}", "state": state, "healthy": state == "running", "reason": "", "url": ""}
            for i, state in enumerate(states.split())
        ]
        said = json.dumps({"services": services}) if states else "Traceback"
        host.declare("*/services.py status", Answer(said, exited=0 if states else 1))
        environment.need("default").save(stopped=stopped)
        done = mlops_env("status", "--json")
        assert done.code == 0
        assert [look["health"] for look in done.result["environments"]] == [health]

    def test_credentials_come_from_the_host(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        host.declare("cat HOST/secrets/mage-password", Answer("s3cret\n"))
        done = mlops_env("credentials", "--json")
        assert (done.result["user"], done.result["password"]) == ("admin@localhost", "s3cret")

    def test_logs_are_asked_of_the_services_and_shown_on_stdout(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        host.declare("*/services.py logs --lines 1 mage", Answer("two é\n"))
        host.declare(
            "*/services.py logs --lines 50 cron", Answer(stderr="no logs of 'cron'; there are: mage\n", exited=2)
        )
        done = mlops_env("logs", "mage", "--lines", "1")
        assert (done.code, done.stdout) == (0, "two é\n")
        done = mlops_env("logs", "cron")
        assert (done.code, "there are: mage" in done.stderr) == (2, True)

    def test_a_host_script_that_knows_the_cause_is_quoted(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        cause = {"type": "cause", "message": "Docker is stopped", "code": "docker-stopped", "hint": "start it"}
        host.declare("*/services.py *", Answer(stderr=f"Docker is stopped\n{json.dumps(cause)}\n", exited=1))
        assert mlops_env("logs", "--json").result["error"]["hint"] == "start it"
        look = mlops_env("status", "--json").result["environments"][0]
        assert (look["health"], "Docker is stopped" in look["trouble"]) == ("degraded", True)
        assert mlops_env("stop", "--json").result["error"]["code"] == "docker-stopped"

    def test_open_never_prints_the_password(
        self, host: Host, mlops_env: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[str] = []

        def browse(url: str) -> bool:
            opened.append(url)
            return True

        monkeypatch.setattr("webbrowser.open", browse)
        monkeypatch.setattr("shutil.which", lambda name: name if name == "xclip" else None)
        service = {"name": "mage", "owner": "mage", "healthy": True, "reason": "", "url": "http://127.0.0.1:6789"}
        host.declare("*/services.py status", Answer(json.dumps({"services": [service]})))
        host.declare("cat *", Answer("s3cret\n"))
        host.declare("xclip *", Answer())
        done = mlops_env("open")
        assert opened == ["http://127.0.0.1:6789"]
        assert "s3cret" not in done.stdout + done.stderr
        assert host.transcript[-1] == "xclip -selection clipboard < stdin"

    def test_down_sweeps_and_forgets_and_keeps_the_workspace(
        self, host: Host, mlops_env: Callable[..., Done], records: Path
    ) -> None:
        workspace = environment.need("default").workspace
        workspace.mkdir(parents=True)
        host.declare("*/sweep.py", Answer('{"kind": "process", "found": 4, "removed": 4, "left": 0}\n'))
        done = mlops_env("down", "--json")
        assert (done.code, done.result["left"]) == (0, 0)
        assert {"kind": "record", "found": 1, "removed": 1, "left": 0} in done.result["receipt"]
        assert not records.exists()
        assert workspace.is_dir()

    def test_down_that_leaves_something_fails_and_keeps_the_record_for_the_next(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        host.declare("*/sweep.py", Answer('{"kind": "process", "found": 4, "removed": 3, "left": 1}\n'))
        done = mlops_env("down", "--json")
        assert (done.code, done.result["left"]) == (1, 1)
        assert record().name == "default"

    @pytest.mark.parametrize("said", [Answer(), Answer("garbage"), Answer('{"kind": "process"', exited=1)])
    def test_a_sweep_that_did_not_finish_is_no_receipt(
        self, host: Host, mlops_env: Callable[..., Done], said: Answer
    ) -> None:
        host.declare("*/sweep.py", said)
        done = mlops_env("down", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "sweep-failed")
        assert record().name == "default"

    def test_deleting_the_workspace_is_asked_for_and_a_no_changes_nothing(
        self, host: Host, mlops_env: Callable[..., Done]
    ) -> None:
        workspace = environment.need("default").workspace
        workspace.mkdir(parents=True)
        host.declare("*/sweep.py", Answer('{"kind": "process", "found": 0, "removed": 0, "left": 0}\n'))
        for answer in ("n\n", ""):
            done = mlops_env("down", "--delete-workspace", answer=answer)
            assert (done.code, "nothing was removed" in done.stderr) == (2, True)
        assert mlops_env("down", "--delete-workspace", "--json").result["error"]["code"] == "not-confirmed"
        assert (workspace.is_dir(), host.transcript) == (True, [])
        assert mlops_env("down", "--delete-workspace", "--yes").code == 0
        assert not workspace.exists()

    def test_of_the_users_own_folder_only_ours_is_deleted(self, host: Host, mlops_env: Callable[..., Done]) -> None:
        env = environment.need("default").save(own_workspace=True)
        (env.workspace / ".mlops-env" / "mlflow").mkdir(parents=True)
        (env.workspace / "train.py").touch()
        host.declare("*/sweep.py", Answer('{"kind": "process", "found": 0, "removed": 0, "left": 0}\n'))
        assert mlops_env("down", "--delete-workspace", "--yes").code == 0
        assert [path.name for path in env.workspace.iterdir()] == ["train.py"]
