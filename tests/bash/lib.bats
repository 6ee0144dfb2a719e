#!/usr/bin/env bats
# lib.sh and run.sh: what every step says, and as whom it is run.
load helper

setup() {
  setup_machine
  rm "$machine"/tree/bootstrap/steps/*
}

# A step of ours, which is never done: toy NUMBER BODY-OF-APPLY
toy() {
  printf '%s\n' 'source "${0%"${0##*/}"}../lib.sh"' "check() { ${3:-false}; }" "apply() { $2; }" 'step_main "$@"' \
    >"$machine/tree/bootstrap/steps/$1-toy.sh"
}

@test "a cause is JSON, whatever it says" {
  toy 10 'fail a-code "$ODD" hint'
  step 10-toy apply ODD=$'say "hi" to C:\\new\tor é & $x `y`\n\x01'
  expect_cause toy a-code 'say \"hi\" to C:\\new\u0009or é & $x `y`\u000a\u0001' hint
  [[ $stderr == *'toy: say "hi"'* ]]
}

@test "a note is JSON too, and no end" {
  toy 10 'note "a \"b\""; touch $HOME/done' '[ -e $HOME/done ]'
  step 10-toy
  expect 0 toy started "$(note toy 'a \"b\"')" changed
}

@test "a cause that check finds ends it" {
  toy 10 : 'fail x y z'
  step 10-toy check
  expect 1 toy '{"type":"cause","name":"toy","code":"x","message":"y","hint":"z"}' failed
}

@test "a step is found from wherever it is called" {
  toy 10 : true
  run --separate-stderr as_somebody bash -c 'cd "$MLOPS_ENV_TREE/bootstrap/steps" && bash 10-toy.sh'
  expect 0 toy ok
}

@test "what needs root goes through sudo, which must not ask" {
  sudoer
  toy 10 'as_root mkdir $HOME/done' '[ -e $HOME/done ]'
  step 10-toy
  expect 0 toy started changed
  same "$(cat "$calls")" $'sudo -n true\nsudo -n mkdir '"$home/done"
}

@test "run.sh: the system's steps and the user's in one login" {
  toy 10 : true
  toy 30 : true
  run --separate-stderr as_somebody bash "$machine/tree/bootstrap/run.sh"
  expect 0 toy ok ok
  same "$(cat "$calls")" ''
}

@test "run.sh: having joined group docker meanwhile, the user goes on in a new login" {
  sudoer
  toy 10 : true
  toy 30 : true
  sed -i 's/^docker:.*/&me/' "$root/etc/group"
  run --separate-stderr as_somebody bash "$machine/tree/bootstrap/run.sh" check
  expect 0 toy ok ok
  grep -q "^sudo -n -u me -- env HOME=$home PATH=.* MLOPS_ENV_RUNTIME=compose .*/steps/30-toy.sh check" "$calls"
  same "$(grep -c '10-toy' "$calls")" 0
}

@test "run.sh: not where that makes no difference" {
  sed -i 's/^docker:.*/&me/' "$root/etc/group"
  toy 30 : true
  for setting in MLOPS_ENV_RUNTIME=venv MLOPS_ENV_SYSTEM=; do
    run --separate-stderr as_somebody "$setting" bash "$machine/tree/bootstrap/run.sh"
    expect 0 toy ok
  done
  same "$(cat "$calls")" ''
}

# As root, or as what looks like it.
as_superuser() {
  local become=()
  ((! EUID)) || become=(unshare --map-root-user)
  "${become[@]}" env -i HOME=/root PATH="$fakes:$bin" CALLS="$calls" UNDECLARED="$undeclared" "$@"
}

@test "sudo bash run.sh: the system's steps as root, the user's as himself, in his home" {
  fake getent 'passwd me' "echo me:x:1000:1000::$home:/bin/bash"
  fake runuser '-u me -- env USER=me LOGNAME=me bash *' 'shift 3; "$@"'
  toy 10 : 'echo "$EUID $HOME $MLOPS_ENV_RUNTIME $MLOPS_ENV_SYSTEM $MLOPS_ENV_HOST_DIR"'
  cp "$machine/tree/bootstrap/steps/10-toy.sh" "$machine/tree/bootstrap/steps/30-toy.sh"
  run --separate-stderr as_superuser SUDO_USER=me bash "$machine/tree/bootstrap/run.sh"
  expect 0 toy ok ok
  line="0 $home compose 1 $home/.local/state/mlops-env/default/host"
  same "$stderr" "$line"$'\n'"$line"
  same "$(grep -c '^runuser .*30-toy.sh apply' "$calls")" 1
}

@test "by hand as root without sudo all is root's; without root nothing is installed" {
  toy 10 : 'echo "$HOME $MLOPS_ENV_USER $MLOPS_ENV_RUNTIME <$MLOPS_ENV_SYSTEM>"'
  run --separate-stderr as_superuser bash "$machine/tree/bootstrap/run.sh"
  same "$stderr" '/root root compose <1>'
  run --separate-stderr as_somebody env -u MLOPS_ENV_SYSTEM -u MLOPS_ENV_RUNTIME bash "$machine/tree/bootstrap/run.sh"
  same "$stderr" "$home me venv <>"
}
