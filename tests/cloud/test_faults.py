"""What goes wrong on purpose, as a client meets it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from mlops_env.errors import MlopsEnvError
from mlops_env.sandbox import faults

from .estate import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_env.sandbox.control import Running


@pytest.fixture
def once(sandbox: Running) -> Callable[..., Any]:
    """Makes clients that do not try again."""

    def made(service: str) -> Any:
        words = sandbox.variables()
        session = boto3.Session(words["AWS_ACCESS_KEY_ID"], words["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        config = Config(retries={"total_max_attempts": 1})
        return session.client(service, endpoint_url=sandbox.endpoint, config=config)

    return made


@pytest.fixture
def launch(once: Callable[..., Any]) -> Callable[..., str]:
    """Of the second zone first, unless told which."""
    ec2 = once("ec2")
    image = once("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]}

    def launched(zone: str = "us-east-1b") -> str:
        words = {"ImageId": image, "InstanceType": "t3.large", "SubnetId": subnets[zone], "MinCount": 1, "MaxCount": 1}
        return str(ec2.run_instances(**words)["Instances"][0]["InstanceId"])

    return launched


def refusal(call: Callable[..., Any], *words: Any, **named: Any) -> tuple[str, int, str]:
    """Code, status and message with which AWS says no."""
    with pytest.raises(ClientError) as raised:
        call(*words, **named)
    error = raised.value.response
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Message"]


# The ones with names


def test_no_capacity_anywhere(sandbox: Running, launch: Callable[..., str]) -> None:
    sandbox.break_(["no-capacity"])
    for zone, others in (("us-east-1b", "us-east-1a, us-east-1c"), ("us-east-1a", "us-east-1b, us-east-1c")):
        code, status, message = refusal(launch, zone)
        assert (code, status) == ("InsufficientInstanceCapacity", 500)
        assert f"sufficient t3.large capacity in the Availability Zone you requested ({zone})" in message
        assert message.endswith(f"choosing {others}.")


def test_no_capacity_in_the_zone_that_is_tried_first(sandbox: Running, launch: Callable[..., str]) -> None:
    sandbox.break_(["no-capacity-zone"])
    assert refusal(launch, "us-east-1b")[0] == "InsufficientInstanceCapacity"
    launch("us-east-1a")
    assert refusal(launch, "us-east-1b")[0] == "InsufficientInstanceCapacity"


def test_a_quota_of_nothing(sandbox: Running, launch: Callable[..., str], once: Callable[..., Any]) -> None:
    sandbox.break_(["quota"])
    code, status, message = refusal(launch)
    assert (code, status) == ("VcpuLimitExceeded", 400)
    assert "current vCPU limit of 0" in message
    quota = once("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")
    assert quota["Quota"]["Value"] == 0


def test_credentials_that_expire_in_the_middle(sandbox: Running, once: Callable[..., Any]) -> None:
    ec2 = once("ec2")
    sandbox.break_(["expired-token"])
    for name in ("first", "second"):
        once("sts").get_caller_identity()
        ec2.create_key_pair(KeyName=name)
    assert refusal(ec2.create_key_pair, KeyName="third")[:2] == ("RequestExpired", 400)
    assert refusal(ec2.describe_key_pairs)[0] == "RequestExpired"
    assert refusal(once("sts").get_caller_identity)[0] == "ExpiredToken"
    assert refusal(once("ssm").get_parameter, Name=IMAGE)[0] == "ExpiredTokenException"
    sandbox.break_([])
    assert [pair["KeyName"] for pair in ec2.describe_key_pairs()["KeyPairs"]] == ["first", "second"]


@pytest.mark.parametrize(
    ("fault", "code", "status"), [("throttling", "RequestLimitExceeded", 503), ("api-500", "InternalError", 500)]
)
def test_what_passes_when_it_is_tried_again(
    sandbox: Running, launch: Callable[..., str], once: Callable[..., Any], fault: str, code: str, status: int
) -> None:
    sandbox.break_([fault])
    for call in (launch, once("ec2").describe_instances):
        assert [refusal(call)[:2] for _ in range(2)] == [(code, status)] * 2
        call()


def test_no_default_vpc(sandbox: Running, once: Callable[..., Any]) -> None:
    ec2 = once("ec2")
    is_default = [{"Name": "is-default", "Values": ["true"]}]
    before = ec2.describe_vpcs(Filters=is_default)["Vpcs"]
    sandbox.break_(["no-default-vpc"])
    assert ec2.describe_vpcs(Filters=is_default)["Vpcs"] == []
    image = once("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]
    assert refusal(ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1)[0] == "VPCIdNotSpecified"
    sandbox.break_([])
    assert ec2.describe_vpcs(Filters=is_default)["Vpcs"] == before


def test_slow(sandbox: Running, launch: Callable[..., str], once: Callable[..., Any]) -> None:
    sandbox.break_(["slow"])
    start = time.monotonic()
    instance = launch()
    assert time.monotonic() - start >= 0.5
    sandbox.break_([])
    time.sleep(1)
    (found,) = once("ec2").describe_instances(InstanceIds=[instance])["Reservations"]
    assert found["Instances"][0]["State"]["Name"] == "pending"


def test_a_fault_that_there_is_not(sandbox: Running) -> None:
    sandbox.break_(["slow"])
    with pytest.raises(MlopsEnvError, match="no fault is called no-luck; there are: no-capacity, "):
        sandbox.break_(["no-luck", "quota"])
    assert sandbox.call("GET", "/sandbox/status")["faults"] == ["slow"]
    assert set(faults.NAMES) >= {"ssh-lost", "user-data", "apt-lock"}


def test_faults_and_rules_do_not_know_each_other(sandbox: Running, launch: Callable[..., str]) -> None:
    rule = {"action": "CreateKeyPair", "code": "Unavailable"}
    sandbox.call("PUT", "/sandbox/faults", {"rules": [rule]})
    sandbox.break_(["no-capacity"])
    sandbox.call("PUT", "/sandbox/faults", {"rules": []})
    assert refusal(launch)[0] == "InsufficientInstanceCapacity"
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"action": "RunInstances", "code": "Unsupported"}]})
    sandbox.break_([])
    assert refusal(launch)[0] == "Unsupported"
    sandbox.call("DELETE", "/sandbox/faults")
    launch()


# Rules


@pytest.fixture
def make(once: Callable[..., Any]) -> Callable[[str], Any]:
    ec2 = once("ec2")
    return lambda name: ec2.create_key_pair(KeyName=name)


def outcomes(make: Callable[[str], Any], count: int = 4) -> list[str]:
    """For each of so many calls `ok`, or the code with which it was refused."""
    told = []
    for number in range(count):
        try:
            make(f"key-{number}")
            told.append("ok")
        except ClientError as error:
            told.append(error.response["Error"]["Code"])
    return told


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"action": "CreateKeyPair"}, ["No", "ok", "ok", "ok"]),
        ({"action": "CreateKeyPair", "times": 2}, ["No", "No", "ok", "ok"]),
        ({"action": "CreateKeyPair", "nth": 2, "times": 2}, ["ok", "No", "No", "ok"]),
        ({"action": "*", "nth": 3}, ["ok", "ok", "No", "ok"]),
        ({"after_changes": 2, "times": 9}, ["ok", "ok", "No", "No"]),
        ({"match": "key-1"}, ["ok", "No", "ok", "ok"]),
        ({"action": "RunInstances"}, ["ok", "ok", "ok", "ok"]),
    ],
)
def test_which_calls_a_rule_hits(
    sandbox: Running, make: Callable[[str], Any], rule: dict[str, Any], expected: list[str]
) -> None:
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{**rule, "code": "No"}]})
    assert outcomes(make) == expected


def test_rules_are_added_and_the_first_that_refuses_counts(sandbox: Running, make: Callable[[str], Any]) -> None:
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"action": "CreateKeyPair", "code": "First"}]})
    sandbox.call("POST", "/sandbox/faults", {"rules": [{"action": "CreateKeyPair", "code": "Second", "times": 2}]})
    assert outcomes(make) == ["First", "Second", "ok", "ok"]


def test_reading_calls_are_no_changes(sandbox: Running, once: Callable[..., Any]) -> None:
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"action": "*", "code": "No"}]})
    once("ec2").describe_key_pairs()
    assert refusal(once("ec2").create_key_pair, KeyName="k")[0] == "No"


def test_a_message_is_sent_as_it_is(sandbox: Running, make: Callable[[str], Any]) -> None:
    message = 'not {here}, & not <there>: "never"'
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"code": "No", "message": message, "status": 403}]})
    assert refusal(make, "key") == ("No", 403, message)


def test_a_delay(sandbox: Running, make: Callable[[str], Any]) -> None:
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"action": "CreateKeyPair", "delay": 0.4}]})
    start = time.monotonic()
    make("key")
    assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize("rule", [{"acton": "RunInstances"}, {"action": "RunInstances", "code": "No", "tmes": 2}])
def test_a_rule_with_a_word_that_rules_do_not_have(sandbox: Running, rule: dict[str, Any]) -> None:
    with pytest.raises(MlopsEnvError, match=r"a rule has no (acton|tmes)"):
        sandbox.call("PUT", "/sandbox/faults", {"rules": [rule]})
