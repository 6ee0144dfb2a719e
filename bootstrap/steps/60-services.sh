#!/usr/bin/env bash
# 60-services: the orchestrator, MLflow and the pipeline's venv are installed, and the services run and are healthy.
source "$(dirname "$0")/../lib.sh"

check() { tool services check; }
apply() { tool services apply; }

step_main "$@"
