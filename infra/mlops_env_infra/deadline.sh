#!/usr/bin/env bash
# mlops-env-deadline: this host powers itself off at a time that no restart postpones, whoever else is gone by then.
# Usage: mlops-env-deadline arm SECONDS | set EPOCH | show | check
set -euo pipefail

file=${DEADLINE_FILE:-/var/lib/mlops-env/deadline} # epoch seconds
proc=${DEADLINE_PROC:-/proc}
grace=600 # seconds to extend in, for whoever starts a host after its deadline

die() {
  printf 'mlops-env-deadline: %s\n' "$*" >&2
  exit 2
}

whole() {
  [[ $1 =~ ^[1-9][0-9]*$ ]] || die "'$1' is not a number of seconds"
}

show() {
  if [ -e "$file" ]; then cat "$file"; fi
}

# To a file of its own first: a full disk leaves the deadline that was there.
set_deadline() {
  mkdir -p "${file%/*}"
  printf '%s\n' "$1" >"$file.part"
  mv "$file.part" "$file"
}

# When PID 1 started: the boot of a machine, and the start of a container, whose uptime is that of the machine.
booted() {
  local stat fields since_boot
  stat=$(cat "$proc/1/stat")
  read -ra fields <<<"${stat##*) }" # what is before, the program's name, may have blanks in it
  since_boot=$((fields[19] / $(getconf CLK_TCK)))
  echo $(($(sed -n 's/^btime //p' "$proc/stat") + since_boot))
}

check() {
  local deadline now start
  deadline=$(show)
  [ -n "$deadline" ] || return 0
  whole "$deadline"
  now=$(date +%s)
  start=$(booted)
  if ((now < deadline || (start > deadline && now < start + grace))); then return 0; fi
  systemctl poweroff
}

case "${1:-} $#" in
  "arm 2")
    whole "$2"
    [ -e "$file" ] || set_deadline "$(($(date +%s) + $2))"
    ;;
  "set 2")
    whole "$2"
    set_deadline "$2"
    ;;
  "show 1") show ;;
  "check 1") check ;;
  *) die "usage: mlops-env-deadline arm SECONDS | set EPOCH | show | check" ;;
esac
