"""Which files of a workspace are the user's: those that git lists, else all but what tools make."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Made by tools, not by the user.
_NOT_CODE = re.compile(
    r"(.*/)?(\.mlops-env|\.?venv|\.git|\.hg|\.svn|\.tox|\.nox|\.eggs|.*\.egg-info|__pycache__|node_modules"
    r"|\.mypy_cache|\.ruff_cache|\.pytest_cache|\.hypothesis|\.ipynb_checkpoints|\.cache|\.idea|\.vscode"
    r"|\.DS_Store|mlruns|build|dist)(/.*)?",
    re.DOTALL,
)


def git(workspace: Path, *arguments: str, stdin: bytes = b"") -> str | None:
    """What git prints; None without git, outside a repository, or where git refuses (dubious ownership)."""
    # A hook that started us points git at another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(workspace), *arguments]
    try:
        done = subprocess.run(command, env=variables, input=stdin, capture_output=True, check=False, timeout=30)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return os.fsdecode(done.stdout) if done.returncode == 0 else None


def listed_by_git(workspace: Path) -> set[str] | None:
    """None where git knows nothing of this folder."""
    lines = (git(workspace, "ls-files", "-cot", "--exclude-standard", "-z") or "").split("\0")
    tracked = {line[2:] for line in lines if line and not line.startswith("? ")}
    untracked = {line[2:] for line in lines if line.startswith("? ")}
    listed = tracked | {path for path in untracked if not _NOT_CODE.fullmatch(path)}
    # Inside a repository that ignores this folder, git lists nothing of it.
    if "mlops-env.toml" not in listed:
        return None
    # A repository within the repository is listed as one folder.
    folders = {path for path in listed if (workspace / path).is_dir() and not (workspace / path).is_symlink()}
    inside = {f"{folder.rstrip('/')}/{path}" for folder in folders for path in walk(workspace / folder)}
    return (listed - folders) | inside


def walk(root: Path, folder: str = "") -> Iterator[str]:
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except PermissionError:  # not ours to read: no step can read it either
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if _NOT_CODE.fullmatch(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(root, path)
        else:
            yield path
