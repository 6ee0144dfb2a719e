"""What the README claims of the product is what the product says of itself."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from mlops_env import config
from mlops_env.cli import app

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_table_of_targets_and_orchestrators() -> None:
    targets = config.TARGETS
    lines = ["| | " + " | ".join(f"`{target}`" for target in targets) + " |", "|---" * (len(targets) + 1) + "|"]
    lines += [
        f"| `{name}` | " + " | ".join(", ".join(config.RUNTIMES) for _ in targets) + " |"
        for name in config.orchestrator_names()
    ]
    assert "\n".join(["<!-- table: targets -->", *lines, "<!-- end -->"]) in README


def test_every_command_it_shows_exists() -> None:
    known = set(get_command(app).commands)  # type: ignore[attr-defined]
    shown = set(re.findall(r"mlops-env ([a-z]+(?:-[a-z]+)*)", README))
    assert shown <= known, shown - known
