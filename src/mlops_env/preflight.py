"""What can be known before anything is made: answered in a second, each with its cure."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.bootstrap import converge, present, uv
from mlops_env.bundle import bundled
from mlops_env.config import FILE
from mlops_env.connection import LocalConnection
from mlops_env.errors import MlopsEnvError, UsageError
from mlops_env.events import Event
from mlops_env.orchestrators import Orchestrator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.connection import Connection
    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_NEEDED_MEMORY_MB = 3000
"""The largest orchestrator at its peak takes 1.4 GB beside MLflow's 0.5 GB and a step's own; measured."""


@dataclass(frozen=True)
class Check:
    """One look: `status` is ok, warning or failed; a failed one has a code and a hint."""

    name: str
    status: str
    message: str
    code: str = ""
    hint: str = ""


def checks(connection: Connection, orchestrators: list[Orchestrator], directory: Path, runtime: str) -> list[Check]:
    """All of them, of this machine, for a host directory that need not exist; without a runtime, for both.

    Nothing is changed, but for runtime venv uv may fetch a Python.
    """
    pythons = [_python(connection, orchestrator) for orchestrator in orchestrators] if runtime != "compose" else []
    return [
        _platform(),
        *pythons,
        *([_docker(connection, is_needed=runtime == "compose")] if runtime != "venv" else []),
        _disk(orchestrators, directory),
        _memory(),
        _processor(),
        _git(),
    ]


def before_up(connection: Connection, environment: Environment, emit: Emit) -> None:
    """Raise for the first failed check. Where the orchestrator is installed already there is nothing to look at.

    What can be known of a host, its first bootstrap step looks at: it is there.
    """
    record = environment.record
    orchestrator = Orchestrator.read(record.orchestrator)
    needed = [orchestrator, Orchestrator.read("mlflow")]
    if environment.is_remote:
        if not environment.directory.exists():
            _announce(needed, f"on {record.host['destination']}", emit)
        return
    directory = Path(environment.host)
    if record.runtime == "venv" and (directory / "venvs" / orchestrator.name / "mlops-env.digest").is_file():
        return
    for check in checks(connection, needed, directory, record.runtime):
        if check.status == "failed":
            kind = UsageError if check.code == "platform" else MlopsEnvError
            raise kind(check.message, code=check.code, hint=check.hint)
        if check.status == "warning":
            emit(Event("warning", message=f"{check.message}: {check.hint}"))
    if not environment.directory.exists() or record.runtime == "venv":
        _announce(needed, "on this machine", emit)


def _announce(needed: list[Orchestrator], where: str, emit: Emit) -> None:
    download, disk = (sum(getattr(o, f"{what}_mb") for o in needed) for what in ("download", "disk"))
    emit(
        Event(
            "note",
            message=f"the first `up` of {needed[0].title} downloads up to {download} MB and takes {disk} MB {where}",
            fields={"download_mb": download, "disk_mb": disk},
        )
    )


def check_pipeline(workspace: Path, params: Mapping[str, str]) -> None:
    """Have pipeline file and parameters read, here, by the one who reads them on every host."""
    folder = workspace if (workspace / FILE).is_file() else bundled("pipeline")  # else ours comes
    words = [f"{key}={value}" for key, value in params.items()]
    result = LocalConnection().run(
        [sys.executable, str(bundled("orchestrators") / "workspace.py"), str(folder), *words]
    )
    if not result.ok:
        hint = "mend the above and run again; nothing was started or changed"
        raise UsageError(result.stderr.strip(), code="pipeline-file", hint=hint)


def of_host(connection: Connection, environment: Environment) -> list[Check]:
    """The bootstrap steps of a host as checks."""
    done = converge(connection, present(connection, environment), lambda _: None, mode="check")
    return [_of_step(name, status, done.causes.get(name)) for name, status in done.steps.items()]


def _of_step(name: str, status: str, cause: Event | None) -> Check:
    if status != "pending":
        return Check(name, "ok", status)
    if cause:
        return Check(name, "failed", cause.message, cause.fields.get("code", ""), cause.fields.get("hint", ""))
    return Check(name, "failed", "not in its desired state", "pending", "`mlops-env up` mends it")


def of_services(services: list[dict[str, Any]]) -> list[Check]:
    """The services of an environment as checks."""
    return [
        Check(row["name"], "ok", f"healthy {row['url'] or ''}".strip())
        if row["healthy"]
        else Check(row["name"], "failed", row["reason"], "unhealthy", "`mlops-env up` mends what is down")
        for row in services
    ]


def _platform() -> Check:
    if sys.platform == "win32":
        return Check(
            "platform",
            "failed",
            "target local needs Linux, macOS or WSL 2",
            "platform",
            "run the same command inside WSL 2",
        )
    return Check("platform", "ok", f"{sys.platform}, Python {sys.version.split()[0]}")


def _python(connection: Connection, orchestrator: Orchestrator) -> Check:
    """The lock is for some Pythons only. uv finds one, or fetches one where it may."""
    name, specifier = f"python for {orchestrator.name}", orchestrator.python
    found = connection.run([uv(), "python", "find", "--system", "--no-project", specifier])
    if not found.ok:
        fetched = connection.run([uv(), "python", "install", specifier])
        found = (
            connection.run([uv(), "python", "find", "--system", "--no-project", specifier]) if fetched.ok else fetched
        )
    if found.ok:
        return Check(name, "ok", found.stdout.strip())
    return Check(
        name,
        "failed",
        f"{orchestrator.title} needs Python {specifier}; uv finds none on this machine and could not fetch one",
        "python-missing",
        "install one (your system's packages, pyenv, or `uv python install 3.12` where GitHub is reachable) and put it "
        "on PATH",
    )


def _docker(connection: Connection, *, is_needed: bool) -> Check:
    from mlops_env.docker_check import DockerTrouble, version  # noqa: PLC0415 - Docker's SDK, for who needs it

    try:
        return Check("docker", "ok", version(connection))
    except DockerTrouble as trouble:
        status = "failed" if is_needed else "warning"  # runtime venv does without
        return Check("docker", status, str(trouble), trouble.code, trouble.hint)


def _disk(orchestrators: list[Orchestrator], directory: Path) -> Check:
    needed = sum(orchestrator.disk_mb for orchestrator in orchestrators)
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(existing).free // 1_000_000
    if free < needed:
        return Check(
            "disk",
            "failed",
            f"{existing} has {free} MB free; the venvs need about {needed} MB",
            "disk-full",
            "free some space, or set MLOPS_ENV_HOME to a directory on a larger disk",
        )
    return Check("disk", "ok", f"{free} MB free at {existing}, about {needed} MB needed")


def _memory() -> Check:
    import psutil  # noqa: PLC0415 - not needed for `--help`

    free = psutil.virtual_memory().available // 1_000_000
    if free < _NEEDED_MEMORY_MB:
        hint = "close something large, or choose an --orchestrator that needs less"
        return Check("memory", "warning", f"{free} MB free; {_NEEDED_MEMORY_MB} MB are comfortable", hint=hint)
    return Check("memory", "ok", f"{free} MB free")


def _processor() -> Check:
    """Without AVX polars, which the pipeline uses, dies of "Illegal instruction" (exit 132 of a container)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return Check("processor", "ok", os.uname().machine)
    if os.uname().machine == "x86_64" and " avx" not in flags:
        return Check(
            "processor",
            "failed",
            "this processor has no AVX, which polars needs",
            "no-avx",
            "use a machine with a processor of 2013 or later; in a virtual machine, pass the host's processor through",
        )
    return Check("processor", "ok", os.uname().machine)


def _git() -> Check:
    if shutil.which("git"):
        return Check("git", "ok", "on PATH")
    return Check("git", "warning", "git is not on PATH: runs will not name a commit", hint="install git")
