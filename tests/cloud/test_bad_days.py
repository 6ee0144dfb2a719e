"""Bad days on AWS as people meet them: what they are told, what the next command does, that `down` leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from integration.harness import wait_until

from .people import REHEARSE, left, up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.harness import Ended, Machine

    from mlops_env.sandbox.control import Running


@pytest.fixture(autouse=True)
def _down_leaves_nothing(machine: Machine, aws: Running) -> Iterator[None]:
    yield
    aws.call("DELETE", "/sandbox/faults")
    assert machine("down").succeeded().result["left"] == 0
    assert left(aws) == []
    assert not machine.state.exists()


def ec2(aws: Running) -> Any:
    variables = aws.variables()
    keys = {name.lower(): variables[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    return boto3.client("ec2", region_name="us-east-1", endpoint_url=aws.endpoint, **keys)


def told(ended: Ended, code: str) -> str:
    """It failed for this cause, with a cure; what people are told."""
    error = ended.failed(code).result["error"]
    assert error["hint"]
    return str(error["message"])


@pytest.mark.parametrize("fault", ["no-capacity-zone", "throttling", "api-500", "no-default-vpc"])
def test_what_is_ridden_out(machine: Machine, fault: str) -> None:
    done = up(machine, "--fault", fault).succeeded()
    assert up(machine).succeeded().result["instance"] == done.result["instance"]


def test_another_zone_is_taken_where_one_is_full(machine: Machine) -> None:
    done = up(machine, "--fault", "no-capacity-zone").succeeded()
    cloud = machine.record()["cloud"]
    assert cloud["outputs"]["zone"] != cloud["plan"]["zones"][0]
    assert cloud["plan"]["zones"][0] in done.messages()


def test_no_zone_has_room(machine: Machine, aws: Running) -> None:
    message = told(up(machine, "--fault", "no-capacity"), "aws-no-capacity")
    assert "t3.large" in message
    assert "instance" not in {thing["kind"] for thing in left(aws)}
    up(machine).succeeded()


def test_the_quota_is_known_before_anything_is_made(machine: Machine, aws: Running) -> None:
    message = told(up(machine, "--fault", "quota"), "aws-vcpu-quota")
    assert "2 vCPU" in message
    assert left(aws) == []
    assert not machine.state.exists()


def test_a_token_expires_in_the_middle(machine: Machine, aws: Running) -> None:
    told(up(machine, "--fault", "expired-token"), "aws-expired")
    made = left(aws)
    again = up(machine).succeeded()
    assert {thing["id"] for thing in made} <= {thing["id"] for thing in left(aws)}  # none of it twice
    assert again.statuses("resource")["instance"] == "changed"


def test_ids_that_are_not_known_everywhere_yet(machine: Machine, aws: Running) -> None:
    aws.call("PUT", "/sandbox/timing", {"consistency": 0.7})
    up(machine, "--fault", "no-default-vpc").succeeded()
    assert [thing["kind"] for thing in left(aws)].count("instance") == 1


def test_what_may_not_be_done_is_named_with_the_policy(machine: Machine, aws: Running) -> None:
    rule = {"action": "CreateSecurityGroup", "code": "UnauthorizedOperation", "status": 403, "times": 99}
    aws.call("PUT", "/sandbox/faults", {"rules": [rule]})
    ended = up(machine)
    told(ended, "aws-not-allowed")
    assert "iam-policy" in ended.result["error"]["hint"]
    aws.call("DELETE", "/sandbox/faults")
    up(machine).succeeded()


def test_what_may_not_be_asked_is_no_proof_that_nothing_is_left(machine: Machine, aws: Running) -> None:
    up(machine).succeeded()
    rule = {"action": "DescribeVolumes", "code": "UnauthorizedOperation", "status": 403, "times": 99}
    aws.call("PUT", "/sandbox/faults", {"rules": [rule]})
    assert "volume" in told(machine("down"), "aws-not-asked")
    assert machine.record()


def test_a_rule_that_somebody_deleted_is_made_again(machine: Machine, aws: Running) -> None:
    up(machine).succeeded()
    made = machine.record()["cloud"]["outputs"]
    ec2(aws).revoke_security_group_ingress(
        GroupId=made["security_group_id"], SecurityGroupRuleIds=[made["ingress_rule_id"]]
    )
    again = up(machine).succeeded()
    assert again.result["instance"] == made["instance_id"]
    rules = ec2(aws).describe_security_group_rules(
        Filters=[{"Name": "group-id", "Values": [made["security_group_id"]]}]
    )["SecurityGroupRules"]
    assert len([rule for rule in rules if not rule["IsEgress"]]) == 1
    assert up(machine).succeeded().statuses("resource") == {"host": "ok"}


def test_an_instance_that_somebody_terminated_is_made_again(machine: Machine, aws: Running) -> None:
    first = up(machine).succeeded().result["instance"]
    ec2(aws).terminate_instances(InstanceIds=[first])
    (seen,) = machine("status").succeeded().result["environments"]
    assert seen["health"] == "gone"
    assert up(machine).succeeded().result["instance"] != first


def test_who_moves_is_who_the_door_is_open_to(machine: Machine, aws: Running) -> None:
    up(machine).succeeded()
    aws.call("PUT", "/sandbox/faults", {"rules": [{"action": "CheckIp", "message": "198.51.100.7"}]})
    up(machine).succeeded()
    (rule,) = [rule for rule in ec2(aws).describe_security_group_rules()["SecurityGroupRules"] if not rule["IsEgress"]]
    assert rule["CidrIpv4"] == "198.51.100.7/32"
    assert up(machine, "--allow", "203.0.113.9/32").succeeded()
    (rule,) = [rule for rule in ec2(aws).describe_security_group_rules()["SecurityGroupRules"] if not rule["IsEgress"]]
    assert rule["CidrIpv4"] == "203.0.113.9/32"


def test_of_two_at_once_the_second_waits_for_nothing(machine: Machine, aws: Running) -> None:
    aws.call("PUT", "/sandbox/faults", {"rules": [{"action": "RunInstances", "delay": 4}]})
    first = machine.start(*REHEARSE, "--yes")
    wait_until(lambda: "security-group" in {thing["kind"] for thing in left(aws)}, 30)
    told(up(machine), "environment-busy")
    first.wait().succeeded()
    assert [thing["kind"] for thing in left(aws)].count("instance") == 1


def test_ctrl_c_lets_what_is_in_flight_come_to_its_end(machine: Machine, aws: Running) -> None:
    aws.call("PUT", "/sandbox/faults", {"rules": [{"action": "RunInstances", "delay": 3}]})
    running = machine.start(*REHEARSE, "--yes")
    wait_until(lambda: "security-group" in {thing["kind"] for thing in left(aws)}, 30)
    ended = running.interrupt().wait()
    assert ended.code == 130
    up(machine).succeeded()
    assert [thing["kind"] for thing in left(aws)].count("instance") == 1


def test_a_sandboxs_faults_have_names(machine: Machine) -> None:
    ended = machine(*REHEARSE, "--yes", "--fault", "rain")
    ended.failed("configuration", 2)
    assert "ssh-lost" in ended.result["error"]["hint"]


def test_state_that_was_lost_makes_no_second_host(machine: Machine, aws: Running) -> None:
    up(machine).succeeded()
    for path in (machine.state / "default" / "pulumi").rglob("*.json*"):
        path.unlink()
    told(up(machine, "--instance-type", "t3.xlarge"), "state-lost")
    assert [thing["kind"] for thing in left(aws)].count("instance") == 1
