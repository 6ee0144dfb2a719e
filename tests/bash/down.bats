#!/usr/bin/env bats
# down.sh: what run.sh made on this host is gone, also where run.sh did not get far.
load helper

setup() {
  setup_machine
  sudoer
  mkdir -p "$host/made" "$root/etc/systemd/system"
  echo '[user]' >"$host/made/gitconfig"
  cp "$host/made/gitconfig" "$home/.gitconfig"
}

down() { run --separate-stderr as_somebody bash "$machine/tree/bootstrap/down.sh" "$@"; }

# The receipt, whole: expect_rows KIND=NUMBER…
expect_rows() {
  local row rows=()
  for row; do rows+=("{\"kind\": \"${row%=*}\", \"found\": ${row#*=}, \"removed\": ${row#*=}, \"left\": 0}"); done
  same "$output" "$(printf '%s\n' "${rows[@]}")"
}

@test "where nothing was started yet, the directory and what was written elsewhere" {
  mkdir -p "$host/venvs/uv" "$host/venvs/tools" "$host/tree"
  down
  expect_rows file=1 directory=1
  same "$status" 0
  [ ! -e "$host" ]
  [ ! -e "$home/.gitconfig" ]
  down
  same "$output" ''
  same "$status" 0
}

@test "a .gitconfig that the user changed meanwhile is his" {
  echo mine >"$home/.gitconfig"
  down
  expect_rows directory=1
  same "$(cat "$home/.gitconfig")" mine
}

@test "what was started is ended by the tools that started it" {
  mkdir -p "$host/venvs/tools/bin"
  fake python "$machine/tree/orchestrators/sweep.py" 'echo "{\"kind\": \"process\"}"'
  mv "$fakes/python" "$host/venvs/tools/bin/python"
  down
  same "$output" '{"kind": "process"}'
}

@test "where services may run and the tools are broken, those are made anew first" {
  mkdir -p "$host/state"
  fake sweeper "$machine/tree/orchestrators/sweep.py" 'echo "{\"kind\": \"process\"}"'
  fake uv 'venv *' "mkdir -p $host/venvs/tools/bin && cp $fakes/sweeper $host/venvs/tools/bin/python"
  fake uv 'pip sync *'
  down
  same "$output" '{"kind": "process"}'
}

@test "and if they cannot be made, it fails and removes nothing" {
  mkdir -p "$host/state"
  fake uv 'venv *' 'exit 1'
  down
  [ "$status" -ne 0 ]
  [ -d "$host/state" ]
}

@test "the unit that starts services after a reboot goes first" {
  unit=mlops-env-12345678.service
  touch "$root/etc/systemd/system/$unit"
  fake systemctl "disable --now --quiet $unit"
  fake systemctl daemon-reload
  down
  expect_rows unit=1 file=1 directory=1
  [ ! -e "$root/etc/systemd/system/$unit" ]
}

# What two steps installed and changed here.
equipped() {
  printf 'docker.io\ngit\n' >"$host/made/packages"
  printf '/etc/apt/a.list\n/etc/apt/b.list\n' >"$host/made/apt"
  echo docker >"$host/made/group"
  mkdir -p "$root/etc/apt"
  touch "$root/etc/apt/a.list"
  fake dpkg-query '-W *' "cat $machine/installed"
  printf 'installed %s\n' bash docker.io git >"$machine/installed"
  fake dpkg '--purge docker.io git' "sed -i '/docker.io\|${1:-git}/d' $machine/installed"
  fake id '-nG me' 'echo me docker'
  fake gpasswd '--delete me docker'
}

@test "packages stay" {
  equipped
  down
  expect_rows file=1 directory=1
  same "$(cat "$calls")" ''
}

@test "--purge: what was installed, added and joined goes too, and no more" {
  equipped
  down --purge
  expect_rows file=1 directory=1 package=2 apt=1 group=1
  same "$(cat "$machine/installed")" 'installed bash'
  [ ! -e "$root/etc/apt/a.list" ]
}

@test "--purge: where another environment is left, packages stay" {
  equipped
  mkdir -p "$home/../other/host"
  down --purge
  expect_rows file=1 directory=1
  [[ $stderr == *'since another environment on this host may use them'* ]]
}

@test "--purge: a package that somebody else's needs stays, and that is said" {
  equipped none
  down --purge
  expect_rows file=1 directory=1 package=1 apt=1 group=1
  [[ $stderr == *'kept, since packages that somebody else installed need them: git'* ]]
}

@test "--purge after an installation that was killed: what it had installed by then" {
  equipped
  rm "$host/made/packages"
  printf 'bash\n' >"$host/made/packages.before"
  down --purge
  expect_rows file=1 directory=1 package=2 apt=1 group=1
}

@test "--purge where nothing was installed" {
  fake dpkg-query '-W *' 'echo installed bash'
  down --purge
  expect_rows file=1 directory=1
}

@test "--purge without sudo fails, says why, and removes nothing" {
  equipped
  fake sudo '-n true' 'exit 1'
  down --purge
  [ "$status" -ne 0 ]
  [[ $stderr == *'which needs root'* ]]
  [ -e "$host/made/packages" ]
}

@test "anything else is a usage error and removes nothing" {
  down --everything
  same "$status" 1
  [ -d "$host" ]
}
