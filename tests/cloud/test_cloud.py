"""The sandbox's AWS where it is more than moto, as any client sees it."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .estate import IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlops_env.sandbox.control import Running

ANOTHER = "eu-central-1"
UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


@pytest.fixture
def ec2(client: Callable[..., Any]) -> Any:
    return client("ec2")


@pytest.fixture
def launch(ec2: Any, client: Callable[..., Any]) -> Callable[..., str]:
    image = client("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]

    def launched(identity: str = "an-environment", **options: Any) -> str:
        tags = [
            {"ResourceType": kind, "Tags": [{"Key": "mlops-env:id", "Value": identity}]}
            for kind in ("instance", "volume")
        ]
        words = {"ImageId": image, "InstanceType": "t3.large", "MinCount": 1, "MaxCount": 1, "TagSpecifications": tags}
        return str(ec2.run_instances(**{**words, **options})["Instances"][0]["InstanceId"])

    return launched


def look(ec2: Any, instance: str) -> Any:
    return ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]


def state(ec2: Any, instance: str) -> str:
    return str(look(ec2, instance)["State"]["Name"])


def until(ec2: Any, instance: str, wanted: str) -> None:
    end = time.monotonic() + 10
    while state(ec2, instance) != wanted:
        assert time.monotonic() < end
        time.sleep(0.02)


def refusal(call: Callable[..., Any], **words: Any) -> str:
    """The code with which AWS says no."""
    with pytest.raises(ClientError) as raised:
        call(**words)
    return str(raised.value.response["Error"]["Code"])


# Instances


def test_states_take_their_time_and_filters_agree(ec2: Any, launch: Callable[..., str], sandbox: Running) -> None:
    seconds = 1.0
    sandbox.call("PUT", "/sandbox/timing", {"transition": seconds})
    since = time.monotonic()
    instance = launch()

    def listed(*states: str) -> bool:
        found = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": list(states)}])
        return bool(found["Reservations"])

    for act, way, end in (
        (None, "pending", "running"),
        (ec2.stop_instances, "stopping", "stopped"),
        (ec2.start_instances, "pending", "running"),
        (ec2.terminate_instances, "shutting-down", "terminated"),
    ):
        if act:
            since = time.monotonic()
            act(InstanceIds=[instance])
        assert state(ec2, instance) == way
        assert listed(way)
        assert not listed(end)
        until(ec2, instance, end)
        assert time.monotonic() - since >= seconds
        assert listed(end)
        assert not listed(way)


def test_a_start_gives_another_address(ec2: Any, launch: Callable[..., str]) -> None:
    instance = launch()
    until(ec2, instance, "running")
    before = look(ec2, instance)["PublicIpAddress"]
    ec2.stop_instances(InstanceIds=[instance])
    until(ec2, instance, "stopped")
    assert "PublicIpAddress" not in look(ec2, instance)
    ec2.start_instances(InstanceIds=[instance])
    assert look(ec2, instance)["PublicIpAddress"] != before


def test_what_cannot_be_done_in_a_state_is_refused(ec2: Any, launch: Callable[..., str]) -> None:
    instance = launch()
    assert refusal(ec2.stop_instances, InstanceIds=[instance]) == "IncorrectInstanceState"  # pending
    until(ec2, instance, "running")
    ec2.start_instances(InstanceIds=[instance])  # nothing to do
    assert state(ec2, instance) == "running"
    ec2.stop_instances(InstanceIds=[instance])
    assert refusal(ec2.start_instances, InstanceIds=[instance]) == "IncorrectInstanceState"  # stopping
    ec2.terminate_instances(InstanceIds=[instance])
    assert refusal(ec2.start_instances, InstanceIds=[instance]) == "IncorrectInstanceState"


def test_terminating_again_is_no_error(ec2: Any, launch: Callable[..., str]) -> None:
    instance = launch()
    ec2.terminate_instances(InstanceIds=[instance])
    until(ec2, instance, "terminated")
    (again,) = ec2.terminate_instances(InstanceIds=[instance])["TerminatingInstances"]
    assert again["PreviousState"]["Name"] == "terminated"
    assert state(ec2, instance) == "terminated"


def test_the_same_token_launches_once(ec2: Any, launch: Callable[..., str]) -> None:
    assert launch(ClientToken="one") == launch(ClientToken="one") != launch(ClientToken="two")
    assert len(ec2.describe_instances()["Reservations"]) == 2


def test_an_interface_and_a_disk_go_with_their_instance(ec2: Any, launch: Callable[..., str]) -> None:
    instance = launch()
    assert ec2.describe_network_interfaces()["NetworkInterfaces"]
    assert ec2.describe_volumes()["Volumes"]
    ec2.terminate_instances(InstanceIds=[instance])
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []
    assert ec2.describe_volumes()["Volumes"] == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "t3.enormous"}, "InvalidInstanceType.NotFound"),
        ({"KeyName": "no-such-key"}, "InvalidKeyPair.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
    ],
)
def test_a_launch_of_what_there_is_not(launch: Callable[..., str], wrong: dict[str, Any], code: str) -> None:
    assert refusal(launch, **wrong) == code


# What is still in use


@pytest.fixture
def network(ec2: Any) -> dict[str, str]:
    """A VPC with what it takes to reach the internet."""
    vpc = ec2.create_vpc(CidrBlock="10.77.0.0/16")["Vpc"]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
    return {"vpc": vpc, "gateway": gateway, "subnet": subnet, "group": group}


@pytest.mark.parametrize("is_by_interface", [False, True])
def test_what_an_instance_uses_stays_until_it_is_terminated(
    ec2: Any, launch: Callable[..., str], network: dict[str, str], is_by_interface: bool
) -> None:
    if is_by_interface:
        interface = {"DeviceIndex": 0, "SubnetId": network["subnet"], "Groups": [network["group"]]}
        instance = launch(NetworkInterfaces=[interface])
    else:
        instance = launch(SubnetId=network["subnet"], SecurityGroupIds=[network["group"]])
    removals: tuple[tuple[Any, dict[str, str]], ...] = (
        (ec2.delete_security_group, {"GroupId": network["group"]}),
        (ec2.delete_subnet, {"SubnetId": network["subnet"]}),
        (ec2.detach_internet_gateway, {"InternetGatewayId": network["gateway"], "VpcId": network["vpc"]}),
    )
    for remove, words in removals:
        assert refusal(remove, **words) == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[instance])
    assert refusal(ec2.delete_security_group, GroupId=network["group"]) == "DependencyViolation"  # shutting down
    until(ec2, instance, "terminated")
    for remove, words in removals:
        remove(**words)


def test_a_vpc_stays_until_all_of_it_is_gone(ec2: Any, network: dict[str, str]) -> None:
    ec2.delete_subnet(SubnetId=network["subnet"])
    assert refusal(ec2.delete_vpc, VpcId=network["vpc"]) == "DependencyViolation"
    ec2.detach_internet_gateway(InternetGatewayId=network["gateway"], VpcId=network["vpc"])
    assert refusal(ec2.delete_vpc, VpcId=network["vpc"]) == "DependencyViolation"
    ec2.delete_security_group(GroupId=network["group"])
    ec2.delete_vpc(VpcId=network["vpc"])


# Tags


def test_tags_are_found_by_key_and_value_and_go_with_what_bears_them(ec2: Any, launch: Callable[..., str]) -> None:
    instance, other = launch("mine"), launch("theirs")

    def bearers() -> set[str]:
        found = ec2.describe_tags(Filters=[{"Name": "tag:mlops-env:id", "Values": ["mine"]}])["Tags"]
        return {tag["ResourceId"] for tag in found}

    volume = look(ec2, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert bearers() == {instance, volume}
    ec2.terminate_instances(InstanceIds=[instance, other])
    until(ec2, instance, "terminated")
    assert bearers() == {instance}  # AWS too lists what is terminated, for an hour


def test_things_are_those_of_all_regions_that_are_still_there(
    ec2: Any, launch: Callable[..., str], client: Callable[..., Any], sandbox: Running
) -> None:
    instance = launch("mine")
    tags = [{"ResourceType": "key-pair", "Tags": [{"Key": "mlops-env:id", "Value": "mine"}]}]
    key = client("ec2", ANOTHER).create_key_pair(KeyName="k", TagSpecifications=tags)["KeyPairId"]
    client("ec2", ANOTHER).create_key_pair(KeyName="nobody's")

    def things() -> set[tuple[str, str, str]]:
        return {(one["region"], one["kind"], one["id"]) for one in sandbox.call("GET", "/sandbox/things")}

    assert {("us-east-1", "instance", instance), (ANOTHER, "key-pair", key)} <= things()
    assert {kind for _, kind, _ in things()} == {"instance", "volume", "key-pair"}
    ec2.terminate_instances(InstanceIds=[instance])
    client("ec2", ANOTHER).delete_key_pair(KeyName="k")
    until(ec2, instance, "terminated")
    assert things() == set()


# What moto has no answer to


def test_a_default_vpc_reaches_the_internet(client: Callable[..., Any]) -> None:
    for region in ("us-east-1", ANOTHER):
        ec2 = client("ec2", region)
        (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        (table,) = ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["RouteTables"]
        (gateway,) = ec2.describe_internet_gateways()["InternetGateways"]
        outward = next(route for route in table["Routes"] if route["DestinationCidrBlock"] == "0.0.0.0/0")
        assert (outward["GatewayId"], outward["State"]) == (gateway["InternetGatewayId"], "active")


@pytest.mark.parametrize(
    ("parameter", "name", "architecture"),
    [
        (IMAGE, "debian-12-amd64-", "x86_64"),
        (IMAGE.replace("amd64", "arm64"), "debian-12-arm64-", "arm64"),
        (UBUNTU, "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-", "x86_64"),
    ],
)
def test_public_parameters_name_images_that_there_are(
    client: Callable[..., Any], parameter: str, name: str, architecture: str
) -> None:
    found = client("ssm").get_parameter(Name=parameter)["Parameter"]
    (image,) = client("ec2").describe_images(ImageIds=[found["Value"]])["Images"]
    assert image["Name"].startswith(name)
    assert (image["Architecture"], image["Public"], image["RootDeviceType"]) == (architecture, True, "ebs")


def test_parameters_that_nobody_made(client: Callable[..., Any]) -> None:
    assert refusal(client("ssm").get_parameter, Name=f"{IMAGE}/later") == "ParameterNotFound"


def test_quotas(client: Callable[..., Any]) -> None:
    quotas = client("service-quotas")
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"] == 32
    assert refusal(quotas.get_service_quota, ServiceCode="ec2", QuotaCode="L-0") == "NoSuchResourceException"


def test_an_instance_without_a_host_says_that(ec2: Any, launch: Callable[..., str]) -> None:
    assert ec2.get_console_output(InstanceId=launch())["Output"].startswith("There is no machine")
    assert refusal(ec2.get_console_output, InstanceId="i-0123456789abcdef0") == "InvalidInstanceID.NotFound"


def test_an_action_that_nobody_knows_is_an_error_and_not_retried(client: Callable[..., Any], sandbox: Running) -> None:
    words = {"InstanceType": "t3.large", "InstancePlatform": "Linux/UNIX", "InstanceCount": 1}
    assert refusal(client("ec2").create_capacity_reservation, **words) == "InvalidAction"
    assert [entry["action"] for entry in sandbox.call("GET", "/sandbox/calls")] == ["CreateCapacityReservation"]


# Ids that are not known everywhere yet


@pytest.fixture
def slow_to_tell(sandbox: Running) -> Iterator[float]:
    seconds = 2.0
    sandbox.call("PUT", "/sandbox/timing", {"consistency": seconds})
    yield seconds
    sandbox.call("PUT", "/sandbox/timing", {"consistency": 0})


def test_a_new_id_is_not_known_at_first(
    ec2: Any, launch: Callable[..., str], network: dict[str, str], slow_to_tell: float
) -> None:
    instance = launch()
    group = ec2.create_security_group(GroupName="new", Description="new", VpcId=network["vpc"])["GroupId"]
    vpc = ec2.create_vpc(CidrBlock="10.78.0.0/16")["Vpc"]["VpcId"]
    made = time.monotonic()
    assert refusal(ec2.describe_instances, InstanceIds=[instance]) == "InvalidInstanceID.NotFound"
    assert (
        refusal(ec2.create_tags, Resources=[instance], Tags=[{"Key": "a", "Value": "b"}])
        == "InvalidInstanceID.NotFound"
    )
    assert refusal(launch, SecurityGroupIds=[group]) == "InvalidGroup.NotFound"
    assert refusal(ec2.create_subnet, VpcId=vpc, CidrBlock="10.78.0.0/24") == "InvalidVpcID.NotFound"
    assert vpc not in {one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]}
    assert network["vpc"] in {one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]}
    assert ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [instance]}])["Reservations"] == []
    time.sleep(max(0.0, made + slow_to_tell - time.monotonic()))
    assert state(ec2, instance) in {"pending", "running"}
    assert vpc in {one["VpcId"] for one in ec2.describe_vpcs()["Vpcs"]}
    ec2.create_subnet(VpcId=vpc, CidrBlock="10.78.0.0/24")


# The calls, and what is held


def test_calls_that_change_something_are_numbered(ec2: Any, launch: Callable[..., str], sandbox: Running) -> None:
    launch()
    ec2.describe_instances()
    assert refusal(ec2.delete_vpc, VpcId="vpc-0123456789abcdef0") == "InvalidVpcID.NotFound"
    assert sandbox.call("GET", "/sandbox/calls") == [
        {"number": 1, "service": "ec2", "action": "RunInstances", "status": 200},
        {"number": 2, "service": "ec2", "action": "DeleteVpc", "status": 400},
    ]
    sandbox.call("DELETE", "/sandbox/calls")
    assert sandbox.call("GET", "/sandbox/calls") == []


@pytest.mark.parametrize(("when", "there"), [("before", 0), ("after", 1)])
def test_the_nth_change_is_held(ec2: Any, sandbox: Running, when: str, there: int) -> None:
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"action": "*", "nth": 2, "hold": when}]})
    ec2.create_key_pair(KeyName="first")
    ended: list[Any] = []
    thread = threading.Thread(target=lambda: ended.append(ec2.create_key_pair(KeyName="second")))
    thread.start()
    end = time.monotonic() + 10
    while not (held := sandbox.call("GET", "/sandbox/held")):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert held == [{"number": 2, "action": "CreateKeyPair", "when": when}]
    assert len(ec2.describe_key_pairs()["KeyPairs"]) == 1 + there
    assert ended == []
    assert sandbox.call("DELETE", "/sandbox/held") == {"released": 1}
    thread.join(10)
    assert ended[0]["KeyName"] == "second"
    ec2.create_key_pair(KeyName="third")  # only one is held


def test_nothing_is_held_for_ever(ec2: Any, sandbox: Running) -> None:
    rule = {"action": "CreateKeyPair", "hold": "before", "hold_seconds": 0.3}
    sandbox.call("PUT", "/sandbox/faults", {"rules": [rule]})
    start = time.monotonic()
    ec2.create_key_pair(KeyName="first")
    assert time.monotonic() - start >= 0.3


# Who may ask what


@pytest.mark.parametrize("token", [None, "", "Bearer ", "Bearer guess"])
def test_who_does_not_know_the_token_is_told_nothing(sandbox: Running, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token}
    for method, path in (("GET", "status"), ("PUT", "faults"), ("POST", "shutdown"), ("GET", "nothing")):
        request = urllib.request.Request(f"{sandbox.endpoint}/sandbox/{path}", b"{}", headers, method=method)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request)


def test_everybody_may_ask_for_his_own_address(sandbox: Running) -> None:
    def asked() -> str:
        with urllib.request.urlopen(sandbox.address_url) as answer:
            return str(answer.read().decode().strip())

    assert asked() == "203.0.113.1"
    sandbox.call("PUT", "/sandbox/faults", {"rules": [{"action": "CheckIp", "message": "198.51.100.7"}]})
    assert asked() == "198.51.100.7"


def test_a_reset_forgets_everything(ec2: Any, launch: Callable[..., str], sandbox: Running) -> None:
    launch()
    sandbox.break_(["no-capacity"])
    sandbox.call("POST", "/sandbox/faults", {"rules": [{"action": "CheckIp", "message": "198.51.100.7"}]})
    sandbox.call("POST", "/sandbox/reset")
    assert sandbox.call("GET", "/sandbox/status") == {"faults": [], "hosts": 0, "things": 0, "environments": []}
    assert sandbox.call("GET", "/sandbox/calls") == []
    assert ec2.describe_instances()["Reservations"] == []
    launch()
