"""No write loses what a user changed, and a second write finds nothing to do."""

from __future__ import annotations

import json
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import files

PATHS = ("a", "b", "d/a", "d/é e/b")
TREES = st.dictionaries(st.sampled_from(PATHS), st.sampled_from([b"", b"one", b"two", b"\xff\n"]))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "wörk space"


def write(root: Path, tree: dict[str, bytes], section: str = "ours") -> dict[str, str]:
    changes = files.write(root, tree, root / ".mlops-env" / "manifest.json", section)
    return {change.path: change.status for change in changes}


def on_disk(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found if ".mlops-env" not in path.parts}


@given(st.lists(st.tuples(TREES, st.sets(st.sampled_from(PATHS)), TREES), min_size=1, max_size=5))
def test_any_history(history: list[tuple[dict[str, bytes], set[str], dict[str, bytes]]]) -> None:
    """Edits and deletions by the user, then our new tree, again and again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        disk: dict[str, bytes] = {}
        ours: dict[str, bytes] = {}
        for edits, deletions, tree in history:
            disk |= edits
            disk = {path: content for path, content in disk.items() if path not in deletions}
            rebuild(root, disk)
            for path in PATHS:
                if path in tree and disk.get(path) in {None, tree[path], ours.get(path)}:
                    disk[path] = ours[path] = tree[path]
                elif path not in tree and disk.get(path) == ours.pop(path, None):
                    disk.pop(path, None)

            write(root, tree)

            assert on_disk(root) == disk
            assert set(write(root, tree).values()) <= {"ok", "kept"}
            assert on_disk(root) == disk


def rebuild(root: Path, disk: dict[str, bytes]) -> None:
    for path in on_disk(root).keys() - disk.keys():
        (root / path).unlink()
    for path, content in disk.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


@given(TREES, TREES, TREES)
def test_a_change_by_the_user_is_never_lost(
    first: dict[str, bytes], second: dict[str, bytes], third: dict[str, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, first)
        for path in PATHS:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(b"mine")
        write(root, second)
        write(root, third)
        assert on_disk(root) == dict.fromkeys(PATHS, b"mine")


def test_the_statuses(root: Path) -> None:
    assert write(root, {"new": b"1", "edited": b"1", "dropped": b"1"}) == {
        "dropped": "created",
        "edited": "created",
        "new": "created",
    }
    (root / "edited").write_bytes(b"mine")
    assert write(root, {"new": b"2", "edited": b"2"}) == {"edited": "kept", "new": "updated", "dropped": "removed"}
    assert on_disk(root) == {"new": b"2", "edited": b"mine"}


def test_a_deleted_file_comes_back(root: Path) -> None:
    write(root, {"a": b"1"})
    (root / "a").unlink()
    assert write(root, {"a": b"1"}) == {"a": "created"}


def test_a_change_undone_by_the_user_follows_upgrades_again(root: Path) -> None:
    write(root, {"a": b"1"})
    (root / "a").write_bytes(b"mine")
    write(root, {"a": b"2"})
    (root / "a").write_bytes(b"1")
    assert write(root, {"a": b"2"}) == {"a": "updated"}


def test_a_file_of_the_user_that_was_there_first_is_kept(root: Path) -> None:
    root.mkdir()
    (root / "a").write_bytes(b"mine")
    assert write(root, {"a": b"1"}) == {"a": "kept"}
    assert write(root, {}) == {}
    assert on_disk(root) == {"a": b"mine"}


def test_one_section_never_touches_another(root: Path) -> None:
    write(root, {"a": b"1"}, "mage")
    write(root, {"b": b"1"}, "prefect")
    assert write(root, {}, "mage") == {"a": "removed"}
    assert on_disk(root) == {"b": b"1"}


def test_links_and_folders_in_the_way_are_the_users(root: Path) -> None:
    root.mkdir()
    (root / "target").write_bytes(b"mine")
    (root / "link").symlink_to("target")
    (root / "dangling").symlink_to("nowhere")
    (root / "folder").mkdir()
    (root / "file").write_bytes(b"mine")
    changes = write(root, {"link": b"1", "dangling": b"1", "folder": b"1", "file/inside": b"1"})
    assert set(changes.values()) == {"kept"}
    assert (root / "target").read_bytes() == b"mine"
    assert (root / "dangling").is_symlink()


def test_folders_that_become_empty_go_and_others_stay(root: Path) -> None:
    write(root, {"p/x/a": b"1", "p/y/a": b"1"})
    (root / "p/y/notes").write_bytes(b"mine")
    write(root, {})
    assert on_disk(root) == {"p/y/notes": b"mine"}
    assert not (root / "p/x").exists()


def test_plan_and_is_current_change_nothing(root: Path) -> None:
    manifest = root / ".mlops-env" / "manifest.json"
    assert files.plan(root, {"a": b"1"}, manifest, "ours") == [files.Change("a", "created")]
    assert not files.is_current(root, {"a": b"1"}, manifest, "ours")
    assert not root.exists()
    write(root, {"a": b"1"})
    assert files.is_current(root, {"a": b"1"}, manifest, "ours")
    assert not files.is_current(root, {}, manifest, "ours")


def test_an_unchanged_manifest_is_not_written_again(root: Path) -> None:
    write(root, {"a": b"1"})
    manifest = root / ".mlops-env" / "manifest.json"
    before = manifest.stat().st_ino
    write(root, {"a": b"1"})
    assert manifest.stat().st_ino == before
    assert json.loads(manifest.read_text(encoding="utf-8"))["ours"].keys() == {"a"}


def test_modes_and_no_temporary_file_after_a_failure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, {"a": b"1"})
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o644

    def full(_path: Path, _target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(root, {"a": b"2"})
    assert on_disk(root) == {"a": b"1"}


def test_a_broken_manifest_is_named(root: Path) -> None:
    write(root, {"a": b"1"})
    (root / ".mlops-env" / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        write(root, {"a": b"2"})
