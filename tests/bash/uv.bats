#!/usr/bin/env bats
# 35-uv and the steps that need a uv and what it installs.
load helper

setup() {
  setup_machine
  ours=$host/venvs/uv
  settings+=(MLOPS_ENV_UV=)
  # A python3 that makes venvs whose pip installs what it is told: one file.
  fake python3 "-m venv --clear $ours" "mkdir -p $ours/bin && cp $fakes/pip $ours/bin/python"
  fake pip '-m pip install *' "cp $fakes/pip $ours/bin/uv"
}

@test "a uv on PATH is ok" {
  fake uv '*'
  step 35-uv
  expect 0 uv ok
  same "$(cat "$calls")" ''
}

@test "without one, it is installed by hash into a place of its own" {
  step 35-uv check
  expect 10 uv pending
  step 35-uv
  expect 0 uv started changed
  grep -q -- "--only-binary :all: --require-hashes --requirement $machine/tree/bootstrap/uv-requirements.lock" "$calls"
  step 35-uv
  expect 0 uv ok
}

@test "one that was left half made is made anew" {
  step 35-uv
  rm "$ours/uv.lock"
  step 35-uv
  expect 0 uv started changed
}

@test "another lock brings another uv" {
  step 35-uv
  echo >>"$machine/tree/bootstrap/uv-requirements.lock"
  step 35-uv
  expect 0 uv started changed
}

@test "a registry that cannot be reached" {
  fake pip '-m pip install *' 'echo "ERROR: Could not find a version" >&2; exit 1'
  step 35-uv
  expect_cause uv network 'uv cannot be installed from the package registry' \
    'check the network or the proxy settings, or install uv yourself (https://docs.astral.sh/uv), then run it again'
  [[ $stderr == *'Could not find a version'* ]]
}

@test "a full disk" {
  fake pip '-m pip install *' 'echo "ERROR: Could not install packages: [Errno 28] No space left on device" >&2; exit 1'
  step 35-uv
  expect_cause uv disk-full 'uv cannot be installed: the disk is full' \
    'free some space (`df -h`), then run it again'
}

@test "a Python that makes no venvs" {
  fake python3 '-m venv *' 'exit 1'
  step 35-uv
  expect_cause uv python-missing "this machine's python3 cannot make a venv, which is needed to install uv" \
    'install its venv module (Debian: python3-venv), or uv (https://docs.astral.sh/uv), then run it again'
}

@test "a uv that is said to be where it is not" {
  step 35-uv apply MLOPS_ENV_UV=/nowhere/uv
  expect_cause uv uv-missing 'MLOPS_ENV_UV says that uv is /nowhere/uv, and it is not there' \
    'correct that, or unset it: then uv is found on PATH or installed'
}

@test "the tools are installed by the uv that was installed" {
  step 35-uv
  fake pip 'venv *' "mkdir -p $host/venvs/tools/bin && cp $fakes/pip $host/venvs/tools/bin/python"
  fake pip 'pip sync *'
  cp "$fakes/pip" "$ours/bin/uv"
  step 40-tools
  expect 0 tools started changed
  called "uv venv --quiet --clear --no-project --python >=3.11 $host/venvs/tools"
  step 40-tools
  expect 0 tools ok
}

# A tools venv whose Python answers for a script of ours, which is content once it was applied.
tools() {
  mkdir -p "$host/venvs/tools/bin"
  fake python "$machine/tree/orchestrators/$1 check" "[ -e $machine/$1.applied ]"
  fake python "$machine/tree/orchestrators/$1 apply" "touch $machine/$1.applied"
  mv "$fakes/python" "$host/venvs/tools/bin/python"
}

@test "the workspace and the services are asked, and made if they say so" {
  tools copy_pipeline.py
  step 50-workspace check
  expect 10 workspace pending
  step 50-workspace
  expect 0 workspace started changed
  tools services.py
  step 60-services
  expect 0 services started changed
  step 60-services
  expect 0 services ok
}

@test "services that do not come up fail, with the cause that they told" {
  mkdir -p "$host/venvs/tools/bin"
  fake python '*/services.py check' 'exit 1'
  fake python '*/services.py apply' 'echo "{\"type\": \"cause\"}" >&3; exit 1'
  mv "$fakes/python" "$host/venvs/tools/bin/python"
  step 60-services
  expect 1 services started '{"type": "cause"}' failed
}
