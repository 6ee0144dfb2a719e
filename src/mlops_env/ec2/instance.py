"""The host as AWS sees it: found by its tag, stopped, started, and who may reach it."""

from __future__ import annotations

import http.client
import ipaddress
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_env.ec2.aws import named
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event
from mlops_env_infra import tags

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlops_env.ec2.aws import Aws
    from mlops_env.events import Emit

SSH_PORT = 22
_CONSOLE_LINES = 15

_PATIENCE = 600.0
"""Seconds. A stop takes minutes where the guest is slow to end its services; AWS itself forces it then."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.3, 5.0
_ADDRESS_TIMEOUT = 5.0


@dataclass(frozen=True)
class Instance:
    """`state` is AWS's word for it; `address` is empty while there is none; `launched` is epoch seconds."""

    id: str
    state: str
    address: str
    zone: str
    type: str
    launched: float
    security_group: str


def look(aws: Aws, identity: str) -> Instance | None:
    """The environment's instance, the newest if there are several; None if there is none, or only terminated ones."""
    with named("looking for the instance", region=aws.region, profile=aws.profile):
        instances = described(aws, [{"Name": f"tag:{tags.IDENTITY}", "Values": [identity]}])
    there = [_instance(told) for told in instances if told["State"]["Name"] != "terminated"]
    return max(there, key=lambda one: (one.state != "shutting-down", one.launched), default=None)


def find_by_tag_all(aws: Aws, identity: str) -> frozenset[str]:
    """Ids of all that EC2 shows with the environment's tag; a terminated instance stays among them for an hour."""
    with named("looking for what bears the environment's tag", region=aws.region, profile=aws.profile):
        pages = (
            aws.client("ec2")
            .get_paginator("describe_tags")
            .paginate(Filters=[{"Name": "key", "Values": [tags.IDENTITY]}, {"Name": "value", "Values": [identity]}])
        )
        return frozenset(tag["ResourceId"] for page in pages for tag in page["Tags"])


def stop(aws: Aws, instance: Instance, emit: Emit) -> None:
    """Returns when it is stopped; its disk stays. Nothing to do for one that is stopped already."""
    with named("stopping the instance", region=aws.region, profile=aws.profile):
        current = _wait(aws, instance, {"running", "stopping", "stopped"}, "waits for its start to end", emit)
        if current.state == "running":
            aws.client("ec2").stop_instances(InstanceIds=[instance.id])
        _wait(aws, instance, {"stopped"}, "stops", emit)
    emit(Event("resource", "changed", "instance", "stopped", fields={"id": instance.id}))


def start(aws: Aws, instance: Instance, emit: Emit) -> Instance:
    """The instance as it runs, with its new address. One that is still stopping is waited for first."""
    facts = {"region": aws.region, "zone": instance.zone, "instance_type": instance.type}
    with named("starting the instance", **facts, profile=aws.profile):
        current = _wait(aws, instance, {"running", "pending", "stopped"}, "waits for its stop to end", emit)
        if current.state == "stopped":
            aws.client("ec2").start_instances(InstanceIds=[instance.id])
        running = _wait(aws, instance, {"running"}, "starts", emit)
    emit(Event("resource", "changed", "instance", f"runs at {running.address}", fields={"id": instance.id}))
    return running


def _wait(aws: Aws, instance: Instance, states: Collection[str], doing: str, emit: Emit) -> Instance:
    """Poll until AWS says one of these states; raises when it takes too long, or the instance is gone for good."""
    end, pause = time.monotonic() + _PATIENCE, _FIRST_PAUSE
    while True:
        current = _current(aws, instance.id)
        if current and current.state in states:
            return current
        if pause == _FIRST_PAUSE:
            emit(Event("resource", "started", "instance", doing, fields={"id": instance.id}))
        if current and current.state in {"shutting-down", "terminated"}:
            raise MlopsEnvError(
                f"the instance {instance.id} is {current.state}: somebody ended it",
                code="instance-gone",
                hint="`mlops-env up` makes another one; `mlops-env down` clears the rest away",
            )
        if time.monotonic() > end:
            raise MlopsEnvError(
                f"the instance {instance.id} is still {current.state if current else 'unknown'} after "
                f"{_PATIENCE:.0f} s, instead of {' or '.join(sorted(states))}",
                code="instance-slow",
                hint="repeat the command: it waits on; the console shows the instance's status checks",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def _current(aws: Aws, instance_id: str) -> Instance | None:
    """By a filter, not by id: of an id that is not known everywhere yet AWS then shows nothing, instead of failing."""
    instances = described(aws, [{"Name": "instance-id", "Values": [instance_id]}])
    return _instance(instances[0]) if instances else None


def described(aws: Aws, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Instances of any state as EC2 describes them."""
    pages = aws.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    return [told for page in pages for reservation in page["Reservations"] for told in reservation["Instances"]]


def _instance(told: dict[str, Any]) -> Instance:
    groups = told.get("SecurityGroups", [])
    return Instance(
        id=told["InstanceId"],
        state=told["State"]["Name"],
        address=told.get("PublicIpAddress", ""),
        zone=told["Placement"]["AvailabilityZone"],
        type=told["InstanceType"],
        launched=told["LaunchTime"].timestamp(),
        security_group=groups[0]["GroupId"] if groups else "",
    )


def move_rule(aws: Aws, rule_id: str, group_id: str, cidr: str) -> None:
    """Let ssh in from `cidr` instead of from where the rule let it in before."""
    rule = {"IpProtocol": "tcp", "FromPort": SSH_PORT, "ToPort": SSH_PORT, "CidrIpv4": cidr}
    with named(f"letting ssh in from {cidr}", region=aws.region, profile=aws.profile):
        aws.client("ec2").modify_security_group_rules(
            GroupId=group_id, SecurityGroupRules=[{"SecurityGroupRuleId": rule_id, "SecurityGroupRule": rule}]
        )


def caller_address(url: str) -> str:
    """The network of one address from which this machine is seen, such as 203.0.113.7/32, as `url` tells.

    No proxy is asked: ssh goes without one too.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ADDRESS_TIMEOUT) as answer:
            told = answer.read(100).decode("ascii").strip()
        return f"{ipaddress.IPv4Address(told)}/32"
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MlopsEnvError(
            f"{url} does not tell under which IPv4 address this machine is seen: {error}",
            code="address-unknown",
            hint="say from where ssh is to be let in: --allow 203.0.113.7/32, with your own public address",
        ) from error


def console(aws: Aws, instance_id: str) -> str:
    """The last lines of what the instance said when it booted; empty if there is nothing, or it cannot be asked."""
    try:
        with named("reading the console", region=aws.region, profile=aws.profile):
            told = aws.client("ec2").get_console_output(InstanceId=instance_id)
    except MlopsEnvError:
        return ""
    return "\n".join(str(told.get("Output", "")).splitlines()[-_CONSOLE_LINES:])
