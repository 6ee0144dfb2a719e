"""The toy's native project: one file that lists the steps, in their order.

python project.py [check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import files
from workspace import Environment, UsageError


def main() -> int:
    try:
        environment = Environment.read()
        pipeline = environment.pipeline()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    plan = {"steps": [step.name for step in pipeline.steps]}
    ours = environment.workspace / ".mlops-env"
    wanted = {"plan.json": f"{json.dumps(plan, indent=2)}\n".encode()}
    check = sys.argv[1:] == ["check"]
    done = files.bring(ours / "projects" / "toy", wanted, ours / "manifest.json", "toy", check=check)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
