#!/usr/bin/env bash
# The process that runs the flow of the generated project whenever the server wants it.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$here/settings.sh"

export PREFECT_API_URL="$MLOPS_ENV_URL/api"
export PREFECT_API_AUTH_STRING="admin:$password"
# A flow run is a process that inherits all this.
export PREFECT_LOGGING_TO_API_BATCH_INTERVAL=1
export NO_PROXY="${NO_PROXY:+$NO_PROXY,}127.0.0.1,prefect"
export no_proxy="$NO_PROXY"

: >"$state/worker.started" # trigger.py health: what an earlier worker asked for says nothing of this one

cd "$MLOPS_ENV_WORKSPACE/.mlops-env/projects/prefect"
exec "$MLOPS_ENV_VENV/bin/python" "$here/serve.py"
