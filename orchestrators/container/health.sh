#!/usr/bin/env bash
# A container's health: `health.sh OWNER` asks the owner's trigger.py. Docker asks each second. That is right until all is
# well for the first time; from then on every ten seconds would do, which no image can say before Docker 25.
set -u
healthy=/dev/shm/healthy # there is a new /dev/shm at each start

[ ! -e "$healthy" ] || sleep 10
if [ -n "${MLOPS_ENV_PORT:-}" ] && ! (exec 3<>"/dev/tcp/127.0.0.1/$MLOPS_ENV_PORT") 2>/dev/null; then
  rm -f "$healthy"
  printf '{"healthy": false, "reason": "nothing listens on port %s yet"}\n' "$MLOPS_ENV_PORT"
  exit 1
fi
if "$MLOPS_ENV_VENV/bin/python" "$MLOPS_ENV_TREE/orchestrators/$1/trigger.py" health; then
  : >"$healthy"
else
  rm -f "$healthy"
  exit 1
fi
