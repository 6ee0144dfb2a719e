#!/usr/bin/env bats
# 10-base: the packages that later steps need, and a machine that can hold the rest.
load helper

setup() {
  setup_machine
  sudoer
  mkdir -p "$root/etc/ssl/certs" "$root/usr/lib/python3.11/ensurepip"
  touch "$root/etc/ssl/certs/ca-certificates.crt"
  printf 'flags : fpu sse2 avx avx2\n' >"$root/proc/cpuinfo"
  printf 'MemTotal:       16000000 kB\n' >"$root/proc/meminfo"
  fake git '*'
  fake python3 '*'
  free 9000 '*'
}

# How many megabytes df says are free: free MB PLACE
free() { fake df "-Pm $2" "printf 'Filesystem 1M-blocks Used Available\n/dev/x 90000 1 $1 9%% /\n'"; }

# An apt that installs git when it is asked to; what it says and does before that is the parameter.
apt() {
  rm "$fakes/git"
  fake dpkg-query '-W *' "printf 'installed %s\n' tar; [ ! -e $fakes/git ] || printf 'installed %s\n' git liberror-perl"
  fake apt-get '*install --no-install-recommends -- git' "${1:-:}; install -m 755 /dev/null $fakes/git"
  fake apt-get '* update' "${2:-echo updated}"
}

@test "where all is there it asks nobody" {
  step 10-base
  expect 0 base ok
  same "$(cat "$calls")" "$(printf 'df -Pm %s\n' "$home" "$root/var/lib/.")"
}

@test "a machine that is not ours is left as it is" {
  rm "$fakes/git"
  step 10-base apply MLOPS_ENV_SYSTEM=
  expect 0 base skipped
  same "$(cat "$calls")" ''
}

@test "what is missing is installed, and noted for down" {
  apt
  step 10-base check
  expect 10 base pending
  step 10-base
  expect 0 base started changed
  same "$(cat "$host/made/packages")" $'git\nliberror-perl'
  [ ! -e "$host/made/packages.before" ]
  grep -q 'DEBIAN_FRONTEND=noninteractive .*DPkg::Lock::Timeout=600' "$calls"
  step 10-base
  expect 0 base ok
}

@test "lists of this hour are not fetched again" {
  apt
  step 10-base
  expect 0 base started changed
  not_called ' update'
}

@test "old lists are fetched first" {
  apt
  touch -d '2 hours ago' "$root/var/lib/apt/lists/partial"
  step 10-base
  expect 0 base started changed
  same "$(grep -n '^apt-get' "$calls" | cut -d: -f1 | wc -l)" 2
}

@test "lists that name what is gone are fetched, once" {
  apt "[ -e $machine/new ] || { echo 'E: Unable to locate package git'; exit 100; }" "touch $machine/new"
  step 10-base
  expect 0 base started changed
}

@test "what a killed installation had installed is noted too" {
  apt
  mkdir -p "$host/made"
  printf 'bash\n' >"$host/made/packages.before"
  step 10-base
  expect 0 base started changed
  same "$(cat "$host/made/packages")" $'git\nliberror-perl\ntar'
}

@test "a half-way killed dpkg is repaired first" {
  apt "[ -e $machine/repaired ] || { echo 'E: dpkg was interrupted, you must manually run'; exit 100; }"
  fake dpkg '--configure -a *' "touch $machine/repaired"
  step 10-base
  expect 0 base started changed
}

WAITING='waiting for another apt to finish: its lock is held by process 7 (unattended-upgr)'

@test "another apt is waited for, and the user told" {
  apt 'echo "Waiting for cache lock: Could not get lock /x. It is held by process 7 (unattended-upgr)..."'
  step 10-base
  expect 0 base started "$(note base "$WAITING")" changed
}

@test "also for the locks for which apt does not wait itself" {
  local words='E: Could not get lock /x. It is held by process 7 (unattended-upgr)'
  apt "[ -e $machine/free ] || { touch $machine/free; echo '$words'; exit 100; }"
  step 10-base
  expect 0 base started "$(note base "$WAITING")" changed
}

@test "but not for ever" {
  apt 'echo "E: Could not get lock /x. It is held by process 7 (unattended-upgr)"; exit 100'
  NOTES=("$(note base "$WAITING")")
  step 10-base apply MLOPS_ENV_APT_SECONDS=0
  expect_cause base apt-locked \
    'another apt has been at work for 0 seconds: Could not get lock /x. It is held by process 7 (unattended-upgr)' \
    'let it finish (often the first upgrades of a new machine), then run it again; nothing was interrupted'
}

# The words of a failing apt, as of Debian 12 and 13.
fails() {
  apt "$(printf 'printf "%%s\n" %q; exit 100' "$1")"
  step 10-base
}

@test "a package source that cannot be reached" {
  fails "  Could not resolve 'packages.test'"
  expect_cause base network "apt cannot reach the package source for git: Could not resolve 'packages.test'" \
    'check the network, the proxy and the addresses in /etc/apt, then run it again'
}

@test "one of which only the update before knows that it cannot be reached" {
  apt "echo \"E: Package 'git' has no installation candidate\"; exit 100" 'echo "  Could not connect to x:80"'
  step 10-base
  [[ $output == *'"network","message":"apt cannot reach the package source for git: Could not connect to x:80"'* ]]
}

@test "a package source that is wrong" {
  fails "E: The repository 'http://x nosuch Release' does not have a Release file."
  expect_cause base package-source \
    "apt cannot install git: The repository 'http://x nosuch Release' does not have a Release file." \
    '`sudo apt-get update` shows which source in /etc/apt is at fault; mend it, then run it again'
}

@test "a disk that fills up on the way" {
  fails "E: You don't have enough free space in /var/cache/apt/archives/."
  expect_cause base disk-full 'apt cannot install git: the disk is full' \
    'free some space (`df -h`), then run it again'
  [ -e "$host/made/packages.before" ] # the next run goes on from there
}

@test "a disk that is full before" {
  free 200 "$home"
  step 10-base
  expect 1 base "$(cause base disk-full "$home has 200 MB free; about 3000 MB are needed" \
    'free some space or enlarge the disk, then run it again')" failed
}

@test "the disk of the images counts where there will be some" {
  free 200 '*/var/lib/.'
  step 10-base
  [[ $output == *'"code":"disk-full","message":"'"$root"'/var/lib/docker has 200 MB free'* ]]
  step 10-base apply MLOPS_ENV_RUNTIME=venv
  expect 0 base ok
}

@test "once there is something of ours the disk is not looked at" {
  mkdir -p "$host/venvs/tools/bin"
  install -m 755 /dev/null "$host/venvs/tools/bin/python"
  free 0 '*'
  step 10-base
  expect 0 base ok
}

@test "a processor without AVX" {
  printf 'flags : fpu sse2\n' >"$root/proc/cpuinfo"
  settings+=(HOSTTYPE=x86_64)
  step 10-base
  expect 1 base "$(cause base no-avx 'this processor has no AVX, which polars needs' \
    "use a machine with a processor of 2013 or later; in a virtual machine, pass the host's processor through")" failed
}

@test "little memory is said, and is no obstacle" {
  printf 'MemTotal:       1024000 kB\n' >"$root/proc/meminfo"
  step 10-base
  expect 0 base \
    "$(note base 'this machine has 1000 MB of memory; with less than 4 GB a run may be killed for want of it')" ok
}

CLOUD=$(note base 'waiting for cloud-init to finish setting this machine up')

# A cloud-init that this machine was booted with.
cloud_init() {
  mkdir "$root/run/cloud-init"
  fake cloud-init "$@"
}

@test "cloud-init at work is waited for, and its warnings are no failure" {
  cloud_init 'status --wait' 'exit 2'
  step 10-base
  expect 0 base "$CLOUD" ok
}

@test "cloud-init that is done is not asked" {
  cloud_init 'never'
  touch "$root/run/cloud-init/result.json"
  step 10-base
  expect 0 base ok
}

@test "cloud-init that this machine was not booted with is not asked" {
  fake cloud-init 'never'
  step 10-base
  expect 0 base ok
}

@test "cloud-init that failed is said, and is no obstacle" {
  cloud_init 'status --wait' 'exit 1'
  step 10-base
  expect 0 base "$CLOUD" \
    "$(note base 'cloud-init reports an error (`cloud-init status --long` says which); going on')" ok
}

@test "cloud-init that never ends" {
  cloud_init 'status --wait' 'sleep 20'
  step 10-base apply MLOPS_ENV_CLOUD_INIT_SECONDS=0.1
  [[ $output == *'"code":"cloud-init","message":"cloud-init is still at work on this machine after 0.1 seconds"'* ]]
  same "$status" 1
}

@test "another operating system, where something is missing" {
  rm "$fakes/git"
  debian 42 x fedora
  step 10-base
  [[ $output == *'"code":"unsupported-os","message":"packages are missing, and we cannot install any on Test 42 ('* ]]
  same "$status" 1
}

@test "another operating system, where nothing is" {
  debian 42 x fedora
  step 10-base
  expect 0 base ok
}

@test "no sudo, where something is missing" {
  apt
  fake sudo '-n true' 'exit 1'
  step 10-base
  [[ $output == *'"code":"no-sudo"'* ]]
  not_called apt-get
}

@test "no sudo, where nothing is" {
  rm "$fakes/sudo"
  step 10-base
  expect 0 base ok
}
