# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # half of the variables belong to those who source this
# Sourced by 20-docker once something is missing: Docker's packages, by whoever makes them. `missing` says which:
# engine (with the command), compose, buildx.
: "${MLOPS_ENV_DOCKER_MIRROR:=https://download.docker.com/linux}"
# The file with the one key 9DC8 5822 9FC7 DD38 854A E2D8 8D81 803C 0EBF CD88, "Docker Release (CE deb)".
docker_key_sha256=1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570

is_from_docker() { dpkg-query -W -f '${db:Status-Status}' docker-ce-cli 2>/dev/null | grep -qx installed; }

install_from_docker() {
  local part packages=()
  for part in "${missing[@]}"; do
    case $part in
      engine) packages+=(docker-ce docker-ce-cli containerd.io) ;;
      compose) packages+=(docker-compose-plugin) ;;
      buildx) packages+=(docker-buildx-plugin) ;;
    esac
  done
  add_confinement
  apt_install "${packages[@]}"
}

install_from_distribution() {
  local part packages=()
  for part in "${missing[@]}"; do
    case $part-$ID-$VERSION_ID in
      engine-debian-13) packages+=(docker.io docker-cli) ;;
      engine-*) packages+=(docker.io) ;;
      compose-ubuntu-*) packages+=(docker-compose-v2) ;;
      compose-*) packages+=(docker-compose) ;;
      buildx-*) packages+=(docker-buildx) ;;
    esac
  done
  [[ $ID-$VERSION_ID != debian-12 || ${packages[*]} == docker.io ]] || add_compose_of_debian_13
  add_confinement
  apt_install "${packages[@]}"
}

# Where the kernel confines by AppArmor, Docker needs its parser, which its packages only recommend.
add_confinement() {
  [ "$(cat "$root/sys/module/apparmor/parameters/enabled" 2>/dev/null)" != Y ] || have apparmor_parser ||
    packages+=(apparmor)
}

# Docker's repository, trusted for its own packages by its own key, within the major versions that we know.
# Where it cannot be used, `auto` takes back what it wrote and returns 1.
add_source_of_docker() {
  ! grep -rqs --include='*.list' --include='*.sources' download.docker.com "$root/etc/apt" || return 0 # the user has it
  local keyring=/etc/apt/keyrings/mlops-env-docker.asc list=/etc/apt/sources.list.d/mlops-env-docker.list
  local preferences=/etc/apt/preferences.d/mlops-env-docker
  remember apt "$keyring" "$list" "$preferences"
  as_root mkdir -p "$root${keyring%/*}"
  if get_key_of_docker "$root$keyring"; then
    printf 'Package: %s\nPin: version %s\nPin-Priority: 990\n\n' 'docker-ce docker-ce-cli' '5:28.*' \
      docker-buildx-plugin '0.*' docker-compose-plugin '2.*' | as_root tee "$root$preferences" >/dev/null
    printf 'deb [arch=%s signed-by=%s] %s stable\n' "$(dpkg --print-architecture)" "$keyring" \
      "$MLOPS_ENV_DOCKER_MIRROR/$ID $VERSION_CODENAME" | as_root tee "$root$list" >/dev/null
    ! apt_update_only "$list" || return 0
  fi
  [ "$MLOPS_ENV_DOCKER_SOURCE" = auto ] || explain_apt "Docker from $MLOPS_ENV_DOCKER_MIRROR"
  as_root rm -f "$root$keyring" "$root$list" "$root$preferences"
  note "Docker's own packages cannot be had from here; taking those of $PRETTY_NAME"
  return 1
}

get_key_of_docker() {
  local quick=(-o Acquire::Retries=0 -o Acquire::http::Timeout=5 -o Acquire::https::Timeout=5)
  apt_said=$(as_root /usr/lib/apt/apt-helper "${quick[@]}" download-file "$MLOPS_ENV_DOCKER_MIRROR/$ID/gpg" "$1" \
    "SHA256:$docker_key_sha256" 2>&1)
}

# Debian 12 has no Compose v2. Debian 13's needs nothing that 12 lacks, and nothing else is taken from there. Where 13
# is to be had is what this host says about 12, in whichever format.
add_compose_of_debian_13() {
  local list=/etc/apt/sources.list.d/mlops-env-trixie.list preferences=/etc/apt/preferences.d/mlops-env-trixie
  apt_update_old_lists
  remember apt "$preferences" "$list"
  printf 'Package: %s\nPin: release n=trixie\nPin-Priority: %s\n\n' '*' -1 'docker-compose docker-buildx' 990 |
    as_root tee "$root$preferences" >/dev/null # before the source that it restrains
  # shellcheck disable=SC2016 # apt fills these in; what it does not know it leaves as it is
  apt-get indextargets --format 'deb [signed-by=$(SIGNED_BY)] $(REPO_URI) trixie main' 'Created-By: Packages' \
    'Origin: Debian' 'Codename: bookworm' 'Component: main' | sed 's/\[signed-by=\$(SIGNED_BY)\] //' | sort -u |
    as_root tee "$root$list" >/dev/null
  apt_update_only "$list" || explain_apt "Compose v2 from Debian 13"
}

apt_update_only() {
  apt_get update -o "Dir::Etc::sourcelist=$root$1" -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=0 \
    -o Acquire::Retries=0 -o Acquire::http::Timeout=5 -o Acquire::https::Timeout=5 --error-on=any
}
