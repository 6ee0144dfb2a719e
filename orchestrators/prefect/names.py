"""What a pipeline's parts are called in Prefect, whose flows and tasks are Python functions."""

from __future__ import annotations

import keyword
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEPLOYMENT = "mlops-env"
ENTRYPOINT = "flow.py:pipeline"
RUN_KEY = "run_key"  # the flow's own parameter, beside the pipeline's

# Names that the generated file uses itself.
_TAKEN = {"annotations", "flow", "flow_run", "os", "params", "pipeline", "run_step", "runpy", "task", RUN_KEY}


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """A Python name for each name, as like it as can be, no two the same."""
    found: dict[str, str] = {}
    for name in names:
        word = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not word[:1].isalpha() or keyword.iskeyword(word) or word in _TAKEN:
            word = f"p_{word}"
        while word in found.values():
            word += "_"
        found[name] = word
    return found


def run_key_of(flow_run_id: str, parameters: dict[str, str | None]) -> str:
    """The key given by `mlops-env run`, else that of a run from Prefect's page or schedule."""
    return parameters.get(RUN_KEY) or f"prefect-{flow_run_id}"
