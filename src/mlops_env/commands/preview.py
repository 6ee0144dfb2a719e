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
    orchestrator: options.Orchestrator = None,
    runtime: options.Runtime = None,
    workspace: options.Workspace = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what `up` would do; change nothing."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415

        flags = {
            "name": name,
            "target": target,
            "orchestrator": orchestrator,
            "runtime": runtime,
            "workspace": workspace,
        }
        asked = config.resolve(flags, [], os.environ, Path.cwd())
        found = environment.find(asked.name)
        env = environment.imagine(asked.name, environment.settle(asked, found), found)
        with LocalConnection() as connection:
            converged = bootstrap.converge(connection, bootstrap.on_this_machine(env), emit, mode="check")
        pending = [step for step, status in converged.steps.items() if status == "pending"]
        text = f"`up` would do: {', '.join(pending)}" if pending else "`up` would have nothing to do"
        fields = {
            "environment": asked.name,
            "orchestrator": env.record.orchestrator,
            "steps": converged.steps,
        }
        return reporting.Outcome(f"{text}\nin {env.record.workspace}, at no cost by the hour", fields)

    reporting.run("preview", body, as_json=as_json, debug=debug)
