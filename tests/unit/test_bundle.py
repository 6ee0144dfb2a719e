"""The one tree that travels: its digest is its content, and its tar is its digest's."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from mlops_env import bundle

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose shipped directories are small ones of our own."""
    for name in ("bootstrap/run.sh", "orchestrators/toy/trigger.py", "pipeline/mlops-env.toml"):
        path = tmp_path / "_bundle" / name
        path.parent.mkdir(parents=True)
        path.write_text(f"{name}\n", encoding="utf-8")
    monkeypatch.setattr(bundle, "_PACKAGE", tmp_path)
    return tmp_path / "_bundle"


def test_the_digest_is_of_names_and_contents_only(package: Path) -> None:
    before = bundle.tree()
    for path in package.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o755)
    assert bundle.tree().digest == before.digest
    assert bundle.tree().tar() == before.tar()


def test_another_content_or_name_is_another_digest(package: Path) -> None:
    digests = {bundle.tree().digest}
    (package / "bootstrap" / "run.sh").write_text("changed")
    digests.add(bundle.tree().digest)
    (package / "bootstrap" / "run.sh").rename(package / "bootstrap" / "run2.sh")
    digests.add(bundle.tree().digest)
    (package / "bootstrap" / "empty").touch()
    digests.add(bundle.tree().digest)
    assert len(digests) == 4


def test_what_tools_leave_behind_does_not_travel(package: Path) -> None:
    before = bundle.tree()
    for name in (".venv/bin/python", "__pycache__/x.pyc", ".mypy_cache/x", "src/x.egg-info/PKG-INFO", ".mlops-env/x"):
        path = package / "pipeline" / name
        path.parent.mkdir(parents=True)
        path.touch()
    assert bundle.tree() == before


def test_the_tar_holds_plain_files_of_nobody(package: Path) -> None:
    assert package
    with tarfile.open(fileobj=io.BytesIO(bundle.tree().tar())) as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == [
        "bootstrap/run.sh",
        "orchestrators/toy/trigger.py",
        "pipeline/mlops-env.toml",
    ]
    assert {(m.mode, m.mtime, m.uid, m.uname, m.isreg()) for m in members} == {(0o644, 0, 0, "", True)}


def test_ours_has_all_that_a_host_needs_and_no_rubbish() -> None:
    names = bundle.tree().files.keys()
    assert {"bootstrap/run.sh", "orchestrators/services.py", "pipeline/mlops-env.toml"} <= names
    assert not [name for name in names if "__pycache__" in name or ".venv" in name or name.endswith(".pyc")]
