#!/usr/bin/env bash
# 60-services: the orchestrator, MLflow and the pipeline's venv are installed, and the services run and are healthy.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"

check() { tool services check; }
apply() { tool services apply; }

step_main "$@"
