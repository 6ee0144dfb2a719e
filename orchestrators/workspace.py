"""What every script here finds around it: the environment's variables and the workspace's mlops-env.toml."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shlex
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Names become file names, URLs and process arguments in every orchestrator.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class UsageError(Exception):
    """The user's file, an argument or a variable is wrong: scripts print it and exit 2."""


@dataclass(frozen=True)
class Step:
    """One step: its name and its command line, as written in mlops-env.toml."""

    name: str
    run: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.run)


@dataclass(frozen=True)
class Pipeline:
    """The [pipeline] table of mlops-env.toml; parameters are text, as every orchestrator passes them."""

    name: str
    steps: tuple[Step, ...]
    params: Mapping[str, str]

    def step(self, name: str) -> Step:
        for step in self.steps:
            if step.name == name:
                return step
        known = ", ".join(step.name for step in self.steps)
        raise UsageError(f"no step `{name}` in mlops-env.toml; it has: {known}")

    def merged(self, given: Mapping[str, str]) -> dict[str, str]:
        """The parameters of one run: the pipeline's, with those given for this run."""
        if unknown := sorted(given.keys() - self.params.keys()):
            known = ", ".join(self.params) or "none"
            raise UsageError(
                f"no parameter {', '.join(unknown)} in mlops-env.toml; it has: {known} "
                "(add it under [pipeline] params, with its default)"
            )
        return {**self.params, **given}


@dataclass(frozen=True)
class Environment:
    """The variables that `mlops-env` gives to every script on the host."""

    id: str
    name: str
    orchestrator: str
    workspace: Path
    tree: Path
    venvs: Path
    state: Path
    secrets: Path
    url: str
    tracking_uri: str

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Environment:
        """Raises UsageError with all missing variables at once, for those who run a script by hand."""
        names = ("ID", "NAME", "ORCHESTRATOR", "WORKSPACE", "TREE", "VENVS", "STATE", "SECRETS", "URL")
        needed = [*(f"MLOPS_ENV_{name}" for name in names), "MLFLOW_TRACKING_URI"]
        if missing := [name for name in needed if not variables.get(name)]:
            raise UsageError(f"not set: {', '.join(missing)} (`mlops-env` sets them for its scripts)")
        return cls(
            id=variables["MLOPS_ENV_ID"],
            name=variables["MLOPS_ENV_NAME"],
            orchestrator=variables["MLOPS_ENV_ORCHESTRATOR"],
            workspace=Path(variables["MLOPS_ENV_WORKSPACE"]),
            tree=Path(variables["MLOPS_ENV_TREE"]),
            venvs=Path(variables["MLOPS_ENV_VENVS"]),
            state=Path(variables["MLOPS_ENV_STATE"]),
            secrets=Path(variables["MLOPS_ENV_SECRETS"]),
            url=variables["MLOPS_ENV_URL"].rstrip("/"),
            tracking_uri=variables["MLFLOW_TRACKING_URI"].rstrip("/"),
        )

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text(encoding="utf-8")

    def pipeline(self) -> Pipeline:
        return load(self.workspace)

    def run_folder(self, run_key: str) -> Path:
        return self.workspace / ".mlops-env" / "runs" / run_key


def load(workspace: Path) -> Pipeline:
    """Read mlops-env.toml; every problem in it is named in one UsageError."""
    path = workspace / "mlops-env.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("pipeline")
    except FileNotFoundError:
        raise UsageError(f"{path} is missing; `mlops-env init` writes one") from None
    except ValueError as error:  # TOMLDecodeError or UnicodeDecodeError
        raise UsageError(f"{path}: {error}") from error
    if not isinstance(table, dict):
        raise UsageError(f"{path}: there is no [pipeline] table")
    problems = _problems(table)
    if problems:
        raise UsageError("\n".join(f"{path}: {problem}" for problem in problems))
    return Pipeline(
        name=table["name"],
        steps=tuple(Step(step["name"], step["run"]) for step in table["steps"]),
        params={name: _text(value) for name, value in table.get("params", {}).items()},
    )


def parse_params(given: Iterable[str]) -> dict[str, str]:
    """The values of `--param NAME=VALUE`."""
    params = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not name or not equals:
            raise UsageError(f"--param {item}: expected NAME=VALUE")
        params[name] = value
    return params


def check_run_key(run_key: str) -> str:
    if not _NAME.fullmatch(run_key):
        raise UsageError(f"run key `{run_key}`: letters, digits, `.`, `_` and `-`, at most 100 of them")
    return run_key


def _problems(table: Mapping[str, Any]) -> list[str]:
    problems = []
    if not _is_name(table.get("name")):
        problems.append("pipeline.name: a name of letters, digits, `.`, `_` and `-`")
    if not isinstance(table.get("params", {}), dict):
        problems.append('pipeline.params: a table such as {train = "2023-01"}')
    elif any("\0" in f"{name}{value}" for name, value in table.get("params", {}).items()):
        problems.append("pipeline.params: no process can be given a NUL character")
    steps = table.get("steps")
    if not isinstance(steps, list) or not steps:
        return [*problems, 'pipeline.steps: a list such as [{name = "train", run = "python train.py"}]']
    for number, step in enumerate(steps, start=1):
        problems += [f"pipeline.steps, step {number}: {problem}" for problem in _step_problems(step)]
    names = [str(step.get("name")) for step in steps if isinstance(step, dict)]
    twice = sorted({name for name in names if names.count(name) > 1})
    return [*problems, *(f"pipeline.steps: two steps are named `{name}`" for name in twice)]


def _step_problems(step: object) -> list[str]:
    if not isinstance(step, dict):
        return ['expected {name = "…", run = "…"}']
    problems = []
    if not _is_name(step.get("name")):
        problems.append("name: a name of letters, digits, `.`, `_` and `-`")
    try:
        if "\0" in (step.get("run") or ""):
            problems.append("run: no process can be given a NUL character")
        if not shlex.split(step.get("run") or ""):
            problems.append("run: the command of this step")
    except (ValueError, AttributeError, TypeError) as error:  # an open quote; not text
        problems.append(f"run: {error}")
    return problems


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dt.date | dt.time):  # TOML writes them without quotes
        return value.isoformat()
    return json.dumps(value, default=str)


def main() -> int:
    """`python workspace.py FOLDER [NAME=VALUE]…`: all that is wrong with its mlops-env.toml or these parameters."""
    folder, *params = sys.argv[1:]
    try:
        load(Path(folder)).merged(parse_params(params))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
