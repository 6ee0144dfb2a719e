"""What `down` removes on a host, and the receipt that it gives."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

import places
import sweep
from fakes import has_ended

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Receipt = dict[str, tuple[int, int, int]]
MADE = {
    "venvs/tools/bin/python": "",
    "venvs/mlflow/bin/python": "",
    "secrets/one-password": "s3cret",
    "state/toy/toy.db": "",
    "logs/toy.log": "",
    "tree/abc/bootstrap/run.sh": "",
    "ports.json": "{}",
}


@pytest.fixture
def host(tmp_path: Path, identity: str) -> Path:
    directory = tmp_path / "höst dir" / "host"
    for name, text in MADE.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    places.runtime_directory(identity).mkdir(mode=0o700)
    return directory


@pytest.fixture
def run(
    host: Path, identity: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], Receipt]:
    monkeypatch.setenv("MLOPS_ENV_ID", identity)
    monkeypatch.setenv("MLOPS_ENV_HOST_DIR", str(host))

    def main() -> Receipt:
        assert sweep.main() == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {row["kind"]: (row["found"], row["removed"], row["left"]) for row in rows}

    return main


def test_every_kind_is_found_removed_and_told(run: Callable[[], Receipt], host: Path, identity: str) -> None:
    assert run() == {
        "process": (0, 0, 0),
        "port": (0, 0, 0),
        "file": (0, 0, 0),
        "venv": (2, 2, 0),
        "secret": (1, 1, 0),
        "state": (1, 1, 0),
        "log": (1, 1, 0),
        "tree": (1, 1, 0),
        "directory": (2, 2, 0),
    }
    assert not host.exists()
    assert not places.runtime_directory(identity).exists()


def test_twice_in_a_row_the_second_finds_nothing(run: Callable[[], Receipt]) -> None:
    run()
    assert set(run().values()) == {(0, 0, 0)}


def test_the_sums_agree_and_nothing_is_counted_that_was_not_there(run: Callable[[], Receipt], host: Path) -> None:
    (host / "venvs" / "tools" / "bin" / "python").unlink()
    (host / "logs").rename(host / "journal")
    receipt = run()
    assert receipt["log"] == (0, 0, 0)
    assert all(found == removed + left for found, removed, left in receipt.values())


def test_processes_are_ended_with_orphans_and_counted(
    run: Callable[[], Receipt], tmp_path: Path, identity: str
) -> None:
    script = f"setsid sleep 60 & echo $! >{tmp_path}/orphan; echo; exec sleep 60"
    with subprocess.Popen(
        ["bash", "-c", script],
        env={**os.environ, "MLOPS_ENV_ID": identity},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert run()["process"] == (2, 2, 0)
    assert has_ended(int((tmp_path / "orphan").read_text()))


@pytest.mark.parametrize(
    ("made", "now", "row"),
    [
        ("ours", "ours", (1, 1, 0)),
        ("ours", "ours and mine", (0, 0, 0)),
        (None, "mine", (0, 0, 0)),
        ("ours", None, (0, 0, 0)),
    ],
)
def test_a_gitconfig_of_ours_goes_only_while_it_is_as_we_wrote_it(
    run: Callable[[], Receipt], host: Path, home: Path, made: str | None, now: str | None, row: tuple[int, int, int]
) -> None:
    for path, text in ((host / "made" / "gitconfig", made), (home / ".gitconfig", now)):
        if text is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    assert run()["file"] == row
    assert (home / ".gitconfig").exists() == (now is not None and row == (0, 0, 0))


def test_a_link_out_of_it_is_removed_and_not_followed(run: Callable[[], Receipt], host: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (host / "state" / "link").symlink_to(kept)
    assert run()["state"] == (2, 2, 0)
    assert (kept / "file").exists()


def test_what_cannot_be_removed_is_left_and_told(
    run: Callable[[], Receipt], monkeypatch: pytest.MonkeyPatch, host: Path
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        assert run()["venv"] == (2, 0, 2)
    assert host.exists()
    assert run()["venv"] == (2, 2, 0)
