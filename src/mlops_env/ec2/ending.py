"""The end of a host in the cloud: destroyed, asked for by every kind, and the sandbox put away with its last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env import environment as environments
from mlops_env.ec2 import creation, instance, inventory, surroundings
from mlops_env.errors import MlopsEnvError, UsageError
from mlops_env.receipt import Receipt

if TYPE_CHECKING:
    from mlops_env.environment import Environment
    from mlops_env.events import Emit
    from mlops_env.receipt import Row


def has_host_to_save(env: Environment, emit: Emit) -> bool:
    """Whether a host has a workspace that is to be brought here before the end; it is started if need be."""
    if env.record.cloud["no_host"] or "home" not in env.record.host:
        return False
    aws = surroundings.of(env, emit).aws(env)
    found = instance.look(aws, env.record.id)
    if found is None or found.state == "shutting-down":
        return False
    if found.state != "running":
        creation.start(env, emit)
    return True


def destroy(env: Environment, emit: Emit) -> Receipt:
    """Everything of it on AWS, by the engine and then by tag and name; raises if some kind could not be asked about."""
    from mlops_env.ec2 import provision  # noqa: PLC0415 - pulumi, for who ends something

    around = surroundings.of(env, emit)
    aws, name = around.aws(env), _physical_name(env)
    before = inventory.survey(aws, env.record.id, name)
    if env.record.cloud.get("engine"):  # else nothing was ever made by one
        around = surroundings.with_engine(around, env, emit)
        provision.down(creation.place(env, around), creation.finder(env, aws), emit)
    return Receipt(inventory.sweep(aws, env.record.id, name, before, emit))


def destroy_unrecorded(env: Environment, identity: str, emit: Emit) -> Receipt:
    """As `destroy`, by tags alone, for an environment of which this machine has no record.

    `env` says where to look. Without an identity it is an error that lists what there is to choose from.
    """
    aws = surroundings.of(env, emit).aws(env)
    found = inventory.candidates(aws)
    chosen = [one for one in found if one.identity == identity]
    if chosen:
        name = _physical_name(env, chosen[0].environment, identity)
        return Receipt(inventory.sweep(aws, identity, name, inventory.survey(aws, identity, name), emit))
    listed = "".join(
        f"\n  {one.identity}  {one.environment}, of {one.owner}: {len(one.things)} things" for one in found
    )
    has = f"has things of these:{listed}" if found else "has nothing of ours"
    raise UsageError(
        f"this machine has no record of environment {env.name!r}; in {aws.region} AWS {has}",
        code="no-environment",
        hint="`mlops-env down --target ec2 --id ID` removes one of them, by its tag; --region looks elsewhere",
    )


def put_sandbox_away(env: Environment, emit: Emit) -> tuple[Row, ...]:
    """End the sandbox if this was the last environment in it, and nobody started it by hand."""
    if not env.record.cloud.get("sandbox"):
        return ()
    from mlops_env.sandbox import control  # noqa: PLC0415 - nothing else of the real path knows the sandbox

    directory = surroundings.sandbox_directory()
    running = control.running(directory)
    others = [one.record for one in environments.find_all() if one.record.id != env.record.id]
    if any(one.cloud.get("sandbox") for one in others) or (running and running.started_by_hand):
        return ()
    return control.stop(directory, emit)


def is_sandbox_gone(env: Environment, emit: Emit) -> bool:
    """Whether what the environment had ended with its sandbox."""
    try:
        surroundings.of(env, emit)
    except MlopsEnvError as error:
        if error.code == "sandbox-gone":
            return True
        raise
    return False


def _physical_name(env: Environment, name: str = "", identity: str = "") -> str:
    from mlops_env_infra import tags  # noqa: PLC0415 - comes with the extra

    return tags.physical_name(name or env.name, identity or env.record.id)
