"""What exchange.py sees in real folders and repositories, and what it refuses to write."""

from __future__ import annotations

import ast
import io
import json
import os
import sqlite3
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import exchange
import side as sides
from conftest import ROOT
from side import DATABASE, Refused, Side, checked, stays_inside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ODD = ("with blank", "new\nline", "trée", "-n", ":(glob)*", "'quote\"", "bytes \udcff")


def write(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@x")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def listed(root: Path, names: Iterable[str] = (), what: str = "pipeline") -> dict[str, Any]:
    return exchange.look(Side(root, root.parent / "scratch"), what, list(names))


def order(**values: object) -> dict[str, Any]:
    return {
        "source": "s",
        "target": "t",
        "send": [],
        "delete": [],
        "expect": {},
        "aside": {},
        "bytes": 0,
        "pipeline": {},
        **values,
    }


@pytest.fixture
def here(tmp_path: Path) -> Side:
    return Side(tmp_path / "here", tmp_path / "scratch here")


@pytest.fixture
def there(tmp_path: Path) -> Side:
    return Side(tmp_path / "there", tmp_path / "scratch there")


def packed(source: Side, plan: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    exchange.pack(source, plan, stream)
    return stream.getvalue()


def snapshot(root: Path) -> dict[str, bytes]:
    ours = root / ".mlops-env"
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(ours))
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_git_says_what_belongs_to_the_pipeline(tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(
        root, "mlops-env.toml", "code.py", "build/tracked", "data.csv", "cache/x", "__pycache__/a.pyc", ".venv/a", *ODD
    )
    write(root, ".mlops-env/runs/1/out", ".mlops-env/mlflow/mlflow.db")
    (root / ".gitignore").write_text("data.csv\ncache/\n")
    git(root, "init")
    git(root, "add", "code.py", "build/tracked")
    found = listed(root)
    assert found["files"].keys() == {"mlops-env.toml", "code.py", "build/tracked", ".gitignore", *ODD}
    assert json.loads(json.dumps(found)) == {**found, "files": {n: list(v) for n, v in found["files"].items()}}


def test_a_workspace_below_the_top_of_its_repository(tmp_path: Path) -> None:
    root = tmp_path / "repository" / "models"
    write(root, "mlops-env.toml", "a.py", "out/x")
    write(root.parent, "other.py")
    (root.parent / ".gitignore").write_text("out/\n")
    git(root.parent, "init")
    assert listed(root)["files"].keys() == {"mlops-env.toml", "a.py"}


def test_without_a_repository_all_but_what_tools_make(tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(root, "mlops-env.toml", "a.py", "data/big.csv", ".env", "node_modules/x", "pkg/__pycache__/y", "m.egg-info/z")
    assert listed(root)["files"].keys() == {"mlops-env.toml", "a.py", "data/big.csv", ".env"}


def test_a_repository_within_and_a_tracked_file_that_is_gone(tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(root, "mlops-env.toml", "gone.py", "vendored/lib.py")
    git(root / "vendored", "init")
    git(root, "init")
    git(root, "add", "gone.py")
    (root / "gone.py").unlink()
    assert listed(root)["files"].keys() == {"mlops-env.toml", "vendored/lib.py"}


def test_what_git_ignores_is_no_wish_to_have_it_deleted(tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(root, "mlops-env.toml", "out/here", ":(odd)", ".gitignore")
    (root / ".gitignore").write_text("out/\n*.pkl\n:(odd)\n")
    git(root, "init")
    found = listed(root, ["out/here", "out/gone", "model.pkl", ":(odd)", "gone.py"])
    assert found["ignored"] == [":(odd)", "model.pkl", "out/gone", "out/here"]


def test_all_that_is_worth_bringing_home(tmp_path: Path) -> None:
    root = tmp_path / "w"
    write(root, "mlops-env.toml", "model.pkl", "build/report", "mlruns/0/meta", ".venv/a", "p/__pycache__/b")
    write(root, ".mlops-env/runs/k/out", ".mlops-env/mlflow/artifacts/1/model", ".mlops-env/mlflow/mlflow.db.abc")
    write(root, f"{DATABASE}-wal", f"{DATABASE}.new", ".mlops-env/environment.json", ".mlops-env/exchange.id")
    project = ".mlops-env/projects/toy"
    write(root, f"{project}/mine.py", f"{project}/made.py", f"{project}/edited.py", f"{project}/.variables/v")
    write(root, f"{project}/.logs/l", f"{project}/__pycache__/m")
    (root / project / "workspace").symlink_to("../../..")
    made = Side(root, tmp_path).version(f"{project}/made.py")
    assert made
    manifest = {"toy": {"made.py": made[0], "edited.py": "0"}, "pipeline": {"mlops-env.toml": "1"}}
    (root / ".mlops-env" / "manifest.json").write_text(json.dumps(manifest))
    found = listed(root, what="everything")
    results = {".mlops-env/runs/k/out", ".mlops-env/mlflow/artifacts/1/model", ".mlops-env/mlflow/mlflow.db.abc"}
    changes = {f"{project}/mine.py", f"{project}/edited.py"}
    user = {"mlops-env.toml", "model.pkl", "build/report", "mlruns/0/meta"}
    assert found["files"].keys() == {*user, *results, *changes}
    assert found["identity"] == "x"
    assert found["generated"] == {
        f"{project}/made.py": made[0],
        f"{project}/edited.py": "0",
        "mlops-env.toml": "1",
    }


def test_a_database_that_is_being_written_comes_as_one_moment_saw_it(here: Side, there: Side) -> None:
    path = here.root / DATABASE
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as server:
        server.execute("PRAGMA journal_mode=WAL")
        server.execute("CREATE TABLE runs (id)")
        server.execute("INSERT INTO runs VALUES (1)")
        server.commit()
        server.execute("INSERT INTO runs VALUES (2)")  # not committed
        (version, size) = exchange.look(here, "everything", [])["files"][DATABASE]
        assert (version, size) == exchange.look(here, "everything", [])["files"][DATABASE]
        data = packed(here, order(send=[DATABASE], expect={DATABASE: None}))
    assert exchange.unpack(there, io.BytesIO(data), None)["written"] == {DATABASE: version}
    assert exchange.look(there, "names", [DATABASE])["files"][DATABASE] == (version, size)
    with closing(sqlite3.connect(there.root / DATABASE)) as copy:
        assert copy.execute("SELECT id FROM runs").fetchall() == [(1,)]


def test_what_is_no_database_comes_as_it_is(here: Side) -> None:
    write(here.root, DATABASE, text="no database")
    exchange.look(here, "everything", [])
    assert here.content(DATABASE).read_text() == "no database"


def test_what_a_killed_server_left_goes_into_its_database_first(here: Side, there: Side, tmp_path: Path) -> None:
    there.root.joinpath(DATABASE).parent.mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "live.db")) as server:
        server.execute("PRAGMA journal_mode=WAL")
        server.execute("CREATE TABLE old (id)")
        server.commit()
        for end in ("", "-wal"):  # as after a kill -9
            (there.root / f"{DATABASE}{end}").write_bytes((tmp_path / f"live.db{end}").read_bytes())
    then = exchange.look(there, "names", [DATABASE])["files"][DATABASE][0]
    assert not (there.root / f"{DATABASE}-wal").exists()
    write(here.root, DATABASE)
    data = packed(here, order(send=[DATABASE], expect={DATABASE: then}, aside={DATABASE: DATABASE}))
    assert exchange.unpack(there, io.BytesIO(data), None)["aside"] == {DATABASE: f"{DATABASE}.orig"}
    with closing(sqlite3.connect(there.root / f"{DATABASE}.orig")) as old:
        assert old.execute("SELECT count(*) FROM old").fetchone() == (0,)


def test_a_database_in_use_is_not_replaced(here: Side, there: Side) -> None:
    write(here.root, DATABASE)
    there.root.joinpath(DATABASE).parent.mkdir(parents=True)
    with closing(sqlite3.connect(there.root / DATABASE)) as server:
        server.execute("PRAGMA journal_mode=WAL")
        server.execute("CREATE TABLE t (id)")
        server.commit()
        then = there.version(DATABASE)
        assert then
        data = packed(here, order(send=[DATABASE], expect={DATABASE: then[0]}, aside={DATABASE: DATABASE}))
        assert exchange.unpack(there, io.BytesIO(data), None)["changed"] == [DATABASE]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", "a//b", ".", "a/.", "x\0y", ".git/hooks/x", "a/.GIT/x"]
)
def test_no_name_leads_outside_or_into_gits_own(name: str) -> None:
    with pytest.raises(Refused, match="unsafe"):
        checked(name)


@pytest.mark.parametrize(
    "name", [".mlops-env/environment.json", ".mlops-env/x", ".mlops-env/runs/../x", ".MLOPS-ENV/a"]
)
def test_of_ours_only_results_travel(name: str) -> None:
    with pytest.raises(Refused, match="unsafe"):
        checked(name)


@pytest.mark.parametrize(
    ("name", "target", "inside"),
    [
        ("a", "b", True),
        ("d/a", "../b", True),
        ("a", "../b", False),
        ("d/a", "../../b", False),
        ("a", "/etc/passwd", False),
        ("a", "d/../../b", False),
        ("a", "d/../b", False),  # d may be a link
        ("d/e/a", "../..", True),
    ],
)
def test_a_link_stays_inside(name: str, target: str, inside: bool) -> None:
    assert stays_inside(name, target) == inside


def test_links_and_modes_arrive(here: Side, there: Side) -> None:
    write(here.root, "run.sh", "d/x", "plain")
    (here.root / "run.sh").chmod(0o755)
    (here.root / "d" / "link").symlink_to("../run.sh")
    write(there.root, "plain", "run.sh", text="other")
    (there.root / "plain").chmod(0o600)
    (there.root / "run.sh").chmod(0o600)
    names = ["d/link", "d/x", "plain", "run.sh"]
    expect = {name: (there.version(name) or (None,))[0] for name in names}
    written = exchange.unpack(there, io.BytesIO(packed(here, order(send=names, expect=expect))), None)["written"]
    assert written == {name: (there.version(name) or (None,))[0] for name in names}
    assert (there.root / "d" / "link").readlink().as_posix() == "../run.sh"
    assert [oct((there.root / name).stat().st_mode & 0o777) for name in ("plain", "run.sh")] == ["0o600", "0o700"]


def test_a_link_that_leaves_is_left_out_on_the_way_there(here: Side) -> None:
    write(here.root, "mlops-env.toml")
    (here.root / "data").symlink_to("/somewhere")
    found = listed(here.root)
    assert "data" not in found["files"]
    assert "outside" in found["skipped"]["data"]


def test_a_link_that_leaves_is_refused_on_arrival(here: Side, there: Side) -> None:
    here.root.mkdir()
    (here.root / "x").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="unsafe link"):
        exchange.unpack(there, io.BytesIO(packed(here, order(send=["x"], expect={"x": None}))), None)


def test_nothing_is_written_through_a_link_to_elsewhere(here: Side, there: Side, tmp_path: Path) -> None:
    write(here.root, "data/x")
    (tmp_path / "elsewhere").mkdir()
    there.root.mkdir()
    (there.root / "data").symlink_to(tmp_path / "elsewhere")
    assert there.version("data/x") == ("! data", 0)
    data = packed(here, order(send=["data/x"], expect={"data/x": None}))
    assert exchange.unpack(there, io.BytesIO(data), None)["changed"] == ["data/x"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_plan_of_the_one_who_asked_counts(here: Side, there: Side) -> None:
    write(here.root, "a", "b")
    write(there.root, "precious")
    told = packed(here, order(send=["a", "b"], delete=["precious"], expect={}))
    mine = order(send=["a"], expect={"a": None})
    with pytest.raises(IndexError):
        exchange.unpack(there, io.BytesIO(told), mine)
    assert snapshot(there.root) == {"precious": b"x"}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_transfer_cut_short_changes_nothing_and_the_next_one_mends_it(here: Side, there: Side, share: float) -> None:
    write(here.root, "a", "b", text="new" * 20_000)
    write(there.root, "a", "gone", text="old")
    names = ("a", "b", "gone")
    expect = {name: (there.version(name) or (None,))[0] for name in names}
    data = packed(here, order(send=["a", "b"], delete=["gone"], expect=expect))
    end = data.rindex(b"sent")
    before = snapshot(there.root)
    with pytest.raises(Refused, match="before its end"):
        exchange.unpack(there, io.BytesIO(data[: int(end * share)]), None)
    assert snapshot(there.root) == before
    write(there.root, ".mlops-env/exchange.x.part/0")  # what a kill leaves
    exchange.unpack(there, io.BytesIO(data), None)
    assert snapshot(there.root) == snapshot(here.root)
    assert list((there.root / ".mlops-env").glob("*.part")) == []


def test_a_full_disk_is_told_before_anything_is_written(here: Side, there: Side) -> None:
    write(here.root, "a")
    with pytest.raises(OSError, match=r"No space left on device \(\d+ bytes needed, \d+ free\)"):
        exchange.unpack(there, io.BytesIO(packed(here, order(send=["a"], expect={"a": None}, bytes=1 << 60))), None)
    assert not there.root.exists()


def test_what_changed_meanwhile_is_not_overwritten_and_nothing_else_is_written(here: Side, there: Side) -> None:
    write(here.root, "a", "b")
    write(there.root, "a", text="saved a moment ago")
    data = packed(here, order(send=["b", "a"], expect={"a": None, "b": None}))
    assert exchange.unpack(there, io.BytesIO(data), None)["changed"] == ["a"]
    assert snapshot(there.root) == {"a": b"saved a moment ago"}


def test_a_file_that_changes_while_it_is_sent(here: Side, there: Side) -> None:
    """The version told is that of the bytes that travelled; a torn one does not count."""
    write(here.root, "grown", "gone", text="12345")
    file = (here.root / "grown").open("rb")
    reader = exchange._Reader(file, 5)
    write(here.root, "grown", text="1234567")
    assert (reader.read(3) + reader.read(99) + reader.read(99), reader.is_whole) == (b"12345", True)
    with file:
        torn = exchange._Reader(file, 9)
        assert (torn.read(9), torn.is_whole) == (b"67" + b"\0" * 7, False)
    (here.root / "gone").unlink()
    names = ["gone", "grown"]
    done = exchange.unpack(there, io.BytesIO(packed(here, order(send=names, expect=dict.fromkeys(names)))), None)
    assert done["written"].keys() == {"grown"}


def test_a_folder_becomes_a_file_only_if_all_in_it_goes(here: Side, there: Side) -> None:
    write(here.root, "a")
    write(there.root, "a/b", "a/unknown")
    version = there.version("a/b")
    assert version
    plan = order(send=["a"], delete=["a/b"], expect={"a": "! a", "a/b": version[0]})
    assert exchange.unpack(there, io.BytesIO(packed(here, plan)), None)["changed"] == ["a"]
    (there.root / "a" / "unknown").unlink()
    assert exchange.unpack(there, io.BytesIO(packed(here, plan)), None)["changed"] == []
    assert snapshot(there.root) == {"a": b"x"}


def test_the_digest_of_a_big_file_is_remembered_until_it_changes(here: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "_BIG", 1)
    monkeypatch.setattr(sides, "_FRESH_NS", 0)
    write(here.root, "big", text="1")
    first = exchange.look(here, "names", ["big"])["files"]["big"]
    known = json.loads((here.scratch / "digests.json").read_text())
    (here.scratch / "digests.json").write_text(json.dumps({name: [*v[:-1], "known"] for name, v in known.items()}))
    assert Side(here.root, here.scratch).version("big") == ("known", 1)
    write(here.root, "big", text="2")
    os.utime(here.root / "big", ns=(0, known[str(here.root / "big")][1]))  # a tool that keeps the time
    assert Side(here.root, here.scratch).version("big") not in (first, ("known", 1))


def test_what_cannot_be_read_is_named(here: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here.root, "secret")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Side, "_digest", refuse)
    found = exchange.look(here, "names", ["secret"])
    assert (found["files"], found["skipped"]) == ({}, {"secret": "Permission denied"})


@pytest.mark.parametrize("name", ["exchange.py", "side.py"])
def test_an_old_python_on_the_host_will_do(name: str) -> None:
    ast.parse((ROOT / "orchestrators" / name).read_text(encoding="utf-8"), feature_version=(3, 9))
