#!/usr/bin/env bash
# 20-docker: Docker Engine with Compose v2 and buildx, from Docker's own apt repository, or the distribution's packages.
# What is there already is never replaced, whoever made it; only what it lacks is added.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"
# shellcheck source=../docker.sh
source "$MLOPS_ENV_TREE/bootstrap/docker.sh"

: "${MLOPS_ENV_DOCKER_SOURCE:=auto}" # docker, distro, or auto: Docker's, else the distribution's

is_needed() { [ "$MLOPS_ENV_RUNTIME" = compose ] && [ -n "$MLOPS_ENV_SYSTEM" ]; }

check() {
  missing=()
  { have docker && has_engine; } || missing+=(engine)
  has_plugin compose || missing+=(compose)
  has_plugin buildx || missing+=(buildx)
  [ "${#missing[@]}" -eq 0 ]
}

# Also one that is not ours to start: a socket that somebody listens on, or one that the user points to.
has_engine() {
  have dockerd || [ -S "$root/var/run/docker.sock" ] || {
    find_endpoint
    [ "$endpoint" != "$default_endpoint" ]
  }
}

apply() {
  # shellcheck source=../apt.sh
  source "$MLOPS_ENV_TREE/bootstrap/apt.sh"
  # shellcheck source=../docker_packages.sh
  source "$MLOPS_ENV_TREE/bootstrap/docker_packages.sh"
  need_supported_system
  need_root
  case $MLOPS_ENV_DOCKER_SOURCE in
    auto | docker | distro) ;;
    *) die "MLOPS_ENV_DOCKER_SOURCE is auto, docker or distro, not $MLOPS_ENV_DOCKER_SOURCE" ;;
  esac
  if is_from_docker || { ! have docker && [ "$MLOPS_ENV_DOCKER_SOURCE" != distro ] && add_source_of_docker; }; then
    install_from_docker
  else
    install_from_distribution
  fi
}

step_main "$@"
