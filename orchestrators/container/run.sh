#!/usr/bin/env bash
# What a container of ours runs: `run.sh OWNER/services/SERVICE.sh`, and at its end nothing is left to be killed in the
# middle. As group.py does for a venv: TERM goes to the main process alone, which knows best in which order its children
# end; what then still runs, a step in the middle of its work, is asked to end too, and can say so.
set -u
cd "$MLOPS_ENV_WORKSPACE" || exit

stopping=
bash "$MLOPS_ENV_TREE/orchestrators/$1" &
main=$!
trap 'stopping=1; kill -TERM "$main"' TERM INT

# A signal ends the first wait; 10 seconds later patience does.
wait "$main"
code=$?
if [ -n "$stopping" ]; then
  (sleep 10 && kill -KILL "$main") 2>/dev/null &
  wait "$main"
  code=0
fi

trap '' TERM
rm -f /dev/shm/healthy # no look at its health is to sleep now
kill -TERM -1 2>/dev/null
for _ in {1..50}; do
  processes=(/proc/[0-9]*)
  [ "${#processes[@]}" -gt 2 ] || break # this one, and the init that started it
  sleep 0.1
done
exit "$code"
