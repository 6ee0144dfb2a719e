#!/usr/bin/env bash
# The tracking server; what it records is the user's and lies in the workspace.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
state="$MLOPS_ENV_STATE/mlflow"
mkdir -p "$state/tmp"

export MLFLOW_DISABLE_TELEMETRY=true # it would also write an id to ~/.config/mlflow
export DO_NOT_TRACK=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # a job runner and seven more processes, for LLM judges
export TMPDIR="$state/tmp"                      # uploads on their way, and a lock file

# Which names it may be asked by, and from pages of which: this machine's, through whatever port it is forwarded to, and
# the one that it has for containers beside it. Others get 403, so that no foreign page can use it.
export MLFLOW_SERVER_ALLOWED_HOSTS="localhost,localhost:*,127.0.0.1,127.0.0.1:*,mlflow:$MLOPS_ENV_PORT"
unset MLFLOW_SERVER_CORS_ALLOWED_ORIGINS MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE

unset MLFLOW_TRACKING_URI     # its own address, for its clients
unset PYTHONDONTWRITEBYTECODE # each start would compile all of MLflow anew

exec "$MLOPS_ENV_VENV/bin/python" -P "$here/serve.py" "$MLOPS_ENV_WORKSPACE/.mlops-env/mlflow" "$MLOPS_ENV_PORT"
