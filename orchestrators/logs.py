"""What an environment's services say: `services.py logs [--lines N] [--follow] [SERVICE]`, on stdout."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from failures import Failure
from workspace import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="services.py logs")
    parser.add_argument("--lines", type=int, default=50)
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("service", nargs="?")
    return parser.parse_args(words)


def of_files(directory: Path, words: Sequence[str]) -> None:
    """Become `tail` on what the supervisor writes."""
    wish = _options(words)
    names = _chosen(sorted(path.stem for path in directory.glob("*.log")), wish.service)
    files = [str(directory / f"{name}.log") for name in names]
    _become(["tail", "-n", str(wish.lines), *(["-F"] if wish.follow else []), *files])


def of_containers(project: str, services: Iterable[str], words: Sequence[str]) -> None:
    """Become `docker compose logs`, which needs no file, only the project's name."""
    wish = _options(words)
    names = _chosen(sorted(services), wish.service)
    prefix = ["--no-log-prefix"] if wish.service else []
    follow = ["--follow"] if wish.follow else []
    words = ["logs", "--no-color", *prefix, *follow, "--tail", str(wish.lines), *names]
    _become(["docker", "compose", "--project-name", project, *words])


def _chosen(known: Sequence[str], service: str | None) -> Sequence[str]:
    if not known:
        raise Failure("no service has started yet, so there are no logs", code="no-logs", hint="`mlops-env up`")
    if service and service not in known:
        raise UsageError(f"no logs of {service!r}; there are: {', '.join(known)}")
    return [service] if service else known


def _become(command: list[str]) -> None:
    os.execvp(command[0], command)  # noqa: S606 - that is its purpose
