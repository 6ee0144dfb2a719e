"""The provider of the sandbox, asked as engines ask it, about resources on moto."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf import empty_pb2
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.internet_gateways import InternetGatewayBackend
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.models.vpcs import VPCBackend
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2
from werkzeug.exceptions import HTTPException

from mlops_env.sandbox import provider_kind
from mlops_env.sandbox.provider import KINDS, serve
from mlops_env.sandbox.wire import UNKNOWN, Values, decode, encode, is_secret, plain, secret

from .stacks import KEYS, USER_DATA, empty, is_alive, moto, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

INSTANCE = "aws:ec2/instance:Instance"
VPC = "aws:ec2/vpc:Vpc"
GROUP = "aws:ec2/securityGroup:SecurityGroup"
INGRESS = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
KEY = "aws:ec2/keyPair:KeyPair"
TAGS = {"mlops-env:id": "5d1a", "Name": "rehearsal"}


class Asker:
    """An engine's side of the protocol, for one resource at a time."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub
        stub.Configure(provider_pb2.ConfigureRequest(args=encode({"region": "us-east-1"})))

    def check(self, type_: str, inputs: Values) -> Any:
        return self.stub.Check(provider_pb2.CheckRequest(urn=urn(type_), type=type_, news=encode(inputs)))

    def create(self, type_: str, inputs: Values, *, preview: bool = False) -> tuple[str, Values]:
        checked = self.check(type_, inputs)
        assert not checked.failures
        request = provider_pb2.CreateRequest(urn=urn(type_), type=type_, properties=checked.inputs, preview=preview)
        response = self.stub.Create(request)
        return response.id, decode(response.properties)

    def read(self, type_: str, id_: str, inputs: Values, outputs: Values) -> tuple[str, Values, Values]:
        request = provider_pb2.ReadRequest(
            id=id_, urn=urn(type_), type=type_, inputs=encode(inputs), properties=encode(outputs)
        )
        response = self.stub.Read(request)
        return response.id, decode(response.inputs), decode(response.properties)

    def diff(self, type_: str, old: Values, new: Values, *ignored: str, outputs: Values | None = None) -> Any:
        request = provider_pb2.DiffRequest(
            id="x",
            urn=urn(type_),
            type=type_,
            old_inputs=encode(old),
            news=encode(new),
            olds=encode({"id": "x"} if outputs is None else outputs),
            ignoreChanges=ignored,
        )
        return self.stub.Diff(request)

    def update(self, type_: str, id_: str, old: Values, new: Values, outputs: Values) -> Values:
        request = provider_pb2.UpdateRequest(
            id=id_, urn=urn(type_), type=type_, old_inputs=encode(old), news=encode(new), olds=encode(outputs)
        )
        return decode(self.stub.Update(request).properties)

    def delete(self, type_: str, id_: str, outputs: Values) -> None:
        request = provider_pb2.DeleteRequest(id=id_, urn=urn(type_), type=type_, properties=encode(outputs))
        self.stub.Delete(request)

    def refused(self) -> AbstractContextManager[pytest.ExceptionInfo[grpc.RpcError]]:
        return pytest.raises(grpc.RpcError)


def urn(type_: str) -> str:
    return f"urn:pulumi:dev::rehearsal::rehearsal:net:Network${type_}::it"


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    with moto() as variables:
        yield variables


@pytest.fixture(scope="module")
def ec2(aws: dict[str, str]) -> Any:
    """AWS as it is seen by others. It is not emptied between tests: they look at what they made."""
    return empty(aws)


@pytest.fixture(scope="module")
def channel(aws: dict[str, str]) -> Iterator[grpc.Channel]:
    server, port = serve(aws)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    server.stop(None).wait()


@pytest.fixture
def ask(channel: grpc.Channel) -> Asker:
    return Asker(provider_pb2_grpc.ResourceProviderStub(channel))


@pytest.fixture
def vpc(ask: Asker) -> str:
    return ask.create(VPC, {"cidrBlock": "10.77.0.0/16"})[0]


@pytest.fixture
def group(ask: Asker, vpc: str) -> str:
    return ask.create(GROUP, {"name": "rehearsal", "vpcId": vpc, "tags": TAGS})[0]


@pytest.fixture
def subnet(ask: Asker, vpc: str) -> str:
    return ask.create("aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.77.0.0/24"})[0]


@pytest.fixture
def instance_inputs(subnet: str, group: str) -> Values:
    return {
        "ami": "ami-11111111",
        "instanceType": "t3.large",
        "subnetId": subnet,
        "vpcSecurityGroupIds": [group],
        "associatePublicIpAddress": True,
        "userData": secret(USER_DATA),
        "instanceInitiatedShutdownBehavior": "stop",
        "metadataOptions": {"httpTokens": "required", "httpEndpoint": "enabled", "httpPutResponseHopLimit": 1},
        "rootBlockDevice": {"volumeType": "gp3", "volumeSize": 30, "encrypted": True, "deleteOnTermination": True},
        "tags": TAGS,
        "volumeTags": TAGS,
    }


# Every kind, from its creation to its end: what it needs, made first, then its own inputs, and how its id begins


def _nothing(_ask: Asker, vpc: str) -> Values:
    return {"vpcId": vpc}


def _group(ask: Asker, vpc: str) -> Values:
    return {"securityGroupId": ask.create(GROUP, {"name": "others", "vpcId": vpc})[0]}


def _table(ask: Asker, vpc: str) -> Values:
    return {"routeTableId": ask.create("aws:ec2/routeTable:RouteTable", {"vpcId": vpc})[0]}


def _table_and_gateway(ask: Asker, vpc: str) -> Values:
    gateway = ask.create("aws:ec2/internetGateway:InternetGateway", {"vpcId": vpc})[0]
    return {**_table(ask, vpc), "gatewayId": gateway}


def _table_and_subnet(ask: Asker, vpc: str) -> Values:
    subnet = ask.create("aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.77.0.0/24"})[0]
    return {**_table(ask, vpc), "subnetId": subnet}


CASES: dict[str, tuple[Callable[[Asker, str], Values], Values, str]] = {
    VPC: (lambda *_: {}, {"cidrBlock": "10.78.0.0/16", "enableDnsHostnames": True, "tags": TAGS}, "vpc-"),
    "aws:ec2/internetGateway:InternetGateway": (_nothing, {"tags": TAGS}, "igw-"),
    "aws:ec2/subnet:Subnet": (
        _nothing,
        {"cidrBlock": "10.77.1.0/24", "availabilityZone": "us-east-1c", "mapPublicIpOnLaunch": True, "tags": TAGS},
        "subnet-",
    ),
    "aws:ec2/routeTable:RouteTable": (_nothing, {"tags": TAGS}, "rtb-"),
    "aws:ec2/route:Route": (_table_and_gateway, {"destinationCidrBlock": "0.0.0.0/0"}, "r-rtb-"),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": (_table_and_subnet, {}, "rtbassoc-"),
    GROUP: (_nothing, {"name": "rehearsal", "description": "ssh", "tags": TAGS}, "sg-"),
    INGRESS: (
        _group,
        {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22, "cidrIpv4": "203.0.113.7/32", "tags": TAGS},
        "sgr-",
    ),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": (
        _group,
        {"ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0", "tags": TAGS},
        "sgr-",
    ),
    KEY: (lambda *_: {}, {"keyName": "rehearsal", "publicKey": KEYS[0], "tags": TAGS}, "rehearsal"),
}


def test_every_kind_has_its_case() -> None:
    assert {*CASES, INSTANCE} == set(KINDS)


@pytest.mark.parametrize("type_", CASES)
def test_a_resource_is_made_found_and_removed(ask: Asker, vpc: str, type_: str) -> None:
    others, given, prefix = CASES[type_]
    inputs = {**others(ask, vpc), **given}
    id_, outputs = ask.create(type_, inputs)
    assert id_.startswith(prefix)
    assert outputs["id"] == id_
    assert {key: outputs[key] for key in inputs} == inputs
    found, seen, known = ask.read(type_, id_, inputs, outputs)
    assert found == id_
    assert seen == inputs, "what AWS says is what was asked for"
    assert ask.diff(type_, seen, inputs, outputs=known).changes == provider_pb2.DiffResponse.DIFF_NONE
    ask.delete(type_, id_, outputs)
    assert ask.read(type_, id_, inputs, outputs)[0] == ""
    ask.delete(type_, id_, outputs)  # what is gone already is gone


@pytest.mark.parametrize("type_", [case for case, (_, given, _) in CASES.items() if "tags" in given])
def test_tags_change_in_place(ask: Asker, vpc: str, type_: str) -> None:
    others, given, _ = CASES[type_]
    old = {**others(ask, vpc), **given}
    new = {**old, "tags": {"mlops-env:id": "5d1a", "mlops-env:owner": "me@here"}}
    id_, outputs = ask.create(type_, old)
    assert list(ask.diff(type_, old, new).replaces) == []
    outputs = ask.update(type_, id_, old, new, outputs)
    assert ask.read(type_, id_, old, outputs)[1]["tags"] == new["tags"]
    ask.delete(type_, id_, outputs)


def vpcs(ec2: Any) -> set[str]:
    return {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]}


def test_a_preview_tells_what_is_not_known_yet_and_calls_nobody(ask: Asker, ec2: Any) -> None:
    before = vpcs(ec2)
    id_, outputs = ask.create(VPC, {"cidrBlock": "10.77.0.0/16"}, preview=True)
    assert id_ == ""
    assert outputs["ownerId"] == outputs["id"] == UNKNOWN
    assert vpcs(ec2) == before


def test_inputs_are_checked(ask: Asker) -> None:
    failures = {one.property: one.reason for one in ask.check(VPC, {"isDefault": True}).failures}
    assert failures == {
        "cidrBlock": "Missing required argument: cidrBlock",
        "isDefault": "the sandbox's provider has no property 'isDefault' here",
    }
    assert decode(ask.check(GROUP, {"name": "a", "vpcId": UNKNOWN}).inputs)["description"] == "Managed by Pulumi"


def test_a_type_that_it_does_not_have(ask: Asker) -> None:
    with ask.refused() as error:
        ask.check("aws:s3/bucket:Bucket", {})
    assert "no type 'aws:s3/bucket:Bucket'" in str(error.value.details())


@pytest.mark.parametrize(
    ("type_", "change", "replaces", "first"),
    [
        (VPC, {"cidrBlock": "10.80.0.0/16"}, ["cidrBlock"], False),
        ("aws:ec2/subnet:Subnet", {"availabilityZone": "us-east-1a"}, ["availabilityZone"], False),
        ("aws:ec2/subnet:Subnet", {"mapPublicIpOnLaunch": False}, [], False),
        (GROUP, {"description": "other"}, ["description"], True),
        (KEY, {"publicKey": KEYS[1]}, ["publicKey"], True),
        (INGRESS, {"cidrIpv4": "198.51.100.9/32"}, [], False),
        (INSTANCE, {"ami": "ami-22222222"}, ["ami"], False),
        (INSTANCE, {"instanceType": "t3.small"}, [], False),
        (INSTANCE, {"userData": "other"}, [], False),
        (INSTANCE, {"userData": "other", "userDataReplaceOnChange": True}, ["userData"], False),
        (INSTANCE, {"rootBlockDevice": {"encrypted": False}}, ["rootBlockDevice"], False),
        (INSTANCE, {"rootBlockDevice": {"encrypted": True, "volumeSize": 40}}, [], False),
    ],
)
def test_which_changes_take_a_new_resource(
    ask: Asker, type_: str, change: Values, replaces: list[str], first: bool
) -> None:
    old = (
        {"ami": "a", "rootBlockDevice": {"encrypted": True, "volumeSize": 30}} if type_ == INSTANCE else CASES[type_][1]
    )
    diff = ask.diff(type_, old, {**old, **change})
    assert diff.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert set(diff.diffs) == set(change)
    assert list(diff.replaces) == replaces
    assert diff.deleteBeforeReplace == first
    ignored = ask.diff(type_, old, {**old, **change}, *change)
    assert ignored.changes == provider_pb2.DiffResponse.DIFF_NONE


def test_what_is_secret_or_unknown_is_compared_all_the_same(ask: Asker) -> None:
    old = {"userData": USER_DATA}
    assert ask.diff(INSTANCE, old, {"userData": secret(USER_DATA)}).changes == provider_pb2.DiffResponse.DIFF_NONE
    assert list(ask.diff(KEY, {"keyName": "a"}, {"keyName": UNKNOWN}).replaces) == ["keyName"]


# The host


def _disk(ec2: Any, instance: str) -> Any:
    [volume] = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance]}])["Volumes"]
    return volume


def test_an_instance_is_what_was_asked_for(
    ask: Asker, ec2: Any, instance_inputs: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count(monkeypatch, InstanceBackend, "run_instances")
    id_, outputs = ask.create(INSTANCE, instance_inputs)
    [instance] = ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"]
    assert instance["State"]["Name"] == outputs["instanceState"] == "running"
    assert instance["PublicIpAddress"] == outputs["publicIp"]
    assert instance["Placement"]["AvailabilityZone"] == outputs["availabilityZone"]
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert instance["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    volume = _disk(ec2, id_)
    assert (volume["Encrypted"], volume["Size"], volume["VolumeType"]) == (True, 30, "gp3")
    for thing in (instance, volume):
        assert {tag["Key"]: tag["Value"] for tag in thing["Tags"]} == TAGS
    [call] = calls
    assert call["tags"]["network-interface"] == TAGS, "moto takes these tags, and shows them to nobody"
    behaviour = ec2.describe_instance_attribute(InstanceId=id_, Attribute="instanceInitiatedShutdownBehavior")
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "stop"


def test_user_data_is_a_secret_wherever_it_is_seen(ask: Asker, instance_inputs: Values) -> None:
    open_inputs = {**instance_inputs, "userData": USER_DATA}
    id_, outputs = ask.create(INSTANCE, open_inputs)
    assert is_secret(outputs["userData"])
    assert is_secret(ask.read(INSTANCE, id_, open_inputs, outputs)[2]["userData"])
    assert plain(outputs["userData"]) == USER_DATA


def test_an_instance_changes_its_type_while_it_is_stopped(ask: Asker, ec2: Any, instance_inputs: Values) -> None:
    id_, outputs = ask.create(INSTANCE, instance_inputs)
    new = {**instance_inputs, "instanceType": "t3.small", "volumeTags": {"Name": "other"}}
    new["rootBlockDevice"] = {**instance_inputs["rootBlockDevice"], "volumeSize": 50}
    outputs = ask.update(INSTANCE, id_, instance_inputs, new, outputs)
    [instance] = ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"]
    assert instance["InstanceType"] == "t3.small"
    assert instance["State"]["Name"] == "running"
    assert outputs["publicIp"] == instance["PublicIpAddress"], "the address is another one after a stop"
    volume = _disk(ec2, id_)
    assert volume["Size"] == 50
    assert volume["Tags"] == [{"Key": "Name", "Value": "other"}]


def test_a_terminated_instance_is_gone(ask: Asker, ec2: Any, instance_inputs: Values) -> None:
    id_, outputs = ask.create(INSTANCE, instance_inputs)
    ask.delete(INSTANCE, id_, outputs)
    [instance] = ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"]
    assert instance["State"]["Name"] == "terminated"
    assert ask.read(INSTANCE, id_, instance_inputs, outputs)[0] == ""


def test_a_stopped_instance_is_no_change(ask: Asker, ec2: Any, instance_inputs: Values) -> None:
    id_, outputs = ask.create(INSTANCE, instance_inputs)
    ec2.stop_instances(InstanceIds=[id_])
    found, seen, known = ask.read(INSTANCE, id_, instance_inputs, outputs)
    assert found == id_
    assert known["publicIp"] == ""
    assert ask.diff(INSTANCE, seen, instance_inputs, outputs=known).changes == provider_pb2.DiffResponse.DIFF_NONE


# What AWS does on bad days


def count(monkeypatch: pytest.MonkeyPatch, backend: Any, name: str, *failures: Exception) -> list[dict[str, Any]]:
    """Have the first calls of a moto backend's method fail; the list grows with each call, by its arguments."""
    calls: list[dict[str, Any]] = []
    original = getattr(backend, name)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        if len(calls) <= len(failures):
            raise failures[len(calls) - 1]
        return original(self, *args, **kwargs)

    monkeypatch.setattr(backend, name, call)
    return calls


def aws_error(code: str, status: int = 400) -> Exception:
    error = f"<Error><Code>{code}</Code><Message>AWS says {code}</Message></Error>"
    answer = HTTPException(f"<Response><Errors>{error}</Errors><RequestID>1</RequestID></Response>")
    answer.code = status
    return answer


def test_no_capacity_is_told_in_aws_words_and_not_tried_again(
    ask: Asker, ec2: Any, instance_inputs: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count(monkeypatch, InstanceBackend, "run_instances", *[aws_error("InsufficientInstanceCapacity", 500)] * 9)
    with ask.refused() as error:
        ask.create(INSTANCE, instance_inputs)
    assert len(calls) == 1
    assert str(error.value.details()) == (
        "An error occurred (InsufficientInstanceCapacity) when calling the RunInstances operation: "
        "AWS says InsufficientInstanceCapacity"
    )
    there = [{"Name": "subnet-id", "Values": [instance_inputs["subnetId"]]}]
    assert ec2.describe_instances(Filters=there)["Reservations"] == []


def test_throttling_is_waited_out(ask: Asker, instance_inputs: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count(monkeypatch, InstanceBackend, "run_instances", *[aws_error("RequestLimitExceeded", 503)] * 2)
    assert ask.create(INSTANCE, instance_inputs)[0].startswith("i-")
    assert len(calls) == 3


def test_a_new_id_that_aws_does_not_show_yet(ask: Asker, vpc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, unknown = InternetGatewayBackend, aws_error("InvalidInternetGatewayID.NotFound")
    looks = count(monkeypatch, backend, "describe_internet_gateways", *[unknown] * 3)
    id_, outputs = ask.create("aws:ec2/internetGateway:InternetGateway", {"vpcId": vpc})
    assert id_ == outputs["id"]
    assert len(looks) >= 4


def test_what_is_made_and_fails_then_is_reported_with_its_id(
    ask: Asker, ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"cidrBlock": "10.77.0.0/16", "enableDnsHostnames": True}
    before = vpcs(ec2)
    count(monkeypatch, VPCBackend, "modify_vpc_attribute", aws_error("UnauthorizedOperation", 403))
    with ask.refused() as error:
        ask.create(VPC, inputs)
    [made] = vpcs(ec2) - before
    trailers: Any = error.value.trailing_metadata()
    details = dict(trailers)["grpc-status-details-bin"]
    failed = provider_pb2.ErrorResourceInitFailed()
    assert status_pb2.Status.FromString(details).details[0].Unpack(failed)
    assert failed.id == made
    assert "(UnauthorizedOperation)" in failed.reasons[0]
    outputs = decode(failed.properties)
    assert ask.diff(VPC, inputs, inputs, outputs=outputs).changes == provider_pb2.DiffResponse.DIFF_SOME
    assert ask.update(VPC, made, inputs, inputs, outputs)["id"] == made
    names = ec2.describe_vpc_attribute(VpcId=made, Attribute="enableDnsHostnames")
    assert names["EnableDnsHostnames"]["Value"]


def test_what_another_thing_still_uses_is_waited_for(
    ask: Asker, ec2: Any, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count(monkeypatch, SecurityGroupBackend, "delete_security_group", *[aws_error("DependencyViolation")] * 3)
    ask.delete(GROUP, group, {"id": group})
    assert len(calls) == 4
    assert group not in {one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]}


def test_but_not_for_ever(ask: Asker, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_kind, "FREE_SECONDS", 0.2)
    count(monkeypatch, SecurityGroupBackend, "delete_security_group", *[aws_error("DependencyViolation")] * 99)
    with ask.refused() as error:
        ask.delete(GROUP, group, {"id": group})
    assert "(DependencyViolation) when calling the DeleteSecurityGroup operation" in str(error.value.details())


# What a killed engine left half done, and `up` with a look at AWS finishes


def test_a_group_that_still_has_the_rule_by_aws(ask: Asker, ec2: Any, vpc: str) -> None:
    inputs = {"name": "rehearsal", "description": "d", "vpcId": vpc}
    id_ = ec2.create_security_group(GroupName="rehearsal", Description="d", VpcId=vpc)["GroupId"]
    _, seen, known = ask.read(GROUP, id_, inputs, {**inputs, "id": id_})
    assert ask.diff(GROUP, seen, inputs, outputs=known).changes == provider_pb2.DiffResponse.DIFF_SOME
    outputs = ask.update(GROUP, id_, seen, inputs, known)
    assert ask.diff(GROUP, seen, inputs, outputs=outputs).changes == provider_pb2.DiffResponse.DIFF_NONE
    of_group = [{"Name": "group-id", "Values": [id_]}]
    assert ec2.describe_security_group_rules(Filters=of_group)["SecurityGroupRules"] == []


def test_a_gateway_that_is_attached_to_nothing(ask: Asker, ec2: Any, vpc: str) -> None:
    type_, inputs = "aws:ec2/internetGateway:InternetGateway", {"vpcId": vpc}
    id_ = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    _, seen, known = ask.read(type_, id_, inputs, {**inputs, "id": id_})
    assert list(ask.diff(type_, seen, inputs, outputs=known).diffs) == ["vpcId"]
    ask.update(type_, id_, seen, inputs, known)
    assert ask.read(type_, id_, inputs, known)[1] == inputs


@pytest.mark.parametrize("name", ["enableDnsHostnames", "mapPublicIpOnLaunch"])
def test_an_attribute_that_was_never_set(ask: Asker, ec2: Any, vpc: str, name: str) -> None:
    if name == "enableDnsHostnames":
        type_, inputs, id_ = VPC, {"cidrBlock": "10.77.0.0/16", name: True}, vpc
    else:
        type_, inputs = "aws:ec2/subnet:Subnet", {"vpcId": vpc, "cidrBlock": "10.77.5.0/24", name: True}
        id_ = ec2.create_subnet(VpcId=vpc, CidrBlock="10.77.5.0/24")["Subnet"]["SubnetId"]
    _, seen, known = ask.read(type_, id_, inputs, {**inputs, "id": id_})
    assert list(ask.diff(type_, seen, inputs, outputs=known).diffs) == [name]
    ask.update(type_, id_, seen, inputs, known)
    assert ask.read(type_, id_, inputs, known)[1] == inputs


# As a plugin


def test_what_engines_ask_before_anything_else(ask: Asker) -> None:
    assert ask.stub.Handshake(provider_pb2.ProviderHandshakeRequest()).accept_secrets
    ask.stub.Attach(plugin_pb2.PluginAttach(address="127.0.0.1:1"))
    assert ask.stub.GetPluginInfo(empty_pb2.Empty()).version
    ask.stub.Cancel(empty_pb2.Empty())


def test_its_configuration(ask: Asker) -> None:
    given = encode({"region": "us-east-1", "maxRetries": "5", "skipRegionValidation": "true"})
    assert not ask.stub.CheckConfig(provider_pb2.CheckRequest(news=given)).failures
    [failure] = ask.stub.CheckConfig(provider_pb2.CheckRequest(news=encode({"assumeRoles": "[]"}))).failures
    assert failure.reason == "the sandbox's provider has no setting 'assumeRoles'"
    here, there = encode({"region": "us-east-1"}), encode({"region": "eu-west-1"})
    moved = ask.stub.DiffConfig(provider_pb2.DiffRequest(old_inputs=here, news=there))
    assert list(moved.replaces) == ["region"]


def test_it_works_in_the_region_that_it_is_told(ask: Asker) -> None:
    ask.stub.Configure(provider_pb2.ConfigureRequest(args=encode({"region": "eu-west-1"})))
    _, outputs = ask.create("aws:ec2/subnet:Subnet", {**_in_a_new_vpc(ask), "cidrBlock": "10.1.0.0/24"})
    assert outputs["availabilityZone"].startswith("eu-west-1")


def _in_a_new_vpc(ask: Asker) -> Values:
    return {"vpcId": ask.create(VPC, {"cidrBlock": "10.1.0.0/16"})[0]}


def test_nothing_of_the_users_own_settings_counts(aws: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_REGION", "mars-north-1")
    server, port = serve(aws)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        other = Asker(provider_pb2_grpc.ResourceProviderStub(opened))
        assert other.create(VPC, {"cidrBlock": "10.1.0.0/16"})[0].startswith("vpc-")
    server.stop(None).wait()


def test_as_a_process_it_says_its_port_and_ends_with_its_parent(aws: dict[str, str]) -> None:
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, *{['-m', 'mlops_env.sandbox.provider']!r}])"
    parent = subprocess.Popen(
        [sys.executable, "-c", launcher], env={**os.environ, **aws}, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    with parent.stdout:
        port = int(parent.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        stub = provider_pb2_grpc.ResourceProviderStub(opened)
        assert stub.GetPluginInfo(empty_pb2.Empty()).version
        [child] = _children(parent.pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not is_alive(child))


def _children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415 - for this test alone

    return [child.pid for child in psutil.Process(pid).children()]
