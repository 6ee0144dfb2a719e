"""Lay out the workspace: `python copy_pipeline.py check|apply`.

The taxi pipeline is copied where the user brought none, with files that the user changed kept and the others
following upgrades; `.mlops-env/`, where all that we make there goes, gets its own .gitignore.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import files

_LEFT_OUT = {"tests", "__pycache__", "requirements-test.in", "requirements-test.lock"}  # ours to test with, no user's


def main() -> int:
    workspace, tree = Path(os.environ["MLOPS_ENV_WORKSPACE"]), Path(os.environ["MLOPS_ENV_TREE"])
    ours = workspace / ".mlops-env"
    generated = {".mlops-env/.gitignore": b"*\n"}
    if not os.environ.get("MLOPS_ENV_OWN_WORKSPACE"):
        generated |= _pipeline(tree / "pipeline")
    owner = ours / "environment.json"
    identity = {"id": os.environ["MLOPS_ENV_ID"], "name": os.environ["MLOPS_ENV_NAME"]}
    check = sys.argv[1:] == ["check"]
    if not files.bring(workspace, generated, ours / "manifest.json", "pipeline", check=check):
        return 1
    if check:
        return 0 if _is(owner, identity) else 1
    files.replace(owner, f"{json.dumps(identity)}\n".encode())
    return 0


def _is(owner: Path, identity: dict[str, str]) -> bool:
    try:
        return bool(json.loads(owner.read_text(encoding="utf-8")) == identity)
    except (OSError, ValueError):
        return False


def _pipeline(source: Path) -> dict[str, bytes]:
    return {
        path.relative_to(source).as_posix(): path.read_bytes()
        for path in sorted(source.rglob("*"))
        if path.is_file() and not _LEFT_OUT & set(path.relative_to(source).parts)
    }


if __name__ == "__main__":
    sys.exit(main())
