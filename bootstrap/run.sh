#!/usr/bin/env bash
# Every step in order: `bash run.sh [check|apply] [LAST_STEP]`. By hand or by us, on any host, as often as you like.
#   apply  stops at the first step that fails (exit 1)
#   check  changes nothing; exit 10 if a step is not in its desired state
# One JSON event per step on stdout, the tools' own words on stderr.
#
# `bash run.sh` needs no root and installs nothing outside your home (services run as processes). `sudo bash run.sh`
# equips the machine too (packages, Docker) and runs the services by Docker Compose; what is yours is still done as you.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=environment.sh
source "$here/environment.sh"
mode=${1:-apply} last=${2:-}
pending=0
for step in "$here"/steps/[0-9][0-9]-*.sh; do
  code=0
  case ${step##*/} in
    # These are about the system, and become root or the user where they need it.
    10-* | 20-* | 25-* | 70-*) bash "$step" "$mode" || code=$? ;;
    *) as_user bash "$step" "$mode" || code=$? ;;
  esac
  case $code in
    0) ;;
    10) pending=10 ;;
    *) exit "$code" ;;
  esac
  [[ ${step##*/} != *-"$last".sh ]] || break
done
exit "$pending"
