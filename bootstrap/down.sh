#!/usr/bin/env bash
# All that run.sh made on this host, ended and removed: `bash down.sh`. The workspace is kept, as is a record that
# `mlops-env` may have (`mlops-env down` does both). The receipt is on stdout, one JSON row a line.
set -euo pipefail
# shellcheck source=environment.sh
source "$(dirname "$0")/environment.sh"
[ -x "$tools_python" ] || {
  echo "nothing is there: $MLOPS_ENV_HOST_DIR has no tools venv" >&2
  exit 0
}
exec "$tools_python" "$MLOPS_ENV_TREE/orchestrators/sweep.py"
