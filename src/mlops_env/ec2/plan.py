"""Everything about a host that AWS is asked before anything is made; resolved once, then recorded."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops_env.ec2 import causes, quota
from mlops_env.ec2.aws import named
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_env.ec2.aws import Aws

_LEAST_MEMORY_MB = 4096


@dataclass(frozen=True)
class Image:
    """An operating system: where AWS publishes its newest AMI, for which processors, and who logs in."""

    parameter: str
    architecture: str
    user: str


# Debian's and Canonical's public parameters: https://wiki.debian.org/Cloud/AmazonEC2Image and
# https://documentation.ubuntu.com/aws/en/latest/aws-how-to/instances/find-ubuntu-images
IMAGES = {
    "debian12": Image("/aws/service/debian/release/12/latest/amd64", "x86_64", "admin"),
    "debian12-arm64": Image("/aws/service/debian/release/12/latest/arm64", "arm64", "admin"),
    "ubuntu24.04": Image(
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id", "x86_64", "ubuntu"
    ),
}
_SMALLEST = {"x86_64": "t3.medium", "arm64": "t4g.medium"}


@dataclass(frozen=True)
class Wish:
    """What the user chose."""

    region: str
    instance_type: str
    image: str
    disk_gb: int


@dataclass(frozen=True)
class Plan:
    """What will be made, and where it can be: `zones` offer the type, in the order to try.

    `subnets` has the default network's subnet of each zone; without a `vpc_id` there is to be an own network.
    `notes` say what could not be asked.
    """

    region: str
    account: str
    instance_type: str
    vcpus: int
    memory_gb: float
    image: str
    ami: str
    architecture: str
    user: str
    disk_gb: int
    zones: tuple[str, ...]
    vpc_id: str
    subnets: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(values: Mapping[str, Any]) -> Plan:
    return Plan(**{**values, "zones": tuple(values["zones"]), "notes": tuple(values.get("notes", ()))})


def make(aws: Aws, wish: Wish) -> Plan:
    """Ask everything at once; raises for the first thing that stands in the way, before anything is made."""
    image = IMAGES[wish.image]
    with ThreadPoolExecutor(8) as pool:
        account = pool.submit(_account, aws)
        region = pool.submit(_region_note, aws)
        machine = pool.submit(_machine, aws, wish.instance_type)
        offered = pool.submit(_zones, aws, wish.instance_type)
        ami = pool.submit(_ami, aws, image)
        left = pool.submit(quota.ask, aws, wish.instance_type)
        network = pool.submit(_network, aws)
    # The order is that of causes: bad credentials make all other answers wrong, a disabled region those of the region.
    who, region_note, chosen = account.result(), region.result(), machine.result()
    _check_machine(chosen, wish, image)
    left.result().check(wish.instance_type, chosen.vcpus)
    zones, vpc_id, subnets = _placed(offered.result(), *network.result())
    if not zones:
        raise MlopsEnvError(
            f"no zone of {wish.region} has {wish.instance_type}",
            code="aws-type-not-here",
            hint="use another --instance-type or --region",
        )
    return Plan(
        region=wish.region,
        account=who,
        instance_type=wish.instance_type,
        vcpus=chosen.vcpus,
        memory_gb=chosen.memory_mb / 1024,
        image=wish.image,
        ami=ami.result(),
        architecture=image.architecture,
        user=image.user,
        disk_gb=wish.disk_gb,
        zones=zones,
        vpc_id=vpc_id,
        subnets=subnets,
        notes=tuple(filter(None, (region_note, left.result().note))),
    )


@dataclass(frozen=True)
class _Machine:
    vcpus: int
    memory_mb: int
    architectures: Sequence[str]


def _account(aws: Aws) -> str:
    with named("asking AWS who you are", profile=aws.profile):
        return str(aws.client("sts", region=aws.home_region).get_caller_identity()["Account"])


def _region_note(aws: Aws) -> str:
    """Raise unless the region can be used; a note if that may not be asked."""
    try:
        with named("asking for the regions", region=aws.region, profile=aws.profile):
            client = aws.client("ec2", region=aws.home_region)
            regions = client.describe_regions(AllRegions=True)["Regions"]
    except MlopsEnvError as error:
        if error.code == "aws-not-allowed":
            return f"not asked whether {aws.region} is enabled: {error.message}"
        raise
    states = {region["RegionName"]: region["OptInStatus"] for region in regions}
    if aws.region not in states:
        close = difflib.get_close_matches(aws.region, states, n=3)
        raise MlopsEnvError(
            f"there is no AWS region {aws.region!r}",
            code="aws-region-unknown",
            hint=f"did you mean --region {' or '.join(close)}?" if close else f"there are: {', '.join(sorted(states))}",
        )
    if states[aws.region] == "not-opted-in":
        cause = causes.of("OptInRequired", "", region=aws.region)
        raise MlopsEnvError(cause.message, code=cause.code, hint=cause.hint)
    return ""


def _machine(aws: Aws, instance_type: str) -> _Machine:
    with named("asking for the instance type", instance_type=instance_type, region=aws.region):
        (told,) = aws.client("ec2").describe_instance_types(InstanceTypes=[instance_type])["InstanceTypes"]
    architectures = told["ProcessorInfo"]["SupportedArchitectures"]
    return _Machine(told["VCpuInfo"]["DefaultVCpus"], told["MemoryInfo"]["SizeInMiB"], architectures)


def _check_machine(machine: _Machine, wish: Wish, image: Image) -> None:
    if image.architecture not in machine.architectures:
        fitting = " or ".join(name for name, other in IMAGES.items() if other.architecture in machine.architectures)
        raise MlopsEnvError(
            f"{wish.instance_type} is {'/'.join(machine.architectures)}, image {wish.image} is {image.architecture}",
            code="aws-architecture",
            hint=f"use --image {fitting}" if fitting else f"use --instance-type {_SMALLEST[image.architecture]}",
        )
    if machine.memory_mb < _LEAST_MEMORY_MB:
        raise MlopsEnvError(
            f"{wish.instance_type} has {machine.memory_mb / 1024:g} GB of memory; "
            f"{_LEAST_MEMORY_MB / 1024:g} GB is the least that works",
            code="aws-too-small",
            hint=f"--instance-type {_SMALLEST[image.architecture]} is the smallest that works, t3.large the default",
        )


def _zones(aws: Aws, instance_type: str) -> list[str]:
    with named("asking which zones have the instance type", instance_type=instance_type, region=aws.region):
        pages = (
            aws.client("ec2")
            .get_paginator("describe_instance_type_offerings")
            .paginate(LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": [instance_type]}])
        )
        return sorted(offering["Location"] for page in pages for offering in page["InstanceTypeOfferings"])


def _ami(aws: Aws, image: Image) -> str:
    with named(f"asking for the image {image.parameter}", region=aws.region):
        return str(aws.client("ssm").get_parameter(Name=image.parameter)["Parameter"]["Value"])


def _network(aws: Aws) -> tuple[str, dict[str, str]]:
    """The default VPC and, by zone, those of its default subnets that lead to the internet."""
    ec2 = aws.client("ec2")
    with named("asking for the default network", region=aws.region):
        vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            return "", {}
        vpc_id = vpcs[0]["VpcId"]
        of_vpc = [{"Name": "vpc-id", "Values": [vpc_id]}]
        tables = ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]
        subnets = ec2.describe_subnets(Filters=[*of_vpc, {"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    return vpc_id, {
        subnet["AvailabilityZone"]: subnet["SubnetId"]
        for subnet in sorted(subnets, key=lambda subnet: subnet["AvailabilityZone"])
        if _leads_out(_table_of(subnet["SubnetId"], tables))
    }


def _table_of(subnet_id: str, tables: list[dict[str, Any]]) -> dict[str, Any]:
    """The route table that counts for a subnet: its own, else the network's main one."""
    associations = [(association, table) for table in tables for association in table["Associations"]]
    own = (table for association, table in associations if association.get("SubnetId") == subnet_id)
    main = (table for association, table in associations if association.get("Main"))
    return next(own, next(main, {}))


def _leads_out(table: dict[str, Any]) -> bool:
    return any(
        route.get("DestinationCidrBlock") == "0.0.0.0/0"
        and route.get("GatewayId", "").startswith("igw-")
        and route["State"] == "active"
        for route in table.get("Routes", [])
    )


def _placed(offered: list[str], vpc_id: str, subnets: dict[str, str]) -> tuple[tuple[str, ...], str, dict[str, str]]:
    """Zones, network and subnets: the default network where it reaches a zone with the type, else one of our own."""
    usable = {zone: subnets[zone] for zone in offered if zone in subnets}
    return (tuple(usable), vpc_id, usable) if usable else (tuple(offered), "", {})
