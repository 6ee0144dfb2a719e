#!/usr/bin/env bash
# Keep one ssh running, for ever: `forward.sh ssh …`. A computer may sleep or be offline for hours, and whoever comes
# back wants the pages back within seconds. What ssh says when it ends goes to the log once, until it says another thing.
set -u

last='' delay=0
while :; do
  began=$SECONDS
  words=$("$@" </dev/null 2>&1 | tail -n 3 | tr -d '\r' | tr '\n' ' ')
  lived=$((SECONDS - began))
  if [ "$lived" -ge 10 ]; then # it was connected, so this is a new story
    last='' delay=0
  fi
  if [ "${words:=it said nothing}" != "$last" ]; then
    printf '%s ssh ended after %s s: %s\n' "$(date '+%Y-%m-%d %H:%M:%S')" "$lived" "${words% }"
    last=$words
  fi
  delay=$((delay < 5 ? delay + 1 : 5))
  case $words in
    # Nothing that passes by itself, and a host may lock out whoever knocks every few seconds.
    *'Permission denied'* | *'authentication failures'* | *'verification failed'*) sleep 60 ;;
    *) sleep "$delay" ;;
  esac
done
