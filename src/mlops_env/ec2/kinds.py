"""The kinds of things in AWS that an environment can have: how each is asked for, and how it is removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_env.ec2.aws import named
from mlops_env_infra import tags

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_env.ec2.aws import Aws


@dataclass(frozen=True)
class Thing:
    """Something in AWS; `id` is what removes it: of key pairs, roles, profiles and log groups the name."""

    kind: str
    id: str


@dataclass(frozen=True)
class Answer:
    """What is there of a kind: `tagged` bears the environment's id, `called` its name and not its id."""

    tagged: frozenset[Thing] = frozenset()
    called: frozenset[Thing] = frozenset()


@dataclass(frozen=True)
class _Kind:
    """How EC2 is asked: the operation, where its reply has the list, which key the id; `name` is a filter by name."""

    operation: str
    result: str
    id: str
    name: str = ""


_EC2 = {
    "instance": _Kind("describe_instances", "Reservations[].Instances", "InstanceId"),
    "volume": _Kind("describe_volumes", "Volumes", "VolumeId"),
    "snapshot": _Kind("describe_snapshots", "Snapshots", "SnapshotId"),
    "address": _Kind("describe_addresses", "Addresses", "AllocationId"),
    "interface": _Kind("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId"),
    "key-pair": _Kind("describe_key_pairs", "KeyPairs", "KeyName", name="key-name"),
    "security-group": _Kind("describe_security_groups", "SecurityGroups", "GroupId", name="group-name"),
    "route-table": _Kind("describe_route_tables", "RouteTables", "RouteTableId"),
    "internet-gateway": _Kind("describe_internet_gateways", "InternetGateways", "InternetGatewayId"),
    "subnet": _Kind("describe_subnets", "Subnets", "SubnetId"),
    "vpc": _Kind("describe_vpcs", "Vpcs", "VpcId"),
}
_NAMED_ONLY = ("role", "profile", "log-group")
"""We make none of these; the receipt shows that there are none."""

KINDS = (*_EC2, *_NAMED_ONLY)


def plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def ask(aws: Aws, kind: str, identity: str, name: str) -> Answer:
    """What is there of the environment, what AWS has ended already left out; `name` is what it is called in AWS."""
    with named(f"asking for {plural(kind)}", region=aws.region, profile=aws.profile):
        if kind in _NAMED_ONLY:
            return Answer(called=frozenset(Thing(kind, one) for one in _names(aws, kind, name)))
        tagged = _things(kind, tagged_rows(aws, kind, identity))
        by_name = _EC2[kind].name
        called = _things(kind, _rows(aws, kind, by_name, name)) if by_name else frozenset()
        return Answer(tagged, called - tagged)


def tagged_rows(aws: Aws, kind: str, identity: str) -> list[dict[str, Any]]:
    """As EC2 describes them."""
    return _rows(aws, kind, f"tag:{tags.IDENTITY}", identity)


def _rows(aws: Aws, kind: str, filter_name: str, value: str) -> list[dict[str, Any]]:
    ec2, how = aws.client("ec2"), _EC2[kind]
    arguments: dict[str, Any] = {"Filters": [{"Name": filter_name, "Values": [value]}]}
    if kind == "snapshot":
        arguments["OwnerIds"] = ["self"]
    if ec2.can_paginate(how.operation):
        rows = list(ec2.get_paginator(how.operation).paginate(**arguments).search(f"{how.result}[]"))
    else:
        rows = getattr(ec2, how.operation)(**arguments)[how.result]
    return [row for row in rows if not _is_ended(row)]


def _is_ended(row: dict[str, Any]) -> bool:
    state = row.get("State", "")
    return (state["Name"] if isinstance(state, dict) else state) in {"terminated", "deleted"}


def _things(kind: str, rows: list[dict[str, Any]]) -> frozenset[Thing]:
    return frozenset(Thing(kind, row[_EC2[kind].id]) for row in rows)


def _names(aws: Aws, kind: str, prefix: str) -> list[str]:
    if kind == "log-group":
        pages = aws.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
        return [group["logGroupName"] for page in pages for group in page["logGroups"]]
    operation, result, key = {
        "role": ("list_roles", "Roles", "RoleName"),
        "profile": ("list_instance_profiles", "InstanceProfiles", "InstanceProfileName"),
    }[kind]
    pages = aws.client("iam").get_paginator(operation).paginate()
    return [row[key] for page in pages for row in page[result] if row[key].startswith(prefix)]


def remove(aws: Aws, thing: Thing) -> None:
    """Ask AWS to remove it, what hangs on it first; it may take AWS a while, and fails while something needs it."""
    with named(f"removing {thing.kind} {thing.id}", region=aws.region, profile=aws.profile):
        _REMOVALS[thing.kind](aws.client("ec2"), thing.id)


def _release_address(ec2: Any, allocation_id: str) -> None:
    (address,) = ec2.describe_addresses(AllocationIds=[allocation_id])["Addresses"]
    if "AssociationId" in address:
        ec2.disassociate_address(AssociationId=address["AssociationId"])
    ec2.release_address(AllocationId=allocation_id)


def _delete_route_table(ec2: Any, table_id: str) -> None:
    (table,) = ec2.describe_route_tables(RouteTableIds=[table_id])["RouteTables"]
    for association in table["Associations"]:
        ec2.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
    ec2.delete_route_table(RouteTableId=table_id)


def _delete_internet_gateway(ec2: Any, gateway_id: str) -> None:
    (gateway,) = ec2.describe_internet_gateways(InternetGatewayIds=[gateway_id])["InternetGateways"]
    for attachment in gateway["Attachments"]:
        ec2.detach_internet_gateway(InternetGatewayId=gateway_id, VpcId=attachment["VpcId"])
    ec2.delete_internet_gateway(InternetGatewayId=gateway_id)


# In the order in which nothing is in the way of the next.
_REMOVALS: dict[str, Callable[[Any, str], Any]] = {
    "instance": lambda ec2, name: ec2.terminate_instances(InstanceIds=[name]),
    "volume": lambda ec2, name: ec2.delete_volume(VolumeId=name),
    "snapshot": lambda ec2, name: ec2.delete_snapshot(SnapshotId=name),
    "address": _release_address,
    "interface": lambda ec2, name: ec2.delete_network_interface(NetworkInterfaceId=name),
    "security-group": lambda ec2, name: ec2.delete_security_group(GroupId=name),
    "key-pair": lambda ec2, name: ec2.delete_key_pair(KeyName=name),
    "route-table": _delete_route_table,
    "internet-gateway": _delete_internet_gateway,
    "subnet": lambda ec2, name: ec2.delete_subnet(SubnetId=name),
    "vpc": lambda ec2, name: ec2.delete_vpc(VpcId=name),
}
REMOVAL_ORDER = tuple(_REMOVALS)
