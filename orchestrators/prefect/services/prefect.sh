#!/usr/bin/env bash
# Prefect's server: API, scheduler and pages, behind a password.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$here/settings.sh"

export PREFECT_SERVER_API_AUTH_STRING="admin:$password"
export PREFECT_SERVER_API_HOST="${MLOPS_ENV_BIND:-127.0.0.1}"
export PREFECT_SERVER_API_PORT="$MLOPS_ENV_PORT"
# It serves its pages from a copy, which it would make in its package: in an image that is root's.
export PREFECT_SERVER_UI_STATIC_DIRECTORY="$state/pages"
mkdir -p "$PREFECT_SERVER_UI_STATIC_DIRECTORY"
export PREFECT_SERVER_UI_API_URL=/api # relative: right behind any forwarded port
export PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT=false
export PREFECT_SERVER_ANALYTICS_ENABLED=false
# Relative, and so free of the letters of the user's path.
export PREFECT_SERVER_DATABASE_CONNECTION_URL=sqlite+aiosqlite:///prefect.db
if [ -n "${MLOPS_ENV_DATABASE:-}" ]; then
  database=$(cat "$MLOPS_ENV_SECRETS/postgres-password")@$MLOPS_ENV_DATABASE/prefect
  PREFECT_SERVER_DATABASE_CONNECTION_URL="postgresql+asyncpg://prefect:$database"
fi

# The server upgrades its database by itself; the old one stays beside it.
set -- "$MLOPS_ENV_VENV"/lib/python*/site-packages/prefect-[0-9]*.dist-info
version=$(basename "$1" .dist-info)
cd "$state" # and not in the workspace, where a .env or pyproject.toml may set Prefect's settings
if [ -f prefect.db ] && [ -f version ] && [ "$(cat version)" != "$version" ]; then
  backup="before-$version"
  rm -rf "$backup.part"
  mkdir "$backup.part"
  cp -p prefect.db* "$backup.part/"
  rm -rf "$backup"
  mv "$backup.part" "$backup"
fi
printf '%s' "$version" >version

exec "$MLOPS_ENV_VENV/bin/python" -P -m prefect server start
