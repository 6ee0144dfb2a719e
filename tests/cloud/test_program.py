"""What the Pulumi program asks the engine to make: inline as the CLI does, and by hand with stack configuration."""

from __future__ import annotations

import dataclasses
import inspect
import json
import runpy
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
import pulumi_aws
import pytest
import yaml

from mlops_env_infra import tags
from mlops_env_infra.ec2 import Ec2HostArgs, program

from . import monitor

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
PROJECT = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
DEFAULTS = {key: str(entry["default"]) for key, entry in PROJECT["config"].items() if "default" in entry}

HOST = Ec2HostArgs(
    environment=monitor.STACK,
    identity="6f1c0e0a-52a5-4f0e-9b39-0d6c2f6a8f11",
    owner="me@laptop",
    region="eu-central-1",
    zone="",
    instance_type="t3.large",
    ami="ami-0123456789abcdef0",
    public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0iYxwHn1Ci4Zf2e3Wm6zH7zHxPz1bM0l0xK1mE3b0S me@laptop",
    allowed_cidr="203.0.113.7/32",
    user_data="#cloud-config\n{ssh_keys: {ed25519_private: not for everybody}}\n",
)
IN_A_VPC = dataclasses.replace(HOST, vpc_id="vpc-1", subnet_id="subnet-1")
NETWORK = ["InternetGateway", "Route", "RouteTable", "RouteTableAssociation", "Subnet", "Vpc"]
THE_HOST = ["Instance", "KeyPair", "SecurityGroup", "SecurityGroupEgressRule", "SecurityGroupIngressRule"]
both = pytest.mark.parametrize("args", [HOST, IN_A_VPC], ids=["own-vpc", "given-vpc"])


def made(args: Ec2HostArgs) -> monitor.Run:
    return monitor.run(lambda: program(args))


def kinds(run: monitor.Run) -> list[str]:
    return sorted(resource.kind for resource in run.of_aws)


def takes_tags(resource: monitor.Registered) -> bool:
    """Whether that kind can bear tags, as pulumi_aws has it."""
    _, module, kind = resource.type.split(":")
    made_by = getattr(getattr(pulumi_aws, module.partition("/")[0]), kind)
    return "tags" in inspect.signature(made_by._internal_init).parameters


def test_an_own_network_takes_eleven_resources() -> None:
    assert kinds(made(HOST)) == sorted(NETWORK + THE_HOST)


def test_a_given_network_takes_five_and_is_used() -> None:
    run = made(IN_A_VPC)
    assert kinds(run) == sorted(THE_HOST)
    assert run.one("SecurityGroup").inputs["vpcId"] == "vpc-1"
    assert run.one("Instance").inputs["subnetId"] == "subnet-1"


@both
def test_all_are_parts_of_the_host_under_a_provider_of_its_own(args: Ec2HostArgs) -> None:
    run = made(dataclasses.replace(args, profile="work"))
    (provider,) = (resource for resource in run.resources if resource.type == "pulumi:providers:aws")
    assert (provider.inputs["region"], provider.inputs["profile"]) == ("eu-central-1", "work")
    assert int(provider.inputs["maxRetries"]) < 25, "as many as the provider's own hide that there is no capacity"
    assert {resource.request.provider for resource in run.of_aws} == {f"{provider.urn}::aws-id"}
    assert {resource.request.parent for resource in run.of_aws} == {run.one("Host").urn}


def test_without_a_profile_aws_finds_credentials_its_own_way() -> None:
    assert "profile" not in made(HOST).one("aws").inputs


@both
def test_whatever_can_bear_tags_bears_them(args: Ec2HostArgs) -> None:
    run = made(args)
    without = sorted(resource.kind for resource in run.of_aws if not takes_tags(resource))
    assert without == ([] if args.vpc_id else ["Route", "RouteTableAssociation"])
    expected = {
        "mlops-env:id": args.identity,
        "mlops-env:environment": args.environment,
        "mlops-env:owner": "me@laptop",
        "Name": "mlops-env-tests-6f1c0e0a",
    }
    for resource in run.of_aws:
        if takes_tags(resource):
            assert resource.inputs["tags"] == expected, resource.kind
    assert run.one("Instance").inputs["volumeTags"] == expected


def test_what_aws_knows_by_name_is_named_after_the_environment_and_its_identity() -> None:
    run, name = made(HOST), tags.physical_name(HOST.environment, HOST.identity)
    assert run.one("SecurityGroup").inputs["name"] == run.one("KeyPair").inputs["keyName"] == name
    other = dataclasses.replace(HOST, identity=str(uuid.UUID(int=7)))
    assert made(other).one("KeyPair").inputs["keyName"] != name


@both
def test_nothing_comes_in_but_ssh_from_one_address(args: Ec2HostArgs) -> None:
    run = made(args)
    group = run.one("SecurityGroup")
    rule = run.one("SecurityGroupIngressRule").inputs
    opened = {key: rule[key] for key in rule if key not in {"tags", "securityGroupId"}}
    assert opened == {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22, "cidrIpv4": "203.0.113.7/32"}
    assert not {"ingress", "egress"} & group.inputs.keys()
    assert run.one("Instance").inputs["vpcSecurityGroupIds"] == ["host-firewall-id"] == [rule["securityGroupId"]]


def test_everything_goes_out() -> None:
    rule = made(HOST).one("SecurityGroupEgressRule").inputs
    assert (rule["ipProtocol"], rule["cidrIpv4"]) == ("-1", "0.0.0.0/0")


@both
def test_the_metadata_service_wants_tokens_and_answers_no_container(args: Ec2HostArgs) -> None:
    options = made(args).one("Instance").inputs["metadataOptions"]
    assert options == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}


@both
def test_the_disk_is_encrypted_and_goes_with_the_instance(args: Ec2HostArgs) -> None:
    disk = made(dataclasses.replace(args, disk_gb=50)).one("Instance").inputs["rootBlockDevice"]
    assert disk == {"volumeType": "gp3", "volumeSize": 50, "encrypted": True, "deleteOnTermination": True}


@both
def test_the_host_has_no_role(args: Ec2HostArgs) -> None:
    run = made(args)
    assert "iamInstanceProfile" not in run.one("Instance").inputs
    assert not [resource.type for resource in run.resources if resource.type.startswith("aws:iam")]


@both
def test_user_data_is_nowhere_in_clear(args: Ec2HostArgs) -> None:
    run = made(args)
    instance = run.one("Instance")
    assert monitor.is_secret(instance.inputs["userData"])
    assert instance.inputs["userData"]["value"] == args.user_data
    assert set(instance.request.additionalSecretOutputs) == {"userData", "userDataBase64"}
    everything = [monitor.in_clear(resource.inputs) for resource in run.resources] + [monitor.in_clear(run.outputs)]
    assert "not for everybody" not in json.dumps(everything)
    assert "not for everybody" not in repr(args)


@pytest.mark.parametrize("behaviour", ["stop", "terminate"])
def test_what_becomes_of_a_host_that_powers_itself_off(behaviour: str) -> None:
    instance = made(dataclasses.replace(HOST, on_shutdown=behaviour)).one("Instance")
    assert instance.inputs["instanceInitiatedShutdownBehavior"] == behaviour


def test_the_next_zone_has_another_subnet_of_the_same_network() -> None:
    zones = [dataclasses.replace(HOST, zone=zone, subnet_index=index) for index, zone in enumerate("abc")]
    subnets = [made(args).one("Subnet").inputs for args in zones]
    assert [(subnet["availabilityZone"], subnet["cidrBlock"]) for subnet in subnets] == [
        ("a", "10.77.0.0/24"),
        ("b", "10.77.1.0/24"),
        ("c", "10.77.2.0/24"),
    ]
    assert all(subnet["vpcId"] == "host-vpc-id" for subnet in subnets)


def test_without_a_zone_aws_chooses_one() -> None:
    assert "availabilityZone" not in made(HOST).one("Subnet").inputs


@both
def test_no_drift_replaces_or_stops_a_host(args: Ec2HostArgs) -> None:
    run = made(args)
    settled = {"ami", "subnetId", "keyName", "userData", "associatePublicIpAddress"}
    assert set(run.one("Instance").request.ignoreChanges) == settled
    assert settled <= run.one("Instance").inputs.keys()
    assert set(run.one("KeyPair").request.ignoreChanges) == {"publicKey"}
    assert not [resource.kind for resource in run.resources if resource.request.protect]


def test_an_instance_boots_with_its_way_out_and_ends_before_it() -> None:
    run = made(HOST)
    needed = {run.one(kind).urn for kind in ("Route", "RouteTableAssociation", *THE_HOST[2:])}
    assert needed <= set(run.one("Instance").request.dependencies)


@both
def test_the_stack_says_what_later_commands_need(args: Ec2HostArgs) -> None:
    assert made(args).outputs == {
        "instance_id": "host-instance-id",
        "public_ip": "198.51.100.9",
        "security_group_id": "host-firewall-id",
        "ingress_rule_id": "host-ssh-id",
        "key_name": "mlops-env-tests-6f1c0e0a",
        "zone": "eu-central-1c",
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"allowed_cidr": "0.0.0.0/0"}, "allowed_cidr is '0.0.0.0/0'"),
        ({"allowed_cidr": "203.0.113.0/24"}, "not one IPv4 address"),
        ({"allowed_cidr": "203.0.113.7"}, "not one IPv4 address"),
        ({"allowed_cidr": "2001:db8::1/32"}, "not one IPv4 address"),
        ({"disk_gb": 29}, "disk_gb is 29, less than 30"),
        ({"on_shutdown": "hibernate"}, "on_shutdown is 'hibernate'"),
        ({"identity": "mine"}, "identity is 'mine', not a UUID"),
        ({"vpc_id": "vpc-1"}, "vpc_id and subnet_id go together"),
        ({"subnet_id": "subnet-1"}, "vpc_id and subnet_id go together"),
        ({"subnet_index": 256}, "subnet_index is 256"),
        ({"user_data": "#" * 16_385}, "user_data has 16385 bytes"),
        ({"ami": "", "region": ""}, "region is empty; ami is empty"),
    ],
)
def test_what_makes_no_host_is_refused(changes: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        dataclasses.replace(HOST, **changes)


def by_hand(config: Mapping[str, str]) -> monitor.Run:
    whole = {f"{PROJECT['name']}:{key}": value for key, value in config.items()}
    return monitor.run(lambda: _executed(ROOT / PROJECT["main"]), whole)


def _executed(main: Path) -> None:
    runpy.run_path(str(main), run_name="__main__")


def configuration() -> dict[str, str]:
    """What a person sets, and the defaults that `pulumi` adds to it."""
    return DEFAULTS | {
        "identity": HOST.identity,
        "owner": HOST.owner,
        "region": HOST.region,
        "ami": HOST.ami,
        "publicKey": HOST.public_key,
        "allowedCidr": HOST.allowed_cidr,
    }


def test_a_person_sets_what_has_no_default() -> None:
    assert configuration().keys() == PROJECT["config"].keys()


def test_by_hand_the_same_is_made() -> None:
    def told(run: monitor.Run) -> list[tuple[str, dict[str, Any]]]:
        return sorted((resource.urn, {**resource.inputs, "userData": None}) for resource in run.resources)

    run = by_hand(configuration())
    assert told(run) == told(made(HOST))
    assert run.outputs == made(HOST).outputs
    assert monitor.is_secret(run.one("Instance").inputs["userData"])


def test_every_setting_counts() -> None:
    changed = {
        "zone": "eu-central-1b",
        "instanceType": "m7i.large",
        "diskGb": "64",
        "onShutdown": "terminate",
        "profile": "work",
        "ttlHours": "2",
    }
    run = by_hand(configuration() | changed)
    instance = run.one("Instance").inputs
    assert run.one("Subnet").inputs["availabilityZone"] == "eu-central-1b"
    assert run.one("aws").inputs["profile"] == "work"
    assert instance["instanceType"] == "m7i.large"
    assert instance["rootBlockDevice"]["volumeSize"] == 64
    assert instance["instanceInitiatedShutdownBehavior"] == "terminate"
    assert ["/usr/local/sbin/mlops-env-deadline", "arm", "7200"] in first_boot(run)["runcmd"]
    assert kinds(by_hand(configuration() | {"vpcId": "vpc-1", "subnetId": "subnet-1"})) == sorted(THE_HOST)


def first_boot(run: monitor.Run) -> Any:
    return yaml.safe_load(run.one("Instance").inputs["userData"]["value"])


def test_a_host_without_a_lifetime_is_not_armed() -> None:
    commands = first_boot(by_hand(configuration() | {"ttlHours": "0"}))["runcmd"]
    assert not [command for command in commands if "arm" in command]


@pytest.mark.parametrize("key", PROJECT["config"])
def test_a_missing_setting_is_named(key: str) -> None:
    config = configuration()
    del config[key]
    with pytest.raises(pulumi.RunError, match=f"'mlops-env:{key}'"):
        by_hand(config)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"allowedCidr": "0.0.0.0/0"}, "the configuration makes no host: allowed_cidr is '0.0.0.0/0'"),
        ({"diskGb": "big"}, "'mlops-env:diskGb'"),
        ({"target": "moon"}, "mlops-env:target is 'moon'"),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence(changes: Mapping[str, str], problem: str) -> None:
    with pytest.raises(pulumi.RunError, match=problem):
        by_hand({**configuration(), **changes})


def test_defaults_by_hand_are_those_of_the_program() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(Ec2HostArgs)}
    assert DEFAULTS["diskGb"] == str(fields["disk_gb"])
    assert DEFAULTS["onShutdown"] == fields["on_shutdown"]
