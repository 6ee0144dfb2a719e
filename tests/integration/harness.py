"""One person's machine for a test: a HOME of its own, the real command line, and the end of all that it started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import psutil

from mlops_env.bootstrap import HostScripts
from mlops_env.environment import Environment, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "toy"
CLI = (sys.executable, "-m", "mlops_env")

_HOME = "Zoë's hömé"  # a blank, a quote, letters that are not ASCII
# What may be set where the tests are started, and means something to what they start.
_FOREIGN = ("MLOPS_ENV_", "MLFLOW_", "PREFECT_", "MAGE_", "XDG_", "PYTEST_", "VIRTUAL_ENV", "PYTHONPATH")

Table = dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a command ended, with what it said: all events, and the last of them, the result."""

    code: int
    events: list[Table]
    stderr: str

    @property
    def result(self) -> Table:
        assert self.events, self.stderr
        assert self.events[-1]["type"] == "result", self
        return self.events[-1]

    def statuses(self, kind: str) -> dict[str, str]:
        """The last status of each thing of a kind: step, service, run."""
        return {event["name"]: event["status"] for event in self.events if event["type"] == kind and "status" in event}

    def found_all_done(self) -> bool:
        """Whether every step that was called for had nothing to do."""
        return set(self.statuses("step").values()) - {"skipped"} == {"ok"}

    def messages(self) -> str:
        return "\n".join(event.get("message", "") for event in self.events)

    def succeeded(self) -> Ended:
        assert self.code == 0, self.explain()
        return self

    def failed(self, code: str, exit_code: int = 1) -> Ended:
        assert (self.code, self.result.get("error", {}).get("code")) == (exit_code, code), self.explain()
        return self

    def explain(self) -> str:
        lines = [json.dumps(event, ensure_ascii=False) for event in self.events]
        return "\n".join([f"exit {self.code}", *lines, self.stderr])


@dataclass
class Machine:
    """`folder` holds everything; `product` is the copy of ours that runs; a setting of None unsets a variable."""

    folder: Path
    cache: Path
    product: Path
    settings: dict[str, str | None] = field(default_factory=dict)
    identities: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        self.temporary.mkdir()

    @property
    def home(self) -> Path:
        return self.folder / _HOME

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def state(self) -> Path:
        return self.home / ".local" / "state" / "mlops-env"

    def host(self, name: str = "default") -> Path:
        return self.state / name / "host"

    @property
    def workspace(self) -> Path:
        return self.home / "mlops-env" / "default"

    def variables(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_FOREIGN)}
        venv = str(Path(sys.executable).parent)
        path = [entry for entry in os.environ["PATH"].split(os.pathsep) if entry != venv]
        variables: dict[str, str | None] = {
            **kept,
            "PATH": os.pathsep.join(path),
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "UV_CACHE_DIR": str(self.cache),
            "PYTHONPATH": str(self.product / "src"),
            **self.settings,
        }
        return {key: value for key, value in variables.items() if value is not None}

    def start(self, *words: str, cwd: Path | None = None, before: Sequence[str] = ()) -> Running:
        """The command in a session of its own, as in a terminal of its own."""
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever waits
        process = subprocess.Popen(
            [*before, *CLI, *words, "--json"],
            cwd=cwd or self.home,
            env=self.variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        return Running(process, stderr, self)

    def __call__(self, *words: str, cwd: Path | None = None, before: Sequence[str] = ()) -> Ended:
        return self.start(*words, cwd=cwd, before=before).wait()

    def record(self, name: str = "default") -> Table:
        found: Table = json.loads((self.state / name / "environment.json").read_text(encoding="utf-8"))
        return found

    def remember(self) -> None:
        """The ids of the environments that are there, for when their records are gone."""
        for path in self.state.glob("*/environment.json"):
            self.identities.add(json.loads(path.read_text(encoding="utf-8"))["id"])

    def processes(self, containing: str = "") -> list[psutil.Process]:
        """All that this machine's commands started: every process with its HOME, whatever else it has forgotten."""
        found = []
        for process in psutil.process_iter():
            try:
                variables, words = process.environ(), process.cmdline()
            except psutil.Error:
                continue
            if variables.get("HOME") == str(self.home) and containing in "\0".join(words):
                found.append(process)
        return found

    def scripts(self, name: str = "default") -> HostScripts:
        """The commands that the command line itself runs on the host."""
        record = Record(**self.record(name))
        (tree,) = (self.host(name) / "tree").iterdir()
        return HostScripts(Environment(name, self.state / name, record), tree)

    def script(self, *words: str) -> tuple[int, Table, str]:
        """One of our scripts by hand, in the orchestrator's Python: exit code, the last line of stdout, stderr."""
        command = self.scripts().services("exec", *words)
        done = subprocess.run(
            command, env=self.variables(), cwd=self.home, capture_output=True, text=True, check=False, timeout=300
        )
        lines = done.stdout.splitlines()
        return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr

    def service(self, name: str) -> psutil.Process:
        """The main process of a service: the child of the group.py that the supervisor runs."""
        (group,) = [p for p in self.processes("group.py") if f"{name}.json" in "".join(p.cmdline())]
        (main,) = group.children()
        return main

    def supervisor(self) -> psutil.Process:
        (daemon,) = self.processes("supervisor.supervisord")
        return daemon

    def kill_everything(self) -> None:
        """What a power cut does: nobody gets to say goodbye."""
        while found := self.processes():
            for process in found:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def leftovers(self) -> list[str]:
        """What is left of the environments: processes and temporary files."""
        processes = [f"process {p.pid}: {' '.join(p.cmdline())}" for p in self.processes()]
        sockets = [path for one in self.identities for path in Path("/tmp").glob(f"mlops-env-*-{one[:8]}")]  # noqa: S108
        return [*processes, *map(str, sockets), *(str(path) for path in self.temporary.iterdir())]

    def tear_down(self) -> None:
        """Whatever the test did: after `down` nothing is left."""
        self.remember()
        try:
            names = sorted(path.parent.name for path in self.state.glob("*/environment.json"))
            receipts = {name: self("down", "--name", name).succeeded().result for name in names}
            assert all(receipt["left"] == 0 for receipt in receipts.values()), receipts
            assert self.leftovers() == []
        finally:
            self.kill_everything()
            shutil.rmtree(self.folder)


@dataclass
class Running:
    """A command that is still going, event by event."""

    process: subprocess.Popen[str]
    stderr: IO[bytes]
    machine: Machine
    events: list[Table] = field(default_factory=list)

    def next(self) -> Table | None:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line.endswith("\n"):  # the end, maybe in the middle of a line
            return None
        event: Table = json.loads(line)
        self.events.append(event)
        return event

    def until(self, reached: Callable[[Table], bool]) -> Running:
        """Up to the first such event; it must come."""
        while (event := self.next()) and not reached(event):
            pass
        assert event, self.wait().explain()
        return self

    def interrupt(self) -> Running:
        """Ctrl-C: the terminal tells the whole foreground process group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self

    def kill(self) -> Ended:
        """With -9, and the command alone."""
        self.process.kill()
        return self.wait()

    def wait(self) -> Ended:
        while self.next():
            pass
        code = self.process.wait()
        self.machine.remember()
        with self.stderr, self.process:
            self.stderr.seek(0)
            return Ended(code, self.events, self.stderr.read().decode(errors="replace"))


class Witness:
    """Looks at every process's argv, all the time."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(0.25):
            for process in psutil.process_iter():
                try:
                    self.seen.add("\0".join(process.cmdline()))
                except psutil.Error:
                    continue

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def copy_product(folder: Path) -> Path:
    """A copy of ours: what somebody edits while the tests run would be an upgrade."""
    for name in ("src/mlops_env", "bootstrap", "orchestrators", "pipeline"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.egg-info"))
    return folder


def add_toy(folder: Path) -> Path:
    """In a copy of ours, the toy is one of the orchestrators, MLflow is a toy, and so is our pipeline.

    The question whether MLflow is healthy stays ours.
    """
    health = (folder / "orchestrators/mlflow/trigger.py").read_bytes()
    for name in ("orchestrators/mlflow", "pipeline"):
        shutil.rmtree(folder / name)
    for name in ("orchestrators/toy", "orchestrators/mlflow", "pipeline"):
        shutil.copytree(TOY / Path(name).name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "orchestrators/mlflow/trigger.py").write_bytes(health)
    supervision = folder / "orchestrators" / "supervision.py"
    text = supervision.read_text(encoding="utf-8")
    assert "startsecs=2" in text
    supervision.write_text(text.replace("startsecs=2", "startsecs=1"), encoding="utf-8")  # the toy is quicker
    config = folder / "src" / "mlops_env" / "config.py"
    text = config.read_text(encoding="utf-8")
    assert '_DEFAULT_ORCHESTRATOR = "mage"' in text
    text = text.replace('_DEFAULT_ORCHESTRATOR = "mage"', '_DEFAULT_ORCHESTRATOR = "toy"')
    config.write_text(text, encoding="utf-8")
    return folder


def wait_until(reached: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """GET, or POST with a body; JSON both ways."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    with _opener.open(request, timeout=20) as reply:
        return json.loads(reply.read())


def mlflow_runs(url: str, experiment: str) -> list[Table]:
    """All runs of an experiment, the latest first, tags, params and metrics as tables."""
    found = ask(f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name={experiment}")["experiment"]
    body = {
        "experiment_ids": [found["experiment_id"]],
        "filter": "",
        "max_results": 100,
        "order_by": ["attributes.start_time DESC"],
    }
    runs = ask(f"{url}/api/2.0/mlflow/runs/search", body).get("runs", [])
    return [
        {
            **run["info"],
            "inputs": run.get("inputs", {}),
            "outputs": run.get("outputs", {}),
            **{
                kind: {item["key"]: item["value"] for item in run["data"].get(kind, [])}
                for kind in ("tags", "params", "metrics")
            },
        }
        for run in runs
    ]


def listening_addresses(found: list[psutil.Process]) -> set[str]:
    """From /proc/net/tcp and tcp6: the local addresses of all sockets in state LISTEN that these processes hold."""
    inodes = set()
    for process in found:
        try:
            links = [str(path.readlink()) for path in Path(f"/proc/{process.pid}/fd").iterdir()]
        except OSError:
            continue
        inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in inodes:
                addresses.add(local.partition(":")[0])
    return addresses
