#!/usr/bin/env bash
# 25-daemon: the user's `docker` answers, and with what we need. If it does not, the reason has a name of its own:
# "Cannot connect to the Docker daemon" is what docker says of half a dozen things that have different cures.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"
# shellcheck source=../docker.sh
source "$MLOPS_ENV_TREE/bootstrap/docker.sh"

: "${MLOPS_ENV_DOCKER_SECONDS:=10}" # how long a daemon that is well may take to answer
config=$root/etc/docker/daemon.json

is_needed() { [ "$MLOPS_ENV_RUNTIME" = compose ]; }

check() { look && [ "$verdict" = usable ]; }

# What may be mended is mended once; then it is said what is left.
apply() {
  [ "$verdict" != hangs ] || wait_while_it_starts
  if [ -n "$MLOPS_ENV_SYSTEM" ]; then
    [ "$verdict" != stopped ] || start
    [ "$verdict" != permission ] || join_group
  fi
  [ "$verdict" = usable ] || explain
}

# Set `verdict` to what stands between the user and his Docker.
look() {
  find_endpoint
  if ! have docker; then
    verdict=no-command
  elif ! has_plugin compose; then
    verdict=no-compose
  elif [[ $endpoint != unix://* ]]; then
    verdict=elsewhere said="which is not on this machine"
  else
    ask
  fi
}

ask() {
  local answer code=0
  answer=$(as_user "${bounded[@]}" docker version --format '{{.Server.Version}}' 2>&1) || code=$?
  case $code-$answer in
    0-*) verdict=usable ;;
    124-* | 142-*) verdict=hangs ;;
    *"permission denied"*) verdict=permission ;;
    *) find_why_silent ;;
  esac
}

find_why_silent() {
  if [ "$endpoint" != "$default_endpoint" ]; then
    verdict=elsewhere said="where no Docker answers"
  elif ! have dockerd; then
    verdict=no-daemon
  elif is_masked docker.service || is_masked docker.socket; then
    verdict=masked
  elif is_config_bad; then
    verdict=bad-config
  else
    verdict=stopped
  fi
}

with_systemd() { [ -d "$root/run/systemd/system" ]; }

is_masked() { with_systemd && [ "$(systemctl is-enabled "$1" 2>/dev/null)" = masked ]; }

# Set `said` to what dockerd has against its configuration, as far as can be said without starting it.
is_config_bad() {
  [ -r "$config" ] || return 1
  said=$(dockerd --validate --config-file "$config" 2>&1) && return 1
  [[ $said == *"unknown flag"* ]] || return 0
  [ -z "$MLOPS_ENV_SYSTEM" ] || return 1 # it is older than 23, and will be started: then it says so itself
  ! said=$(python3 -m json.tool "$config" 2>&1 >/dev/null)
}

# Its socket is there before it is: after a reboot, or when systemd restarts one that died.
wait_while_it_starts() {
  local deadline=$((SECONDS + start_seconds))
  is_starting || return 0
  note "Docker is starting; waiting for it"
  while is_starting && ((SECONDS < deadline)); do sleep 1; done
  ask
}

is_starting() { with_systemd && [ "$(systemctl is-active docker.service 2>/dev/null)" = activating ]; }

start() {
  need_root
  note "Docker is stopped; starting it"
  if with_systemd; then
    as_root systemctl reset-failed docker.service docker.socket 2>/dev/null || : # or a few earlier failures forbid it
    as_root timeout "$start_seconds" systemctl start docker.service || :
    last_words=(journalctl --unit docker.service --lines 20 --no-pager --output cat)
  elif ! [ -x "$root/etc/init.d/docker" ] || ! as_root service docker start; then # which needs to raise limits
    as_root sh -c "setsid dockerd >>$log 2>&1 </dev/null 3>&- &"
  fi
  wait_until_up
  [ "$verdict" != stopped ] || read_last_words
}

wait_until_up() {
  local deadline=$((SECONDS + start_seconds))
  ask
  while [ "$verdict" = stopped ] && ((SECONDS < deadline)) && ! has_failed; do
    sleep 1
    ask
  done
}

has_failed() { with_systemd && ! systemctl is-active --quiet docker.service; }

# Set `said` to why it ended again, and the verdict with it if its configuration is to blame.
read_last_words() {
  local words
  words=$(as_root "${last_words[@]}" 2>/dev/null) || words=
  said=$(grep -E 'unable to configure|failed to start|fatal|rror' <<<"$words" | tail -n 1) || said=${words##*$'\n'}
  [[ $said != *"unable to configure the Docker daemon"* ]] || verdict=bad-config
}

# Members of group docker may use the socket. `as_user` sees to it that this counts at once.
join_group() {
  as_root usermod -aG docker "$MLOPS_ENV_USER" || return 0
  remember group docker
  look
}

explain() {
  local again='then run it again'
  case $verdict in
    no-command)
      fail docker-missing "Docker is not installed here: there is no \`docker\` command" \
        "install Docker Engine (https://docs.docker.com/engine/install), $again; or choose --runtime venv"
      ;;
    no-compose)
      have docker-compose ||
        fail docker-missing "Docker lacks its Compose plugin: there is no \`docker compose\`" \
          "install docker-compose-plugin (or docker-compose-v2, as your distribution calls it), $again"
      fail docker-compose-v1 "only Compose v1 (\`docker-compose\`) is here, which does not know what Compose v2 knows" \
        "install docker-compose-plugin (or docker-compose-v2, as your distribution calls it) beside it, $again"
      ;;
    elsewhere)
      fail docker-context "your docker commands go to $endpoint, $said" \
        "\`docker context use default\` and \`unset DOCKER_HOST DOCKER_CONTEXT\` bring them back, $again"
      ;;
    hangs)
      fail docker-hangs "the Docker daemon is there but gives no answer within $MLOPS_ENV_DOCKER_SECONDS seconds" \
        "\`sudo systemctl restart docker\` (containers with a restart policy come back by themselves), $again"
      ;;
    permission)
      explain_permission
      ;;
    no-daemon)
      fail docker-no-daemon "there is a \`docker\` command here but no Docker Engine behind it" \
        "install Docker Engine (https://docs.docker.com/engine/install), or start Docker Desktop; $again"
      ;;
    masked)
      fail docker-masked "Docker is installed but masked: somebody has forbidden systemd to start it" \
        "\`sudo systemctl unmask docker.service docker.socket\` allows it, $again"
      ;;
    bad-config)
      fail docker-config "the Docker daemon does not start because of /etc/docker/daemon.json: ${said#*daemon.json: }" \
        "mend that file (\`sudo dockerd --validate\` checks it where dockerd is 23 or later), $again"
      ;;
    stopped)
      [ -n "$MLOPS_ENV_SYSTEM" ] ||
        fail docker-stopped "Docker is installed but not running" "\`sudo systemctl start docker\`, $again"
      fail docker-stopped "Docker is installed but does not run; started, it ended again: $said" \
        "\`sudo ${last_words[*]:0:3}\` says more; mend that, $again"
      ;;
  esac
}

explain_permission() {
  local owner
  owner=$(stat -L -c %U:%G "$root/var/run/docker.sock" 2>/dev/null) || owner='somebody else'
  case $(id -nG "$MLOPS_ENV_USER" 2>/dev/null) in
    *docker*)
      fail docker-permission "$MLOPS_ENV_USER is in group docker but may not use Docker's socket, which is $owner's" \
        "log out and in again (a login from before you joined does not know), or restart Docker, then run it again"
      ;;
    *)
      fail docker-permission "$MLOPS_ENV_USER may not use Docker's socket, which is $owner's" \
        "\`sudo usermod -aG docker $MLOPS_ENV_USER\`, log out and in again (that is when it counts), then run it again"
      ;;
  esac
}

# macOS has no `timeout`; killed by an alarm is exit 142.
bounded=(timeout "$MLOPS_ENV_DOCKER_SECONDS")
have timeout || bounded=(perl -e 'alarm shift; exec @ARGV' "$MLOPS_ENV_DOCKER_SECONDS")
log=/var/log/docker.log # where the init script has it too
last_words=(tail -n 20 "$log")
start_seconds=60

step_main "$@"
