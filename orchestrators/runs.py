"""What MLflow knows of this environment's runs, over its REST API.

    python runs.py find [--param K=V]…    the latest finished run of this very code with these parameters
    python runs.py show RUN_KEY           one run, whatever its status
    python runs.py list                   the latest runs

The last line on stdout is JSON: an object, `null`, or for `list` an array. Exit 1: MLflow did not answer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import stat
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from listing import listed_by_git, walk
from tracking import Mlflow, MlflowError
from workspace import Environment, UsageError, check_run_key, parse_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_BIG = 64 * 1024 * 1024  # data, not code: reading it would make every `up` slow

# What a run does not write: while these are unchanged, other changed files are a run's own output.
SOURCES = (".py", ".ipynb", ".sql", ".sh", ".R", ".toml", ".lock", ".yaml", ".yml")


def code_digest(workspace: Path, suffixes: tuple[str, ...] = ("",)) -> str:
    """A digest of the user's code and data: the files that git lists, else all but what tools make."""
    digest = hashlib.sha256()
    for path in sorted(listed_by_git(workspace) or walk(workspace)):
        if path.endswith(suffixes):
            digest.update(os.fsencode(path) + b"\0" + _content(workspace / path))
    return digest.hexdigest()


def params_digest(params: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> bytes:
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return os.fsencode(path.readlink())
        if status.st_size > _BIG:
            return f"{status.st_size} {status.st_mtime_ns}".encode()
        if not stat.S_ISREG(status.st_mode):
            return b""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:  # deleted since it was listed, or not ours to read
        return b""


def find(mlflow: Mlflow, environment: Environment, params: Mapping[str, str]) -> dict[str, Any] | None:
    """The latest run that makes another one needless: finished, of this code, with these parameters."""
    pipeline = environment.pipeline()
    tags = {
        "mlops_env.id": environment.id,
        "mlops_env.orchestrator": environment.orchestrator,
        "mlops_env.code": code_digest(environment.workspace),
        "mlops_env.params": params_digest(pipeline.merged(params)),
        "mlops_env.completed": "true",
    }
    return next(iter(_search(mlflow, pipeline.name, tags)), None)


def show(mlflow: Mlflow, environment: Environment, run_key: str) -> dict[str, Any] | None:
    tags = {"run_key": check_run_key(run_key), "mlops_env.id": environment.id}
    return next(iter(_search(mlflow, environment.pipeline().name, tags)), None)


def abandon(mlflow: Mlflow, environment: Environment, run_key: str) -> None:
    """Record that a run, whose processes were all killed, will not end by itself."""
    found = show(mlflow, environment, run_key)
    if found and found["status"] == "RUNNING":
        mlflow.update_run(found["mlflow_run_id"], "KILLED")


def _search(mlflow: Mlflow, experiment: str, tags: Mapping[str, str], limit: int = 1) -> list[dict[str, Any]]:
    found = mlflow.experiment(experiment)
    if found is None:
        return []
    return [_summary(run) for run in mlflow.search(found["experiment_id"], tags, limit=limit)]


def _summary(run: Mapping[str, Any]) -> dict[str, Any]:
    info, data = run["info"], run.get("data", {})
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
    metrics = {metric["key"]: float(metric["value"]) for metric in data.get("metrics", [])}
    return {
        "run_key": tags.get("run_key"),
        "mlflow_run_id": info["run_id"],
        "experiment_id": info["experiment_id"],
        "status": info["status"],
        "metrics": {key: value if math.isfinite(value) else None for key, value in metrics.items()},
        "pipeline": tags.get("mlops_env.pipeline"),
        "failed_step": tags.get("mlops_env.failed_step"),
        "error": tags.get("mlops_env.error"),
        "params": {param["key"]: param["value"] for param in data.get("params", [])},
        "started": _time(info.get("start_time")),
        "ended": _time(info.get("end_time")),
    }


def _time(milliseconds: int | str | None) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC).isoformat(timespec="milliseconds")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="runs.py", description="This environment's runs in MLflow.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("find").add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    verbs.add_parser("show").add_argument("run_key")
    verbs.add_parser("list")
    given = parser.parse_args(arguments)
    try:
        environment = Environment.read()
        mlflow = Mlflow(environment.tracking_uri)
        answer: object
        if given.verb == "find":
            answer = find(mlflow, environment, parse_params(given.param))
        elif given.verb == "show":
            answer = show(mlflow, environment, given.run_key)
        else:
            tags = {"mlops_env.id": environment.id}
            answer = _search(mlflow, environment.pipeline().name, tags, limit=20)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except MlflowError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
