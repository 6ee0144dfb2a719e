"""Bringing a host to the desired state: the steps of bootstrap/, and our scripts that run there."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlops_env.bundle import bundled, tree
from mlops_env.connection import put
from mlops_env.errors import CommandFailed, ConnectionLost, MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import PurePath

    from mlops_env.bundle import Tree
    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_PENDING = 10
"""Exit code of `run.sh check` where a step is not in its desired state."""

_NO_TREE = 111
_IN_TREE = f'test -d "$1" || exit {_NO_TREE}; shift; exec "$@"'


@dataclass(frozen=True)
class HostScripts:
    """Builds the commands that act for one environment on a host. `tree` is where our files are there."""

    environment: Environment
    tree: PurePath

    def settings(self) -> list[str]:
        """The `env` prefix that tells every script on the host which environment it acts for."""
        record = self.environment.record
        values = {
            "MLOPS_ENV_ID": record.id,
            "MLOPS_ENV_NAME": record.name,
            "MLOPS_ENV_ORCHESTRATOR": record.orchestrator,
            "MLOPS_ENV_RUNTIME": record.runtime,
            "MLOPS_ENV_WORKSPACE": str(self.environment.host_workspace),
            "MLOPS_ENV_OWN_WORKSPACE": "1" if record.own_workspace else "",
            "MLOPS_ENV_HOST_DIR": str(self.environment.host),
            "MLOPS_ENV_TREE": str(self.tree),
            **self._whose_machine(),
            "MLOPS_ENV_JOB": "1",
            "PYTHONUTF8": "1",
        }
        return ["env", *(f"{key}={value}" for key, value in values.items())]

    def _whose_machine(self) -> dict[str, str]:
        """A host is equipped, as root; this machine is its user's, who has the tools we came with."""
        host = self.environment.record.host
        if not host:
            return {"MLOPS_ENV_SYSTEM": "", "MLOPS_ENV_PYTHON": sys.executable, "MLOPS_ENV_UV": uv()}
        wishes = {
            "GIT_AUTHOR_NAME": host.get("git_name"),
            "GIT_AUTHOR_EMAIL": host.get("git_email"),
            "MLOPS_ENV_DOCKER_SOURCE": os.environ.get("MLOPS_ENV_DOCKER_SOURCE"),
        }
        return {"MLOPS_ENV_SYSTEM": "1", **{key: value for key, value in wishes.items() if value}}

    def python(self) -> str:
        """The Python of the tools venv: the one that our host-side scripts have wherever they are."""
        return str(self.environment.host / "venvs" / "tools" / "bin" / "python")

    def converge(self, mode: str, *, until: str = "") -> list[str]:
        """`mode` is `apply`, or `check` to change nothing; `until` names the last step to do, else all are done."""
        run = ["bash", str(self.tree / "bootstrap" / "run.sh"), mode, *([until] if until else [])]
        return [*self.settings(), "sh", "-c", _IN_TREE, "sh", str(self.tree), *run]

    def services(self, *words: str) -> list[str]:
        """A verb of services.py, such as `status`, or `exec` with one of our scripts."""
        return [*self.settings(), self.python(), str(self.tree / "orchestrators" / "services.py"), *words]

    def sweep(self, *, purge: bool = False) -> list[str]:
        """End and remove all that this environment made, with a receipt; needs nothing of what it removes."""
        if self.environment.is_remote:
            return [*self.settings(), "bash", str(self.tree / "bootstrap" / "down.sh"), *(["--purge"] if purge else [])]
        return [*self.settings(), sys.executable, str(self.tree / "orchestrators" / "sweep.py")]


def present(connection: Connection, environment: Environment) -> HostScripts:
    """The scripts where they are already, for commands that change nothing; a host that lacks them gets them."""
    files = tree()
    directory = tree_directory(environment, files)
    if environment.is_remote:
        upload(connection, files, directory)
        return HostScripts(environment, directory)
    is_there = Path(directory).is_dir()
    return HostScripts(environment, directory if is_there else bundled("bootstrap").parent)


def bring(
    connection: Connection, environment: Environment, emit: Emit, *, until: str = ""
) -> tuple[HostScripts, Converged]:
    """Converge the host, with our files put there where they are not, and those of earlier versions removed.

    A host that is in its desired state is recognised by one command.
    """
    files = tree()
    scripts = HostScripts(environment, tree_directory(environment, files))
    converged = converge(connection, scripts, emit, until=until)
    if not converged.steps:
        upload(connection, files, scripts.tree)
        converged = converge(connection, scripts, emit, until=until)
        others = ["-mindepth", "1", "-maxdepth", "1", "!", "-name", scripts.tree.name]
        connection.run(["find", str(scripts.tree.parent), *others, "-exec", "rm", "-rf", "{}", "+"])
    if "changed" in {converged.steps.get("docker"), converged.steps.get("daemon")}:
        connection.renew()  # the user may be in group docker since just now
    return scripts, converged


def preview(connection: Connection, environment: Environment, emit: Emit) -> Converged:
    """What `bring` would do. A host that was never brought up has our files for just as long as it is looked at."""
    if not environment.is_remote or connection.run(["test", "-d", str(environment.host)]).ok:
        return converge(connection, present(connection, environment), emit, mode="check")
    guest = PurePosixPath("/tmp", f"mlops-env-preview-{environment.record.id}")  # noqa: S108 - a name nobody guesses
    try:
        upload(connection, tree(), guest)
        return converge(connection, HostScripts(environment, guest), emit, mode="check")
    finally:
        connection.run(["rm", "-rf", str(guest)])


def uv() -> str:
    """The uv that came with us, else the one on PATH."""
    import uv as uv_package  # noqa: PLC0415 - not needed for `--help`

    try:
        return uv_package.find_uv_bin()
    except FileNotFoundError:
        return "uv"


def tree_directory(environment: Environment, files: Tree) -> PurePath:
    return environment.host / "tree" / files.digest


def upload(connection: Connection, files: Tree, directory: PurePath) -> None:
    """Put the tree on the host unless it is there, since its name is its content."""
    if connection.run(["test", "-d", str(directory)]).ok:
        return
    result = put(connection, files.tar(), str(directory))
    if not result.ok:
        raise _failure("cannot unpack our files on the host", result, Converged())


@dataclass(frozen=True)
class Converged:
    """Steps by name with their status, causes by step, and where each service's page is, as the host sees it."""

    steps: dict[str, str] = field(default_factory=dict)
    causes: dict[str, Event] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def current(self) -> str:
        """The step that spoke last."""
        return next(reversed(self.steps), "")

    def take(self, event: Event) -> bool:
        """Remember what an event says; true if people want to see it too."""
        if event.type == "step":
            self.steps[event.name] = event.status
        if event.type == "cause":
            self.causes[event.name or self.current] = event  # a step may fail before it says that it has begun
        if "url" in event.fields:
            self.urls[event.name] = event.fields["url"]
        return event.type != "cause"


def converge(
    connection: Connection, scripts: HostScripts, emit: Emit, *, mode: str = "apply", until: str = ""
) -> Converged:
    """Run every step in order, stopping at the first that fails. No steps: our files are not on the host."""
    done = Converged()

    def on_line(stream: str, line: str) -> None:
        event = parse_event(line) if stream == "stdout" else Event("log", name=done.current, message=line)
        if event and done.take(event):
            emit(event)

    try:
        result = connection.run(scripts.converge(mode, until=until), on_line=on_line)
    except ConnectionLost as error:
        if done.current:
            error.message += f", in step {done.current}"
        raise
    if result.exited == _NO_TREE and not done.steps:
        return done
    if not result.ok and not (mode == "check" and result.exited == _PENDING):
        raise _failure(f"step {done.current} failed" if done.current else "bootstrap did not start", result, done)
    return done


def told_error(result: Result, failure: str = "") -> MlopsEnvError | None:
    """The cause that a script told outside of a step, where its events go to stderr, after what failed by it."""
    events = (parse_event(line) for line in result.stderr.splitlines() if line.startswith("{"))
    cause = next((event for event in events if event and event.type == "cause"), None)
    if cause is None:
        return None
    message = f"{failure}: {cause.message}" if failure else cause.message
    return MlopsEnvError(message, **_code_and_hint(cause))


def _code_and_hint(cause: Event) -> dict[str, str]:
    return {key: str(cause.fields.get(key, "")) for key in ("code", "hint")}


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


def _failure(message: str, result: Result, done: Converged) -> CommandFailed:
    """Name the cause: the one that the step told, else where the tool's own words tell it."""
    step = done.current
    if cause := done.causes.get(step):
        return CommandFailed(f"{message}: {cause.message}", result=result, **_code_and_hint(cause))
    for words, code, hint in _CAUSES:
        if any(word in result.stderr for word in words):
            return CommandFailed(message, code=code, result=result, hint=hint)
    hint = "`mlops-env logs` shows more; running the same command again continues where it stopped"
    return CommandFailed(message, code=f"step-{step}" if step else "bootstrap", result=result, hint=hint)
