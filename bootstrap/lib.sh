# shellcheck shell=bash
# Sourced by every step: strict mode, exactly one result event, the check/apply driver.
# Works with macOS's bash 3.2: no associative arrays, no ${x@Q}, no mapfile. `check` starts as few processes as it can:
# most runs find nothing to do, and each process costs as much as all the rest of a step.
set -Eeuo pipefail
shopt -s inherit_errexit 2>/dev/null || :
exec 3>&1 1>&2 # fd 3 is the event stream; everything else is log (stderr)
STEP=${0##*/}
STEP=${STEP%.sh}
STEP=${STEP#[0-9][0-9]-}
readonly STEP
result=failed # pessimistic: whatever kills us, the event says so
trap 'printf "{\"type\":\"step\",\"name\":\"%s\",\"status\":\"%s\"}\n" "$STEP" "$result" >&3' EXIT

# shellcheck source=environment.sh
source "${BASH_SOURCE[0]%/*}/environment.sh"
PATH=$PATH:$root/usr/sbin:$root/sbin # where daemons are; a login over ssh may have neither

have() { command -v "$1" >/dev/null; }

die() {
  printf '%s: %s\n' "$STEP" "$*" >&2
  exit 1
}

# Say why this step fails, and what would help, then fail: fail CODE MESSAGE HINT
fail() {
  printf '{"type":"cause","name":"%s","code":"%s","message":%s,"hint":%s}\n' \
    "$STEP" "$1" "$(as_json "$2")" "$(as_json "$3")" >&3
  die "$2. $3"
}

# Say what is worth knowing while it goes on: note MESSAGE
note() { printf '{"type":"note","name":"%s","message":%s}\n' "$STEP" "$(as_json "$1")" >&3; }

# A string as JSON has it. Character by character: in a replacement `${x//…}` every bash quotes differently.
as_json() {
  local LC_ALL=C text=$1 out='' character i
  for ((i = 0; i < ${#text}; i++)); do
    character=${text:i:1}
    case $character in
      [\"\\]) out+=\\$character ;;
      [[:cntrl:]]) out+=$(printf '\\u%04x' "'$character") ;;
      *) out+=$character ;;
    esac
  done
  printf '"%s"' "$out"
}

# Note what we changed on this host, so that `down --purge` can take it back: remember KIND NAME…
remember() {
  local made=$MLOPS_ENV_HOST_DIR/made
  as_user mkdir -p "$made"
  printf '%s\n' "${@:2}" | as_user tee -a "$made/$1" >/dev/null
}

# End what an earlier command of ours, whose connection broke, still has at work here: two would spoil each other's venv.
# They bear our marks, and are neither of this session nor what this script was started by.
end_earlier_jobs() {
  local pid parent session ours=' ' here found=() tenths=0
  [ -r /proc/self/environ ] || return 0 # only Linux tells
  read_stat $$
  here=$session
  for ((pid = $$; pid > 1; pid = parent)); do
    ours+="$pid "
    read_stat "$pid"
  done
  while IFS=/ read -r _ _ pid _; do
    [[ $ours == *" $pid "* ]] || ! read_stat "$pid" || [ "$session" = "$here" ] || found+=("$pid")
  done < <(grep -lszxF "MLOPS_ENV_ID=$MLOPS_ENV_ID" /proc/[0-9]*/environ | xargs -r grep -lszxF MLOPS_ENV_JOB=1 |
    xargs -r grep -lszxF "MLOPS_ENV_HOST_DIR=$MLOPS_ENV_HOST_DIR") # by hand many are called alike
  [ "${#found[@]}" -gt 0 ] || return 0
  kill -TERM "${found[@]}" 2>/dev/null || :
  while kill -0 "${found[@]}" 2>/dev/null && ((tenths < 50)); do
    sleep 0.1
    tenths=$((tenths + 1))
  done
  kill -KILL "${found[@]}" 2>/dev/null || :
}

# Set `parent` and `session` of a process. Its name, in parentheses, may hold anything.
read_stat() {
  local line
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -r _ parent _ session _ <<<"${line##*) }"
}

# One of our own scripts, in the venv that holds the process manager.
tool() { "$tools_python" "$MLOPS_ENV_TREE/orchestrators/$1.py" "${@:2}"; }

is_needed() { :; } # a step that is not always called for says so by another one

step_main() {
  if ! is_needed; then
    result=skipped
    return
  fi
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
