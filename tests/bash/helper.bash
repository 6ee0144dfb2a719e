# shellcheck shell=bash
# A machine of each test's own: another / to look at, a home, and a PATH on which everything that could touch the real
# machine is a fake. A fake notes how it was called; called as nobody declared, it fails, and so does the test.
bats_require_minimum_version 1.5.0

HARMLESS=(awk bash cat chmod cmp comm cp cut dirname env find grep id install ln ls mkdir mv printf readlink rm rmdir
  sed sleep sort stat tail tar tee timeout touch tr xargs)

setup_machine() {
  machine=$(mktemp -d /tmp/mlops-env-bash.XXXXXX)
  root=$machine/root home=$machine/root/home/me fakes=$machine/fakes bin=$machine/bin
  host=$home/host
  calls=$machine/calls undeclared=$machine/undeclared
  mkdir -p "$home" "$fakes" "$bin" "$machine/tree" "$root"/{etc,proc,run,usr/bin,usr/lib,var/lib/apt/lists/partial}
  cp -r "$BATS_TEST_DIRNAME/../../bootstrap" "$machine/tree/"
  touch "$calls" "$undeclared"
  local name
  for name in "${HARMLESS[@]}"; do ln -s "$(type -P "$name")" "$bin/$name"; done
  settings=(HOME="$home" USER=me LC_ALL=C.UTF-8 PATH="$fakes:$bin" CALLS="$calls" UNDECLARED="$undeclared"
    MLOPS_ENV_TREE="$machine/tree" MLOPS_ENV_ROOT="$root" MLOPS_ENV_HOST_DIR="$host" MLOPS_ENV_UV=uv
    MLOPS_ENV_SYSTEM=1 MLOPS_ENV_RUNTIME=compose MLOPS_ENV_ID=12345678-abcd)
  printf 'root:x:0:\ndocker:x:999:\nme:x:1000:\n' >"$root/etc/group"
  debian 12 bookworm
}

teardown() {
  local said
  said=$(cat "$undeclared")
  rm -rf "$machine"
  [ -z "$said" ] || {
    printf 'called, and nobody declared it: %s\n' "$said"
    return 1
  }
}

# Declare how a command may be called, and what it does then: fake NAME PATTERN [BODY]. The last that fits counts.
fake() {
  local file=$fakes/$1 before=''
  [ ! -f "$file" ] || before=$(tail -n +3 "$file")
  {
    printf '#!%s\nprintf "%%s\\n" "${0##*/} $*" >>"$CALLS"\n' "$BASH"
    printf 'pattern=%q; if [[ "$*" == $pattern ]]; then %s; exit; fi\n' "$2" "${3:-:}"
    [ -z "$before" ] && before='printf "%s\n" "${0##*/} $*" >>"$UNDECLARED"; exit 97'
    printf '%s\n' "$before"
  } >"$file.new"
  chmod 755 "$file.new"
  mv "$file.new" "$file"
}

# A sudo that asks for no password.
sudoer() {
  fake sudo '-n *' 'shift; "$@"'
  fake sudo '-n -u me -- *' 'shift 4; "$@"'
}

debian() {
  printf 'ID=%s\nVERSION_ID="%s"\nVERSION_CODENAME=%s\nPRETTY_NAME="Test %s"\n' "${3:-debian}" "$1" "$2" "$1" \
    >"$root/etc/os-release"
}

# Run something as an ordinary user, whoever runs the tests.
as_somebody() {
  local drop=()
  if ((! EUID)); then
    chmod -R a+rwX "$machine"
    drop=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  fi
  (cd "$machine" && "${drop[@]}" env -i "${settings[@]}" "$@")
}

# step NN-NAME [check|apply] [VARIABLE=VALUE…]
step() {
  run --separate-stderr as_somebody "${@:3}" bash "$machine/tree/bootstrap/steps/$1.sh" "${2:-apply}"
}

# The step's events, byte for byte, and its exit code: expect CODE NAME STATUS… (a JSON object stands for itself)
expect() {
  local code=$1 name=$2 word wanted=()
  shift 2
  for word; do
    case $word in
      '{'*) wanted+=("$word") ;;
      *) wanted+=("{\"type\":\"step\",\"name\":\"$name\",\"status\":\"$word\"}") ;;
    esac
  done
  same "$output" "$(printf '%s\n' "${wanted[@]}")"
  same "$status" "$code"
}

# expect_cause NAME CODE MESSAGE HINT: started, this cause, failed
expect_cause() {
  expect 1 "$1" started "${NOTES[@]}" "$(cause "$@")" failed
}

cause() { printf '{"type":"cause","name":"%s","code":"%s","message":"%s","hint":"%s"}' "$@"; }

note() { printf '{"type":"note","name":"%s","message":"%s"}' "$1" "$2"; }

called() {
  grep -qxF -- "$1" "$calls" || {
    printf 'not called: %s\ncalled were:\n%s\n' "$1" "$(cat "$calls")"
    return 1
  }
}

not_called() { ! grep -qF -- "$1" "$calls"; }

same() {
  [ "$1" = "$2" ] || {
    printf 'expected: %s\nbut:      %s\nstderr:   %s\n' "$2" "$1" "${stderr:-}"
    return 1
  }
}
