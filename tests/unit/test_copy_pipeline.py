"""The workspace as it is laid out: ours where there was none, and never over a change of the user's."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

import copy_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("mlops-env.toml", "src/taxi/train.py", "tests/test_x.py", "src/taxi/__pycache__/x.pyc"):
        path = tmp_path / "tree" / "pipeline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"first {name}\n")
    return tmp_path / "tree" / "pipeline"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "wörk space"


@pytest.fixture
def run(tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    monkeypatch.setenv("MLOPS_ENV_WORKSPACE", str(folder))
    monkeypatch.setenv("MLOPS_ENV_TREE", str(tree.parent))
    monkeypatch.setenv("MLOPS_ENV_ID", "an-id")
    monkeypatch.setenv("MLOPS_ENV_NAME", "default")

    def main(verb: str) -> int:
        monkeypatch.setattr(sys, "argv", ["copy_pipeline.py", verb])
        return copy_pipeline.main()

    return main


def content(folder: Path) -> dict[str, str]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in sorted(found.items())}


def test_the_pipeline_is_copied_without_tests_and_caches(run: Callable[[str], int], folder: Path) -> None:
    assert (run("check"), folder.exists()) == (1, False)
    assert (run("apply"), run("check")) == (0, 0)
    assert content(folder).keys() == {
        ".mlops-env/.gitignore",
        ".mlops-env/environment.json",
        ".mlops-env/manifest.json",
        "mlops-env.toml",
        "src/taxi/train.py",
    }
    assert (folder / ".mlops-env" / ".gitignore").read_text() == "*\n"


def test_unchanged_files_follow_an_upgrade_and_changed_ones_are_kept_and_named(
    run: Callable[[str], int], tree: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("apply")
    (folder / "src" / "taxi" / "train.py").write_text("mine\n")
    (folder / "notes.md").write_text("mine too\n")
    for path in (tree / "mlops-env.toml", tree / "src" / "taxi" / "train.py"):
        path.write_text("second\n")
    assert (run("check"), run("apply"), run("check")) == (1, 0, 0)
    after = content(folder)
    assert (after["mlops-env.toml"], after["src/taxi/train.py"], after["notes.md"]) == (
        "second\n",
        "mine\n",
        "mine too\n",
    )
    assert f"kept, as you changed it: {folder}/src/taxi/train.py" in capsys.readouterr().err


def test_again_changes_nothing(run: Callable[[str], int], folder: Path) -> None:
    run("apply")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "environment.json"}
    assert run("check") == 0
    run("apply")
    assert {path: path.stat().st_mtime_ns for path in before if path.is_file()}.items() <= before.items()


def test_the_users_own_folder_gets_only_our_corner(
    run: Callable[[str], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_ENV_OWN_WORKSPACE", "1")
    folder.mkdir()
    (folder / "mlops-env.toml").write_text("mine\n")
    assert run("apply") == 0
    assert [name for name in content(folder) if not name.startswith(".mlops-env/")] == ["mlops-env.toml"]
    assert (folder / "mlops-env.toml").read_text() == "mine\n"


def test_the_workspace_says_whose_it_is(
    run: Callable[[str], int], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("apply")
    owner = folder / ".mlops-env" / "environment.json"
    assert json.loads(owner.read_text()) == {"id": "an-id", "name": "default"}
    owner.unlink()
    assert (run("check"), run("apply"), run("check")) == (1, 0, 0)
    monkeypatch.setenv("MLOPS_ENV_ID", "a-later-one")
    assert run("check") == 1


def test_a_copy_that_was_cut_short_is_completed(run: Callable[[str], int], folder: Path) -> None:
    run("apply")
    whole = content(folder)
    (folder / ".mlops-env" / "manifest.json").unlink()
    (folder / "src" / "taxi" / "train.py").unlink()
    assert run("apply") == 0
    assert content(folder) == whole
