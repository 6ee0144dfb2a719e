"""Bringing a host to the desired state: the steps of bootstrap/, and our scripts that run there."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_env.bundle import bundled, tree
from mlops_env.connection import put
from mlops_env.errors import CommandFailed
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlops_env.bundle import Tree
    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_PENDING = 10
"""Exit code of `run.sh check` where a step is not in its desired state."""


@dataclass(frozen=True)
class HostScripts:
    """Builds the commands that act for one environment on a host. `tree` is where our files are there."""

    environment: Environment
    tree: Path

    def settings(self) -> list[str]:
        """The `env` prefix that tells every script on the host which environment it acts for."""
        record = self.environment.record
        values = {
            "MLOPS_ENV_ID": record.id,
            "MLOPS_ENV_NAME": record.name,
            "MLOPS_ENV_ORCHESTRATOR": record.orchestrator,
            "MLOPS_ENV_WORKSPACE": record.workspace,
            "MLOPS_ENV_OWN_WORKSPACE": "1" if record.own_workspace else "",
            "MLOPS_ENV_HOST_DIR": str(self.environment.host),
            "MLOPS_ENV_TREE": str(self.tree),
            "MLOPS_ENV_PYTHON": sys.executable,
            "MLOPS_ENV_UV": uv(),
            "MLOPS_ENV_JOB": "1",
            "PYTHONUTF8": "1",
        }
        return ["env", *(f"{key}={value}" for key, value in values.items())]

    def converge(self, mode: str) -> list[str]:
        """`mode` is `apply`, or `check` to change nothing."""
        return [*self.settings(), "bash", str(self.tree / "bootstrap" / "run.sh"), mode]

    def services(self, *words: str) -> list[str]:
        """A verb of services.py, such as `status`, or `exec` with one of our scripts."""
        python = self.environment.host / "venvs" / "tools" / "bin" / "python"
        return [*self.settings(), str(python), str(self.tree / "orchestrators" / "services.py"), *words]

    def sweep(self) -> list[str]:
        """End and remove all that this environment made, with a receipt; needs nothing of what it removes."""
        return [*self.settings(), sys.executable, str(self.tree / "orchestrators" / "sweep.py")]


def on_this_machine(environment: Environment) -> HostScripts:
    """The scripts where they are already: in the tree that `up` put there, else where we were installed."""
    directory = tree_directory(environment, tree())
    return HostScripts(environment, directory if directory.is_dir() else bundled("bootstrap").parent)


def bring(connection: Connection, environment: Environment, emit: Emit) -> tuple[HostScripts, Converged]:
    """Put our files on the host, converge it, and remove the files of earlier versions of us."""
    files = tree()
    scripts = HostScripts(environment, tree_directory(environment, files))
    is_new = upload(connection, files, scripts.tree)
    converged = converge(connection, scripts, emit)
    if is_new:
        others = ["-mindepth", "1", "-maxdepth", "1", "!", "-name", scripts.tree.name]
        connection.run(["find", str(scripts.tree.parent), *others, "-exec", "rm", "-rf", "{}", "+"])
    return scripts, converged


def uv() -> str:
    """The uv that came with us, else the one on PATH."""
    import uv as uv_package  # noqa: PLC0415 - not needed for `--help`

    try:
        return uv_package.find_uv_bin()
    except FileNotFoundError:
        return "uv"


def tree_directory(environment: Environment, files: Tree) -> Path:
    return environment.host / "tree" / files.digest


def upload(connection: Connection, files: Tree, directory: Path) -> bool:
    """Put the tree on the host unless it is there, since its name is its content; true if it was put."""
    if connection.run(["test", "-d", str(directory)]).ok:
        return False
    result = put(connection, files.tar(), str(directory))
    if not result.ok:
        raise _failure("cannot unpack our files on the host", result, "")
    return True


@dataclass(frozen=True)
class Converged:
    """Steps by name with their status, and where each service's page is."""

    steps: dict[str, str]
    urls: dict[str, str]


def converge(connection: Connection, scripts: HostScripts, emit: Emit, *, mode: str = "apply") -> Converged:
    """Run every step in order, stopping at the first that fails."""
    steps: dict[str, str] = {}
    urls: dict[str, str] = {}
    current = ""

    def on_line(stream: str, line: str) -> None:
        nonlocal current
        if stream == "stderr":
            emit(Event("log", name=current, message=line))
            return
        event = parse_event(line)
        if event is None:
            return
        if event.type == "step":
            current = event.name
            steps[current] = event.status
        if "url" in event.fields:
            urls[event.name] = event.fields["url"]
        emit(event)

    result = connection.run(scripts.converge(mode), on_line=on_line)
    if not result.ok and not (mode == "check" and result.exited == _PENDING):
        raise _failure(f"step {current} failed" if current else "bootstrap did not start", result, current)
    return Converged(steps, urls)


def parse_event(line: str) -> Event | None:
    """An event of a step, or None for a line that is none."""
    try:
        value: dict[str, Any] = json.loads(line)
        kind = value.pop("type")
        name = value.pop("name", "")
        return Event(kind, value.pop("status", ""), name, value.pop("message", ""), fields=value)
    except (ValueError, KeyError, AttributeError, TypeError):
        return None


_CAUSES: Sequence[tuple[tuple[str, ...], str, str]] = (
    (
        ("No space left on device", "os error 28"),
        "disk-full",
        "free some space (`df -h`), then run the same command again: it continues where it stopped",
    ),
    (
        ("No interpreter found", "No Python interpreter"),
        "python-missing",
        "install the Python named above (for example with your system's packages or `uv python install 3.12`)",
    ),
    (
        (
            "dns error",
            "error sending request",
            "Failed to fetch",
            "tcp connect error",
            "Network is unreachable",
            "Network connectivity is disabled",
            "the network was disabled",
        ),
        "network",
        "the package registry cannot be reached; check the network or the proxy settings, then run it again",
    ),
    (
        ("Permission denied", "os error 13", "Read-only file system"),
        "permission",
        "mend the permissions named above",
    ),
)


def _failure(message: str, result: Result, step: str) -> CommandFailed:
    """Name the cause where the tool's own words tell it."""
    for words, code, hint in _CAUSES:
        if any(word in result.stderr for word in words):
            return CommandFailed(message, code=code, result=result, hint=hint)
    hint = "`mlops-env logs` shows more; running the same command again continues where it stopped"
    return CommandFailed(message, code=f"step-{step}" if step else "bootstrap", result=result, hint=hint)


def joined(argv: Sequence[str]) -> str:
    """For people to read and paste: the one place where an argv becomes a shell line."""
    return shlex.join(argv)
