"""What engines do when something fails."""

from __future__ import annotations

import pulumi
import pytest
from pulumi.automation.errors import (
    CommandError,
    InlineSourceRuntimeError,
)

from cloud.stacks import (
    RESOURCES,
    AwsProvider,
    World,
    resource,
)
from mlops_env.sandbox.provider_access import SecurityGroupRule
from mlops_env.sandbox.provider_instance import Instance
from mlops_env.sandbox.provider_kind import NotReady
from mlops_env.sandbox.provider_network import Vpc


def test_a_failure_in_the_middle_is_told_and_the_next_up_goes_on(world: World) -> None:
    world.wish.subnet = "10.99.0.0/24"
    with pytest.raises(CommandError) as error:
        world.up()
    assert type(error.value) is CommandError
    told = world.diagnostics()
    cause = "An error occurred (InvalidSubnet.Range) when calling the CreateSubnet operation"
    assert [name for name, message in told if message.startswith(cause)] == ["subnet"]
    assert told[-1] == ("", "update failed")
    assert [e.res_op_failed_event.metadata.urn.rpartition("::")[2] for e in world.events if e.res_op_failed_event] == [
        "subnet"
    ]
    assert world.is_at_rest
    assert world.instances() == []
    made = len(world.deployment()["resources"])
    assert 0 < made < RESOURCES
    [vpc] = world.vpcs()

    world.wish.subnet = "10.77.0.0/24"
    assert world.changes(world.up()) == {"same": made, "create": RESOURCES - made}
    assert world.vpcs() == [vpc]
    assert world.stack.history()[1].result == "failed"


def test_a_failed_change_leaves_the_old_state(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.up()
    world.wish.cidr = "203.0.113.8/32"
    with monkeypatch.context() as patch:
        patch.setattr(SecurityGroupRule, "change", _fail)
        with pytest.raises(CommandError, match="on strike"):
            world.up()
    assert world.resource("ssh")["inputs"]["cidrIpv4"] == "203.0.113.7/32"
    assert world.stack.outputs()["instance_id"].value == world.instances()[0]
    assert world.changes(world.up()) == {"same": RESOURCES - 1, "update": 1}


def test_a_failed_replacement_keeps_the_old_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.up()
    [old] = world.instances()
    world.wish.ami = "ami-22222222"
    monkeypatch.setattr(Instance, "create", _fail)
    with pytest.raises(CommandError, match="on strike"):
        world.up()
    assert world.instances() == [old] == [world.resource("host")["id"]]


def test_a_replacement_that_was_cut_off_after_the_deletion(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one is gone, the new one failed: the next run makes the new one, and deletes nothing twice."""
    world.wish.options = {"delete_before_replace": True}
    world.up()
    world.wish.ami = "ami-22222222"
    with monkeypatch.context() as patch:
        patch.setattr(Instance, "create", _fail)
        with pytest.raises(CommandError, match="on strike"):
            world.up()
    assert world.instances() == []
    assert world.resource("host")["pendingReplacement"]
    assert world.changes(world.up()) == {"same": RESOURCES - 1, "replace": 1}
    assert world.instances() == [world.resource("host")["id"]]


def test_what_was_made_and_failed_then_is_no_orphan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Vpc, "settle", _fail)
        with pytest.raises(CommandError, match="the network is on strike"):
            world.up()
    [vpc] = world.vpcs()
    state = world.resource("vpc")
    assert state["id"] == vpc
    assert state["initErrors"] == ["the network is on strike"]
    changes = world.changes(world.up())
    assert changes["update"] == 1
    assert sum(changes.values()) == RESOURCES
    assert world.vpcs() == [vpc]
    names = world.ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
    assert names["EnableDnsHostnames"]["Value"], "the second up did not finish what the first one left"


def _fail(*_: object) -> None:
    raise NotReady("the network is on strike")


def test_a_program_that_fails_deletes_nothing(world: World) -> None:
    world.up()
    world.wish.fails = True
    with pytest.raises(InlineSourceRuntimeError, match="the program itself is wrong"):
        world.up()
    assert len(world.instances()) == 1
    assert world.locks == []
    world.wish.fails = False
    assert world.changes(world.up()) == {"same": RESOURCES}


def test_inputs_that_the_provider_refuses(world: World) -> None:
    world.stack.workspace.program = _without_block
    with pytest.raises(CommandError, match="Missing required argument"):
        world.up()
    assert world.diagnostics()[0][0] == "vpc"
    assert world.vpcs() == []


def _without_block() -> None:
    resource("ec2/vpc:Vpc", "vpc", {}, pulumi.ResourceOptions(provider=AwsProvider("aws")))


def test_what_is_protected_is_not_deleted(world: World) -> None:
    world.wish.options = {"protect": True}
    world.up()
    with pytest.raises(CommandError, match="it is protected"):
        world.destroy()
    assert len(world.instances()) == 1
    world.wish.options = {}
    world.up()
    world.destroy()
    assert world.instances() == []


def test_a_provider_that_is_nowhere(world: World) -> None:
    variables = {k: v for k, v in world.stack.workspace.env_vars.items() if k != "PULUMI_DEBUG_PROVIDERS"}
    world.stack.workspace.env_vars = variables
    with pytest.raises(CommandError, match="no resource plugin 'pulumi-resource-aws' found"):
        world.up()
    assert world.locks == []
