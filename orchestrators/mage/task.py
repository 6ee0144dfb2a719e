"""What every block of the Mage project calls: one step of the pipeline, with what Mage's variables say of the run."""

from __future__ import annotations

import json
import os
import runpy
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


_RUN_STEP = runpy.run_path(str(Path(__file__).resolve().parents[1] / "task.py"))["run_step"]


def run(step: str, variables: Mapping[str, Any]) -> None:
    """Run one step with the variables of this pipeline run, Mage's own among them.

    Raises:
        StepFailed: with the step's exit code and last lines; Mage shows it as the block's error.
    """
    given = {
        name: variables[name] for name in _parameters(Path(os.environ["MLOPS_ENV_WORKSPACE"])) if name in variables
    }
    # step.py ends its own process when this one, its parent, is killed: that is how Mage cancels a run.
    _RUN_STEP(step, run_key(variables), {name: _text(value) for name, value in given.items()})


def run_key(variables: Mapping[str, Any]) -> str:
    """The key given by `mlops-env run`, else one of this pipeline run that no other database repeats."""
    if given := variables.get("run_key"):
        return str(given)
    if "pipeline_run_id" in variables:
        moment = str(variables["execution_partition"]).rpartition("/")[2]
        return f"mage-{variables['pipeline_run_id']}-{moment}"
    return f"mage-editor-{datetime.now(tz=UTC):%Y-%m-%d}"  # a block run by hand: all of a day share a run


def _parameters(workspace: Path) -> list[str]:
    table = tomllib.loads((workspace / "mlops-env.toml").read_text(encoding="utf-8"))
    return list(table["pipeline"].get("params", {}))


def _text(value: object) -> str:
    # Mage's editor turns what is typed there into numbers and truth values.
    return json.dumps(value) if isinstance(value, bool | int | float | list | dict) else str(value)
