#!/usr/bin/env bash
# What bootstrap's steps up to 40-tools do to a bare Debian 12, by somebody who knows what it lacks. Runs there, as its
# owner, with bootstrap's two locks beside it: bash by_hand.sh NAME MAIL
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venvs=$HOME/by-hand
apt() { sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"; }

apt update
apt install --no-install-recommends ca-certificates git python3-venv

# Compose v2 is in Debian 13 only; everything else stays as it is.
printf 'Package: %s\nPin: release n=trixie\nPin-Priority: %s\n\n' '*' -1 'docker-compose docker-buildx' 990 |
  sudo tee /etc/apt/preferences.d/trixie >/dev/null
# shellcheck disable=SC2016 # apt fills this in
apt-get indextargets --format 'deb $(REPO_URI) trixie main' 'Created-By: Packages' 'Origin: Debian' \
  'Codename: bookworm' 'Component: main' | sort -u | sudo tee /etc/apt/sources.list.d/trixie.list >/dev/null
apt update -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/trixie.list -o Dir::Etc::sourceparts=/dev/null \
  -o APT::Get::List-Cleanup=0
apt install --no-install-recommends docker.io docker-compose docker-buildx
sudo usermod -aG docker "$USER"
sudo -u "$USER" docker version # a new login: in the old one he is not in the group

git config --file "$HOME/.gitconfig" user.name "$1"
git config --file "$HOME/.gitconfig" user.email "$2"

python3 -m venv "$venvs/uv"
"$venvs/uv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
  --require-hashes --requirement "$here/uv-requirements.lock"
"$venvs/uv/bin/uv" venv --quiet --no-project --python '>=3.11' "$venvs/tools"
"$venvs/uv/bin/uv" pip sync --quiet --require-hashes --python "$venvs/tools/bin/python" "$here/tools.lock"
