#!/usr/bin/env bash
# 30-gitconfig: ~/.gitconfig is a file that git can read.
# A bind mount of an absent ~/.gitconfig leaves an empty directory of that name, and every git command fails then.
# A real file is never touched; ~/.config/git/config alone is enough, since git reads that one too.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"

config=$HOME/.gitconfig
made=$MLOPS_ENV_HOST_DIR/made/gitconfig # what we wrote, so that `down` can take it back while it is unchanged

check() {
  [ -f "$config" ] || { ! [ -e "$config" ] && ! [ -L "$config" ] && [ -f "${XDG_CONFIG_HOME:-$HOME/.config}/git/config" ]; }
}

apply() {
  if [ -L "$config" ] && ! [ -e "$config" ]; then
    local target
    target=$(readlink "$config")
    fail step-gitconfig "$config is a link to $target, which does not exist" \
      "create that file or remove the link, then run this again"
  fi
  if [ -d "$config" ]; then
    rmdir "$config" 2>/dev/null ||
      fail step-gitconfig "$config is a directory with files in it, so git cannot read it" \
        "move it away, then run this again"
  fi
  # `git config` does the quoting; without git the file is empty, which is what git's absence calls for.
  : >"$config"
  if have git; then
    [ -z "${GIT_AUTHOR_NAME:-}" ] || git config --file "$config" user.name "$GIT_AUTHOR_NAME"
    [ -z "${GIT_AUTHOR_EMAIL:-}" ] || git config --file "$config" user.email "$GIT_AUTHOR_EMAIL"
  fi
  mkdir -p "$(dirname "$made")"
  cp "$config" "$made"
}

step_main "$@"
