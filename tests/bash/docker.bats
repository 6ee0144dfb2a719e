#!/usr/bin/env bats
# 20-docker: which packages are taken from where, and that what is there is left alone.
load helper

setup() {
  setup_machine
  sudoer
  plugins=$root/usr/libexec/docker/cli-plugins
  mkdir -p "$plugins" "$root/usr/sbin"
  fake dpkg-query '-W -f ${db:Status-Status} docker-ce-cli' 'exit 1'
  touch "$machine/new"
  fake dpkg-query '-W -f ${db:Status-Status} ${Package}*' "echo installed tar; cat $machine/new"
  fake dpkg '--print-architecture' 'echo amd64'
  fake apt-get '*install --no-install-recommends -- *' 'words=$*; equip "${words##*-- }"'
  fake apt-get '* update*'
  fake apt-get 'indextargets *' 'echo "deb [signed-by=\$(SIGNED_BY)] http://mirror/debian/ trixie main"'
  fake down '*' 'exit 1'
  # What the fake apt-get does to this machine.
  cat >"$fakes/equip" <<END
#!$BASH
for package in \$1; do
  printf 'installed %s\n' "\$package" >>$machine/new
  case \$package in
    docker.io | docker-ce) cp $fakes/down $fakes/docker && cp $fakes/down $root/usr/sbin/dockerd ;;
    docker-compose | docker-compose-v2 | docker-compose-plugin) cp $fakes/equip $plugins/docker-compose ;;
    docker-buildx | docker-buildx-plugin) cp $fakes/equip $plugins/docker-buildx ;;
  esac
done
END
  chmod 755 "$fakes/equip"
  helper=/usr/lib/apt/apt-helper
  fake sudo "-n $helper *" 'exit 100'
  mkdir -p "$root"/etc/apt/{sources.list.d,preferences.d}
}

installed() { same "$(sed -n 's/^apt-get .*install --no-install-recommends -- //p' "$calls")" "$*"; }
by_hand() { "$fakes/equip" "$1" && fake docker '*' 'exit 1' && : >"$machine/new"; } # the user installed it
FALLBACK='Docker'"'"'s own packages cannot be had from here; taking those of Test'

@test "what is there is ok, and nobody is asked" {
  by_hand 'docker.io docker-compose docker-buildx'
  step 20-docker
  expect 0 docker ok
  same "$(cat "$calls")" ''
}

@test "nothing is installed for runtime venv, nor on a machine of the user's" {
  step 20-docker apply MLOPS_ENV_RUNTIME=venv
  expect 0 docker skipped
  step 20-docker apply MLOPS_ENV_SYSTEM=
  expect 0 docker skipped
  same "$(cat "$calls")" ''
}

@test "check says pending and changes nothing" {
  step 20-docker check
  expect 10 docker pending
  not_called sudo
}

@test "Debian 12: its engine, with Compose of 13 and nothing else from there" {
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=distro
  expect 0 docker started changed
  installed docker.io docker-compose docker-buildx
  same "$(cat "$root/etc/apt/sources.list.d/mlops-env-trixie.list")" 'deb http://mirror/debian/ trixie main'
  paste -sd ' ' "$root/etc/apt/preferences.d/mlops-env-trixie" |
    grep -q 'Package: \* Pin: release n=trixie Pin-Priority: -1  Package: docker-compose docker-buildx .* 990'
  same "$(paste -sd ' ' "$host/made/apt")" \
    '/etc/apt/preferences.d/mlops-env-trixie /etc/apt/sources.list.d/mlops-env-trixie.list'
  same "$(cat "$host/made/packages")" $'docker-buildx\ndocker-compose\ndocker.io'
  step 20-docker
  expect 0 docker ok
}

@test "a source that names its key keeps it" {
  fake apt-get 'indextargets *' 'echo "deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror/debian/ trixie main"'
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=distro
  same "$(cat "$root/etc/apt/sources.list.d/mlops-env-trixie.list")" \
    'deb [signed-by=/usr/share/keyrings/d.gpg] http://mirror/debian/ trixie main'
}

@test "Debian 13: its own packages" {
  debian 13 trixie
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=distro
  expect 0 docker started changed
  installed docker.io docker-cli docker-compose docker-buildx
  [ ! -e "$root/etc/apt/sources.list.d/mlops-env-trixie.list" ]
}

@test "Ubuntu: its own packages, under its names" {
  debian 24.04 noble ubuntu
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=distro
  expect 0 docker started changed
  installed docker.io docker-compose-v2 docker-buildx
}

@test "where the kernel confines by AppArmor its parser comes too" {
  debian 13 trixie
  mkdir -p "$root/sys/module/apparmor/parameters"
  echo Y >"$root/sys/module/apparmor/parameters/enabled"
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=distro
  installed docker.io docker-cli docker-compose docker-buildx apparmor
}

# Docker's repository can be reached: its key is there, and is the one.
reachable() {
  local key=$root/etc/apt/keyrings/mlops-env-docker.asc url=https://download.docker.com/linux/debian/gpg
  local digest=1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570
  fake sudo "-n $helper * download-file $url $key SHA256:$digest" "echo key >$key"
}

@test "Docker's own packages, by their key, within known major versions" {
  reachable
  step 20-docker
  expect 0 docker started changed
  installed docker-ce docker-ce-cli containerd.io docker-compose-plugin docker-buildx-plugin
  local options='[arch=amd64 signed-by=/etc/apt/keyrings/mlops-env-docker.asc]'
  same "$(cat "$root/etc/apt/sources.list.d/mlops-env-docker.list")" \
    "deb $options https://download.docker.com/linux/debian bookworm stable"
  paste -sd ' ' "$root/etc/apt/preferences.d/mlops-env-docker" |
    grep -q 'Package: docker-ce docker-ce-cli Pin: version 5:28\.\* Pin-Priority: 990'
  same "$(wc -l <"$host/made/apt")" 3
}

@test "auto: where Docker's cannot be reached, the distribution's, and no trace of the attempt" {
  debian 13 trixie
  step 20-docker
  expect 0 docker started "$(note docker "$FALLBACK 13")" changed
  installed docker.io docker-cli docker-compose docker-buildx
  same "$(find "$root/etc/apt" -type f)" ''
}

@test "auto: where Docker's key is there but its packages are not, too" {
  debian 13 trixie
  reachable
  fake apt-get '* update -o Dir::Etc::sourcelist=*' 'exit 100'
  step 20-docker
  expect 0 docker started "$(note docker "$FALLBACK 13")" changed
  same "$(find "$root/etc/apt" -type f)" ''
}

@test "docker: where it cannot be reached, that is the cause" {
  fake sudo "-n $helper *" "echo \"  Could not resolve 'download.docker.com'\"; exit 100"
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=docker
  local what='the package source for Docker from https://download.docker.com/linux'
  expect_cause docker network "apt cannot reach $what: Could not resolve 'download.docker.com'" \
    'check the network, the proxy and the addresses in /etc/apt, then run it again'
}

@test "docker: another key than the known one is not trusted" {
  fake sudo "-n $helper *" "echo 'E: Failed to fetch x  Hash Sum mismatch'; exit 100"
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=docker
  [[ $output == *'"code":"package-source"'*'Hash Sum mismatch'* ]]
  not_called 'install --no-install-recommends'
}

@test "a source of Docker's that the user has is used as it is" {
  echo 'deb https://download.docker.com/linux/debian bookworm stable' >"$root/etc/apt/sources.list.d/docker.list"
  step 20-docker
  expect 0 docker started changed
  installed docker-ce docker-ce-cli containerd.io docker-compose-plugin docker-buildx-plugin
  not_called apt-helper
}

@test "Docker of the user's gets only what it lacks, from where he has it" {
  by_hand docker-ce
  fake dpkg-query '-W -f ${db:Status-Status} docker-ce-cli' 'echo installed'
  step 20-docker
  expect 0 docker started changed
  installed docker-compose-plugin docker-buildx-plugin
}

@test "one that the distribution or anybody else made gets the distribution's plugins" {
  debian 13 trixie
  by_hand docker.io
  step 20-docker
  expect 0 docker started changed
  installed docker-compose docker-buildx
  not_called apt-helper
}

@test "an engine that is only a socket or a context of the user's is enough" {
  by_hand 'docker.io docker-compose docker-buildx'
  rm "$root/usr/sbin/dockerd"
  step 20-docker check DOCKER_HOST=unix:///run/user/1000/docker.sock
  expect 0 docker ok
  step 20-docker check
  expect 10 docker pending
}

@test "a plugin that docker finds elsewhere is enough" {
  by_hand 'docker.io docker-compose'
  fake docker 'buildx version'
  step 20-docker
  expect 0 docker ok
}

@test "a source that there is none of" {
  step 20-docker apply MLOPS_ENV_DOCKER_SOURCE=moby
  expect 1 docker started failed
  [[ $stderr == *'MLOPS_ENV_DOCKER_SOURCE is auto, docker or distro, not moby'* ]]
}

@test "another operating system" {
  debian 42 x fedora
  step 20-docker
  [[ $output == *'"code":"unsupported-os"'* ]]
}

@test "no sudo" {
  fake sudo '-n true' 'exit 1'
  step 20-docker
  [[ $output == *'"code":"no-sudo"'* ]]
}
