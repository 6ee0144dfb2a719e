"""Run the tiers of tests that this machine can run, and say why the others cannot: `python tests/run.py [TIER …]`.

With MLOPS_ENV_TIERS=all (what CI sets) a tier that cannot run is a failure, never a skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def _always() -> str:
    return ""


def _registry() -> str:
    """Whether packages can be had: asked of uv, which knows the user's registry and proxy."""
    with tempfile.TemporaryDirectory() as target:
        probe = [str(BIN / "uv"), "pip", "install", "--dry-run", "--refresh", "--target", target, "iniconfig"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no package registry can be reached: {done.stderr.strip()[-200:]}"


def _browser() -> str:
    missing = [program for program in ("chromium", "chromedriver") if not shutil.which(program)]
    return f"{' and '.join(missing)} not on PATH (Debian: apt-get install chromium-driver)" if missing else _registry()


@dataclass(frozen=True)
class Tier:
    """`obstacle` says why it cannot run here, or nothing."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    obstacle: Callable[[], str]


def _pytest(*words: str) -> tuple[str, ...]:
    return (str(BIN / "python"), "-m", "pytest", "-q", *words)


TIERS = (
    Tier("unit", (_pytest("tests/unit"),), _always),
    Tier("pipeline", (_pytest("-c", "pipeline/pyproject.toml", "pipeline/tests"),), _always),
    Tier("wheel", (_pytest("tests/test_wheel.py"),), _registry),
    Tier("browser", (_pytest("tests/browser", "--timeout=300"),), _browser),
    Tier("integration", (_pytest("tests/integration", "--timeout=900"),), _registry),
)


def main() -> int:
    wanted = sys.argv[1:] or [tier.name for tier in TIERS]
    unknown = set(wanted) - {tier.name for tier in TIERS}
    if unknown:
        sys.exit(f"no tier {', '.join(sorted(unknown))}; there are: {', '.join(tier.name for tier in TIERS)}")
    strict = os.environ.get("MLOPS_ENV_TIERS") == "all"
    report, code = [], 0
    for tier in TIERS:
        if tier.name not in wanted:
            continue
        obstacle = tier.obstacle()
        if obstacle:
            report.append(f"{tier.name}: not run, {obstacle}")
            code = 1 if strict else code
            continue
        start = time.monotonic()
        failed = [command for command in tier.commands if subprocess.run(command, cwd=ROOT, check=False).returncode]
        code = 1 if failed else code
        report.append(f"{tier.name}: {'FAILED' if failed else 'passed'} in {time.monotonic() - start:.0f} s")
    print("\n".join(["", "Tiers", *(f"  {line}" for line in report)]), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
