from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, renting, reporting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    region: options.Region = None,
    profile: options.Profile = None,
    instance_type: options.InstanceType = None,
    image: options.Image = None,
    disk: options.Disk = None,
    ttl: options.Ttl = None,
    ttl_action: options.TtlAction = None,
    allow: options.Allow = None,
    replace_host: Annotated[
        bool, typer.Option("--replace-host", help="Save the workspace, then make the host anew.")
    ] = False,
    sandbox: options.Sandbox = False,
    no_host: options.NoHost = False,
    fault: options.Fault = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Do not run the pipeline.")] = False,
    param: options.Params = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Bring an environment up and run its pipeline.

    It does what is missing, says `ok` for the rest, and is done when the run is in MLflow.

    \b
      mlops-env up
      mlops-env up --workspace ~/my-project
      mlops-env up --host me@box
      mlops-env up --target ec2
      mlops-env up --target ec2 --sandbox
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
            "region": region,
            "profile": profile,
            "instance_type": instance_type,
            "image": image,
            "disk": disk,
            "ttl": ttl,
            "ttl_action": ttl_action,
            "allow": allow,
            **renting.switches(sandbox=sandbox, no_host=no_host),
        }
        asked = config.resolve(flags, param or [], os.environ, Path.cwd())
        wishes = Wishes(
            run=not no_run,
            accept_new=accept_new_host_key,
            agree=renting.agreement("make that on AWS", yes=yes, as_json=as_json),
            faults=renting.faults(fault, is_sandbox=sandbox),
            replace_host=replace_host,
        )
        return bring_up(asked, emit, wishes)

    reporting.run("up", body, as_json=as_json, debug=debug)


@dataclass(frozen=True)
class Wishes:
    """What one `up` is to do beside what the record keeps. `agree` raises unless the user agrees to what was shown."""

    run: bool
    accept_new: bool
    agree: Callable[[], None]
    faults: Sequence[str] = ()
    replace_host: bool = False


def bring_up(asked: Config, emit: Emit, wishes: Wishes) -> reporting.Outcome:
    """Preflight → provision → connect → converge → launch → run → report."""
    from mlops_env import environment, intent, orchestrators, preflight  # noqa: PLC0415
    from mlops_env.commands import connecting, summary  # noqa: PLC0415

    with environment.locked(asked.name, "mlops-env up"):
        found = environment.find(asked.name)
        env = environment.imagine(asked.name, intent.settle(asked, found), found)
        preflight.check_pipeline(env.workspace, asked.params)
        with environment.unborn(asked.name):
            env = renting.provide(env, emit, wishes)
            if env.record.cloud.get("no_host"):
                return summary.of_provisioned(env)
            with connecting.connect(env, emit, accept_new=wishes.accept_new) as connection:
                env = connecting.introduced(connection, env)
                preflight.before_up(connection, env, emit)
                env = renting.moved_in(connection, env.save(), emit)
                scripts, urls = connecting.bring(connection, env, emit)
                done = (
                    orchestrators.run_pipeline(connection, scripts, asked.params, emit, again=False)
                    if wishes.run
                    else None
                )
    return summary.of_up(env.record, urls, done)
