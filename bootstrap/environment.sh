# shellcheck shell=bash
# Which environment the scripts act for, and as whom: what `mlops-env` says, else these defaults for somebody who works
# by hand. By hand with sudo the environment is that of the user who called sudo; root does only what needs root.
if [ -z "${MLOPS_ENV_USER:-}" ]; then
  if ((EUID)); then
    MLOPS_ENV_USER=${USER:-$(id -un)}
  elif [ -n "${SUDO_USER:-}" ] && [ -z "${MLOPS_ENV_HOST_DIR:-}" ]; then
    MLOPS_ENV_USER=$SUDO_USER
    HOME=$(getent passwd "$SUDO_USER" | cut -d: -f6)
  else
    MLOPS_ENV_USER=root
  fi
fi
# MLOPS_ENV_SYSTEM: 1 where this host is ours to equip (packages, Docker, sudo); empty where nothing outside home is.
if ((EUID)); then
  : "${MLOPS_ENV_RUNTIME:=venv}" "${MLOPS_ENV_SYSTEM=}"
else
  : "${MLOPS_ENV_RUNTIME:=compose}" "${MLOPS_ENV_SYSTEM=1}"
fi
[ -n "${MLOPS_ENV_TREE:-}" ] || MLOPS_ENV_TREE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${MLOPS_ENV_NAME:=default}"
: "${MLOPS_ENV_ORCHESTRATOR:=mage}"
: "${MLOPS_ENV_HOST_DIR:=${XDG_STATE_HOME:-$HOME/.local/state}/mlops-env/$MLOPS_ENV_NAME/host}"
: "${MLOPS_ENV_WORKSPACE:=$HOME/mlops-env/$MLOPS_ENV_NAME}"
: "${MLOPS_ENV_ID:=$MLOPS_ENV_NAME}"
: "${MLOPS_ENV_OWN_WORKSPACE:=}"
if [ -z "${MLOPS_ENV_UV:-}" ]; then
  MLOPS_ENV_UV=uv
  type -P uv >/dev/null || MLOPS_ENV_UV=$MLOPS_ENV_HOST_DIR/venvs/uv/bin/uv # where 35-uv puts one
fi
# What uv downloads to a host that is ours to equip goes with the environment.
[ -z "$MLOPS_ENV_SYSTEM" ] || export UV_CACHE_DIR="${UV_CACHE_DIR:-$MLOPS_ENV_HOST_DIR/cache}"
export MLOPS_ENV_USER MLOPS_ENV_RUNTIME MLOPS_ENV_SYSTEM
export MLOPS_ENV_TREE MLOPS_ENV_NAME MLOPS_ENV_ORCHESTRATOR MLOPS_ENV_HOST_DIR MLOPS_ENV_WORKSPACE
export MLOPS_ENV_ID MLOPS_ENV_OWN_WORKSPACE MLOPS_ENV_UV
export HOME MLOPS_ENV_JOB=1 PYTHONUTF8=1
# shellcheck disable=SC2034 # for those who source this
tools_python=$MLOPS_ENV_HOST_DIR/venvs/tools/bin/python
root=${MLOPS_ENV_ROOT:-} # tests give another / to look at

# Run a command as root. Whoever sources this has a `fail CODE MESSAGE HINT`.
as_root() {
  if ((EUID)); then
    need_root
    sudo -n "$@"
  else
    "$@"
  fi
}

# Known beforehand where a pipe or a `$()` would hide the end of the script.
need_root() {
  ((EUID)) && [ -z "${root_may:-}" ] || return 0
  local why="sudo asks $MLOPS_ENV_USER for a password on this host"
  type -P sudo >/dev/null || why="there is no sudo on this host"
  sudo -n true 2>/dev/null ||
    fail no-sudo "something must be installed or started here, which needs root, and $why" \
      "log in as root, or as a user whose sudo asks for no password (NOPASSWD in sudoers), then run it again"
  root_may=1
}

# Run a command as the user whose environment it is, in a new login where he has joined group docker since this one.
as_user() {
  if ((! EUID)) && [ "$MLOPS_ENV_USER" != root ]; then
    runuser -u "$MLOPS_ENV_USER" -- env USER="$MLOPS_ENV_USER" LOGNAME="$MLOPS_ENV_USER" "$@"
  elif ((EUID)) && [ -n "$MLOPS_ENV_SYSTEM" ] && [ "$MLOPS_ENV_RUNTIME" = compose ] &&
    joined_docker_meanwhile && sudo -n true 2>/dev/null; then
    local name settings=()
    for name in HOME PATH PYTHONUTF8 ${!MLOPS_ENV_@} ${!DOCKER_@} ${!GIT_@} http_proxy https_proxy no_proxy; do
      [ -z "${!name:-}" ] || settings+=("$name=${!name}")
    done
    sudo -n -u "$MLOPS_ENV_USER" -- env "${settings[@]}" "$@"
  else
    "$@"
  fi
}

# The system has the user in group docker, but this login began before that.
joined_docker_meanwhile() {
  local name number members
  while IFS=: read -r name _ number members; do
    [ "$name" = docker ] || continue
    [[ ,$members, == *,"$MLOPS_ENV_USER",* && " ${GROUPS[*]} " != *" $number "* ]]
    return
  done <"$root/etc/group"
  return 1
}
