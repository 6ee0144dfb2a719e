"""What an environment has in AWS, asked kind by kind, and nothing of it left after `down`."""

from __future__ import annotations

import time
import zlib
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlops_env.ec2 import kinds
from mlops_env.ec2.aws import named
from mlops_env.ec2.instance import described
from mlops_env.ec2.kinds import KINDS, Thing
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event
from mlops_env.receipt import Row
from mlops_env_infra import tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlops_env.ec2.aws import Aws
    from mlops_env.events import Emit

_PATIENCE, _GRACE = 300.0, 60.0
"""Seconds: for instances to end, and from then on for what hung on them to come free."""
_PAUSE = 1.5
"""Seconds between two asks: what was made in the second before `down` is not in AWS's lists at once."""

_THREADS = 8


class NotAsked(MlopsEnvError):
    """Of some kinds AWS did not tell whether anything is left; `rows` are those of the others."""

    def __init__(self, unasked: Mapping[str, MlopsEnvError], rows: tuple[Row, ...]) -> None:
        first = next(iter(unasked.values()))
        super().__init__(
            f"it is not known whether this environment still has {', '.join(map(kinds.plural, unasked))}: "
            f"{first.message}",
            code="aws-not-asked",
            hint=first.hint,
        )
        self.kinds = frozenset(unasked)
        self.rows = rows


@dataclass(frozen=True)
class _Survey:
    tagged: frozenset[Thing]
    called: frozenset[Thing]
    unasked: Mapping[str, MlopsEnvError]


def survey(aws: Aws, identity: str, name: str) -> frozenset[Thing]:
    """What AWS shows of the environment by its tag and by its name there, such as mlops-env-course-1b9d6bcd.

    Raises only if it may not be asked for anything.
    """
    told = _ask(aws, identity, name)
    if len(told.unasked) == len(KINDS):
        raise next(iter(told.unasked.values()))
    return told.tagged | told.called


def sweep(aws: Aws, identity: str, name: str, before: frozenset[Thing], emit: Emit) -> tuple[Row, ...]:
    """Remove what still bears the environment's tag, ask again, and tell by kind what was found, removed and left.

    `before` is the survey before the engine destroyed. What has the name without the tag is told, and left alone.
    Raises `NotAsked`, after it removed what it could, if AWS does not tell of some kind.
    """
    seen, stuck = set(before), dict[Thing, MlopsEnvError]()
    end, free, empty = time.monotonic() + _PATIENCE, time.monotonic() + _GRACE, 0
    while True:
        told = _ask(aws, identity, name)
        seen |= told.tagged | told.called
        strays = told.tagged - stuck.keys()
        empty = 0 if strays else empty + 1
        if any(thing.kind == "instance" for thing in strays):
            free = time.monotonic() + _GRACE
        if empty > 1 or time.monotonic() > min(end, free):
            break
        stuck |= _remove(aws, strays, emit, is_stuck=bool(stuck))
        time.sleep(_PAUSE)
    left = told.tagged | told.called
    for thing in sorted(left, key=lambda thing: KINDS.index(thing.kind)):
        emit(Event("warning", message=_why_left(thing, stuck)))
    rows = tuple(_row(kind, seen, left) for kind in KINDS if kind not in told.unasked)
    if told.unasked:
        raise NotAsked(told.unasked, rows)
    return rows


def _ask(aws: Aws, identity: str, name: str) -> _Survey:
    def answer(kind: str) -> kinds.Answer | MlopsEnvError:
        try:
            return kinds.ask(aws, kind, identity, name)
        except MlopsEnvError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        answers = dict(zip(KINDS, pool.map(answer, KINDS), strict=True))
    told = [one for one in answers.values() if isinstance(one, kinds.Answer)]
    return _Survey(
        frozenset().union(*(one.tagged for one in told)),
        frozenset().union(*(one.called for one in told)),
        {kind: one for kind, one in answers.items() if isinstance(one, MlopsEnvError)},
    )


def _remove(aws: Aws, strays: frozenset[Thing], emit: Emit, *, is_stuck: bool) -> dict[Thing, MlopsEnvError]:
    """Ask AWS to remove each; returns those that it will never remove for us, with the reason.

    Where something is stuck, what hangs on it will not come free by waiting.
    """
    refused: dict[Thing, MlopsEnvError] = {}
    for thing in sorted(strays, key=lambda thing: kinds.REMOVAL_ORDER.index(thing.kind)):
        emit(Event("resource", "started", thing.kind, f"removes {thing.id}", fields={"id": thing.id}))
        try:
            kinds.remove(aws, thing)
        except MlopsEnvError as error:
            is_final = error.code in {"aws-not-allowed", "aws-protected"}
            if is_final or (error.code == "aws-in-use" and (is_stuck or refused)):
                refused[thing] = error
    return refused


def _why_left(thing: Thing, stuck: Mapping[Thing, MlopsEnvError]) -> str:
    if thing in stuck:
        return f"{stuck[thing].message}; {stuck[thing].hint}"
    return f"{thing.kind} {thing.id} is left: it has this environment's name, but not its tag, or is still in use"


def _row(kind: str, seen: set[Thing], left: frozenset[Thing]) -> Row:
    found, still = (sum(thing.kind == kind for thing in things) for things in (seen, left))
    return Row(kind, found, found - still, still)


@dataclass(frozen=True)
class Candidate:
    """An environment that AWS shows by its tags, whether this machine has a record of it or not."""

    identity: str
    environment: str
    owner: str
    things: frozenset[Thing] = field(default_factory=frozenset)


def candidates(aws: Aws) -> list[Candidate]:
    """Every environment that has something in this account and region, by name."""
    with named("looking for environments by their tags", region=aws.region, profile=aws.profile):
        things = _tags(aws)
        running = {row["InstanceId"] for row in described(aws, _ALIVE)}
    found: dict[str, Candidate] = {}
    for (kind, name), values in things.items():
        if tags.IDENTITY not in values or (kind == "instance" and name not in running):
            continue
        identity, environment = values[tags.IDENTITY], values.get(tags.ENVIRONMENT, "")
        known = found.get(identity) or Candidate(identity, environment, values.get(tags.OWNER, ""))
        thing = Thing(kind, tags.physical_name(environment, identity) if kind == "key-pair" else name)
        found[identity] = Candidate(identity, known.environment, known.owner, known.things | {thing})
    return sorted(found.values(), key=lambda one: (one.environment, one.identity))


_ALIVE = [
    {"Name": "tag-key", "Values": [tags.IDENTITY]},
    {"Name": "instance-state-name", "Values": ["pending", "running", "shutting-down", "stopping", "stopped"]},
]
_RENAMED = {"elastic-ip": "address", "network-interface": "interface"}


def _tags(aws: Aws) -> dict[tuple[str, str], dict[str, str]]:
    """Our tags of each thing that has any of them, by its kind and id."""
    keys = [{"Name": "key", "Values": [tags.IDENTITY, tags.ENVIRONMENT, tags.OWNER]}]
    things: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for page in aws.client("ec2").get_paginator("describe_tags").paginate(Filters=keys):
        for tag in page["Tags"]:
            kind = _RENAMED.get(tag["ResourceType"], tag["ResourceType"])
            if kind in KINDS:
                things[kind, tag["ResourceId"]][tag["Key"]] = tag["Value"]
    return things


def identify(aws: Aws, identity: str, pulumi_type: str) -> list[str]:
    """Ids, as Pulumi's state has them, of what there is of that type by tag: what a create that was cut short left."""
    with named(f"looking for {pulumi_type}", region=aws.region, profile=aws.profile):
        return _IDENTIFIED[pulumi_type](aws, identity)


def _by_key(kind: str, key: str) -> Callable[[Aws, str], list[str]]:
    def find(aws: Aws, identity: str) -> list[str]:
        rows = kinds.tagged_rows(aws, kind, identity)
        return [row[key] for row in rows if kind != "instance" or row["State"]["Name"] != "shutting-down"]

    return find


def _rules(*, egress: bool) -> Callable[[Aws, str], list[str]]:
    def find(aws: Aws, identity: str) -> list[str]:
        pages = (
            aws.client("ec2")
            .get_paginator("describe_security_group_rules")
            .paginate(Filters=[{"Name": f"tag:{tags.IDENTITY}", "Values": [identity]}])
        )
        rules = [rule for page in pages for rule in page["SecurityGroupRules"]]
        return [rule["SecurityGroupRuleId"] for rule in rules if rule["IsEgress"] == egress]

    return find


def _routes(aws: Aws, identity: str) -> list[str]:
    """Routes have no id in AWS: Pulumi's is made of the table's and of the destination's checksum."""
    return [
        f"r-{table['RouteTableId']}{zlib.crc32(route['DestinationCidrBlock'].encode())}"
        for table in kinds.tagged_rows(aws, "route-table", identity)
        for route in table["Routes"]
        if route.get("GatewayId", "").startswith("igw-")
    ]


def _associations(aws: Aws, identity: str) -> list[str]:
    return [
        association["RouteTableAssociationId"]
        for table in kinds.tagged_rows(aws, "route-table", identity)
        for association in table["Associations"]
        if not association["Main"]
    ]


_IDENTIFIED: dict[str, Callable[[Aws, str], list[str]]] = {
    "aws:ec2/instance:Instance": _by_key("instance", "InstanceId"),
    "aws:ec2/internetGateway:InternetGateway": _by_key("internet-gateway", "InternetGatewayId"),
    "aws:ec2/keyPair:KeyPair": _by_key("key-pair", "KeyName"),
    "aws:ec2/route:Route": _routes,
    "aws:ec2/routeTable:RouteTable": _by_key("route-table", "RouteTableId"),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": _associations,
    "aws:ec2/securityGroup:SecurityGroup": _by_key("security-group", "GroupId"),
    "aws:ec2/subnet:Subnet": _by_key("subnet", "SubnetId"),
    "aws:ec2/vpc:Vpc": _by_key("vpc", "VpcId"),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": _rules(egress=True),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": _rules(egress=False),
}
