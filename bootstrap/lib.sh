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

# shellcheck source=environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

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
