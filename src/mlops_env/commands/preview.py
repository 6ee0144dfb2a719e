from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_env.commands import options, renting, reporting

if TYPE_CHECKING:
    from mlops_env.environment import Environment
    from mlops_env.events import Emit


def preview(
    name: options.Name = None,
    target: options.Target = None,
    host: options.Host = None,
    identity: options.Identity = None,
    orchestrator: options.Orchestrator = None,
    runtime: options.Runtime = None,
    workspace: options.Workspace = None,
    region: options.Region = None,
    profile: options.Profile = None,
    instance_type: options.InstanceType = None,
    image: options.Image = None,
    disk: options.Disk = None,
    ttl: options.Ttl = None,
    allow: options.Allow = None,
    sandbox: options.Sandbox = False,
    no_host: options.NoHost = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what `up` would do; change nothing."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment, intent  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415

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
            "allow": allow,
            **renting.switches(sandbox=sandbox, no_host=no_host),
        }
        asked = config.resolve(flags, [], os.environ, Path.cwd())
        found = environment.find(asked.name)
        env = environment.imagine(asked.name, intent.settle(asked, found), found)
        if env.record.target == "ec2":
            return _rented(env, emit)
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


def _rented(env: Environment, emit: Emit) -> reporting.Outcome:
    """The plan and its price, and what the engine would do; a host that is there is not looked into."""
    from mlops_env.ec2 import creation, ending, offer  # noqa: PLC0415
    from mlops_env.environment import find  # noqa: PLC0415

    try:
        env, counts = creation.preview(env, emit)
    finally:
        if find(env.name) is None:
            ending.put_sandbox_away(env, emit)
    deeds = ", ".join(f"{count} to {deed}" for deed, count in counts.items() if deed != "same") or "nothing to do"
    told = offer.price_of(env.record)
    fields = {
        "environment": env.name,
        "resources": counts,
        "price": told.as_json() if told else None,
        "plan": env.record.cloud["plan"],
    }
    return reporting.Outcome(f"On AWS `up` would have {deeds}", fields)
