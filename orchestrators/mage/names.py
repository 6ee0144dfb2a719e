"""What a pipeline and its steps are called in Mage, whose names are file names and words of its URLs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workspace import Pipeline

TRIGGER = "mlops-env"


def pipeline_uuid(pipeline: Pipeline) -> str:
    return _snake_case(pipeline.name)


def block_uuids(pipeline: Pipeline) -> dict[str, str]:
    """Step name → block name; two steps that would share one, `a-b` and `a.b`, get numbers."""
    blocks: dict[str, str] = {}
    for step in pipeline.steps:
        wished = _snake_case(step.name)
        number, block = 1, wished
        while block in blocks.values():
            number += 1
            block = f"{wished}_{number}"
        blocks[step.name] = block
    return blocks


def _snake_case(name: str) -> str:
    # As Mage's own clean_name: what it would change, it would not find again.
    word = re.sub(r"[^a-z0-9]", "_", name.lower())
    return f"letter_{word}" if word[0].isdigit() else word
