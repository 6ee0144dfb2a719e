"""What a venv is made from, when it counts as made, and when it has to be made anew. Without any network."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import pytest

import venvs
from workspace import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PIPELINE = '[pipeline]\nname = "p"\nsteps = [{name = "train", run = "python train.py"}]\n'
BUILD = '[build-system]\nrequires = ["hatchling"]\n[project]\nname = "p"\nrequires-python = ">=3.12"\n'
SCRIPT = """\
#!/usr/bin/env python
# /// script
# requires-python = ">=3.13"
# dependencies = [
#   "pandas>=3",
#   "mlflow-skinny",
# ]
# ///
print("hello")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's project with a pipeline file and nothing else."""
    path = tmp_path / "my prôject"
    path.mkdir()
    (path / "mlops-env.toml").write_text(PIPELINE)
    return path


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """A uv that makes an empty venv, notes what it is asked, and fails where a file named `fail` is."""
    path = tmp_path / "fake uv"
    path.write_text(
        textwrap.dedent("""\
        #!/bin/sh
        echo "$*${UV_PROJECT_ENVIRONMENT:+ into $UV_PROJECT_ENVIRONMENT}${VIRTUAL_ENV:+ VIRTUAL_ENV}" >>"$0.log"
        for last; do :; done
        if [ "$1" = venv ]; then rm -rf "$last"; mkdir -p "$last/bin"; touch "$last/bin/python"; exit; fi
        [ ! -e "$(dirname "$0")/fail" ]
        """)
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def commands(folder: Path, uv: Path) -> Callable[[], list[str]]:
    """Make the pipeline's venv; the commands that were given to uv."""

    def make() -> list[str]:
        venvs.of_pipeline(folder.parent / "venv", folder).make(str(uv))
        log = uv.with_name("fake uv.log").read_text().replace(str(folder.parent / "venv"), "VENV")
        return [line.replace(" --quiet", "") for line in log.splitlines()]

    return make


class TestSources:
    @pytest.mark.parametrize(
        ("present", "command"),
        [
            ("pylock.toml uv.lock requirements.lock requirements.txt", "pip sync --python VENV/bin/python pylock.toml"),
            ("uv.lock requirements.lock requirements.txt", "sync --frozen --no-install-project --no-dev into VENV"),
            ("requirements.lock requirements.txt", "pip install --python VENV/bin/python -r requirements.lock"),
            ("requirements.txt", "pip install --python VENV/bin/python -r requirements.txt"),
        ],
    )
    def test_the_first_of_its_dependency_files_counts(
        self, folder: Path, commands: Callable[[], list[str]], present: str, command: str
    ) -> None:
        (folder / "train.py").write_text(SCRIPT)
        for name in present.split():
            (folder / name).touch()
        assert commands()[1:] == [command]

    def test_else_what_the_scripts_of_the_steps_declare(self, folder: Path, commands: Callable[[], list[str]]) -> None:
        (folder / "train.py").write_text(SCRIPT)
        assert commands() == [
            "venv --clear --no-project --python >=3.13 VENV",
            "pip install --python VENV/bin/python mlflow-skinny pandas>=3",
        ]

    def test_else_nothing(self, commands: Callable[[], list[str]]) -> None:
        assert commands() == ["venv --clear --no-project --python >=3.11 VENV"]

    def test_a_project_that_can_be_built_is_installed_itself(
        self, folder: Path, commands: Callable[[], list[str]]
    ) -> None:
        (folder / "pyproject.toml").write_text(BUILD)
        (folder / "requirements.lock").touch()
        assert commands()[2] == "pip install --python VENV/bin/python --no-deps --editable ."

    def test_without_a_lock_it_brings_its_own_dependencies(
        self, folder: Path, commands: Callable[[], list[str]]
    ) -> None:
        (folder / "pyproject.toml").write_text(BUILD)
        assert commands()[1:] == ["pip install --python VENV/bin/python --editable ."]

    def test_one_that_only_configures_tools_is_not(self, folder: Path, commands: Callable[[], list[str]]) -> None:
        (folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
        assert len(commands()) == 1

    @pytest.mark.parametrize(
        ("files", "python"),
        [
            ({}, ">=3.11"),
            ({"train.py": SCRIPT}, ">=3.13"),
            ({"train.py": SCRIPT, "pyproject.toml": BUILD}, ">=3.12"),
            ({"train.py": SCRIPT, "pyproject.toml": BUILD, ".python-version": "3.11.7\n"}, "3.11.7"),
            ({".python-version": "\n"}, ">=3.11"),
        ],
    )
    def test_the_python_is_the_most_definite_that_is_named(
        self, folder: Path, files: dict[str, str], python: str
    ) -> None:
        for name, text in files.items():
            (folder / name).write_text(text)
        assert venvs.of_pipeline(folder / "venv", folder).python == python

    def test_a_broken_project_file_is_named(self, folder: Path) -> None:
        (folder / "pyproject.toml").write_text("[project")
        with pytest.raises(UsageError, match=r"pyproject\.toml: "):
            venvs.of_pipeline(folder / "venv", folder)

    def test_a_service_gets_exactly_its_lock(self, tmp_path: Path, uv: Path) -> None:
        lock = tmp_path / "toy" / "requirements.lock"
        lock.parent.mkdir()
        lock.touch()
        venvs.of_lock(tmp_path / "venv", lock, ">=3.11,<3.13").make(str(uv))
        assert uv.with_name("fake uv.log").read_text().splitlines() == [
            f"venv --quiet --clear --no-project --python >=3.11,<3.13 {tmp_path}/venv",
            f"pip sync --quiet --require-hashes --python {tmp_path}/venv/bin/python {lock}",
        ]

    def test_another_venv_of_the_callers_shell_is_not_meant(
        self, monkeypatch: pytest.MonkeyPatch, commands: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setenv("VIRTUAL_ENV", "/other")
        assert not [line for line in commands() if "VIRTUAL_ENV" in line]


class TestCurrent:
    def venv(self, folder: Path) -> venvs.Venv:
        return venvs.of_pipeline(folder.parent / "venv", folder)

    def test_it_is_once_it_is_made(self, folder: Path, uv: Path) -> None:
        assert not self.venv(folder).is_current()
        self.venv(folder).make(str(uv))
        assert self.venv(folder).is_current()

    @pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml", ".python-version"])
    def test_it_is_not_after_a_source_changed(self, folder: Path, uv: Path, name: str) -> None:
        for file, text in (("requirements.lock", "a"), ("pyproject.toml", BUILD), (".python-version", "3.12")):
            (folder / file).write_text(text)
        self.venv(folder).make(str(uv))
        (folder / name).write_text(f"{(folder / name).read_text()}\n")
        assert not self.venv(folder).is_current()

    def test_it_is_not_after_a_better_source_appeared(self, folder: Path, uv: Path) -> None:
        (folder / "requirements.txt").touch()
        self.venv(folder).make(str(uv))
        (folder / "pylock.toml").touch()
        assert not self.venv(folder).is_current()

    def test_it_still_is_when_code_and_data_changed(self, folder: Path, uv: Path) -> None:
        (folder / "requirements.lock").touch()
        self.venv(folder).make(str(uv))
        (folder / "train.py").write_text("print(1)")
        (folder / "README.md").touch()
        assert self.venv(folder).is_current()

    def test_it_still_is_when_only_the_tree_moved(self, tmp_path: Path, uv: Path) -> None:
        for digest in ("old", "new"):
            (tmp_path / digest).mkdir()
            (tmp_path / digest / "requirements.lock").write_text("the same")
        venvs.of_lock(tmp_path / "venv", tmp_path / "old" / "requirements.lock", ">=3.11").make(str(uv))
        assert venvs.of_lock(tmp_path / "venv", tmp_path / "new" / "requirements.lock", ">=3.11").is_current()
        assert not venvs.of_lock(tmp_path / "venv", tmp_path / "new" / "requirements.lock", ">=3.12").is_current()

    def test_it_is_not_without_its_python(self, folder: Path, uv: Path) -> None:
        self.venv(folder).make(str(uv))
        self.venv(folder).executable.unlink()
        assert not self.venv(folder).is_current()

    def test_a_failure_names_the_venv_and_leaves_none_that_counts(self, folder: Path, uv: Path) -> None:
        (folder / "requirements.txt").touch()
        self.venv(folder).make(str(uv))
        (uv.parent / "fail").touch()
        with pytest.raises(venvs.InstallError, match="`uv pip install` for venv failed"):
            self.venv(folder).make(str(uv))
        assert not self.venv(folder).is_current()
        (uv.parent / "fail").unlink()
        self.venv(folder).make(str(uv))
        assert self.venv(folder).is_current()


class TestInAContainer:
    """`python venvs.py`, with the pipeline's venv in a volume."""

    @pytest.fixture(autouse=True)
    def _volume(self, tmp_path: Path, folder: Path, uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("UV_CACHE_DIR", "UV_PYTHON_INSTALL_DIR"):
            monkeypatch.setenv(name, "elsewhere")
        monkeypatch.setenv("MLOPS_ENV_VENVS", str(tmp_path / "volume"))
        monkeypatch.setenv("MLOPS_ENV_WORKSPACE", str(folder))
        monkeypatch.setenv("MLOPS_ENV_UV", str(uv))

    def test_it_is_made_once_and_all_that_uv_keeps_is_in_the_volume(self, tmp_path: Path, uv: Path) -> None:
        assert venvs.main() == 0
        assert venvs.of_pipeline(tmp_path / "volume" / "pipeline", tmp_path / "my prôject").is_current()
        assert os.environ["UV_CACHE_DIR"] == str(tmp_path / "volume" / ".cache")
        assert os.environ["UV_PYTHON_INSTALL_DIR"] == str(tmp_path / "volume" / ".python")
        asked = uv.with_name("fake uv.log").read_text()
        assert venvs.main() == 0
        assert uv.with_name("fake uv.log").read_text() == asked

    def test_what_is_wrong_is_said(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "mlops-env.toml").write_text("[pipeline")
        assert venvs.main() == 1
        assert str(folder / "mlops-env.toml") in capsys.readouterr().err
