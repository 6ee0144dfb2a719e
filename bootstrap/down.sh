#!/usr/bin/env bash
# All that run.sh made on this host, ended and removed: `bash down.sh [--purge]`, with sudo where run.sh had it.
# The receipt is on stdout, one JSON row a line. Kept are the workspace, a record that `mlops-env` may have (`mlops-env
# down` removes both), and the packages that were installed, Docker among them; --purge removes those too.
set -euo pipefail
# shellcheck source=environment.sh
source "$(dirname "$0")/environment.sh"
# shellcheck source=unit.sh
source "$MLOPS_ENV_TREE/bootstrap/unit.sh"

fail() {
  printf '%s. %s\n' "$2" "$3" >&2
  exit 1
}

row() { printf '{"kind": "%s", "found": %d, "removed": %d, "left": %d}\n' "$1" "$2" "$(($2 - $3))" "$3"; }

exists() { [ -e "$1" ] || [ -L "$1" ]; }

# Whether a service was ever started here. What started it is the tools venv, so before that was made nothing was; a
# broken one is made anew, since only it can tell what belongs to the environment.
is_bare() {
  [ ! -x "$tools_python" ] || return 1
  local path
  for path in "$MLOPS_ENV_HOST_DIR"/* "$MLOPS_ENV_HOST_DIR"/venvs/*; do
    case ${path#"$MLOPS_ENV_HOST_DIR"/} in
      tree | made | cache | venvs | venvs/tools | venvs/uv | '*' | 'venvs/*') ;;
      *) return 1 ;;
    esac
  done
}

remove_bare() {
  local config=$HOME/.gitconfig left
  if [ -f "$MLOPS_ENV_HOST_DIR/made/gitconfig" ] && cmp -s "$MLOPS_ENV_HOST_DIR/made/gitconfig" "$config"; then
    rm -f "$config"
    row file 1 "$(exists "$config" && echo 1 || echo 0)"
  fi
  rm -rf "$MLOPS_ENV_HOST_DIR" || :
  rmdir "${MLOPS_ENV_HOST_DIR%/*}" "${MLOPS_ENV_HOST_DIR%/*/*}" 2>/dev/null || : # what held only that
  row directory 1 "$(exists "$MLOPS_ENV_HOST_DIR" && echo 1 || echo 0)"
}

sweep() {
  [ -x "$tools_python" ] || as_user bash "$MLOPS_ENV_TREE/bootstrap/steps/40-tools.sh" apply >&2 || return
  as_user "$tools_python" "$MLOPS_ENV_TREE/orchestrators/sweep.py"
}

# Read as a whole before it begins, since this file may be among what it removes.
main() {
  case ${1:-} in
    '') ;;
    --purge)
      # shellcheck source=purge.sh
      source "$MLOPS_ENV_TREE/bootstrap/purge.sh"
      read_what_was_made
      [ -z "$made_packages$made_files$joined_groups" ] || need_root # before the lists are gone
      ;;
    *) fail usage "usage: $0 [--purge]" "" ;;
  esac
  cd /
  if exists "$unit"; then
    remove_unit
    row unit 1 "$(exists "$unit" && echo 1 || echo 0)"
  fi
  if [ -d "$MLOPS_ENV_HOST_DIR" ]; then
    local rows
    rows=$(if is_bare; then remove_bare; else sweep; fi)
    printf '%s\n' "$rows"
    [ "${1:-}" != --purge ] || if [[ $rows == *'"left": '[1-9]* ]]; then
      echo "packages are kept as long as something else is left" >&2 # whose end may need them
    elif compgen -G "${MLOPS_ENV_HOST_DIR%/*/*}/*/host" >/dev/null; then
      echo "packages are kept, since another environment on this host may use them" >&2
    else
      purge
    fi
  else
    echo "nothing is there: $MLOPS_ENV_HOST_DIR does not exist" >&2
  fi
}

main "$@"
exit
