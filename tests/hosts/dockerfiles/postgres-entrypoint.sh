#!/usr/bin/env bash
# As the official image's: on an empty volume a cluster with this user, password and database; then the server. While
# the cluster is made, the server listens on its socket only, so nobody takes it for ready from outside.
set -Eeuo pipefail

if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then # while still root: it may be another user's
  POSTGRES_PASSWORD=$(<"$POSTGRES_PASSWORD_FILE")
  export POSTGRES_PASSWORD
  unset POSTGRES_PASSWORD_FILE
fi

if [ "${1:-}" = postgres ] && [ "$(id -u)" -eq 0 ]; then
  install -d -o postgres -g postgres -m 700 "$PGDATA"
  chown -R postgres:postgres "$PGDATA" /var/run/postgresql
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  password=${POSTGRES_PASSWORD:-}
  if [ -z "$password" ]; then
    echo 'Error: Database is uninitialized and superuser password is not specified.' >&2
    exit 1
  fi
  initdb --username="$user" --pwfile=<(printf '%s\n' "$password") --auth-host=scram-sha-256 --auth-local=trust
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  printf "listen_addresses = '*'\nunix_socket_directories = '/var/run/postgresql,/tmp'\n" >>"$PGDATA/postgresql.conf"
  pg_ctl --wait --options="-c listen_addresses=''" start
  if [ "$database" != postgres ]; then
    printf 'CREATE DATABASE :"db";\n' | psql --host=/var/run/postgresql --username="$user" --dbname=postgres \
      --no-psqlrc --set=ON_ERROR_STOP=1 --set=db="$database"
  fi
  pg_ctl --wait --mode=fast stop
fi
exec "$@"
