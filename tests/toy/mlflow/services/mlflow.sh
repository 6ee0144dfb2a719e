#!/usr/bin/env bash
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$MLOPS_ENV_WORKSPACE/.mlops-env/mlflow"

exec "$MLOPS_ENV_VENV/bin/python" "$here/serve.py"
