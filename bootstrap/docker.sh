# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # half of the variables belong to those who source this
# Sourced by the steps about Docker: what can be known about it without asking its daemon.
default_endpoint=unix:///var/run/docker.sock

# Whether the docker command has a plugin: has_plugin compose|buildx
has_plugin() {
  local place
  for place in "${DOCKER_CONFIG:-$HOME/.docker}" "$root"/usr/{local/lib,local/libexec,lib,libexec}/docker; do
    [ ! -x "$place/cli-plugins/docker-$1" ] || return 0
  done
  have docker && docker "$1" version >/dev/null 2>&1 # some, as snap's, have it in a place of their own
}

# Set `endpoint` to where the user's docker commands go: what he set, else what the context that he chose says.
find_endpoint() {
  local config=${DOCKER_CONFIG:-$HOME/.docker}/config.json
  endpoint=${DOCKER_HOST:-$default_endpoint}
  [ -z "${DOCKER_HOST:-}" ] || return 0
  if [ -n "${DOCKER_CONTEXT:-}" ] || { [ -f "$config" ] && [[ $(<"$config") == *'"currentContext"'* ]]; }; then
    endpoint=$(as_user docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) ||
      endpoint='a context that is gone'
  fi
}
