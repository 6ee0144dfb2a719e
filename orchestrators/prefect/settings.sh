# Sourced by both services: what the server and its clients agree on.

state="$MLOPS_ENV_STATE/prefect"
mkdir -p "$state"
chmod 700 "$state"

# Another Prefect's address, key or profile may be set where `up` was typed.
while IFS= read -r name; do
  [ -z "$name" ] || unset "$name"
done <<NAMES
$(compgen -e PREFECT_ || true)
NAMES

unset PYTHONDONTWRITEBYTECODE # each start and each run would compile all of Prefect anew

# shellcheck disable=SC2034 # for who sources this
password=$(cat "$MLOPS_ENV_SECRETS/prefect-password")
export PREFECT_HOME="$state" # otherwise ~/.prefect
export DO_NOT_TRACK=1
