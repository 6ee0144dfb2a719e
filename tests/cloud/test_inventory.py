"""Nothing of an environment is left in AWS, and nothing else is touched; what cannot be asked for is never called 0."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pytest

from mlops_env.ec2 import inventory, kinds
from mlops_env.ec2.inventory import NotAsked
from mlops_env.ec2.kinds import KINDS, Thing
from mlops_env.errors import MlopsEnvError
from mlops_env.receipt import Row

from .estate import Estate, aws_of

if TYPE_CHECKING:
    from mlops_env.ec2.aws import Aws
    from mlops_env.events import Event
    from mlops_env.sandbox.control import Running

_ALWAYS = 1000
_MADE = ("vpc", "internet-gateway", "subnet", "route-table", "security-group", "key-pair", "instance")


@pytest.fixture
def aws(sandbox: Running) -> Aws:
    return aws_of(sandbox)


@pytest.fixture
def estate(aws: Aws) -> Estate:
    return Estate(aws)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_PAUSE", 0.2)


def _nobody(_: Event) -> None:
    """Events that the test does not look at."""


def _survey(estate: Estate) -> frozenset[Thing]:
    return inventory.survey(estate.aws, estate.identity, estate.name)


def _sweep(estate: Estate, before: frozenset[Thing] | None = None, told: list[Event] | None = None) -> dict[str, Row]:
    before = _survey(estate) if before is None else before
    emit = told.append if told is not None else _nobody
    return {row.kind: row for row in inventory.sweep(estate.aws, estate.identity, estate.name, before, emit)}


def _counts(rows: dict[str, Row]) -> dict[str, tuple[int, int, int]]:
    return {kind: (row.found, row.removed, row.left) for kind, row in rows.items() if row.found}


def _refuse(sandbox: Running, action: str, code: str = "UnauthorizedOperation") -> None:
    rule = {"action": action, "code": code, "message": f"told {code}", "status": 403, "times": _ALWAYS}
    sandbox.call("POST", "/sandbox/faults", {"rules": [rule]})


def test_of_an_environment_that_has_nothing_every_kind_is_told(estate: Estate) -> None:
    assert _survey(estate) == frozenset()
    assert [*_sweep(estate).values()] == [Row(kind, 0, 0, 0) for kind in KINDS]


def test_a_survey_finds_each_kind_and_nothing_of_others(estate: Estate) -> None:
    Estate(estate.aws, environment=estate.environment).whole()
    estate.whole()
    (volume,) = estate.ec2.describe_volumes(
        Filters=[{"Name": "attachment.instance-id", "Values": [estate.made["instance"]]}]
    )["Volumes"]
    expected = {Thing(kind, estate.made[kind]) for kind in _MADE} | {Thing("volume", volume["VolumeId"])}
    assert _survey(estate) == expected


def test_strays_of_each_kind_are_removed_and_those_of_others_stay(estate: Estate) -> None:
    other = Estate(estate.aws, environment=estate.environment).whole()
    others = _survey(other)
    estate.whole()
    volume = estate.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=estate.tagged("volume"))[
        "VolumeId"
    ]
    estate.ec2.create_snapshot(VolumeId=volume, TagSpecifications=estate.tagged("snapshot"))
    estate.ec2.allocate_address(Domain="vpc", TagSpecifications=estate.tagged("elastic-ip"))
    estate.ec2.create_network_interface(
        SubnetId=estate.made["subnet"], TagSpecifications=estate.tagged("network-interface")
    )
    counts = _counts(_sweep(estate))
    once = ("instance", "snapshot", "address", "interface", *[kind for kind in _MADE if kind != "instance"])
    assert counts == {**dict.fromkeys(once, (1, 1, 0)), "volume": (2, 2, 0)}
    assert _survey(estate) == frozenset()
    assert _survey(other) == others


def test_what_the_engine_removed_counts_as_removed(estate: Estate) -> None:
    estate.key()
    before = _survey(estate)
    estate.ec2.delete_key_pair(KeyName=estate.name)
    assert _counts(_sweep(estate, before)) == {"key-pair": (1, 1, 0)}


def test_a_terminated_instance_is_no_more(estate: Estate) -> None:
    estate.host()
    estate.ec2.terminate_instances(InstanceIds=[estate.made["instance"]])
    assert _counts(_sweep(estate))["instance"] == (1, 1, 0)
    assert _survey(estate) == frozenset()


def test_an_address_that_is_in_use_is_released(estate: Estate) -> None:
    estate.host()
    address = estate.ec2.allocate_address(Domain="vpc", TagSpecifications=estate.tagged("elastic-ip"))
    estate.ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=estate.made["instance"])
    assert _counts(_sweep(estate))["address"] == (1, 1, 0)


def test_what_is_only_called_so_is_told_and_left_alone(estate: Estate) -> None:
    """A name is not enough to delete anything."""
    estate.ec2.create_security_group(GroupName=estate.name, Description="without tags")
    estate.aws.client("iam").create_role(RoleName=estate.name, AssumeRolePolicyDocument="{}")
    estate.aws.client("iam").create_instance_profile(InstanceProfileName=estate.name)
    estate.aws.client("logs").create_log_group(logGroupName=estate.name)
    told: list[Event] = []
    counts = _counts(_sweep(estate, told=told))
    assert counts == dict.fromkeys(("security-group", "role", "profile", "log-group"), (1, 0, 1))
    warnings = [event.message for event in told if event.type == "warning"]
    assert [message.split()[0] for message in warnings] == ["security-group", "role", "profile", "log-group"]
    assert all("name, but not its tag" in message for message in warnings)


def test_what_aws_does_not_list_yet_is_waited_for(
    estate: Estate, sandbox: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was killed in the middle leaves such a thing."""
    sandbox.call("PUT", "/sandbox/timing", {"consistency": 1000})
    estate.ec2.create_vpc(CidrBlock="10.77.0.0/16", TagSpecifications=estate.tagged("vpc"))
    assert _survey(estate) == frozenset()
    monkeypatch.setattr(time, "sleep", lambda _: sandbox.call("PUT", "/sandbox/timing", {"consistency": 0}))
    assert _counts(_sweep(estate, frozenset())) == {"vpc": (1, 1, 0)}


def test_what_others_put_into_our_network_keeps_it_and_is_told(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_GRACE", 1.0)
    estate.network()
    Estate(estate.aws, made={"subnet": estate.made["subnet"]}).host()
    told: list[Event] = []
    counts = _counts(_sweep(estate, told=told))
    assert counts["subnet"] == (1, 0, 1)
    assert counts["vpc"] == (1, 0, 1)
    assert any(event.type == "warning" and estate.made["subnet"] in event.message for event in told)


def test_an_instance_that_is_protected_is_told_and_not_waited_for(estate: Estate, sandbox: Running) -> None:
    estate.host()
    _refuse(sandbox, "TerminateInstances", "OperationNotPermitted")
    told: list[Event] = []
    began = time.monotonic()
    assert _counts(_sweep(estate, told=told))["instance"] == (1, 0, 1)
    assert time.monotonic() - began < inventory._PATIENCE / 10
    assert any("somebody protected it" in event.message for event in told)


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("DescribeInstances", "instance"),
        ("DescribeVolumes", "volume"),
        ("DescribeSnapshots", "snapshot"),
        ("DescribeAddresses", "address"),
        ("DescribeNetworkInterfaces", "interface"),
        ("DescribeKeyPairs", "key-pair"),
        ("DescribeSecurityGroups", "security-group"),
        ("DescribeRouteTables", "route-table"),
        ("DescribeInternetGateways", "internet-gateway"),
        ("DescribeSubnets", "subnet"),
        ("DescribeVpcs", "vpc"),
        ("ListRoles", "role"),
        ("ListInstanceProfiles", "profile"),
        ("DescribeLogGroups", "log-group"),
    ],
)
def test_a_kind_that_may_not_be_asked_for_is_never_none(
    estate: Estate, sandbox: Running, action: str, kind: str
) -> None:
    estate.key()
    before = _survey(estate)
    _refuse(sandbox, action, "AccessDenied")
    with pytest.raises(NotAsked, match=f"still has {kinds.plural(kind)}:") as raised:
        _sweep(estate, before)
    assert raised.value.code == "aws-not-asked"
    assert raised.value.kinds == {kind}
    assert "iam-policy" in raised.value.hint
    assert {row.kind for row in raised.value.rows} == {*KINDS} - {kind}
    if kind != "key-pair":
        assert _survey(estate) == frozenset()  # what could be removed is


def test_a_survey_goes_on_without_what_it_may_not_ask_for(estate: Estate, sandbox: Running) -> None:
    estate.key()
    _refuse(sandbox, "ListRoles", "AccessDenied")
    assert _survey(estate) == {Thing("key-pair", estate.name)}


def test_a_survey_that_may_ask_for_nothing_says_why(estate: Estate, sandbox: Running) -> None:
    _refuse(sandbox, "", "ExpiredToken")
    with pytest.raises(MlopsEnvError) as raised:
        _survey(estate)
    assert raised.value.code == "aws-expired"


def test_candidates_are_environments_by_their_tags(estate: Estate) -> None:
    estate.whole()
    other = Estate(estate.aws, environment="another").key()
    gone = Estate(estate.aws, environment="gone").host()
    gone.ec2.terminate_instances(InstanceIds=[gone.made["instance"]])
    _sweep(gone)
    first, second = inventory.candidates(estate.aws)
    assert (first.identity, first.environment, first.owner) == (other.identity, "another", "ann@here")
    assert first.things == {Thing("key-pair", other.name)}
    assert (second.identity, second.environment) == (estate.identity, "course")
    assert second.things == _survey(estate)


def test_what_a_cut_off_create_left_is_identified_as_pulumi_would(estate: Estate) -> None:
    Estate(estate.aws, environment=estate.environment).whole()
    made = estate.whole().made
    expected = {
        "aws:ec2/instance:Instance": made["instance"],
        "aws:ec2/internetGateway:InternetGateway": made["internet-gateway"],
        "aws:ec2/keyPair:KeyPair": estate.name,
        "aws:ec2/route:Route": f"r-{made['route-table']}1080289494",
        "aws:ec2/routeTable:RouteTable": made["route-table"],
        "aws:ec2/routeTableAssociation:RouteTableAssociation": made["association"],
        "aws:ec2/securityGroup:SecurityGroup": made["security-group"],
        "aws:ec2/subnet:Subnet": made["subnet"],
        "aws:ec2/vpc:Vpc": made["vpc"],
        "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": made["egress"],
        "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": made["ingress"],
    }
    assert {kind: inventory.identify(estate.aws, estate.identity, kind) for kind in expected} == {
        kind: [id_] for kind, id_ in expected.items()
    }


def test_of_an_environment_without_anything_nothing_is_identified(aws: Aws) -> None:
    identity = str(uuid.uuid4())
    assert {kind: ids for kind in inventory._IDENTIFIED if (ids := inventory.identify(aws, identity, kind))} == {}


def test_an_instance_that_is_being_ended_is_not_adopted(estate: Estate) -> None:
    estate.host()
    estate.ec2.terminate_instances(InstanceIds=[estate.made["instance"]])
    assert inventory.identify(estate.aws, estate.identity, "aws:ec2/instance:Instance") == []
