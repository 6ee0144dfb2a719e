"""Whether the tracking server works: `python trigger.py health`.

Exit 0 if it answers from its database. The last line on stdout is {"healthy": true|false, "reason": "…"}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tracking import Mlflow, MlflowError


def main() -> int:
    if sys.argv[1:] != ["health"]:
        print(f"usage: {sys.argv[0]} health", file=sys.stderr)
        return 2
    reason = ""
    try:
        # `/health` answers OK without a look at the database.
        Mlflow(os.environ["MLFLOW_TRACKING_URI"], timeout=2).experiment("Default")
    except MlflowError as error:
        reason = str(error)
    print(json.dumps({"healthy": not reason, "reason": reason}))
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())
