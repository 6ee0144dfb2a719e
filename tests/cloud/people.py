"""People who rehearse: their machines, the account they share, and what they type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from integration.harness import Ended, Machine

    from mlops_env.sandbox.control import Running

ROOT = Path(__file__).resolve().parents[2]
REHEARSE = ("up", "--target", "ec2", "--sandbox", "--no-host")


def up(machine: Machine, *words: str) -> Ended:
    return machine(*REHEARSE, "--yes", *words)


def left(aws: Running) -> list[Any]:
    """What the embedded AWS has that bears a tag of ours."""
    return list(aws.call("GET", "/sandbox/things"))
