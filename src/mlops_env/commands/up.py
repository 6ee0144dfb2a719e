from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.config import Config
    from mlops_env.events import Emit


def up(
    name: options.Name = None,
    target: options.Target = None,
    host: options.Host = None,
    identity: options.Identity = None,
    accept_new_host_key: options.AcceptNewHostKey = False,
    orchestrator: options.Orchestrator = None,
    runtime: options.Runtime = None,
    workspace: options.Workspace = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Do not run the pipeline.")] = False,
    param: options.Params = None,
    yes: options.Yes = False,  # noqa: ARG001 - target local asks nothing; scripts for all targets pass it
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Bring an environment up and run its pipeline.

    It does what is missing, says `ok` for the rest, and is done when the run is in MLflow.

    \b
      mlops-env up
      mlops-env up --workspace ~/my-project
      mlops-env up --host me@box
      mlops-env up --name february -p train=2023-02 -p validate=2023-01
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config  # noqa: PLC0415 - as in every command: `--help` loads none of this

        flags = {
            "name": name,
            "target": target,
            "host": host,
            "identity": identity,
            "orchestrator": orchestrator,
            "runtime": runtime,
            "workspace": workspace,
        }
        asked = config.resolve(flags, param or [], os.environ, Path.cwd())
        return bring_up(asked, emit, run=not no_run, accept_new=accept_new_host_key)

    reporting.run("up", body, as_json=as_json, debug=debug)


def bring_up(asked: Config, emit: Emit, *, run: bool, accept_new: bool) -> reporting.Outcome:
    """Preflight → connect → record → converge → run → report."""
    from mlops_env import environment, orchestrators, preflight  # noqa: PLC0415
    from mlops_env.commands import connecting, summary  # noqa: PLC0415

    with environment.locked(asked.name, "mlops-env up"):
        found = environment.find(asked.name)
        env = environment.imagine(asked.name, environment.settle(asked, found), found)
        preflight.check_pipeline(env.workspace, asked.params)
        with (
            environment.unborn(asked.name),
            connecting.connect(env, emit, accept_new=accept_new) as connection,
        ):
            env = connecting.introduced(connection, env)
            preflight.before_up(connection, env, emit)
            env = env.save()
            scripts, urls = connecting.bring(connection, env, emit)
            done = orchestrators.run_pipeline(connection, scripts, asked.params, emit, again=False) if run else None
    return summary.of_up(env.record, urls, done)
