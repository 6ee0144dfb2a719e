#!/usr/bin/env bash
# 70-reboot: after a reboot everything comes up again without us. Containers do so with Docker, which is enabled;
# services that run as processes are started by a unit of their own. Without systemd there is nobody to ask.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"
# shellcheck source=../unit.sh
source "$MLOPS_ENV_TREE/bootstrap/unit.sh"

is_needed() { [ -n "$MLOPS_ENV_SYSTEM" ] && [ -d "$root/run/systemd/system" ]; }

# Without root nothing can be set up, and all that runs is no worse for it.
check() {
  is_set_up || {
    ((EUID)) && ! sudo -n true 2>/dev/null &&
      note "sudo asks for a password here, so nothing starts the services after a reboot: \`mlops-env up\` will"
  }
}

is_set_up() {
  if [ "$MLOPS_ENV_RUNTIME" = compose ]; then
    [ ! -e "$unit" ] && is_docker_enabled
  else
    describe_unit
    [ -f "$unit" ] && [ -L "$unit_wanted" ] && [ "$(<"$unit")" = "$unit_text" ]
  fi
}

# Some other Docker than that of a system unit is started by whoever made it.
is_docker_enabled() {
  [ -L "$root/etc/systemd/system/multi-user.target.wants/docker.service" ] ||
    [ -L "$root/etc/systemd/system/sockets.target.wants/docker.socket" ] ||
    ! systemctl cat docker.service >/dev/null 2>&1
}

apply() {
  need_root
  if [ "$MLOPS_ENV_RUNTIME" = compose ]; then
    remove_unit
    as_root systemctl enable --quiet docker.service
  else
    printf '%s\n' "$unit_text" | as_root tee "$unit" >/dev/null
    as_root systemctl daemon-reload
    as_root systemctl enable --quiet "$unit_name"
  fi
}

step_main "$@"
