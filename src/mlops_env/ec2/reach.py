"""The way to a host in the cloud: where it is now, and that its door is open to where we are now."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from mlops_env import environment as environments
from mlops_env.ec2 import instance, surroundings
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from mlops_env.ec2.aws import Aws
    from mlops_env.ec2.instance import Instance
    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_CANNOT_ASK = {"aws-no-credentials", "aws-expired", "aws-credentials-invalid", "aws-network"}


def address(environment: Environment, emit: Emit) -> str:
    """Where the environment's host is, for a connection that is about to be made; "" is where it was the last time.

    It is asked for each time, since a stopped host comes back with another. Where AWS cannot be asked, the host is
    taken to be where it was: its key says whether it is the same one.
    """
    if environment.record.cloud["no_host"]:
        raise MlopsEnvError(
            f"environment {environment.name!r} was made with --no-host: there is no machine to act on",
            code="no-host",
            hint="`mlops-env down`, then `up` without --no-host",
        )
    around = surroundings.of(environment, emit)
    aws = around.aws(environment)
    try:
        with ThreadPoolExecutor(2) as pool:
            here = pool.submit(instance.caller_address, around.address_url)
            found = instance.look(aws, environment.record.id)
            cidr = environment.record.cloud.get("allow") or here.result()
    except MlopsEnvError as error:
        if error.code not in _CANNOT_ASK:
            raise
        emit(Event("warning", message=f"{error.message}; taking the host to be where it was the last time"))
        return ""
    running = _must_run(environment, found)
    open_door(environment, aws, running, cidr, emit)
    return running.address


def open_door(environment: Environment, aws: Aws, found: Instance, cidr: str, emit: Emit) -> Environment:
    """Have the host let in whoever comes from `cidr`, instead of from where we were the last time.

    Returns the environment, saved, with that.
    """
    cloud = environment.record.cloud
    if cidr == cloud["allowed_cidr"]:
        return environment
    instance.move_rule(aws, cloud["outputs"]["ingress_rule_id"], found.security_group, cidr)
    emit(Event("note", message=f"this machine is now {cidr}: that is who port 22 of the host is open to"))
    now = environments.need(environment.name)  # as another command may have left it meanwhile
    return now.save(cloud={**now.record.cloud, "allowed_cidr": cidr})


def _must_run(environment: Environment, found: Instance | None) -> Instance:
    name = environment.name
    if found is None:
        raise MlopsEnvError(
            f"the host of environment {name!r} is no more: it was terminated outside of mlops-env, or by its lifetime",
            code="host-gone",
            hint=f"`mlops-env up --name {name}` makes a new one; `mlops-env down --name {name}` removes the rest",
        )
    if found.state != "running":
        raise MlopsEnvError(
            f"the host of environment {name!r} is {found.state}",
            code="host-stopped",
            hint=f"`mlops-env start --name {name}` starts it; its disk is as it was",
        )
    return found
