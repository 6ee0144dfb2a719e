"""Measure what DESIGN promises, as ratios taken in one run: `python bench/run.py [NAME …]`.

Prints a table and writes build/bench.json, a list of rows {"name", "ratio" or "value", "bar", "met"}.
Groups: help, up, training, hosts (this one needs root and Docker), ec2 (with each engine that is there). Everything
happens in a temporary HOME; packages come from one uv cache, filled first, so that no figure depends on how far away
the registry is.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ORCHESTRATOR = "mage"
Row = dict[str, Any]


def row(name: str, kind: str, figure: float, bar: float, detail: str = "") -> Row:
    return {"name": name, kind: round(figure, 3), "bar": f"<= {bar}", "met": figure <= bar, "detail": detail}


def timed(command: Sequence[str], variables: dict[str, str] | None = None, *, check: bool = True) -> float:
    start = time.monotonic()
    subprocess.run(command, env=variables, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


def bench_help() -> list[Row]:
    """In turn, so that both meet the same machine."""
    ours, theirs = [], []
    for _ in range(15):
        ours.append(timed([str(BIN / "mlops-env"), "--help"]))
        theirs.append(timed([sys.executable, "-c", "import typer"]))
    return [row("--help ÷ import typer", "ratio", statistics.median(ours) / statistics.median(theirs), 1.5)]


def bench_up() -> list[Row]:
    """A cold `up` against its parts done by hand, and a warm one."""
    with tempfile.TemporaryDirectory(prefix="mlops-env-bench-") as directory:
        home = Path(directory)
        variables = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_ENV_")}
        variables |= {"HOME": str(home), "UV_CACHE_DIR": str(home / "uv-cache")}
        cli = str(BIN / "mlops-env")
        host = home / ".local/state/mlops-env/default/host"
        try:
            timed([cli, "up", "--no-run"], variables)  # fills the cache
            installs = _install_by_hand(host, home / "by-hand", variables)
            timed([cli, "down", "--delete-workspace", "--yes"], variables)
            cold = timed([cli, "up"], variables)
            warm = statistics.median(timed([cli, "up"], variables) for _ in range(5))
            timed([cli, "stop"], variables)
            start = _start_by_hand(host, variables)
            timed([cli, "start"], variables)
            run = _run_by_hand(host, variables)
        finally:
            timed([cli, "down"], variables, check=False)
    parts = installs + start + run
    detail = f"{cold:.1f} s ÷ ({installs:.1f} s installs + {start:.1f} s start + {run:.1f} s run)"
    return [
        row("cold up ÷ its parts", "ratio", cold / parts, 1.25, detail),
        row("warm up, seconds", "value", warm, 1.5),
    ]


def _specification(host: Path) -> dict[str, Any]:
    return dict(json.loads((host / "programs" / f"{ORCHESTRATOR}.json").read_text(encoding="utf-8")))


def _install_by_hand(host: Path, into: Path, variables: dict[str, str]) -> float:
    """What somebody types who has the same locks: one venv after the other."""
    tree = Path(_specification(host)["settings"]["MLOPS_ENV_TREE"])
    locks = [tree / "orchestrators" / name / "requirements.lock" for name in (ORCHESTRATOR, "mlflow")]
    total = 0.0
    for number, lock in enumerate([*locks, tree / "pipeline" / "requirements.lock"]):
        venv = into / str(number)
        total += timed([str(BIN / "uv"), "venv", "--no-project", "--python", "3.11", str(venv)], variables)
        python = str(venv / "bin/python")
        total += timed([str(BIN / "uv"), "pip", "sync", "--require-hashes", "--python", python, str(lock)], variables)
    return total


def _by_hand(host: Path, variables: dict[str, str], script: str, *words: str) -> tuple[list[str], dict[str, str]]:
    settings = _specification(host)["settings"]
    path = Path(settings["MLOPS_ENV_TREE"]) / "orchestrators" / ORCHESTRATOR / script
    return [str(host / "venvs" / ORCHESTRATOR / "bin/python"), str(path), *words], {**variables, **settings}


def _start_by_hand(host: Path, variables: dict[str, str]) -> float:
    """The orchestrator alone, from its command to the first healthy answer."""
    specification = _specification(host)
    health, environment = _by_hand(host, variables, "trigger.py", "health")
    start = time.monotonic()
    with (host / "logs" / "by-hand.log").open("wb") as log:
        server = subprocess.Popen(
            specification["argv"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            while subprocess.run(health, env=environment, check=False, capture_output=True).returncode:
                time.sleep(0.1)
            return time.monotonic() - start
        finally:
            os.killpg(server.pid, 15)
            server.wait()


def _run_by_hand(host: Path, variables: dict[str, str]) -> float:
    return timed(*_by_hand(host, variables, "trigger.py", "run"))


def bench_training() -> list[Row]:
    command = [sys.executable, str(ROOT / "bench" / "training.py"), "--uv", str(BIN / "uv")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def bench_hosts() -> list[Row]:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # its hosts are those of the tests
    from bench import hosts  # noqa: PLC0415 - imports what only it needs

    return hosts.rows()


def bench_ec2() -> list[Row]:
    sys.path.insert(0, str(ROOT))
    from bench import ec2  # noqa: PLC0415 - as above

    return ec2.rows()


def main() -> int:
    groups: dict[str, Callable[[], list[Row]]] = {
        "help": bench_help,
        "up": bench_up,
        "training": bench_training,
        "hosts": bench_hosts,
        "ec2": bench_ec2,
    }
    wanted = sys.argv[1:] or list(groups)
    rows = [one for name in wanted for one in groups[name]()]
    table = Table("what", "measured", "bar", "met", "how", title="Measured in one run")
    for one in rows:
        figure = one.get("ratio", one.get("value"))
        table.add_row(one["name"], f"{figure}", f"{one['bar']}", "yes" if one["met"] else "NO", one.get("detail", ""))
    Console().print(table)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "bench.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
