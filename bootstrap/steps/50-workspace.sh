#!/usr/bin/env bash
# 50-workspace: the folder with the pipeline. Ours is copied where the user has none; a file the user changed is kept.
# shellcheck source=../lib.sh
source "${0%"${0##*/}"}../lib.sh"

check() { tool copy_pipeline check; }
apply() { tool copy_pipeline apply; }

step_main "$@"
