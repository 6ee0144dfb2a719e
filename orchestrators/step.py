"""Run one step of the pipeline in the pipeline's own venv, recorded in MLflow: what every native task calls.

    python step.py STEP --run-key KEY [--param NAME=VALUE]…

All steps with one run key share one MLflow run: whichever comes first opens it, the last one closes it.
A step whose last line on stdout is {"metrics": {NAME: NUMBER}} gets these logged, and so needs no mlflow.
Exits with the step's own code. 1: no answer from MLflow; 2: wrong usage or toml; 127: no such command.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from command import Interrupted, Interruptions, Outcome, run
from files import locked
from listing import git
from runs import SOURCES, code_digest, params_digest
from tracking import Mlflow, MlflowError
from workspace import Environment, Pipeline, Step, UsageError, check_run_key, parse_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PATIENCE = 30.0  # seconds that MLflow may be away, restarting
_NOT_FOUND = 127

# What belongs to us, the orchestrators and the process manager, secrets among it, is no step's business.
_PRIVATE = re.compile(
    r"(MLOPS_ENV|MAGE|PREFECT|SUPERVISOR|DEFAULT_OWNER)_.*|JWT_SECRET|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV.*"
    # A user's own MLflow would have the step record elsewhere, or not find its run.
    r"|MLFLOW_(TRACKING|REGISTRY|EXPERIMENT)_.*"
)
# By the id and the service `mlops-env` finds what it started.
_TOLD = ("MLOPS_ENV_ID", "MLOPS_ENV_NAME", "MLOPS_ENV_SERVICE", "MLOPS_ENV_WORKSPACE")


@dataclass(frozen=True)
class Task:
    """One step of one run, as asked for on the command line."""

    environment: Environment
    pipeline: Pipeline
    step: Step
    run_key: str
    params: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return self.environment.run_folder(self.run_key)

    @property
    def is_first(self) -> bool:
        return self.step == self.pipeline.steps[0]

    @property
    def is_last(self) -> bool:
        return self.step == self.pipeline.steps[-1]


def read_task(arguments: Sequence[str] | None) -> Task:
    parser = argparse.ArgumentParser(prog="step.py", description="Run one step of the pipeline.")
    parser.add_argument("step")
    parser.add_argument("--run-key", required=True)
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args(arguments)
    environment = Environment.read()
    pipeline = environment.pipeline()
    params = pipeline.merged(parse_params(given.param))
    return Task(environment, pipeline, pipeline.step(given.step), check_run_key(given.run_key), params)


def open_run(mlflow: Mlflow, task: Task) -> str:
    """The id of the MLflow run of this run key; a run that had ended runs again."""
    experiment = mlflow.ensure_experiment(task.pipeline.name)
    key = {"run_key": task.run_key, "mlops_env.id": task.environment.id}
    with locked(task.folder):  # parallel branches begin at the same moment
        found = mlflow.search(experiment, key)
        if not found:
            tags = {**key, **_tags(task)}
            created = mlflow.create_run(experiment, task.run_key, tags["mlflow.user"], tags)
            mlflow.log(created["info"]["run_id"], params=task.params)
            return str(created["info"]["run_id"])
    info, data = found[0]["info"], found[0].get("data", {})
    run_id = str(info["run_id"])
    for tag in data.get("tags", []):
        if tag["key"] in ("mlops_env.completed", "mlops_env.failed_step", "mlops_env.error"):
            mlflow.delete_tag(run_id, tag["key"])
    if info["status"] != "RUNNING":
        mlflow.update_run(run_id, "RUNNING")
    if task.is_first:  # all of it runs again, maybe with other code
        mlflow.log(run_id, tags=_tags(task))
    return run_id


def _tags(task: Task) -> dict[str, str]:
    environment = task.environment
    commit = git(environment.workspace, "rev-parse", "HEAD")
    return {
        "mlops_env.name": environment.name,
        "mlops_env.pipeline": task.pipeline.name,
        "mlops_env.orchestrator": environment.orchestrator,
        "mlops_env.code": code_digest(environment.workspace),
        "mlops_env.sources": code_digest(environment.workspace, SOURCES),
        "mlops_env.params": params_digest(task.params),
        "mlflow.user": _user(),
        "mlflow.source.name": str(environment.workspace),
        "mlflow.source.type": "PROJECT",
        **({"mlflow.source.git.commit": commit.strip()} if commit else {}),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        return str(os.getuid())


def step_variables(base: Mapping[str, str], task: Task, run_id: str) -> dict[str, str]:
    """The environment of the step's process: the user's own, the pipeline's venv, this run."""
    venvs = str(task.environment.venvs)
    venv = task.environment.venvs / "pipeline"
    # The orchestrator's tools must not answer for what the pipeline's venv lacks.
    path = [entry for entry in base.get("PATH", os.defpath).split(os.pathsep) if not entry.startswith(venvs)]
    # MLflow is on loopback, or in the next container: a proxy would be asked for it by most HTTP clients.
    near = dict.fromkeys(("127.0.0.1", "localhost", urlsplit(task.environment.tracking_uri).hostname or ""))
    no_proxy = ",".join(filter(None, (base.get("NO_PROXY") or base.get("no_proxy"), *near)))
    return {
        **{name: value for name, value in base.items() if name in _TOLD or not _PRIVATE.fullmatch(name)},
        "PATH": os.pathsep.join([str(venv / "bin"), *path]),
        "VIRTUAL_ENV": str(venv),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "MLFLOW_TRACKING_URI": task.environment.tracking_uri,
        "MLFLOW_RUN_ID": run_id,
        # It would write an id to ~/.config/mlflow, which nobody would remove.
        "MLFLOW_DISABLE_TELEMETRY": base.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        "MLOPS_ENV_RUN_DIR": str(task.folder),
        **{f"PARAM_{re.sub('[^A-Za-z0-9]', '_', name).upper()}": value for name, value in task.params.items()},
    }


def execute(task: Task, run_id: str, interruptions: Interruptions) -> Outcome:
    variables = step_variables(os.environ, task, run_id)
    program, *arguments = task.step.words
    workspace = task.environment.workspace
    found = shutil.which(str(workspace / program) if "/" in program else program, path=variables["PATH"])
    if found is None:
        return _not_found(f"no `{program}` {_cure(program, task)}")
    try:
        return run([found, *arguments], workspace, variables, interruptions)
    except FileNotFoundError:
        return _not_found(f"{found} names an interpreter in its first line that is not there")


def _cure(program: str, task: Task) -> str:
    if "/" in program:
        return f"in {task.environment.workspace} that can be executed; `chmod +x` it, or name its interpreter"
    return (
        f"in the pipeline's venv; add what provides it to the pipeline's dependencies, or correct "
        f"`run` of step {task.step.name} in mlops-env.toml, then `mlops-env up`"
    )


def _not_found(message: str) -> Outcome:
    print(message, file=sys.stderr)
    return Outcome(_NOT_FOUND, (message,), "")


def reported_metrics(line: str) -> dict[str, float]:
    """The numbers in a last line of {"metrics": {…}}; none from any other line."""
    try:
        metrics = json.loads(line)["metrics"]
    except (ValueError, LookupError, TypeError):
        return {}
    if not isinstance(metrics, dict):
        return {}
    numbers = {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if skipped := sorted(metrics.keys() - numbers.keys()):
        print(f"not logged, as no number: {', '.join(skipped)}", file=sys.stderr)
    return numbers


def record(mlflow: Mlflow, task: Task, run_id: str, outcome: Outcome) -> None:
    """Tell MLflow how the step ended."""
    if outcome.code:
        error = "\n".join(outcome.tail)[-4000:] or f"no output, exit code {outcome.code}"
        mlflow.log(run_id, tags={"mlops_env.failed_step": task.step.name, "mlops_env.error": error})
        mlflow.update_run(run_id, "FAILED")
        return
    if metrics := reported_metrics(outcome.last_line):
        mlflow.log(run_id, metrics=metrics)
    if task.is_last:
        mlflow.log(run_id, tags={**_digest_after(mlflow, task, run_id), "mlops_env.completed": "true"})
        mlflow.update_run(run_id, "FINISHED")


def _digest_after(mlflow: Mlflow, task: Task, run_id: str) -> dict[str, str]:
    """What the run itself wrote into the workspace, a model say, must not look like changed code."""
    if mlflow.tag(run_id, "mlops_env.sources") != code_digest(task.environment.workspace, SOURCES):
        return {}
    return {"mlops_env.code": code_digest(task.environment.workspace)}


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        task = read_task(arguments)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    task.folder.mkdir(parents=True, exist_ok=True)
    interruptions = Interruptions()
    mlflow = Mlflow(task.environment.tracking_uri, patience=_PATIENCE)
    run_id = None
    outcome = None
    try:
        run_id = open_run(mlflow, task)
        outcome = execute(task, run_id, interruptions)
        record(mlflow, task, run_id, outcome)
    except Interrupted as interrupted:
        if run_id:
            _record_kill(task, run_id)
        print(f"step {task.step.name}: ended by {interrupted}", file=sys.stderr)
        return 128 + interrupted.signum
    except MlflowError as error:
        print(f"step {task.step.name}: {error}", file=sys.stderr)
        return outcome.code if outcome and outcome.code else 1
    if outcome.code:
        print(f"step {task.step.name}: exit code {outcome.code}", file=sys.stderr)
    return outcome.code


def _record_kill(task: Task, run_id: str) -> None:
    # No patience: whoever ends us may be about to use KILL, and MLflow may be going down with us.
    mlflow = Mlflow(task.environment.tracking_uri)
    try:
        mlflow.log(run_id, tags={"mlops_env.failed_step": task.step.name})
        mlflow.update_run(run_id, "KILLED")
    except MlflowError as error:
        print(error, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
