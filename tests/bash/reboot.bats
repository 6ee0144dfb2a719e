#!/usr/bin/env bats
# 70-reboot: who starts the services again.
load helper

setup() {
  setup_machine
  sudoer
  mkdir -p "$root"/run/systemd/system "$root"/etc/systemd/system/multi-user.target.wants
  unit=$root/etc/systemd/system/mlops-env-12345678.service
  wants=$root/etc/systemd/system/multi-user.target.wants
  settings+=(MLOPS_ENV_RUNTIME=venv)
  fake uv '*'
  fake systemctl 'daemon-reload'
  fake systemctl 'enable --quiet mlops-env-12345678.service' "ln -sf x $wants/mlops-env-12345678.service"
}

@test "services that run as processes get a unit, once" {
  step 70-reboot check
  expect 10 reboot pending
  step 70-reboot
  expect 0 reboot started changed
  grep -qx 'User=me' "$unit"
  grep -qx 'KillMode=process' "$unit"
  grep -qx "ConditionPathExists=!$host/stopped" "$unit"
  grep -qx "Environment=\"MLOPS_ENV_HOST_DIR=$host\"" "$unit"
  grep -qx "Environment=\"MLOPS_ENV_UV=$fakes/uv\"" "$unit"
  grep -qx "ExecStart=\"$host/venvs/tools/bin/python\" \"$machine/tree/orchestrators/services.py\" apply" "$unit"
  : >"$calls"
  step 70-reboot
  expect 0 reboot ok
  same "$(cat "$calls")" ''
}

@test "a path with all that systemd would read otherwise" {
  step 70-reboot apply MLOPS_ENV_WORKSPACE='/w "1" 5% \o $x é'
  grep -qxF 'Environment="MLOPS_ENV_WORKSPACE=/w \"1\" 5%% \\o $x é"' "$unit"
}

@test "a newer version of us rewrites it" {
  step 70-reboot
  step 70-reboot apply MLOPS_ENV_ORCHESTRATOR=prefect
  expect 0 reboot started changed
  grep -qx 'Environment="MLOPS_ENV_ORCHESTRATOR=prefect"' "$unit"
}

@test "one that somebody disabled is enabled again" {
  step 70-reboot
  rm "$wants/mlops-env-12345678.service"
  step 70-reboot
  expect 0 reboot started changed
}

@test "containers come with Docker, and the unit of an earlier runtime goes" {
  step 70-reboot
  ln -s x "$wants/docker.service"
  fake systemctl 'disable --now --quiet mlops-env-12345678.service' "rm $wants/mlops-env-12345678.service"
  fake systemctl 'enable --quiet docker.service'
  step 70-reboot apply MLOPS_ENV_RUNTIME=compose
  expect 0 reboot started changed
  [ ! -e "$unit" ]
  step 70-reboot apply MLOPS_ENV_RUNTIME=compose
  expect 0 reboot ok
}

@test "a Docker that would not come with the machine is enabled" {
  fake systemctl 'cat docker.service'
  fake systemctl 'enable --quiet docker.service' "ln -s x $wants/docker.service"
  step 70-reboot apply MLOPS_ENV_RUNTIME=compose
  expect 0 reboot started changed
}

@test "a Docker that systemd does not start is somebody else's to start" {
  fake systemctl 'cat docker.service' 'exit 1'
  step 70-reboot apply MLOPS_ENV_RUNTIME=compose
  expect 0 reboot ok
}

@test "nothing to do on a machine of the user's, or without systemd" {
  step 70-reboot apply MLOPS_ENV_SYSTEM=
  expect 0 reboot skipped
  rmdir "$root/run/systemd/system"
  step 70-reboot
  expect 0 reboot skipped
  same "$(cat "$calls")" ''
}

@test "without sudo it says what that means, and all else is well" {
  fake sudo '-n true' 'exit 1'
  step 70-reboot
  expect 0 reboot "$(note reboot 'sudo asks for a password here, so nothing starts the services after a reboot: `mlops-env up` will')" ok
  [ ! -e "$unit" ]
}
