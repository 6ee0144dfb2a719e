# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # half of the variables belong to those who source this
# Sourced by the steps that install packages: apt, which waits for whoever holds its locks and says why it fails.
shopt -s lastpipe                 # what reads the end of a pipe can tell the script what it saw
: "${MLOPS_ENV_APT_SECONDS:=600}" # how long to wait for another apt: unattended upgrades take minutes
apt_said='' update_said=''

# Install packages, and remember which were not there before: apt_install PACKAGE…
apt_install() {
  need_supported_system
  need_root
  local made=$MLOPS_ENV_HOST_DIR/made
  as_user mkdir -p "$made"
  # A list that is there already is from a run that was killed: what that one installed is ours too.
  if ! [ -e "$made/packages.before" ]; then
    installed_packages | as_user tee "$made/packages.part" >/dev/null
    as_user mv "$made/packages.part" "$made/packages.before"
  fi
  apt_update_old_lists
  apt_get install --no-install-recommends -- "$@" || apt_again "$@" || explain_apt "$*"
  installed_packages | LC_ALL=C comm -13 "$made/packages.before" - | as_user tee -a "$made/packages" >/dev/null
  as_user rm "$made/packages.before"
}

# Where the lists of packages are more than an hour old. A source of the user's own that is down is no reason to stop:
# if it matters, the installation says so.
apt_update_old_lists() {
  [ -z "$(find "$root/var/lib/apt/lists/partial" -maxdepth 0 -mmin -60 2>/dev/null)" ] || return 0
  apt_get update || explain_apt "the lists of packages"
  update_said=$apt_said
}

# With new lists, where the installation failed with those that were there.
apt_again() {
  [ -z "$update_said" ] && ! is_lock "$apt_said" || return 1
  apt_get update || return 1
  update_said=$apt_said
  apt_get install --no-install-recommends -- "$@"
}

installed_packages() {
  dpkg-query -W -f '${db:Status-Status} ${Package}\n' | LC_ALL=C sort -u | sed -n 's/^installed //p'
}

# apt-get, in words that no question can stop. It waits for the locks of another apt, and never ends their holder.
apt_get() {
  local deadline=$((SECONDS + MLOPS_ENV_APT_SECONDS)) repaired='' holder='' line code name settings=()
  for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || settings+=("$name=${!name}")
  done
  while :; do
    apt_said=''
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 "${settings[@]}" \
      apt-get -q -y -o DPkg::Lock::Timeout="$((deadline - SECONDS))" -o Acquire::Retries=1 \
      -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 -o Dpkg::Use-Pty=0 \
      -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" 2>&1 </dev/null |
      while IFS= read -r line; do
        printf '%s\n' "$line"
        apt_said+=$line$'\n'
        [ -n "$holder" ] || ! is_lock "$line" || {
          holder=${line##*It is }
          holder=${holder%...}
          note "waiting for another apt to finish: its lock is $holder"
        }
      done && return 0
    code=${PIPESTATUS[0]}
    if [[ $apt_said == *"dpkg was interrupted"* && -z $repaired ]]; then
      repaired=1 # somebody was killed half-way: dpkg itself says that this is the cure
      as_root env DEBIAN_FRONTEND=noninteractive dpkg --configure -a --force-confdef --force-confold || :
    elif is_lock "$apt_said" && ((SECONDS < deadline)); then
      sleep 1 # for the locks of lists and downloads apt itself does not wait
    else
      return "$code"
    fi
  done
}

is_lock() { [[ $1 == *"Waiting for cache lock"* || $1 == *"Could not get lock"* || $1 == *"frontend lock"* ]]; }

# Name the cause that apt's own words tell: explain_apt WHAT
explain_apt() {
  local said=$update_said$apt_said error line
  error=$(grep '^E: ' <<<"$said" | tail -n 1) || error=
  if [[ $said == *"No space left on device"* || $said == *"enough free space"* ]]; then
    fail disk-full "apt cannot install $1: the disk is full" "free some space (\`df -h\`), then run it again"
  elif is_lock "$apt_said"; then
    fail apt-locked "another apt has been at work for $MLOPS_ENV_APT_SECONDS seconds: ${error#E: }" \
      "let it finish (often the first upgrades of a new machine), then run it again; nothing was interrupted"
  elif line=$(grep -m 1 -E 'ould not (resolve|connect)|resolving|onnection (failed|timed)|unreachable' <<<"$said"); then
    fail network "apt cannot reach the package source for $1: ${line#"${line%%[! ]*}"}" \
      "check the network, the proxy and the addresses in /etc/apt, then run it again"
  else
    fail package-source "apt cannot install $1: ${error#E: }" \
      "\`sudo apt-get update\` shows which source in /etc/apt is at fault; mend it, then run it again"
  fi
}

# Which packages there are, and under which names, is known for these only.
need_supported_system() {
  ID='' VERSION_ID='' VERSION_CODENAME='' PRETTY_NAME=''
  # shellcheck source=/dev/null
  ! [ -f "$root/etc/os-release" ] || . "$root/etc/os-release"
  case $ID-$VERSION_ID-$HOSTTYPE in
    debian-1[23]-x86_64 | debian-1[23]-aarch64 | ubuntu-2[24].04-x86_64 | ubuntu-2[24].04-aarch64) ;;
    *)
      fail unsupported-os "packages are missing, and we cannot install any on ${PRETTY_NAME:-this system} ($HOSTTYPE)" \
        "use Debian 12 or 13, Ubuntu 22.04 or 24.04; or install git, python3 with venv and Docker with Compose v2 there"
      ;;
  esac
}
