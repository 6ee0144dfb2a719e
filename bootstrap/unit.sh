# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # half of the variables belong to those who source this
# The systemd unit that starts an environment's services after a reboot, where they run as processes.
unit_name=mlops-env-${MLOPS_ENV_ID:0:8}.service
unit=$root/etc/systemd/system/$unit_name
# shellcheck disable=SC2034 # for those who source this
unit_wanted=$root/etc/systemd/system/multi-user.target.wants/$unit_name

# Set `unit_text` to what it has to be. KillMode: an `up` that comes while it is at work ends it and goes on with the
# supervisor that it started, which systemd would end together with it.
describe_unit() {
  local name uv=$MLOPS_ENV_UV words=()
  [[ $uv == /* ]] || uv=$(type -P "$uv") || uv=$MLOPS_ENV_UV
  for name in ID NAME ORCHESTRATOR RUNTIME WORKSPACE OWN_WORKSPACE HOST_DIR TREE JOB; do
    name=MLOPS_ENV_$name
    words+=("$name=${!name}")
  done
  unit_text="[Unit]
Description=The services of the mlops-env environment ${MLOPS_ENV_NAME//\%/%%}
Wants=network-online.target
After=network-online.target
ConditionPathExists=!${MLOPS_ENV_HOST_DIR//\%/%%}/stopped

[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=process
User=$MLOPS_ENV_USER
"
  for name in "${words[@]}" "MLOPS_ENV_UV=$uv" PYTHONUTF8=1; do
    unit_text+=Environment=
    add_unit_word "$name"
    unit_text+=$'\n'
  done
  unit_text+=ExecStart=
  add_unit_word "${tools_python//\$/\$\$}"
  unit_text+=' '
  add_unit_word "${MLOPS_ENV_TREE//\$/\$\$}/orchestrators/services.py"
  unit_text+=' apply

[Install]
WantedBy=multi-user.target'
}

# A word as systemd reads it back.
add_unit_word() {
  local word=$1 backslash=\\
  word=${word//"$backslash"/"$backslash$backslash"}
  word=${word//\"/"$backslash\""}
  unit_text+=\"${word//\%/%%}\"
}

remove_unit() {
  [ -e "$unit" ] || return 0
  as_root systemctl disable --now --quiet "$unit_name" || :
  as_root rm -f "$unit"
  as_root systemctl daemon-reload
}
