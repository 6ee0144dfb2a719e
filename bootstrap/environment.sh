# shellcheck shell=bash
# Which environment the scripts act for: what `mlops-env` says, else these defaults for somebody who works by hand.
: "${MLOPS_ENV_TREE:=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}"
: "${MLOPS_ENV_NAME:=default}"
: "${MLOPS_ENV_ORCHESTRATOR:=mage}"
: "${MLOPS_ENV_HOST_DIR:=${XDG_STATE_HOME:-$HOME/.local/state}/mlops-env/$MLOPS_ENV_NAME/host}"
: "${MLOPS_ENV_WORKSPACE:=$HOME/mlops-env/$MLOPS_ENV_NAME}"
: "${MLOPS_ENV_ID:=$MLOPS_ENV_NAME}"
: "${MLOPS_ENV_OWN_WORKSPACE:=}"
: "${MLOPS_ENV_UV:=uv}"
export MLOPS_ENV_TREE MLOPS_ENV_NAME MLOPS_ENV_ORCHESTRATOR MLOPS_ENV_HOST_DIR MLOPS_ENV_WORKSPACE
export MLOPS_ENV_ID MLOPS_ENV_OWN_WORKSPACE MLOPS_ENV_UV
export MLOPS_ENV_JOB=1 PYTHONUTF8=1
# shellcheck disable=SC2034 # for those who source this
tools_python=$MLOPS_ENV_HOST_DIR/venvs/tools/bin/python
