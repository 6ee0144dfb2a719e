#!/usr/bin/env bats
# 25-daemon: each thing that can stand between a user and his Docker has a name, a cause and a cure of its own.
load helper

CANNOT="Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
DENIED="permission denied while trying to connect to the Docker daemon socket"
ENGINE='install Docker Engine (https://docs.docker.com/engine/install)'

setup() {
  setup_machine
  sudoer
  plugin=$root/usr/libexec/docker/cli-plugins/docker-compose
  mkdir -p "${plugin%/*}" "$root/usr/sbin" "$root/var/run"
  install -m 755 /dev/null "$plugin"
  docker_says 'echo 26.1.5'
  fake dockerd '*' 'echo "unknown flag: --validate" >&2; exit 125'
}

docker_says() { fake docker 'version --format {{.Server.Version}}' "$1"; }
docker_is_down() { docker_says "echo '$CANNOT' >&2; exit 1"; }
without_the_sentence() { [[ $output$stderr != *"Cannot connect to the Docker daemon"* ]]; }

# A systemd whose docker.service can be started, which makes docker answer.
systemd() {
  mkdir -p "$root/run/systemd/system"
  fake systemctl 'is-enabled *' 'echo enabled'
  fake systemctl 'reset-failed docker.service docker.socket'
  fake systemctl 'start docker.service' "${1:-touch $machine/up}"
  fake systemctl 'is-active --quiet docker.service' "[ -e $machine/up ]"
  docker_says "[ -e $machine/up ] || { echo '$CANNOT' >&2; exit 1; }"
}

@test "a daemon that answers is ok, and asked once" {
  step 25-daemon
  expect 0 daemon ok
  same "$(cat "$calls")" 'docker version --format {{.Server.Version}}'
}

@test "without Docker in use nothing is looked at" {
  step 25-daemon apply MLOPS_ENV_RUNTIME=venv
  expect 0 daemon skipped
  same "$(cat "$calls")" ''
}

@test "check changes nothing and says pending" {
  systemd
  step 25-daemon check
  expect 10 daemon pending
  not_called 'systemctl start'
}

@test "no docker command" {
  rm "$fakes/docker"
  step 25-daemon
  expect_cause daemon docker-missing 'Docker is not installed here: there is no `docker` command' \
    "$ENGINE, then run it again; or choose --runtime venv"
}

@test "a command without an engine" {
  docker_is_down
  rm "$fakes/dockerd"
  step 25-daemon
  expect_cause daemon docker-no-daemon 'there is a `docker` command here but no Docker Engine behind it' \
    "$ENGINE, or start Docker Desktop; then run it again"
  without_the_sentence
}

@test "stopped: started once, by systemd" {
  systemd
  step 25-daemon
  expect 0 daemon started "$(note daemon 'Docker is stopped; starting it')" changed
  called 'sudo -n systemctl reset-failed docker.service docker.socket'
  same "$(grep -c '^systemctl start' "$calls")" 1
}

@test "stopped: started by the init script where there is no systemd" {
  docker_says "[ -e $machine/up ] || { echo '$CANNOT' >&2; exit 1; }"
  mkdir -p "$root/etc/init.d"
  install -m 755 /dev/null "$root/etc/init.d/docker"
  fake service 'docker start' "touch $machine/up"
  step 25-daemon
  expect 0 daemon started "$(note daemon 'Docker is stopped; starting it')" changed
}

@test "stopped: dockerd itself is started where the init script may not raise limits" {
  docker_says "[ -e $machine/up ] || { echo '$CANNOT' >&2; exit 1; }"
  mkdir -p "$root/etc/init.d"
  install -m 755 /dev/null "$root/etc/init.d/docker"
  fake service 'docker start' 'exit 2'
  fake sudo '-n sh -c setsid dockerd *' "touch $machine/up"
  step 25-daemon
  expect 0 daemon started "$(note daemon 'Docker is stopped; starting it')" changed
}

@test "stopped: dockerd itself is started where nobody else would" {
  docker_says "[ -e $machine/up ] || { echo '$CANNOT' >&2; exit 1; }"
  fake sudo '-n sh -c setsid dockerd *' "touch $machine/up"
  step 25-daemon
  expect 0 daemon started "$(note daemon 'Docker is stopped; starting it')" changed
}

@test "stopped, and the machine is the user's: he is told, nothing is started" {
  systemd
  step 25-daemon apply MLOPS_ENV_SYSTEM=
  expect_cause daemon docker-stopped 'Docker is installed but not running' \
    '`sudo systemctl start docker`, then run it again'
  not_called sudo
  without_the_sentence
}

@test "stopped, and root cannot be had" {
  systemd
  fake sudo '-n true' 'exit 1'
  step 25-daemon
  expect_cause daemon no-sudo \
    'something must be installed or started here, which needs root, and sudo asks me for a password on this host' \
    'log in as root, or as a user whose sudo asks for no password (NOPASSWD in sudoers), then run it again'
}

@test "stopped, and there is no sudo" {
  systemd
  rm "$fakes/sudo"
  step 25-daemon
  [[ $output == *'"code":"no-sudo","message":"'*'there is no sudo on this host"'* ]]
}

@test "started, it ends again: its last words are told" {
  systemd 'exit 1'
  local words='failed to start daemon: driver not supported: nonesuch'
  fake journalctl '--unit docker.service *' "echo '$words'; echo Stopped."
  NOTES=("$(note daemon 'Docker is stopped; starting it')")
  step 25-daemon
  expect_cause daemon docker-stopped \
    "Docker is installed but does not run; started, it ended again: $words" \
    '`sudo journalctl --unit docker.service` says more; mend that, then run it again'
  without_the_sentence
}

@test "masked: nothing is started against the will of whoever masked it" {
  systemd
  fake systemctl 'is-enabled docker.socket' 'echo masked; exit 1'
  step 25-daemon
  expect_cause daemon docker-masked 'Docker is installed but masked: somebody has forbidden systemd to start it' \
    '`sudo systemctl unmask docker.service docker.socket` allows it, then run it again'
  not_called 'systemctl start'
}

bad_config() {
  mkdir -p "$root/etc/docker"
  echo '{ "hosts": [' >"$root/etc/docker/daemon.json"
  mend='mend that file (`sudo dockerd --validate` checks it where dockerd is 23 or later), then run it again'
  words="unable to configure the Docker daemon with file $root/etc/docker/daemon.json: unexpected EOF"
}

@test "a bad daemon.json, as dockerd says without being started" {
  systemd
  bad_config
  fake dockerd '--validate --config-file *' "echo '$words' >&2; exit 1"
  step 25-daemon apply MLOPS_ENV_SYSTEM=
  expect_cause daemon docker-config \
    'the Docker daemon does not start because of /etc/docker/daemon.json: unexpected EOF' "$mend"
}

@test "a bad daemon.json, as an old dockerd says when started" {
  systemd 'exit 1'
  bad_config
  fake journalctl '--unit docker.service *' "echo '$words'; echo Stopped."
  NOTES=("$(note daemon 'Docker is stopped; starting it')")
  step 25-daemon
  expect_cause daemon docker-config \
    'the Docker daemon does not start because of /etc/docker/daemon.json: unexpected EOF' "$mend"
}

@test "a bad daemon.json under an old dockerd on a machine of the user's: JSON that nobody can read" {
  systemd
  bad_config
  fake python3 '-m json.tool *' 'echo "Expecting value: line 2 column 1 (char 13)" >&2; exit 1'
  step 25-daemon apply MLOPS_ENV_SYSTEM=
  expect_cause daemon docker-config \
    'the Docker daemon does not start because of /etc/docker/daemon.json: Expecting value: line 2 column 1 (char 13)' \
    "$mend"
}

@test "a good daemon.json is not blamed" {
  systemd
  bad_config
  fake dockerd '--validate --config-file *' 'echo "configuration OK"'
  step 25-daemon
  expect 0 daemon started "$(note daemon 'Docker is stopped; starting it')" changed
}

@test "no permission: the user joins the group, and goes on in a new login" {
  docker_says "[ -e $machine/joined ] || { echo '$DENIED' >&2; exit 1; }"
  fake usermod '-aG docker me' "sed -i 's/^docker:.*/&me/' $root/etc/group"
  fake sudo '-n -u me -- env HOME=*' "touch $machine/joined; shift 4; \"\$@\""
  step 25-daemon
  expect 0 daemon started changed
  same "$(cat "$host/made/group")" docker
}

@test "no permission, and the machine is the user's" {
  docker_says "echo '$DENIED' >&2; exit 1"
  fake id '-nG me' 'echo me'
  fake stat '*' 'echo root:docker'
  rm "$bin/stat"
  step 25-daemon apply MLOPS_ENV_SYSTEM=
  expect_cause daemon docker-permission "me may not use Docker's socket, which is root:docker's" \
    '`sudo usermod -aG docker me`, log out and in again (that is when it counts), then run it again'
  not_called sudo
}

@test "no permission although in the group: an old login, or a socket of somebody else's" {
  docker_says "echo '$DENIED' >&2; exit 1"
  fake id '-nG me' 'echo me docker'
  fake stat '*' 'echo root:root'
  step 25-daemon apply MLOPS_ENV_SYSTEM=
  expect_cause daemon docker-permission "me is in group docker but may not use Docker's socket, which is root:root's" \
    'log out and in again (a login from before you joined does not know), or restart Docker, then run it again'
}

@test "a daemon that gives no answer" {
  docker_says 'sleep 20'
  step 25-daemon apply MLOPS_ENV_DOCKER_SECONDS=0.1
  expect_cause daemon docker-hangs 'the Docker daemon is there but gives no answer within 0.1 seconds' \
    '`sudo systemctl restart docker` (containers with a restart policy come back by themselves), then run it again'
}

@test "a daemon that is just being started is waited for" {
  systemd
  docker_says "[ -e $machine/started ] || sleep 20; echo 26.1"
  fake systemctl 'is-active docker.service' \
    "if [ -e $machine/asked ]; then touch $machine/started; echo active; else touch $machine/asked; echo activating; fi"
  step 25-daemon apply MLOPS_ENV_SYSTEM= MLOPS_ENV_DOCKER_SECONDS=1
  expect 0 daemon started "$(note daemon 'Docker is starting; waiting for it')" changed
}

BACK='`docker context use default` and `unset DOCKER_HOST DOCKER_CONTEXT` bring them back, then run it again'

@test "commands that go to another machine" {
  step 25-daemon apply DOCKER_HOST=tcp://10.0.0.1:2375
  expect_cause daemon docker-context \
    'your docker commands go to tcp://10.0.0.1:2375, which is not on this machine' "$BACK"
}

@test "a context that goes to another machine" {
  mkdir "$home/.docker"
  echo '{"currentContext": "far"}' >"$home/.docker/config.json"
  fake docker 'context inspect *' 'echo ssh://me@far'
  step 25-daemon
  expect_cause daemon docker-context 'your docker commands go to ssh://me@far, which is not on this machine' "$BACK"
}

@test "a context that no longer exists" {
  fake docker 'context inspect *' 'exit 1'
  step 25-daemon apply DOCKER_CONTEXT=gone
  expect_cause daemon docker-context \
    'your docker commands go to a context that is gone, which is not on this machine' "$BACK"
}

@test "another socket of this machine is as good, if somebody answers" {
  step 25-daemon apply DOCKER_HOST=unix:///run/user/1000/docker.sock
  expect 0 daemon ok
}

@test "another socket where nobody answers" {
  docker_is_down
  step 25-daemon apply DOCKER_HOST=unix:///run/user/1000/docker.sock
  expect_cause daemon docker-context \
    'your docker commands go to unix:///run/user/1000/docker.sock, where no Docker answers' "$BACK"
  without_the_sentence
}

PLUGIN='install docker-compose-plugin (or docker-compose-v2, as your distribution calls it)'

@test "Compose v1 only" {
  rm "$plugin"
  fake docker 'compose version' 'exit 1'
  fake docker-compose '*'
  step 25-daemon
  expect_cause daemon docker-compose-v1 \
    'only Compose v1 (`docker-compose`) is here, which does not know what Compose v2 knows' \
    "$PLUGIN beside it, then run it again"
}

@test "no Compose at all" {
  rm "$plugin"
  fake docker 'compose version' 'exit 1'
  step 25-daemon
  expect_cause daemon docker-missing 'Docker lacks its Compose plugin: there is no `docker compose`' \
    "$PLUGIN, then run it again"
}
