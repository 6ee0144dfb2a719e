#!/usr/bin/env bash
# 35-uv: uv answers. Where there is none it comes from the package registry into a venv of its own, by hash.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"

venv=$MLOPS_ENV_HOST_DIR/venvs/uv
lock=$MLOPS_ENV_TREE/bootstrap/uv-requirements.lock

# The copy of the lock is written last: a venv that a kill -9 left half made has none.
check() {
  if [ "$MLOPS_ENV_UV" = "$venv/bin/uv" ]; then
    [ -x "$MLOPS_ENV_UV" ] && cmp -s "$lock" "$venv/uv.lock"
  else
    have "$MLOPS_ENV_UV"
  fi
}

apply() {
  [ "$MLOPS_ENV_UV" = "$venv/bin/uv" ] ||
    fail uv-missing "MLOPS_ENV_UV says that uv is $MLOPS_ENV_UV, and it is not there" \
      "correct that, or unset it: then uv is found on PATH or installed"
  end_earlier_jobs
  rm -f "$venv/uv.lock"
  python3 -m venv --clear "$venv" ||
    fail python-missing "this machine's python3 cannot make a venv, which is needed to install uv" \
      "install its venv module (Debian: python3-venv), or uv (https://docs.astral.sh/uv), then run it again"
  install_uv
  cp "$lock" "$venv/uv.lock"
}

install_uv() {
  local said
  said=$("$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
    --require-hashes --requirement "$lock" 2>&1) && return
  printf '%s\n' "$said"
  [[ $said != *"No space left on device"* ]] ||
    fail disk-full "uv cannot be installed: the disk is full" "free some space (\`df -h\`), then run it again"
  fail network "uv cannot be installed from the package registry" \
    "check the network or the proxy settings, or install uv yourself (https://docs.astral.sh/uv), then run it again"
}

step_main "$@"
