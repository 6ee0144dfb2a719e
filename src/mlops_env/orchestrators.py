"""The orchestrator of an environment: what its directory declares, and its runs."""

from __future__ import annotations

import json
import secrets
import time
import tomllib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlops_env.bootstrap import told_error
from mlops_env.bundle import bundled
from mlops_env.errors import CommandFailed, UsageError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.bootstrap import HostScripts
    from mlops_env.connection import Connection, Result
    from mlops_env.environment import Environment
    from mlops_env.events import Emit


@dataclass(frozen=True)
class Orchestrator:
    """One directory of orchestrators/. `python` is the specifier its lock file was made for."""

    name: str
    title: str
    python: str
    download_mb: int
    disk_mb: int
    login: Mapping[str, str]

    @classmethod
    def read(cls, name: str) -> Orchestrator:
        path = bundled("orchestrators") / name / "orchestrator.toml"
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return cls(
            name=table["name"],
            title=table["title"],
            python=table["python"],
            download_mb=table["download_mb"],
            disk_mb=table["disk_mb"],
            login=table.get("login", {}),
        )


def trigger(
    connection: Connection, scripts: HostScripts, key: str, params: Mapping[str, str], emit: Emit
) -> dict[str, Any]:
    """Start a run through the orchestrator's own scheduler, or reattach to the one of this key, and wait.

    Returns `id`, `state` (completed, failed, cancelled), `page`, `failed_step`. A run that failed is a result; an
    orchestrator that could not be asked is a `CommandFailed`.
    """
    words = ["exec", "trigger.py", "run", "--run-key", key, *_parameters(params)]

    def on_line(stream: str, line: str) -> None:
        if stream == "stderr":
            emit(_progress(line))

    result = connection.run(scripts.services(*words), on_line=on_line)
    return _table(_answer(result, "the orchestrator did not take or report the run"))


def find_run(connection: Connection, scripts: HostScripts, params: Mapping[str, str]) -> dict[str, Any] | None:
    """The newest successful run of this code and these parameters in this environment, as MLflow has it."""
    result = connection.run(scripts.services("exec", "runs.py", "find", *_parameters(params)))
    return _optional(_answer(result, "MLflow could not be asked for earlier runs"))


def show_run(connection: Connection, scripts: HostScripts, key: str) -> dict[str, Any] | None:
    """The run of this key as MLflow has it, whatever its status."""
    result = connection.run(scripts.services("exec", "runs.py", "show", key))
    return _optional(_answer(result, "MLflow could not be asked for the run"))


def status(connection: Connection, scripts: HostScripts) -> dict[str, Any]:
    """The services as they are now: a list of name, state, pid, port, healthy, url, reason."""
    return _table(_answer(connection.run(scripts.services("status")), "the services could not be asked"))


def stop(connection: Connection, scripts: HostScripts) -> dict[str, Any]:
    """End all services; `stopped` counts the processes that were ended, `left` those that would not."""
    return _table(_answer(connection.run(scripts.services("stop")), "the services could not be stopped"))


@dataclass(frozen=True)
class Login:
    """Who may use the orchestrator's page.

    `prompt` is what to type or paste where the page asks for the password: some ask for user and password in one field.
    `file` is where the password is, on the host.
    """

    user: str
    password: str
    prompt: str
    file: str


def login(connection: Connection, environment: Environment) -> Login:
    declared = Orchestrator.read(environment.record.orchestrator).login
    if not declared:
        raise UsageError(
            f"{environment.record.orchestrator} has no login",
            code="no-login",
            hint="its page is open to this machine",
        )
    file = environment.host / "secrets" / declared["secret"]
    result = connection.run(["cat", str(file)])
    if not result.ok:
        raise CommandFailed("the password is not there yet", code="no-password", result=result, hint="`mlops-env up`")
    password = result.stdout.rstrip("\n")
    prompt = declared.get("prompt", "{password}").format(user=declared["user"], password=password)
    return Login(declared["user"], password, prompt, str(file))


@dataclass(frozen=True)
class Run:
    """A finished run, as the orchestrator and MLflow have it. `page` is a path under the orchestrator's URL."""

    key: str
    id: str
    state: str
    page: str
    failed_step: str | None
    pipeline: str
    mlflow_run_id: str | None
    experiment_id: str | None
    metrics: Mapping[str, float | None]
    log: str = ""

    @property
    def ok(self) -> bool:
        return self.state == "completed"


def run_pipeline(
    connection: Connection, scripts: HostScripts, params: Mapping[str, str], emit: Emit, *, again: bool
) -> Run:
    """Run the pipeline once and record it; with `again` false, only if no successful run of this code exists.

    The key of the run is on disk before the trigger, so that an interrupted wait reattaches.
    """
    environment = scripts.environment
    last = environment.record.run
    if not again:
        found = find_run(connection, scripts, params)
        if found:
            emit(Event("run", "ok", "run", "a successful run of this code with these parameters exists"))
            same = last if last.get("key") == found["run_key"] else {}
            return _run({"id": found["run_key"], "page": "", **same, "state": "completed"}, found)
    waiting = not again and last.get("state") == "triggered" and last.get("params") == dict(params)
    key = last["key"] if waiting else f"{environment.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    environment = environment.save(run={"key": key, "state": "triggered", "params": dict(params)})
    emit(Event("run", "started", "run", "waiting for an earlier run" if waiting else "triggered"))
    answer = trigger(connection, scripts, key, params, emit)
    recorded = show_run(connection, scripts, key) or {}
    if answer["state"] == "completed" and recorded.get("status") != "FINISHED":
        answer["state"] = "failed"
        emit(Event("warning", message=f"{key} ended in the orchestrator, but MLflow has no finished run of it"))
    run = _run({"key": key, **answer}, recorded)
    environment = environment.save(
        run={"key": key, "params": dict(params), "id": run.id, "state": run.state, "page": run.page}
    )
    emit(Event("run", run.state, "run"))
    if waiting and not run.ok and recorded.get("status") != "FAILED":
        emit(Event("warning", message=f"{key} was cut short when its services ended; another run takes its place"))
        return run_pipeline(connection, replace(scripts, environment=environment), params, emit, again=False)
    return run


def _run(answer: Mapping[str, Any], recorded: Mapping[str, Any]) -> Run:
    return Run(
        key=str(answer.get("key") or recorded.get("run_key")),
        id=str(answer["id"]),
        state=answer["state"],
        page=answer.get("page", ""),
        failed_step=answer.get("failed_step") or recorded.get("failed_step"),
        pipeline=recorded.get("pipeline", ""),
        mlflow_run_id=recorded.get("mlflow_run_id"),
        experiment_id=recorded.get("experiment_id"),
        metrics=recorded.get("metrics", {}),
        log=recorded.get("error") or "",
    )


def _parameters(params: Mapping[str, str]) -> list[str]:
    return [word for key, value in params.items() for word in ("--param", f"{key}={value}")]


def _progress(line: str) -> Event:
    name, colon, status = line.partition(": ")
    if colon and name.startswith("step ") and status in {"running", "completed", "failed", "cancelled"}:
        return Event("run", status, name.removeprefix("step "))
    return Event("log", name="run", message=line)


def _answer(result: Result, failure: str) -> Any:
    """The last stdout line, parsed: what it says counts, also where the exit code reports a failed run."""
    try:
        return json.loads(result.last_line())
    except ValueError:
        if error := told_error(result, failure):
            raise error from None
        raise CommandFailed(
            failure,
            code="host-script",
            result=result,
            hint="`mlops-env logs` shows the services' own words; `mlops-env up` mends what is down",
        ) from None


def _table(value: Any) -> dict[str, Any]:
    return dict(value)


def _optional(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None
