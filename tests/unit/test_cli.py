"""The command line itself: help, what needs no environment, and what is said where there is none."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

import workspace
from mlops_env import __version__, environment
from mlops_env.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Done

VERBS = [str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback]


class TestHelp:
    def test_the_first_help_fits_on_a_screen(self, mlops_env: Callable[..., Done]) -> None:
        done = mlops_env("--help")
        lines = done.stdout.splitlines()
        assert done.code == 0
        assert len(lines) <= 36
        assert max(map(len, lines)) <= 80
        shown = {
            line.split()[0] for line in lines if line.startswith("  ") and not line.startswith("   ") and line.strip()
        }
        assert {verb for verb in VERBS if verb != "train"} <= shown

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_has_one_within_a_screen_too(self, mlops_env: Callable[..., Done], verb: str) -> None:
        done = mlops_env(verb, "--help")
        assert done.code == 0
        assert len(done.stdout.splitlines()) <= (48 if verb == "up" else 30)  # it has the options of every target
        assert "\\b" not in done.stdout

    def test_examples_keep_their_lines(self, mlops_env: Callable[..., Done]) -> None:
        lines = mlops_env("up", "--help").stdout.splitlines()
        assert "    mlops-env up" in lines

    def test_as_a_module_it_is_the_same_program(self) -> None:
        command = [sys.executable, "-m", "mlops_env"]
        version = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert (version.stdout, version.stderr) == (f"{__version__}\n", "")
        helped = subprocess.run([*command, "status", "-h"], capture_output=True, text=True, check=True)
        assert "Show health" in helped.stdout

    def test_help_loads_nothing_heavy(self) -> None:
        script = (
            "import sys, mlops_env.cli; print(*({'rich', 'psutil', 'filelock', 'tarfile', 'uv'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""

    @pytest.mark.parametrize("words", [[], ["bogus"], ["up", "--bogus"], ["init"], ["logs", "--lines", "many"]])
    def test_wrong_words_are_exit_2(self, mlops_env: Callable[..., Done], words: list[str]) -> None:
        assert mlops_env(*words).code == 2


class TestWithoutAnEnvironment:
    @pytest.mark.parametrize("verb", ["status", "list"])
    def test_there_is_none_to_show(self, mlops_env: Callable[..., Done], verb: str) -> None:
        done = mlops_env(verb)
        assert (done.code, done.stdout, done.stderr) == (
            0,
            "",
            "There is no environment. `mlops-env up` makes one.\n",
        )
        assert mlops_env(verb, "--json").result["environments"] == []

    def test_down_is_done_already(self, mlops_env: Callable[..., Done], records: Path) -> None:
        done = mlops_env("down", "--json")
        assert (done.code, done.result["receipt"], done.result["left"]) == (0, [], 0)
        assert not records.exists()

    def test_down_removes_what_an_up_left_that_was_killed_before_its_record_was_whole(
        self, mlops_env: Callable[..., Done], records: Path
    ) -> None:
        (records / "default").mkdir(parents=True)
        (records / "default" / "environment.json.part").write_text('{"id": ')
        assert mlops_env("down").code == 0
        assert not records.exists()

    def test_down_judges_nothing_that_has_lost_its_record(self, mlops_env: Callable[..., Done], records: Path) -> None:
        (records / "default" / "host").mkdir(parents=True)
        done = mlops_env("down", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "record-lost")
        assert (records / "default" / "host").is_dir()

    @pytest.mark.parametrize(
        "words", ["run", "train", "open", "logs", "credentials", "stop", "start", "status --name default"]
    )
    def test_others_need_one_and_say_how_to_get_it(self, mlops_env: Callable[..., Done], words: str) -> None:
        done = mlops_env(*words.split())
        assert (done.code, done.stdout) == (2, "")
        assert done.stderr == "Error: there is no environment 'default'\nHint: `mlops-env up` makes one\n"
        assert mlops_env(*words.split(), "--json").result["error"]["code"] == "no-environment"

    def test_nothing_is_left_by_asking(self, mlops_env: Callable[..., Done], home: Path, records: Path) -> None:
        for verb in ("status", "list", "run", "stop", "down"):
            mlops_env(verb)
        assert list(home.iterdir()) == []
        assert not records.exists()

    def test_up_in_a_folder_of_other_files_is_refused(
        self, mlops_env: Callable[..., Done], tmp_path: Path, records: Path
    ) -> None:
        folder = tmp_path / "my thesis ö"
        folder.mkdir()
        (folder / "chapter.tex").touch()
        done = mlops_env("up", "--json", "--workspace", str(folder))
        assert (done.code, done.result["error"]["code"]) == (2, "no-pipeline-file")
        assert not records.exists()

    def test_an_unknown_orchestrator_is_answered_with_those_there_are(self, mlops_env: Callable[..., Done]) -> None:
        done = mlops_env("up", "--orchestrator", "cron")
        assert done.code == 2
        assert "orchestrator 'cron' is unknown; there are: mage, prefect" in done.stderr

    def test_a_record_of_a_newer_version_is_exit_2(self, mlops_env: Callable[..., Done], records: Path) -> None:
        (records / "default").mkdir(parents=True)
        (records / "default" / "environment.json").write_text('{"schema": 99}')
        for verb in ("status", "up", "down", "list"):
            assert mlops_env(verb, "--json").result["error"]["code"] == "record-newer"
            assert mlops_env(verb).code == 2


class TestWithOneThatNeverStarted:
    @pytest.fixture(autouse=True)
    def _record(self, tmp_path: Path) -> None:
        intent = {"target": "local", "orchestrator": "mage", "runtime": "venv", "workspace": str(tmp_path / "w")}
        environment.imagine("default", intent, None).save()

    def test_it_is_listed(self, mlops_env: Callable[..., Done], tmp_path: Path) -> None:
        assert mlops_env("list").stderr.split() == ["default", "local", "mage", str(tmp_path / "w")]

    def test_there_are_no_logs_yet(self, mlops_env: Callable[..., Done]) -> None:
        assert mlops_env("logs", "--json").result["error"]["code"] == "no-logs"

    def test_there_is_no_password_yet(self, mlops_env: Callable[..., Done]) -> None:
        done = mlops_env("credentials", "--json")
        assert (done.code, done.result["error"]["code"]) == (1, "no-password")


class TestInit:
    def test_one_step_is_named_for_its_script(self, mlops_env: Callable[..., Done], home: Path) -> None:
        done = mlops_env("init", "--run", "python src/Train_It.py --fast")
        assert done.code == 0
        assert "Next: mlops-env up" in done.stderr
        pipeline = workspace.load(home)
        assert [(step.name, step.run) for step in pipeline.steps] == [("train-it", "python src/Train_It.py --fast")]
        assert (pipeline.name, pipeline.params) == ("home", {})

    def test_several_steps_keep_their_order_and_get_names_of_their_own(
        self, mlops_env: Callable[..., Done], tmp_path: Path
    ) -> None:
        words = ("make data", "python train.py", "python train.py --again", "dvc repro 'a b'")
        options = [option for word in words for option in ("--run", word)]
        mlops_env("init", *options, "-p", "epochs=3", "-p", 'text=a "b" ö\\', "--workspace", str(tmp_path))
        pipeline = workspace.load(tmp_path)
        assert [step.name for step in pipeline.steps] == ["make", "train", "train-2", "dvc"]
        assert [step.run for step in pipeline.steps] == list(words)
        assert pipeline.params == {"epochs": "3", "text": 'a "b" ö\\'}

    def test_again_with_the_same_words_is_fine(self, mlops_env: Callable[..., Done]) -> None:
        assert [mlops_env("init", "--run", "python train.py").code for _ in range(2)] == [0, 0]

    def test_what_the_user_has_is_never_overwritten(self, mlops_env: Callable[..., Done], home: Path) -> None:
        (home / "mlops-env.toml").write_text("# mine\n")
        done = mlops_env("init", "--run", "python train.py", "--json")
        assert (done.code, done.result["error"]["code"]) == (2, "file-exists")
        assert (home / "mlops-env.toml").read_text() == "# mine\n"

    @pytest.mark.parametrize("words", [["--run", "python train.py", "-p", "epochs"], ["--run", ""], ["--run", "a 'b"]])
    def test_what_makes_no_pipeline_writes_nothing(
        self, mlops_env: Callable[..., Done], home: Path, words: list[str]
    ) -> None:
        done = mlops_env("init", *words)
        assert done.code == 2
        assert "defect" not in done.stderr
        assert list(home.iterdir()) == []

    def test_a_folder_that_is_not_there_is_named(self, mlops_env: Callable[..., Done], tmp_path: Path) -> None:
        done = mlops_env("init", "--run", "x", "--workspace", str(tmp_path / "nowhere"), "--json")
        assert (done.code, done.result["error"]["code"]) == (2, "not-writable")

    @pytest.mark.parametrize("command", ["python 'a b.py'", "./run.sh", "R -e 'x <- 1'", "日本.py", "python -m mypkg"])
    def test_whatever_the_command_its_file_is_read_by_the_runner(
        self, mlops_env: Callable[..., Done], home: Path, command: str
    ) -> None:
        assert mlops_env("init", "--run", command).code == 0
        assert workspace.load(home).steps[0].words == shlex.split(command)

    def test_a_folder_of_any_name_gives_a_name(self, mlops_env: Callable[..., Done], tmp_path: Path) -> None:
        folder = tmp_path / "日本 "
        folder.mkdir()
        mlops_env("init", "--run", "x", "--workspace", str(folder))
        assert tomllib.loads((folder / "mlops-env.toml").read_text())["pipeline"]["name"] == "pipeline"
