#!/usr/bin/env bash
# Server and scheduler, on loopback.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$MLOPS_ENV_STATE/toy"

exec "$MLOPS_ENV_VENV/bin/python" "$here/serve.py"
