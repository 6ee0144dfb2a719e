#!/usr/bin/env bash
# 40-tools: uv answers, and a small venv holds the process manager (supervisor) and psutil, from a hashed lock.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"

venv=$MLOPS_ENV_HOST_DIR/venvs/tools
lock=$MLOPS_ENV_TREE/bootstrap/tools.lock

# The copy of the lock is written last: a venv that a kill -9 left half made has none.
check() { [ -x "$tools_python" ] && cmp -s "$lock" "$venv/tools.lock"; }

apply() {
  have "$MLOPS_ENV_UV" || die "uv is not there. Install it (https://docs.astral.sh/uv), then run this again."
  end_earlier_jobs
  rm -rf "$venv" # uv clears none that a kill -9 left half made
  "$MLOPS_ENV_UV" venv --quiet --clear --no-project --python "${MLOPS_ENV_PYTHON:->=3.11}" "$venv"
  "$MLOPS_ENV_UV" pip sync --quiet --require-hashes --python "$tools_python" "$lock"
  cp "$lock" "$venv/tools.lock"
}

step_main "$@"
