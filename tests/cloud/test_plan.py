"""What is asked before anything is made, and each thing that stands in the way, named before AWS would name it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from mlops_env.ec2 import plan, quota
from mlops_env.ec2.aws import Aws
from mlops_env.ec2.plan import Wish
from mlops_env.errors import MlopsEnvError

from .estate import aws_of

if TYPE_CHECKING:
    from mlops_env.sandbox.control import Running

_WISH = Wish("us-east-1", "t3.large", "debian12", 30)
_ALWAYS = 1000


@pytest.fixture
def aws(sandbox: Running) -> Aws:
    return aws_of(sandbox)


def _refuse(sandbox: Running, action: str, code: str, status: int = 403) -> None:
    rule = {"action": action, "code": code, "message": f"told {code}", "status": status, "times": _ALWAYS}
    sandbox.call("POST", "/sandbox/faults", {"rules": [rule]})


def _error(aws: Aws, wish: Wish = _WISH) -> MlopsEnvError:
    with pytest.raises(MlopsEnvError) as raised:
        plan.make(aws, wish)
    assert raised.value.hint
    return raised.value


def _ec2(aws: Aws) -> Any:
    return aws.client("ec2")


def test_everything_about_the_host_is_resolved(aws: Aws) -> None:
    made = plan.make(aws, _WISH)
    ec2 = _ec2(aws)
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}
    (image,) = ec2.describe_images(ImageIds=[made.ami])["Images"]
    assert (made.vcpus, made.memory_gb, made.architecture, made.user) == (2, 8, "x86_64", "admin")
    assert (image["Architecture"], image["Name"][:10]) == ("x86_64", "debian-12-")
    assert made.account == aws.client("sts").get_caller_identity()["Account"]
    assert made.vpc_id == vpc["VpcId"]
    assert made.zones == tuple(sorted(made.zones))
    assert dict(made.subnets) == {zone: subnets[zone] for zone in made.zones}
    assert made.notes == ()


def test_a_plan_is_the_same_after_it_was_recorded(aws: Aws) -> None:
    made = plan.make(aws, _WISH)
    assert plan.from_json(json.loads(json.dumps(made.as_json()))) == made


def test_only_zones_that_offer_the_type_are_tried(aws: Aws) -> None:
    offerings = _ec2(aws).describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["t3.large"]}]
    )["InstanceTypeOfferings"]
    zones = {zone["ZoneName"] for zone in _ec2(aws).describe_availability_zones()["AvailabilityZones"]}
    made = plan.make(aws, _WISH)
    assert set(made.zones) == {offering["Location"] for offering in offerings}
    assert set(made.zones) < zones


@pytest.mark.parametrize(
    ("image", "instance_type", "user"),
    [("ubuntu24.04", "t3.large", "ubuntu"), ("debian12-arm64", "t4g.large", "admin")],
)
def test_other_images_fit_other_processors_and_have_other_users(
    aws: Aws, image: str, instance_type: str, user: str
) -> None:
    made = plan.make(aws, replace(_WISH, image=image, instance_type=instance_type))
    (told,) = _ec2(aws).describe_images(ImageIds=[made.ami])["Images"]
    assert told["Architecture"] == made.architecture
    assert made.user == user


def test_an_image_for_another_processor_names_the_one_that_fits(aws: Aws) -> None:
    error = _error(aws, replace(_WISH, instance_type="t4g.large"))
    assert (error.code, error.message) == ("aws-architecture", "t4g.large is arm64, image debian12 is x86_64")
    assert "debian12-arm64" in error.hint


def test_an_instance_that_is_too_small_names_the_smallest_that_works(aws: Aws) -> None:
    error = _error(aws, replace(_WISH, instance_type="t3.small"))
    assert error.code == "aws-too-small"
    assert "has 2 GB" in error.message
    assert "t3.medium" in error.hint
    assert plan.make(aws, replace(_WISH, instance_type="t3.medium")).memory_gb == 4


def test_a_type_that_there_is_not(aws: Aws) -> None:
    error = _error(aws, replace(_WISH, instance_type="t3.larg"))
    assert error.code == "aws-type-unknown"
    assert "t3.larg" in error.message


def test_no_credentials_that_work_come_before_all_else(aws: Aws, sandbox: Running) -> None:
    _refuse(sandbox, "GetCallerIdentity", "InvalidClientTokenId")
    _refuse(sandbox, "DescribeRegions", "AuthFailure")
    assert _error(aws).code == "aws-credentials-invalid"


def test_credentials_that_have_expired(aws: Aws, sandbox: Running) -> None:
    _refuse(sandbox, "", "ExpiredToken")
    error = _error(aws)
    assert error.code == "aws-expired"
    assert "log in again" in error.hint


def test_a_region_that_there_is_not_names_those_that_are_close(sandbox: Running) -> None:
    error = _error(Aws("eu-centrl-1", "", sandbox.variables()), replace(_WISH, region="eu-centrl-1"))
    assert error.code == "aws-region-unknown"
    assert "--region eu-central-1" in error.hint


def test_a_region_that_is_not_enabled_is_told_from_bad_credentials(sandbox: Running) -> None:
    _refuse(sandbox, "DescribeInstanceTypes", "AuthFailure")
    error = _error(Aws("ap-east-1", "", sandbox.variables()), replace(_WISH, region="ap-east-1"))
    assert (error.code, error.message) == ("aws-region-disabled", "ap-east-1 is not enabled in this account")


def test_who_may_not_ask_for_regions_or_quotas_goes_on_with_a_note(aws: Aws, sandbox: Running) -> None:
    _refuse(sandbox, "DescribeRegions", "UnauthorizedOperation")
    _refuse(sandbox, "GetServiceQuota", "AccessDeniedException")
    made = plan.make(aws, _WISH)
    assert [note.split(":")[0] for note in made.notes] == [
        "not asked whether us-east-1 is enabled",
        "the vCPU quota is not known",
    ]


def test_who_may_not_ask_for_the_image_is_told_of_the_policy(aws: Aws, sandbox: Running) -> None:
    _refuse(sandbox, "GetParameter", "AccessDeniedException")
    error = _error(aws)
    assert error.code == "aws-not-allowed"
    assert "iam-policy" in error.hint


def test_a_quota_of_nothing(aws: Aws, sandbox: Running) -> None:
    sandbox.break_(["quota"])
    error = _error(aws)
    assert error.code == "aws-vcpu-quota"
    assert error.message == "t3.large needs 2 vCPU, you have 0 of 0 left in us-east-1"
    assert "L-1216C47A" in error.hint


def test_what_runs_counts_against_the_quota(aws: Aws) -> None:
    ami = plan.make(aws, _WISH).ami
    for instance_type in ("t3.2xlarge", "t3.2xlarge", "t3.2xlarge", "m5.xlarge", "t3.large", "t3.large"):
        _ec2(aws).run_instances(ImageId=ami, InstanceType=instance_type, MinCount=1, MaxCount=1)
    with pytest.raises(MlopsEnvError, match=r"t3.large needs 2 vCPU, you have 0 of 32 left in us-east-1"):
        plan.make(aws, _WISH)


def test_what_is_stopped_or_of_another_family_does_not_count(aws: Aws) -> None:
    ami = plan.make(aws, _WISH).ami
    for instance_type in ("t3.2xlarge", "t3.2xlarge", "t3.2xlarge", "t3.2xlarge", "g4dn.xlarge"):
        _ec2(aws).run_instances(ImageId=ami, InstanceType=instance_type, MinCount=1, MaxCount=1)
    assert _error(aws).code == "aws-vcpu-quota"
    running = _ec2(aws).describe_instances(Filters=[{"Name": "instance-type", "Values": ["t3.2xlarge"]}])
    stopped = running["Reservations"][0]["Instances"][0]["InstanceId"]
    _ec2(aws).get_waiter("instance_running").wait(InstanceIds=[stopped], WaiterConfig={"Delay": 0.1})
    _ec2(aws).stop_instances(InstanceIds=[stopped])
    assert plan.make(aws, _WISH).notes == ()


def test_other_families_have_quotas_of_their_own(aws: Aws) -> None:
    error = _error(aws, replace(_WISH, instance_type="g4dn.xlarge"))
    assert error.code == "aws-vcpu-quota"
    assert "L-DB2E81BA" in error.hint


def test_of_a_family_that_nobody_knows_the_quota_is_not_asked(aws: Aws) -> None:
    unknown = quota.ask(aws, "q9x.large")
    assert unknown.note == "not asked for the vCPU quota: it is not known which one counts q9x.large"
    unknown.check("q9x.large", 10_000)


def test_without_a_default_network_there_is_to_be_an_own_one(aws: Aws, sandbox: Running) -> None:
    sandbox.break_(["no-default-vpc"])
    made = plan.make(aws, _WISH)
    assert (made.vpc_id, dict(made.subnets)) == ("", {})
    assert made.zones


def test_a_default_network_that_leads_nowhere_is_not_taken(aws: Aws) -> None:
    ec2 = _ec2(aws)
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    (table,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["RouteTables"]
    ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    assert plan.make(aws, _WISH).vpc_id == ""


def test_a_subnet_with_a_route_table_of_its_own_that_leads_nowhere_is_left_out(aws: Aws) -> None:
    ec2, before = _ec2(aws), plan.make(aws, _WISH)
    closed = before.zones[1]
    table = ec2.create_route_table(VpcId=before.vpc_id)["RouteTable"]["RouteTableId"]
    ec2.associate_route_table(RouteTableId=table, SubnetId=before.subnets[closed])
    made = plan.make(aws, _WISH)
    assert made.zones == tuple(zone for zone in before.zones if zone != closed)
    assert closed not in made.subnets


@pytest.mark.parametrize(
    ("action", "code", "status", "ours"),
    [
        ("DescribeInstanceTypes", "RequestLimitExceeded", 503, "aws-throttled"),
        ("DescribeVpcs", "InternalError", 500, "aws-internal"),
        ("DescribeInstanceTypeOfferings", "UnauthorizedOperation", 403, "aws-not-allowed"),
        ("DescribeVpcs", "PendingVerification", 400, "aws-account-blocked"),
    ],
)
def test_what_aws_says_no_to_is_named(
    aws: Aws, sandbox: Running, action: str, code: str, status: int, ours: str
) -> None:
    _refuse(sandbox, action, code, status)
    assert _error(aws).code == ours


def test_a_passing_fault_of_aws_is_not_noticed(aws: Aws, sandbox: Running) -> None:
    rules = [
        {"action": action, "code": "InternalError", "status": 500, "times": 2}
        for action in ("DescribeVpcs", "GetParameter")
    ]
    sandbox.call("POST", "/sandbox/faults", {"rules": rules})
    assert plan.make(aws, _WISH).vpc_id
