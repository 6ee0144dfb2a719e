"""Two folders as the two sides, with the real scripts in between: on this machine, and over a real ssh."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Self

import pytest
import typer
from typer.testing import CliRunner

from mlops_env import bootstrap, config, environment, exchange, intent
from mlops_env.bootstrap import HostScripts
from mlops_env.commands import connecting, pull, push
from mlops_env.connection import LocalConnection, OnLine, Result
from mlops_env.errors import CommandFailed, MlopsEnvError, UsageError
from mlops_env.ssh import SSHConnection
from mlops_env.ssh_config import Host

from .harness import ROOT
from .sshd import Sshd, make_key, sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlops_env.connection import Connection
    from mlops_env.environment import Environment
    from mlops_env.events import Event
    from mlops_env.exchange import Exchanged

TOML = '[pipeline]\nname = "p"\nsteps = [{ name = "a", run = "true" }]\n'
ODD = ("with blank.py", "new\nline", "trée/ß", "-n", ":(glob)*", "'q\"", os.fsdecode(b"bytes \xff"))
DATABASE = ".mlops-env/mlflow/mlflow.db"


@dataclass
class Watched:
    """A connection that counts, and lets a test meddle just before a verb."""

    inner: Connection
    commands: list[str] = field(default_factory=list)
    before: dict[str, Callable[[], object]] = field(default_factory=dict)
    instead: Callable[[str], bytes | None] | None = None

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", on_line: OnLine | None = None, into: IO[bytes] | None = None
    ) -> Result:
        verb = next(word for word in argv if word in {"list", "pack", "unpack"})
        self.commands.append(verb)
        self.before.get(verb, bool)()
        if self.instead and (told := self.instead(verb)) is not None:
            return Result(tuple(argv), 0, told.decode(), "", 0)
        return self.inner.run(argv, stdin=stdin, on_line=on_line, into=into)

    def renew(self) -> None:
        self.inner.renew()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


@dataclass
class Sides:
    env: Environment
    connection: Watched
    events: list[Event] = field(default_factory=list)

    @property
    def here(self) -> Path:
        return self.env.workspace

    @property
    def there(self) -> Path:
        return Path(self.env.host_workspace)

    @property
    def scripts(self) -> HostScripts:
        return HostScripts(self.env, PurePosixPath(ROOT))

    def push(self, *, force: bool = False) -> Exchanged:
        return self._exchange(exchange.push, force=force)

    def pull(self, *, force: bool = False) -> Exchanged:
        return self._exchange(exchange.pull, force=force)

    def _exchange(self, way: Callable[..., Exchanged], *, force: bool) -> Exchanged:
        self.events.clear()
        self.connection.commands.clear()
        return way(self.connection, self.env, self.scripts, self.events.append, force=force)

    def said(self) -> str:
        return "\n".join(event.message for event in self.events)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("exchange")
    with pytest.MonkeyPatch.context() as patch, sshd(folder / "sshd") as daemon:
        patch.setenv("HOME", str(folder))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        daemon.allow(make_key(folder / "key"))
        (folder / "known").write_text(daemon.known_line)
        yield daemon


def ssh(daemon: Sshd) -> SSHConnection:
    folder = daemon.folder.parent
    return SSHConnection(Host(daemon.destination, folder / "known", daemon.port, folder / "key"), print)


both_ways = pytest.mark.parametrize("connection", ["local", "ssh"], indirect=True)


@pytest.fixture(scope="module")
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """To this machine, but for the tests that go both ways: the scripts are the same."""
    if getattr(request, "param", "local") == "local":
        yield LocalConnection()
        return
    with ssh(request.getfixturevalue("daemon")) as opened:
        yield opened


@pytest.fixture
def sides(connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sides:
    """An environment whose host is another folder of this machine, with a pipeline of the user's here."""
    monkeypatch.setenv("MLOPS_ENV_HOME", str(tmp_path / "records"))
    home = tmp_path / "host's hömé"
    intent = {
        "target": "ssh",
        "host": {"destination": "box", "home": str(home), "user": "u"},
        "orchestrator": config.default_orchestrator(),
        "runtime": "venv",
        "workspace": str(tmp_path / "my pipeline"),
        "own_workspace": True,
    }
    env = environment.imagine("default", intent, None).save()
    python = Path(HostScripts(env, PurePosixPath(ROOT)).python())
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    write(env.workspace, {"mlops-env.toml": TOML, "train.py": "1"})
    return Sides(env, Watched(connection))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def files(root: Path, *, results: bool = False) -> dict[str, str]:
    """Of a workspace: by name, what is in each."""
    ours = root / ".mlops-env"
    return {
        path.relative_to(root).as_posix(): str(path.readlink())
        if path.is_symlink()
        else path.read_text(errors="replace")
        for path in root.rglob("*")
        if (path.is_file() or path.is_symlink()) and (results or not path.is_relative_to(ours))
    }


def git(folder: Path, *words: str) -> None:
    subprocess.run([shutil.which("git") or "", "-C", str(folder), *words], check=True, capture_output=True)


def history(root: Path, *runs: str) -> None:
    """An MLflow of these runs."""
    path = root / DATABASE
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS runs (id TEXT)")
        database.executemany("INSERT INTO runs VALUES (?)", [(run,) for run in runs])
        database.commit()


def recorded(root: Path, name: str = DATABASE) -> list[str]:
    with closing(sqlite3.connect(root / name)) as database:
        return [row[0] for row in database.execute("SELECT id FROM runs ORDER BY id")]


@both_ways
def test_the_first_push_sends_all_and_the_second_nothing(sides: Sides) -> None:
    write(
        sides.here, {name: name.encode(errors="replace").decode() for name in ODD} | {"empty": "", "d/e/run.sh": "#!"}
    )
    (sides.here / "d/e/run.sh").chmod(0o755)
    (sides.here / "latest").symlink_to("d/e/run.sh")
    (sides.here / "data").symlink_to("/srv")
    (sides.here / "big").write_bytes(os.urandom(12 << 20))
    write(sides.here, {"__pycache__/x.pyc": "", ".venv/bin/python": ""})
    done = sides.push()
    assert (done.files, done.deleted, set(done.skipped)) == (13, 0, {"data"})
    assert "data: a link to /srv, outside the workspace" in sides.said()
    assert done.bytes > 12 << 20
    assert (sides.there / "big").read_bytes() == (sides.here / "big").read_bytes()
    assert (sides.there / "latest").readlink() == Path("d/e/run.sh")
    assert os.access(sides.there / "d/e/run.sh", os.X_OK)
    assert not os.access(sides.there / "train.py", os.X_OK)
    assert files(sides.there).keys() == files(sides.here).keys() - {"data", "__pycache__/x.pyc", ".venv/bin/python"}
    assert sides.push().files == 0
    assert sides.connection.commands == ["list"]
    assert not list((sides.env.directory / "exchange").glob("transfer*"))


def test_only_what_changed_travels_and_what_the_host_changed_stays(sides: Sides) -> None:
    write(sides.here, {"a": "1", "b": "1", "c": "1", "d": "1"})
    sides.push()
    write(sides.here, {"a": "2"})
    (sides.here / "b").unlink()
    write(sides.there, {"c": "browser", "new": "browser"})
    (sides.there / "d").unlink()
    done = sides.push()
    assert (done.files, done.deleted, done.left) == (1, 1, ("c", "d"))
    assert "only there changed: c, d; `mlops-env pull` brings it" in sides.said()
    assert files(sides.there) == {"mlops-env.toml": TOML, "train.py": "1", "a": "2", "c": "browser", "new": "browser"}
    done = sides.pull()
    assert (done.files, done.deleted, done.left) == (2, 1, ())
    assert files(sides.here) == files(sides.there)
    assert (sides.pull().files, sides.push().files) == (0, 0)


def test_pull_leaves_what_only_this_side_changed(sides: Sides) -> None:
    write(sides.here, {"a": "1", "b": "1"})
    sides.push()
    write(sides.here, {"a": "2", "mine": "1"})
    (sides.here / "b").unlink()
    done = sides.pull()
    assert (done.files, done.deleted, done.left) == (0, 0, ("a", "b"))
    assert files(sides.here) == {"mlops-env.toml": TOML, "train.py": "1", "a": "2", "mine": "1"}


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_both_changed_stops_before_anything_is_written(sides: Sides, verb: str) -> None:
    write(sides.here, {"a": "1", "trée\n": "1"})
    sides.push()
    write(sides.here, {"a": "mine", "trée\n": "mine", "other": "mine"})
    write(sides.there, {"a": "theirs", "trée\n": "theirs", "another": "theirs"})
    before = files(sides.here), files(sides.there)
    with pytest.raises(MlopsEnvError) as caught:
        getattr(sides, verb)()
    assert caught.value.code == "exchange-conflict"
    assert caught.value.message.splitlines()[1:] == ["  a", r"  'tr\xe9e\n'"]
    assert "pull --force" in caught.value.hint
    assert "push --force" in caught.value.hint
    assert (files(sides.here), files(sides.there)) == before


@both_ways
def test_force_keeps_the_loser_beside(sides: Sides) -> None:
    write(sides.here, {"a": "1", "b": "1"})
    sides.push()
    write(sides.here, {"a": "mine"})
    write(sides.there, {"a": "theirs", "a.orig": "older"})
    done = sides.push(force=True)
    assert done.aside == {"a": "a.orig2"}
    assert {name: text for name, text in files(sides.there).items() if name[0] == "a"} == {
        "a": "mine",
        "a.orig": "older",
        "a.orig2": "theirs",
    }
    assert "on the host, what was a is now a.orig2" in sides.said()
    write(sides.here, {"b": "mine"})
    write(sides.there, {"b": "theirs"})
    assert sides.pull(force=True).aside == {"b": "b.orig"}
    assert files(sides.here)["b"] == "theirs"
    assert files(sides.here)["b.orig"] == "mine"
    assert sides.push().files == 1  # the one that was put aside is a file as any other


def test_the_same_change_on_both_sides_is_none(sides: Sides) -> None:
    sides.push()
    for side in (sides.here, sides.there):
        write(side, {"train.py": "2", "new": "1"})
    assert (sides.push().files, sides.pull().files) == (0, 0)
    write(sides.here, {"new": "2"})
    assert sides.push().files == 1


@both_ways
def test_results_models_and_history_come_back_and_never_go_up(sides: Sides) -> None:
    sides.push()
    ours = sides.there / ".mlops-env"
    write(ours, {"runs/k-1/out.txt": "1", "runs/k-2/out.txt": "2", "mlflow/artifacts/1/model.pkl": "m"})
    write(ours, {"environment.json": "{}", "projects/toy/mine.py": "1", "projects/toy/.logs/x": "1"})
    write(sides.there, {"model.pkl": "m", "output/__pycache__/x": ""})
    history(sides.there, "one")
    with closing(sqlite3.connect(sides.there / DATABASE)) as server:
        server.execute("INSERT INTO runs VALUES ('not committed')")
        done = sides.pull()
    assert (done.files, done.runs) == (6, 2)
    assert done.text == "6 files, 2 runs"
    assert recorded(sides.here) == ["one"]
    assert files(sides.here / ".mlops-env", results=True).keys() == {
        *("runs/k-1/out.txt", "runs/k-2/out.txt", "mlflow/artifacts/1/model.pkl", "mlflow/mlflow.db"),
        *("projects/toy/mine.py", "exchange.id", ".gitignore"),
    }
    assert sides.pull().files == 0
    history(sides.there, "two")
    (sides.there / ".mlops-env/runs/k-1/out.txt").unlink()
    assert (sides.pull().files, recorded(sides.here)) == (1, ["one", "two"])
    assert (sides.here / ".mlops-env/runs/k-1/out.txt").exists()  # who makes room on the host wants to have it here
    write(sides.here / ".mlops-env", {"runs/k-2/out.txt": "changed"})
    assert sides.push().files == 0


def test_two_histories_are_a_conflict(sides: Sides) -> None:
    """One of an environment that was here before, say, and one that a local environment went on with."""
    sides.push()
    history(sides.here, "mine")
    history(sides.there, "theirs")
    for mine in (["mine"], ["mine2", "theirs"]):
        with pytest.raises(MlopsEnvError, match=r"mlflow\.db \(MLflow's history\)") as caught:
            sides.pull()
        assert "push --force" not in caught.value.hint
        done = sides.pull(force=True)
        assert recorded(sides.here, done.aside[DATABASE]) == mine
        history(sides.here, "mine2")
        history(sides.there, "theirs2")


def test_a_host_that_is_new_to_the_workspace_goes_on_where_another_one_ended(sides: Sides) -> None:
    history(sides.here, "one")
    write(sides.here / ".mlops-env", {"runs/k-1/out.txt": "1", "projects/toy/mine.py": "edited"})
    assert sides.push().runs == 1
    assert "new to this workspace" in sides.said()
    assert recorded(sides.there) == ["one"]
    assert (sides.there / ".mlops-env/projects/toy/mine.py").read_text() == "edited"
    history(sides.there, "two")
    sides.pull()
    assert recorded(sides.here) == ["one", "two"]
    history(sides.here, "three")
    assert sides.push().files == 0  # from now on results come only this way


def test_a_local_environment_that_uses_the_folder_keeps_its_history(sides: Sides) -> None:
    sides.push()
    other = local_environment(sides, "other")
    owner = {"id": other.record.id, "name": "other"}
    write(sides.here, {".mlops-env/environment.json": json.dumps(owner)})
    with pytest.raises(UsageError) as caught:
        sides.pull()
    assert caught.value.code == "workspace-in-use"
    assert "mlops-env down --name other" in caught.value.hint
    (other.directory / "environment.json").unlink()
    assert sides.pull().files == 0


def local_environment(sides: Sides, name: str) -> Environment:
    record = sides.env.record
    settings = {"orchestrator": record.orchestrator, "runtime": record.runtime, "workspace": record.workspace}
    return environment.imagine(name, {**settings, "target": "local"}, None).save()


def test_what_git_does_not_list_stays_here_and_there(sides: Sides) -> None:
    write(sides.here, {".gitignore": "data/\n*.pkl\n", "data/raw": "1", "build/tracked": "1"})
    git(sides.here, "init")
    git(sides.here, "add", "build/tracked")
    sides.push()
    assert files(sides.there).keys() == {"mlops-env.toml", "train.py", ".gitignore", "build/tracked"}
    write(sides.there, {"model.pkl": "1", "data/made": "1"})
    sides.pull()
    assert files(sides.here)["model.pkl"] == "1"
    write(sides.here, {"model.pkl": "mine"})
    (sides.here / "data/made").unlink()
    assert (sides.push().files, files(sides.there)["model.pkl"], files(sides.there)["data/made"]) == (0, "1", "1")


def test_a_folder_made_anew_has_deleted_nothing(sides: Sides) -> None:
    """A fresh clone here; a fresh disk there."""
    write(sides.here, {"a": "1", "b": "1"})
    sides.push()
    fresh = sides.here.with_name("fresh")
    write(fresh, {"mlops-env.toml": TOML, "train.py": "1", "a": "1"})
    sides.here.rename(sides.here.with_name("old"))
    fresh.rename(sides.here)
    done = sides.push()
    assert (done.files, done.deleted, files(sides.there)["b"]) == (0, 0, "1")
    sides.there.rename(sides.there.with_name("old"))
    write(sides.there, {"mlops-env.toml": TOML})
    done = sides.pull()
    assert (done.files, done.deleted, files(sides.here)["a"]) == (0, 0, "1")
    assert sides.push().files == 2


def test_two_hosts_of_one_folder(sides: Sides, tmp_path: Path) -> None:
    """Each has its own past with it."""
    host = {"destination": "other", "home": str(tmp_path / "other home"), "user": "u"}
    intent = {**dataclasses.asdict(sides.env.record), "host": host}
    settings = {key: value for key, value in intent.items() if key not in {"id", "name", "created", "schema"}}
    other = Sides(environment.imagine("other", settings, None).save(), sides.connection)
    Path(other.scripts.python()).parent.mkdir(parents=True)
    Path(other.scripts.python()).symlink_to(sys.executable)
    for version in ("2", "3"):
        write(sides.here, {"train.py": version})
        assert (sides.push().files, other.push().files) == ((2, 2) if version == "2" else (1, 1))
        assert files(sides.there) == files(other.there) == files(sides.here)
    write(other.there, {"train.py": "4"})
    assert (other.pull().files, sides.push().files, files(sides.there)["train.py"]) == (1, 1, "4")


def test_of_a_host_without_anything_nothing_comes(sides: Sides) -> None:
    before = files(sides.here, results=True)
    assert sides.pull().files == 0
    assert files(sides.here, results=True) == before
    assert not sides.there.exists()


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_without_a_pipeline_nothing_is_deleted(sides: Sides, verb: str) -> None:
    sides.push()
    emptied, other = (sides.here, sides.there) if verb == "push" else (sides.there, sides.here)
    for name in files(emptied):
        (emptied / name).unlink()
    assert getattr(sides, verb)().deleted == 0
    assert files(other).keys() == {"mlops-env.toml", "train.py"}


def test_files_and_folders_change_places(sides: Sides) -> None:
    write(sides.here, {"a": "1", "b/c": "1"})
    sides.push()
    (sides.here / "a").unlink()
    (sides.here / "b/c").unlink()
    (sides.here / "b").rmdir()
    write(sides.here, {"a/x": "2", "b": "2"})
    assert (sides.push().files, files(sides.there)) == (2, files(sides.here))
    assert (sides.pull().files, sides.push().files) == (0, 0)


def test_what_stands_in_the_way_is_a_conflict_that_force_puts_aside(sides: Sides) -> None:
    sides.push()
    write(sides.here, {"model": "mine"})
    write(sides.there, {"model/weights": "theirs"})
    for way in (sides.push, sides.pull):
        with pytest.raises(MlopsEnvError, match="changed both"):
            way()
    assert sides.pull(force=True).aside == {"model": "model.orig"}
    assert {name: text for name, text in files(sides.here).items() if name.startswith("model")} == {
        "model.orig": "mine",
        "model/weights": "theirs",
    }


def test_a_link_to_elsewhere_is_no_way_out(sides: Sides, tmp_path: Path) -> None:
    sides.push()
    (tmp_path / "elsewhere").mkdir()
    (sides.here / "data").symlink_to(tmp_path / "elsewhere")
    write(sides.there, {"data/x": "1"})
    with pytest.raises(MlopsEnvError, match="data/x"):
        sides.pull()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/x", ".git/hooks/post-checkout", ".mlops-env/environment.json"])
def test_a_host_that_lies_writes_nothing(sides: Sides, name: str) -> None:
    sides.push()
    there = json.loads((sides.env.directory / "exchange.json").read_text())["folders"][1]
    lie = {"identity": there, "files": {"mlops-env.toml": ["1", 1], name: ["2", 1]}}
    lie |= {"skipped": {}, "ignored": [], "generated": {}, "pipeline": {}}
    sides.connection.instead = lambda verb: json.dumps(lie).encode() if verb == "list" else None
    before = files(sides.here)
    with pytest.raises(CommandFailed) as caught:
        sides.pull()
    assert caught.value.code == "exchange-unsafe"
    assert files(sides.here) == before


def test_a_save_in_the_browser_in_this_very_moment(sides: Sides) -> None:
    sides.push()
    write(sides.here, {"train.py": "2", "other.py": "2"})
    sides.connection.before["unpack"] = lambda: write(sides.there, {"train.py": "browser"})
    with pytest.raises(MlopsEnvError) as caught:
        sides.push()
    assert (caught.value.code, "train.py" in caught.value.message) == ("exchange-raced", True)
    assert files(sides.there) == {"mlops-env.toml": TOML, "train.py": "browser"}
    with pytest.raises(MlopsEnvError, match="changed both"):
        sides.push()


def test_a_file_that_is_edited_while_it_is_sent(sides: Sides) -> None:
    """What was sent counts, so the edit is the next push's; none is taken for the host's."""
    sides.push()
    write(sides.here, {"train.py": "2"})
    sides.connection.before["list"] = lambda: write(sides.here, {"train.py": "3"})
    sides.push()
    assert files(sides.there)["train.py"] == "3"
    sides.connection.before["unpack"] = lambda: write(sides.here, {"train.py": "5"})
    write(sides.here, {"train.py": "4"})
    sides.connection.before.pop("list")
    sides.push()
    assert files(sides.there)["train.py"] == "4"
    sides.connection.before.clear()
    assert (sides.push().files, files(sides.there)["train.py"]) == (1, "5")


@pytest.mark.parametrize("verb", ["list", "pack", "unpack"])
@pytest.mark.parametrize("way", ["push", "pull"])
def test_interrupted_anywhere_the_next_one_goes_on(sides: Sides, verb: str, way: str) -> None:
    sides.push()
    write(sides.here if way == "push" else sides.there, {"a": "1" * 100_000, "train.py": "2"})
    target = sides.there if way == "push" else sides.here
    before = files(target)

    def interrupt() -> None:
        raise KeyboardInterrupt

    sides.connection.before[verb] = interrupt
    if verb in {"push": {"list", "unpack"}, "pull": {"list", "pack"}}[way]:
        with pytest.raises(KeyboardInterrupt):
            getattr(sides, way)()
        assert files(target) == before
    sides.connection.before.clear()
    getattr(sides, way)()
    assert files(sides.here) == files(sides.there)


KILLED = """\
import os, signal, sys, threading
from pathlib import PurePosixPath
from mlops_env import environment, exchange
from mlops_env.bootstrap import HostScripts
from mlops_env.connection import LocalConnection

root, verb, seconds = sys.argv[1:]


class Host(LocalConnection):
    def run(self, argv, **rest):
        if verb in argv:
            threading.Timer(float(seconds), os.kill, (os.getpid(), signal.SIGKILL)).start()
        return super().run(argv, **rest)


env = environment.need("default")
exchange.push(Host(), env, HostScripts(env, PurePosixPath(root)), print)
"""


def test_killed_with_9_in_the_middle(sides: Sides, tmp_path: Path) -> None:
    """At several moments: no file is half there, and the next push ends with all of it."""
    sides.push()
    old = files(sides.there)
    new = {f"f{number}": str(number) * 3_000_000 for number in range(8)}
    write(sides.here, new)
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    codes = []
    for verb, seconds in (("list", 0.01), ("unpack", 0), ("unpack", 0.02), ("unpack", 0.04), ("unpack", 0.06)):
        done = subprocess.run([sys.executable, str(script), str(ROOT), verb, str(seconds)], check=False)
        codes.append(done.returncode)
        for name, text in files(sides.there).items():
            assert text == {**old, **new}[name], name
    assert codes[:2] == [-signal.SIGKILL] * 2  # a quick machine may be done before the others
    assert sides.push().deleted == 0
    assert files(sides.there) == files(sides.here)
    assert list((sides.there / ".mlops-env").glob("*.part")) == []


def test_a_connection_lost_in_the_middle(sides: Sides, daemon: Sshd) -> None:
    sides.push()
    write(sides.here, {"train.py": "2"} | {f"f{number}": str(number) * 5_000_000 for number in range(8)})
    before = files(sides.there)

    def cut() -> None:
        for session in daemon.sessions():
            threading.Timer(0.05, session.kill).start()

    with ssh(daemon) as first:
        lost = Sides(sides.env, Watched(first, before={"unpack": cut}))
        with pytest.raises(MlopsEnvError) as caught:
            lost.push()
    assert caught.value.code == "connection-lost"
    assert files(sides.there) == before
    with ssh(daemon) as second:
        assert Sides(sides.env, Watched(second)).push().files == 9
    assert files(sides.there) == files(sides.here)


@pytest.fixture
def verbs(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """The two verbs by their command lines: exit code, the result, what people read."""
    monkeypatch.setattr(connecting, "connect", lambda *_: sides.connection)
    monkeypatch.setattr(bootstrap, "present", lambda *_: sides.scripts)
    app = typer.Typer()
    app.command("push")(push.push)
    app.command("pull")(pull.pull)

    def invoke(*words: str) -> tuple[int, dict[str, Any], str]:
        told = CliRunner().invoke(app, [*words, "--json"])
        return told.exit_code, json.loads(told.stdout.splitlines()[-1]), CliRunner().invoke(app, words).stderr

    return invoke


def test_the_verbs(sides: Sides, verbs: Callable[..., tuple[int, dict[str, Any], str]]) -> None:
    code, result, text = verbs("push")
    assert (code, result["status"], result["files"], result["environment"]) == (0, "ok", 2, "default")
    assert f"Sent 0 files → {sides.there} on the host" in text
    write(sides.there, {".mlops-env/runs/k/out": "1", "train.py": "theirs"})
    code, result, text = verbs("pull")
    assert (code, result["files"], result["runs"], result["left"]) == (0, 2, 1, [])
    assert f"Saved 0 files → {sides.here}" in text
    write(sides.here, {"train.py": "mine"})
    write(sides.there, {"train.py": "theirs again"})
    for verb in ("push", "pull"):
        code, result, text = verbs(verb)
        assert (code, result["error"]["code"]) == (1, "exchange-conflict")
        assert "train.py" in text
        assert "--force" in text
    code, result, _ = verbs("push", "--force")
    assert (code, result["aside"]) == (0, {"train.py": "train.py.orig"})
    (sides.here / "mlops-env.toml").unlink()
    assert "Nothing to push: there is no mlops-env.toml" in verbs("push")[2]


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_the_verbs_of_an_environment_on_this_machine(
    sides: Sides, verbs: Callable[..., tuple[int, dict[str, Any], str]], verb: str
) -> None:
    local_environment(sides, "local")
    code, result, _ = verbs(verb, "--name", "local")
    assert (code, result["error"]["code"]) == (2, "no-remote")
    assert sides.connection.commands == []


@both_ways
def test_a_host_that_is_not_ready_is_named(sides: Sides) -> None:
    Path(sides.scripts.python()).unlink()
    with pytest.raises(CommandFailed) as caught:
        sides.push()
    assert caught.value.code == "host-not-ready"
    assert "mlops-env up" in caught.value.hint


@both_ways
@pytest.mark.parametrize(("way", "where"), [("push", "on the host"), ("pull", "here")])
def test_a_full_disk_is_named_with_its_side(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, way: str, where: str
) -> None:
    """The target is told by the plan how much will come: here, more than any disk has."""
    sides.push()
    write(sides.here, {"a": "1"})
    write(sides.there, {"b": "1"})
    order = exchange._Exchange._order
    monkeypatch.setattr(exchange._Exchange, "_order", lambda *words: {**order(*words), "bytes": 1 << 60})
    before = files(sides.here), files(sides.there)
    with pytest.raises(CommandFailed) as caught:
        getattr(sides, way)()
    assert (caught.value.code, where in caught.value.hint) == ("disk-full", True)
    assert "bytes needed" in caught.value.result.stderr
    assert (files(sides.here), files(sides.there)) == before


def test_for_a_workspace_on_this_machine_there_is_no_other_side(sides: Sides) -> None:
    local = local_environment(sides, "local")
    for way in (exchange.push, exchange.pull):
        with pytest.raises(UsageError) as caught:
            way(sides.connection, local, sides.scripts, sides.events.append)
        assert caught.value.code == "no-remote"


OURS = {"mlops-env.toml": TOML, "README.md": "ours", "src/taxi/train.py": "ours"}


def lay_out(sides: Sides, root: Path, *words: str, pipeline: dict[str, str] = OURS) -> None:
    """What the workspace step does there, with this as the pipeline that we bring."""
    tree = sides.env.directory / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    write(tree / "pipeline", pipeline)
    settings = {
        "MLOPS_ENV_WORKSPACE": str(root),
        "MLOPS_ENV_TREE": str(tree),
        "MLOPS_ENV_ID": sides.env.record.id,
        "MLOPS_ENV_NAME": "default",
        "PATH": os.environ["PATH"],
    }
    script = ROOT / "orchestrators" / "copy_pipeline.py"
    subprocess.run([sys.executable, str(script), *(words or ("apply",))], env=settings, check=True)


@pytest.fixture
def taxi(sides: Sides) -> Sides:
    """The host has our pipeline, as the workspace step lays it out; here is nothing yet."""
    for name in files(sides.here):
        (sides.here / name).unlink()
    sides.here.rmdir()
    sides.env = sides.env.save(own_workspace=False)
    lay_out(sides, sides.there)
    return sides


def test_our_pipeline_is_pulled_whole_and_a_push_before_that_deletes_nothing(taxi: Sides) -> None:
    before = files(taxi.there)
    assert taxi.push() == exchange.Exchanged()
    assert files(taxi.there) == before
    assert taxi.pull().files == len(before)
    assert files(taxi.here) == before
    lay_out(taxi, taxi.there, "check")


def test_after_down_a_local_up_goes_on_in_the_pulled_folder(taxi: Sides) -> None:
    history(taxi.there, "one")
    taxi.pull()
    (taxi.env.directory / "environment.json").unlink()  # what `down` does
    asked = config.resolve({"name": "default", "workspace": str(taxi.here)}, [], {}, taxi.here)
    assert intent.settle(asked, None)["own_workspace"] is False
    lay_out(taxi, taxi.here)
    assert recorded(taxi.here) == ["one"]
    newer = {"mlops-env.toml": f"{TOML}# newer"}
    lay_out(taxi, taxi.here, pipeline=newer)  # an upgrade: our files follow, as nobody changed them
    assert files(taxi.here) == newer


def test_our_files_are_nobodys_change_on_either_side(taxi: Sides) -> None:
    """The folder of an earlier environment, laid out by an earlier version of us, with one file edited."""
    lay_out(taxi, taxi.here, pipeline={name: f"{text}# older" for name, text in OURS.items()})
    write(taxi.here, {"README.md": "mine"})
    assert taxi.push().files == 1
    assert files(taxi.there)["README.md"] == "mine"
    taxi.pull()
    assert files(taxi.here) == files(taxi.there)
    lay_out(taxi, taxi.here, "check")
    lay_out(taxi, taxi.there, "check")


def test_a_new_host_gets_its_own_version_of_our_files_and_mine_of_those_i_changed(taxi: Sides, tmp_path: Path) -> None:
    taxi.pull()
    write(taxi.here, {"README.md": "mine"})
    taxi.there.rename(tmp_path / "the host before")
    assert taxi.push().files == 1
    assert files(taxi.there) == {"README.md": "mine"}
    lay_out(taxi, taxi.there)
    assert files(taxi.there) == files(taxi.here)


def test_a_change_of_a_generated_project_comes_and_its_undoing_too(sides: Sides) -> None:
    sides.push()
    project = ".mlops-env/projects/toy"
    digests = {"flow.py": hashlib.sha256(b"generated").hexdigest(), "other.py": hashlib.sha256(b"other").hexdigest()}
    write(sides.there, {f"{project}/flow.py": "edited", f"{project}/other.py": "other"})
    write(sides.there, {".mlops-env/manifest.json": json.dumps({"toy": digests})})
    assert sides.pull().files == 1
    assert files(sides.here / project, results=True) == {"flow.py": "edited"}
    write(sides.there, {f"{project}/flow.py": "generated"})
    assert sides.pull().deleted == 1
    assert not (sides.here / ".mlops-env/projects").exists()
