#!/usr/bin/env bash
# Every step in order: `bash run.sh [check|apply]`. By hand or by us, on any host, as often as you like.
#   apply  stops at the first step that fails (exit 1)
#   check  changes nothing; exit 10 if a step is not in its desired state
# One JSON event per step on stdout, the tools' own words on stderr.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mode=${1:-apply}
pending=0
for step in "$here"/steps/[0-9][0-9]-*.sh; do
  code=0
  bash "$step" "$mode" || code=$?
  case $code in
    0) ;;
    10) pending=10 ;;
    *) exit "$code" ;;
  esac
done
exit "$pending"
