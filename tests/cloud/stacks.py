"""Stacks of raw resources on moto, provisioned by either engine through the Automation API."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import threading
import time
import urllib.request
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pulumi
import pulumi.automation as auto
import pytest
from pulumi.runtime.proto import provider_pb2_grpc

from mlops_env.sandbox.provider import Provider
from mlops_env.sandbox.provider_client import Clients

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

PROJECT = "rehearsal"
PASSPHRASE = "correct horse battery staple"  # noqa: S105 - of states in temporary directories
USER_DATA = "#cloud-config\n# PRIVATE-KEY-OF-THE-HOST\n"
KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0iYxwHn1Ci4Zf2e3Wm6zH7zHxPz1bM0l0xK1mE3b0S one@test",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlwbXbTZ6hxOMUnAtmRXMj0CpVcVhZqQpVdXrqbS0nq two@test",
)
PATIENCE = 30.0

_WORLDS = itertools.count()


class Held(Provider):
    """Our provider, which can be held in the middle of a call: after AWS made it, before the engine learns of it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(variables)
        self.hold = ""
        """What to hold: "Create aws:ec2/instance:Instance"; that is on AWS by then."""
        self.reached = threading.Event()
        self.released = threading.Event()

    def _wait(self, method: str, request: Any) -> None:
        if self.hold == f"{method} {request.type}":
            self.reached.set()
            assert self.released.wait(PATIENCE), "the test never released the call"

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        response = super().Create(request, context)
        self._wait("Create", request)
        return response

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802 - as above
        response = super().Delete(request, context)
        self._wait("Delete", request)
        return response


@dataclass
class Wish:
    """What the program is to make; tests change it between two runs."""

    cidr: str = "203.0.113.7/32"
    instance_type: str = "t3.large"
    ami: str = "ami-11111111"
    public_key: str = KEYS[0]
    subnet: str = "10.77.0.0/24"
    has_rule: bool = True
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of the instance."""
    fails: bool = False


@dataclass(frozen=True)
class World:
    """One AWS, one provider, one engine, one stack."""

    ec2: Any
    provider: Held
    stack: auto.Stack
    state: Path
    wish: Wish
    events: list[Any]

    def up(self, **options: Any) -> auto.UpResult:
        self.events.clear()
        return self.stack.up(on_event=self.events.append, **options)

    def destroy(self) -> auto.DestroyResult:
        self.events.clear()
        return self.stack.destroy(on_event=self.events.append)

    @staticmethod
    def changes(result: Any) -> dict[str, int]:
        """How many resources what was done to."""
        return dict(result.summary.resource_changes)

    def ops(self, name: str) -> list[str]:
        """What was done to a resource, in order."""
        done = [event.res_outputs_event.metadata for event in self.events if event.res_outputs_event]
        return [step.op.value for step in done if step.urn.endswith(f"::{name}")]

    def diagnostics(self, severity: str = "error") -> list[tuple[str, str]]:
        """By the name of the resource that they are about, without the colours' marks."""
        found = [event.diagnostic_event for event in self.events if event.diagnostic_event]
        return [
            ((one.urn or "").rpartition("::")[2], one.message.replace("<{%reset%}>", "").strip())
            for one in found
            if one.severity == severity
        ]

    def deployment(self) -> dict[str, Any]:
        """As it is on disk."""
        checkpoint = json.loads(self.checkpoint.read_text())
        return dict(checkpoint["checkpoint"]["latest"])

    @property
    def checkpoint(self) -> Path:
        return self.state / ".pulumi" / "stacks" / PROJECT / f"{self.stack.name}.json"

    def ids(self) -> dict[str, str]:
        return {one["urn"]: one["id"] for one in self.deployment()["resources"] if "id" in one}

    def resource(self, name: str) -> dict[str, Any]:
        [found] = [one for one in self.deployment()["resources"] if one["urn"].endswith(f"::{name}")]
        return dict(found)

    @property
    def pending(self) -> list[str]:
        operations = self.deployment().get("pending_operations") or []
        return [f"{one['type']} {one['resource']['urn'].rpartition('::')[2]}" for one in operations]

    @property
    def is_at_rest(self) -> bool:
        """Nobody holds it, and nobody left anything unfinished."""
        return not self.locks and not self.pending

    @property
    def locks(self) -> list[dict[str, Any]]:
        directory = self.state / ".pulumi" / "locks" / "organization" / PROJECT / self.stack.name
        return [json.loads(lock.read_text()) for lock in directory.glob("*.json")]

    def instances(self) -> list[str]:
        """All that are not on their way out."""
        alive = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        found = self.ec2.describe_instances(Filters=alive)["Reservations"]
        return [one["InstanceId"] for reservation in found for one in reservation["Instances"]]

    def rules(self) -> list[str]:
        found = self.ec2.describe_security_group_rules()["SecurityGroupRules"]
        return [rule["CidrIpv4"] for rule in found if not rule["IsEgress"] and rule.get("Tags")]

    def vpcs(self) -> list[str]:
        found = self.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["false"]}])["Vpcs"]
        return [vpc["VpcId"] for vpc in found]

    def engine_pid(self) -> int:
        """Of the process that works on the stack, by its lock."""
        return int(wait_until(lambda: self.locks)[0]["pid"])


class Background:
    """An operation in a thread of its own, held in the middle."""

    def __init__(self, world: World, operation: Callable[[], Any], hold: str) -> None:
        self._world = world
        self._result: Any = None
        self._error: BaseException | None = None
        world.provider.hold = hold
        self._thread = threading.Thread(target=self._run, args=(operation,))
        self._thread.start()
        assert world.provider.reached.wait(PATIENCE), f"{hold} never came"

    def _run(self, operation: Callable[[], Any]) -> None:
        try:
            self._result = operation()
        except BaseException as error:  # noqa: BLE001 - raised where the test asks for the result
            self._error = error

    def release(self) -> None:
        self._world.provider.hold = ""
        self._world.provider.released.set()

    def result(self) -> Any:
        self.release()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._error:
            raise self._error
        return self._result


def wait_until(ask: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)
    return answer


class AwsProvider(pulumi.ProviderResource):
    def __init__(self, name: str) -> None:
        super().__init__("aws", name, {"region": "us-east-1"})


def resource(token: str, name: str, properties: Mapping[str, Any], options: pulumi.ResourceOptions) -> Any:
    """A resource by its type's token: the SDK's own classes take a second to import."""
    return pulumi.CustomResource(f"aws:{token}", name, dict(properties), options)


class Network(pulumi.ComponentResource):
    subnet_id: pulumi.Output[str]

    def __init__(self, name: str, wish: Wish, options: pulumi.ResourceOptions) -> None:
        super().__init__("rehearsal:net:Network", name, None, options)
        child = pulumi.ResourceOptions(parent=self)
        vpc = resource("ec2/vpc:Vpc", "vpc", {"cidrBlock": "10.77.0.0/16", "enableDnsHostnames": True, **TAGS}, child)
        subnet = resource("ec2/subnet:Subnet", "subnet", {"vpcId": vpc.id, "cidrBlock": wish.subnet, **TAGS}, child)
        group = resource(
            "ec2/securityGroup:SecurityGroup", "group", {"name": "rehearsal", "vpcId": vpc.id, **TAGS}, child
        )
        if wish.has_rule:
            ssh = {"ipProtocol": "tcp", "fromPort": 22, "toPort": 22, "cidrIpv4": wish.cidr, **TAGS}
            rule = {"securityGroupId": group.id, **ssh}
            resource("vpc/securityGroupIngressRule:SecurityGroupIngressRule", "ssh", rule, child)
        self.subnet_id = subnet.id
        self.group_id = group.id
        self.register_outputs({"subnet": subnet.id})


TAGS = {"tags": {"mlops-env:id": "5d1a", "Name": "rehearsal"}}

RESOURCES = 9
"""The stack, its provider, the component, and six on AWS."""


def program(wish: Wish) -> Callable[[], None]:
    def make() -> None:
        provider = AwsProvider("aws")
        network = Network("network", wish, pulumi.ResourceOptions(providers=[provider]))
        ours = pulumi.ResourceOptions(provider=provider)
        pair = {"keyName": "rehearsal", "publicKey": wish.public_key, **TAGS}
        key = resource("ec2/keyPair:KeyPair", "key", {**pair, "fingerprint": None}, ours)
        if wish.fails:
            raise LookupError("the program itself is wrong")
        instance = resource(
            "ec2/instance:Instance",
            "host",
            {
                "ami": wish.ami,
                "instanceType": wish.instance_type,
                "subnetId": network.subnet_id,
                "vpcSecurityGroupIds": [network.group_id],
                "keyName": key.id,
                "userData": pulumi.Output.secret(USER_DATA),
                "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
                "rootBlockDevice": {"volumeType": "gp3", "volumeSize": 30, "encrypted": True},
                "instanceInitiatedShutdownBehavior": "stop",
                "volumeTags": TAGS["tags"],
                "privateIp": None,
                **TAGS,
            },
            pulumi.ResourceOptions.merge(ours, pulumi.ResourceOptions(**wish.options)),
        )
        pulumi.export("instance_id", instance.id)
        pulumi.export("address", instance.privateIp)
        pulumi.export("password", pulumi.Output.secret("swordfish"))

    return make


def make_stack(root: Path, directory: Path, port: int, run: Callable[[], None], **variables: str) -> auto.Stack:
    """A fresh stack in `directory`, worked on by the engine whose executable is `root/bin/pulumi`."""
    work, home, state = (directory / name for name in ("work", "home", "state"))
    for each in (work, home, state):
        each.mkdir(parents=True, exist_ok=True)
    environ = {
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_HOME": str(home),
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        "PULUMI_DEBUG_PROVIDERS": f"aws:{port}",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        **variables,
    }
    options = auto.LocalWorkspaceOptions(
        work_dir=str(work),
        env_vars=environ,
        secrets_provider="passphrase",
        pulumi_command=auto.PulumiCommand(str(root), skip_version_check=True),
    )
    return auto.create_or_select_stack(f"dev{next(_WORLDS)}", PROJECT, run, opts=options)


@contextlib.contextmanager
def moto() -> Iterator[dict[str, str]]:
    """An AWS in this process, empty; what a provider needs to reach it."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - a second

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1300 of them, two seconds
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
        }
        server.stop()


def empty(variables: Mapping[str, str]) -> Any:
    """Take everything from moto; a client to look at what comes."""
    reset = urllib.request.Request(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    return Clients(variables).ec2()


@contextlib.contextmanager
def served(provider: Provider) -> Iterator[int]:
    """The port at which engines find it."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
