#!/usr/bin/env bash
# 10-base: what the later steps take as given: git, Python with venv, certificates, and a machine that has room for the
# rest. It is for hosts that are ours to equip.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"
# shellcheck source=../apt.sh
source "$MLOPS_ENV_TREE/bootstrap/apt.sh"

: "${MLOPS_ENV_DISK_MB:=3000}" # images or venvs of an orchestrator and MLflow, with what building them takes
: "${MLOPS_ENV_CLOUD_INIT_SECONDS:=600}"

is_needed() { [ -n "$MLOPS_ENV_SYSTEM" ]; }

check() { { [ -x "$tools_python" ] || is_fit; } && nothing_missing; }

apply() { apt_install "${missing[@]}"; }

nothing_missing() {
  missing=()
  [ -e "$root/etc/ssl/certs/ca-certificates.crt" ] || missing+=(ca-certificates)
  have git || missing+=(git)
  { have python3 && compgen -G "$root/usr/*lib/python3*/ensurepip" >/dev/null; } || missing+=(python3-venv)
  [ "${#missing[@]}" -eq 0 ]
}

# Looked at until there is something of ours: from then on it is we who take the room.
is_fit() {
  if [ -z "${looked:-}" ]; then
    looked=1
    wait_for_cloud_init
    need_processor
    need_room "$HOME"
    [ "$MLOPS_ENV_RUNTIME" != compose ] || need_room "$root/var/lib/docker"
    warn_of_little_memory
  fi
}

# While a new machine is being set up, what we look for may be about to come. Exit 2 is "done, with warnings", for which
# versions before 23.4 say 1.
wait_for_cloud_init() {
  have cloud-init && [ -d "$root/run/cloud-init" ] && [ ! -e "$root/run/cloud-init/result.json" ] || return 0
  note "waiting for cloud-init to finish setting this machine up"
  local code=0
  timeout "$MLOPS_ENV_CLOUD_INIT_SECONDS" cloud-init status --wait >/dev/null 2>&1 || code=$?
  case $code in
    0 | 2) ;;
    124)
      fail cloud-init "cloud-init is still at work on this machine after $MLOPS_ENV_CLOUD_INIT_SECONDS seconds" \
        "\`cloud-init status --long\` says at what; run it again when it is done"
      ;;
    *) note "cloud-init reports an error (\`cloud-init status --long\` says which); going on" ;;
  esac
}

# Without AVX polars, which the pipeline uses, dies of "Illegal instruction" (exit 132 of a container).
need_processor() {
  [ "$HOSTTYPE" != x86_64 ] || grep -qm1 '^flags.* avx' "$root/proc/cpuinfo" ||
    fail no-avx "this processor has no AVX, which polars needs" \
      "use a machine with a processor of 2013 or later; in a virtual machine, pass the host's processor through"
}

need_room() {
  local place=$1 free
  until [ -d "$place" ]; do place=${place%/*}/.; done
  free=$(df -Pm "$place" | awk 'END { print $4 }')
  ((free >= MLOPS_ENV_DISK_MB)) ||
    fail disk-full "$1 has $free MB free; about $MLOPS_ENV_DISK_MB MB are needed" \
      "free some space or enlarge the disk, then run it again"
}

warn_of_little_memory() {
  local key value rest
  while read -r key value rest; do
    [ "$key" = MemTotal: ] || continue
    ((value >= 3000000)) ||
      note "this machine has $((value / 1024)) MB of memory; with less than 4 GB a run may be killed for want of it"
    return 0
  done <"$root/proc/meminfo"
}

step_main "$@"
