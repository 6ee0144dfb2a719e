# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # half of the variables belong to those who source this
# Sourced by down.sh: what the steps changed on the machine itself, by the lists that they kept of it.
# shellcheck source=apt.sh
source "$MLOPS_ENV_TREE/bootstrap/apt.sh"

# They are among what `down` removes, so they are read before.
read_what_was_made() {
  local made=$MLOPS_ENV_HOST_DIR/made
  made_packages=$(sort -u "$made/packages" 2>/dev/null) || made_packages=
  made_files=$(sort -u "$made/apt" 2>/dev/null) || made_files=
  joined_groups=$(sort -u "$made/group" 2>/dev/null) || joined_groups=
  [ ! -f "$made/packages.before" ] || # an installation was killed: what it had installed by then
    made_packages+=$'\n'$(installed_packages | LC_ALL=C comm -13 "$made/packages.before" -)
}

purge() {
  purge_packages
  purge_files
  leave_groups
}

# dpkg keeps what another package needs: somebody else installed that one, and so it stays, with its needs.
purge_packages() {
  local found left
  found=$(still_installed)
  [ -n "$found" ] || return 0
  # shellcheck disable=SC2086 # names of packages have no spaces
  as_root env DEBIAN_FRONTEND=noninteractive dpkg --purge $found >&2 || :
  left=$(still_installed)
  [ -z "$left" ] || echo "kept, since packages that somebody else installed need them: ${left//$'\n'/ }" >&2
  row package "$(($(count "$found") - $(count "$left")))" 0
}

still_installed() { installed_packages | LC_ALL=C comm -12 <(LC_ALL=C sort -u <<<"$made_packages") -; }

purge_files() {
  local path found=0 left=0
  while IFS= read -r path; do
    [ -n "$path" ] || continue
    exists "$root$path" || continue
    found=$((found + 1))
    as_root rm -f "$root$path"
    ! exists "$root$path" || left=$((left + 1))
  done <<<"$made_files"
  [ "$found" = 0 ] || row apt "$found" "$left"
}

leave_groups() {
  local group found=0
  while IFS= read -r group; do
    [[ -n $group && " $(id -nG "$MLOPS_ENV_USER") " == *" $group "* ]] || continue
    found=$((found + 1))
    as_root gpasswd --delete "$MLOPS_ENV_USER" "$group" >&2
  done <<<"$joined_groups"
  [ "$found" = 0 ] || row group "$found" 0
}

count() { grep -c . <<<"$1" || :; }
