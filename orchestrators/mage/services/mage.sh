#!/usr/bin/env bash
# Mage's server and scheduler, behind its own login; what it keeps is in its state directory, and in a database where
# one stands beside it.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
state="$MLOPS_ENV_STATE/mage"
project="$MLOPS_ENV_WORKSPACE/.mlops-env/projects/mage"

# Names so common that they may mean something else where `up` was typed: DEBUG=true ends Mage at its first import,
# ENV=test moves its data, and the others would connect it to somebody's Redis, Sentry or New Relic.
unset DEBUG ENV PROJECT_TYPE CLUSTER_TYPE INSTANCE_TYPE REDIS_URL SENTRY_DSN ENABLE_NEW_RELIC KERNEL_MANAGER

export REQUIRE_USER_AUTHENTICATION=1
export DEFAULT_OWNER_USERNAME=admin
export DEFAULT_OWNER_EMAIL=admin@localhost # `login` in orchestrator.toml: the form asks for an email
DEFAULT_OWNER_PASSWORD=$(cat "$MLOPS_ENV_SECRETS/mage-password")
JWT_SECRET=$(cat "$MLOPS_ENV_SECRETS/mage-jwt-secret")
export DEFAULT_OWNER_PASSWORD JWT_SECRET

export MAGE_DATA_DIR="$state"
export MAGE_DATABASE_CONNECTION_URL="sqlite:///$state/mage.db"
if [ -n "${MLOPS_ENV_DATABASE:-}" ]; then
  password=$(cat "$MLOPS_ENV_SECRETS/postgres-password")
  MAGE_DATABASE_CONNECTION_URL="postgresql+psycopg2://mage:$password@$MLOPS_ENV_DATABASE/mage"
fi
export MAGE_REPO_PATH="$project"   # before the first import: otherwise it is the working directory
export IPYTHONDIR="$state/ipython" # the editor's kernel would write to ~/.ipython
export DISABLE_AUTO_BROWSER_OPEN=1
export MAGE_PUBLIC_HOST="$MLOPS_ENV_URL"
export SCHEDULER_TRIGGER_INTERVAL=1 # seconds; a run waits that long for its start, by default 10
export SERVER_VERBOSITY=WARNING     # INFO is a line a second, for ever

mkdir -p "$state"
chmod 700 "$state"
echo $$ >"$state/server.pid" # exec keeps it: trigger.py health compares

exec "$MLOPS_ENV_VENV/bin/python" -P "$here/serve.py" "$project" "$MLOPS_ENV_PORT"
