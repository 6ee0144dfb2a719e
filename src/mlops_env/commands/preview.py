from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def preview(
    name: options.Name = None,
    target: options.Target = None,
    host: options.Host = None,
    identity: options.Identity = None,
    orchestrator: options.Orchestrator = None,
    runtime: options.Runtime = None,
    workspace: options.Workspace = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what `up` would do; change nothing."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415

        flags = {
            "name": name,
            "target": target,
            "host": host,
            "identity": identity,
            "orchestrator": orchestrator,
            "runtime": runtime,
            "workspace": workspace,
        }
        asked = config.resolve(flags, [], os.environ, Path.cwd())
        found = environment.find(asked.name)
        env = environment.imagine(asked.name, environment.settle(asked, found), found)
        with environment.unborn(asked.name), connecting.connect(env, emit) as connection:
            converged = bootstrap.preview(connection, connecting.introduced(connection, env), emit)
        pending = [step for step, status in converged.steps.items() if status == "pending"]
        text = f"`up` would do: {', '.join(pending)}" if pending else "`up` would have nothing to do"
        fields = {
            "environment": asked.name,
            "orchestrator": env.record.orchestrator,
            "steps": converged.steps,
        }
        where = "whatever the host costs" if env.is_remote else "no cost by the hour"
        return reporting.Outcome(f"{text}\nin {env.record.workspace}, at {where}", fields)

    reporting.run("preview", body, as_json=as_json, debug=debug)
