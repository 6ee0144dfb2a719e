# shellcheck shell=bash
# Sourced by every step: strict mode, exactly one result event, the check/apply driver.
# Works with macOS's bash 3.2: no associative arrays, no ${x@Q}, no mapfile.
set -Eeuo pipefail
shopt -s inherit_errexit 2>/dev/null || :
exec 3>&1 1>&2 # fd 3 is the event stream; everything else is log (stderr)
STEP=$(basename "$0" .sh)
STEP=${STEP#[0-9][0-9]-}
readonly STEP
result=failed # pessimistic: whatever kills us, the event says so
trap 'printf "{\"type\":\"step\",\"name\":\"%s\",\"status\":\"%s\"}\n" "$STEP" "$result" >&3' EXIT

: "${MLOPS_ENV_TREE:=$(cd "$(dirname "$0")/../.." && pwd)}"
: "${MLOPS_ENV_NAME:=default}"
: "${MLOPS_ENV_ORCHESTRATOR:=mage}"
: "${MLOPS_ENV_HOST_DIR:=${XDG_STATE_HOME:-$HOME/.local/state}/mlops-env/$MLOPS_ENV_NAME/host}"
: "${MLOPS_ENV_WORKSPACE:=$HOME/mlops-env/$MLOPS_ENV_NAME}"
: "${MLOPS_ENV_ID:=$MLOPS_ENV_NAME}"
: "${MLOPS_ENV_OWN_WORKSPACE:=}"
: "${MLOPS_ENV_UV:=uv}"
export MLOPS_ENV_TREE MLOPS_ENV_NAME MLOPS_ENV_ORCHESTRATOR MLOPS_ENV_HOST_DIR MLOPS_ENV_WORKSPACE
export MLOPS_ENV_ID MLOPS_ENV_OWN_WORKSPACE MLOPS_ENV_UV
export MLOPS_ENV_JOB=1 PYTHONUTF8=1
tools_python=$MLOPS_ENV_HOST_DIR/venvs/tools/bin/python

have() { command -v "$1" >/dev/null; }
die() {
  printf '%s: %s\n' "$STEP" "$*" >&2
  exit 1
}

# One of our own scripts, in the venv that holds the process manager.
tool() { "$tools_python" "$MLOPS_ENV_TREE/orchestrators/$1.py" "${@:2}"; }

step_main() {
  case "${1:-apply}" in
    check) if check; then result=ok; else
      result=pending
      exit 10
    fi ;;
    apply)
      if check; then
        result=ok
        return
      fi
      printf '{"type":"step","name":"%s","status":"started"}\n' "$STEP" >&3
      apply   # never inside a condition: errexit must stay on
      hash -r # apply may have put a command earlier on PATH; forget the old path
      check || die "applied, but the check still fails"
      result=changed
      ;;
    *) die "usage: $0 [check|apply]" ;;
  esac
}
