#!/usr/bin/env bash
# The tracking server, on loopback; what it records is the user's and lies in the workspace.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
state="$MLOPS_ENV_STATE/mlflow"
mkdir -p "$state/tmp"

export MLFLOW_DISABLE_TELEMETRY=true # it would also write an id to ~/.config/mlflow
export DO_NOT_TRACK=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # a job runner and seven more processes, for LLM judges
export TMPDIR="$state/tmp"                      # uploads on their way, and a lock file
unset MLFLOW_TRACKING_URI                       # its own address, for its clients
unset PYTHONDONTWRITEBYTECODE                   # each start would compile all of MLflow anew

exec "$MLOPS_ENV_VENVS/mlflow/bin/python" -P "$here/serve.py" "$MLOPS_ENV_WORKSPACE/.mlops-env/mlflow" "$MLOPS_ENV_PORT"
