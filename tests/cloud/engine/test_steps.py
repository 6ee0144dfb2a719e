"""What engines do with a stack when all goes well."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pulumi

from cloud.stacks import (
    KEYS,
    RESOURCES,
    USER_DATA,
    AwsProvider,
    Held,
    World,
    empty,
    make_stack,
    resource,
    served,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_up_makes_everything(world: World) -> None:
    result = world.up()
    assert world.changes(result) == {"create": RESOURCES}
    assert result.summary.kind == "update"
    assert result.summary.result == "succeeded"
    [instance] = world.instances()
    assert result.outputs["instance_id"].value == instance == world.resource("host")["id"]
    assert result.outputs["address"].value.startswith("10.77.0.")
    assert world.rules() == ["203.0.113.7/32"]
    assert world.is_at_rest


def test_events_tell_each_step_from_beginning_to_end(world: World) -> None:
    world.up()
    kinds = [
        next(name for name, value in vars(event).items() if name.endswith("_event") and value) for event in world.events
    ]
    assert kinds[0] == "prelude_event"
    assert kinds[-2:] == ["summary_event", "cancel_event"]
    for name in ("vpc", "subnet", "group", "ssh", "key", "host", "network"):
        begun = [e.resource_pre_event.metadata for e in world.events if e.resource_pre_event]
        assert [step.op.value for step in begun if step.urn.endswith(f"::{name}")] == ["create"]
        assert world.ops(name) == ["create"]
    [host] = [e.res_outputs_event.metadata.new for e in world.events if _is_about(e.res_outputs_event, "host")]
    assert host.id == world.resource("host")["id"]
    assert host.type == "aws:ec2/instance:Instance"
    assert "PRIVATE-KEY" not in json.dumps([host.inputs, host.outputs])
    sequences = [event.sequence for event in world.events]
    assert sequences == sorted(set(sequences))


def _is_about(event: Any, name: str) -> bool:
    return bool(event) and event.metadata.urn.endswith(f"::{name}")


def test_children_know_their_parents_and_what_they_depend_on(world: World) -> None:
    world.up()
    component, subnet = world.resource("network"), world.resource("subnet")
    assert subnet["parent"] == component["urn"]
    assert "::rehearsal:net:Network$aws:ec2/subnet:Subnet::subnet" in subnet["urn"]
    assert component["outputs"]["subnet"] == subnet["id"]
    assert world.resource("ssh")["propertyDependencies"]["securityGroupId"] == [world.resource("group")["urn"]]
    names = [one["urn"].rpartition("::")[2] for one in world.deployment()["resources"]]
    assert names.index("vpc") < names.index("subnet") < names.index("host")


def test_a_second_up_changes_nothing(world: World) -> None:
    world.up()
    before = world.ids()
    result = world.up()
    assert world.changes(result) == {"same": RESOURCES}
    assert world.ops("host") == ["same"]
    assert world.ids() == before


def test_what_can_change_in_place_keeps_its_id(world: World) -> None:
    world.up()
    [instance] = world.instances()
    world.wish.instance_type, world.wish.cidr = "t3.small", "198.51.100.9/32"
    result = world.up()
    assert world.changes(result) == {"same": RESOURCES - 2, "update": 2}
    assert world.instances() == [instance]
    found = world.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
    assert found["InstanceType"] == "t3.small"
    assert found["State"]["Name"] == "running"
    assert world.rules() == ["198.51.100.9/32"]


def test_changes_that_are_to_be_ignored_are(world: World) -> None:
    world.wish.options = {"ignore_changes": ["ami", "instanceType"]}
    world.up()
    world.wish.ami, world.wish.instance_type = "ami-22222222", "t3.small"
    assert world.changes(world.up()) == {"same": RESOURCES}
    assert world.resource("host")["inputs"]["ami"] == "ami-11111111"


def test_a_replacement_comes_before_the_old_one_goes(world: World) -> None:
    world.up()
    [old] = world.instances()
    world.wish.ami = "ami-22222222"
    result = world.up()
    assert world.changes(result) == {"same": RESOURCES - 1, "replace": 1}
    assert world.ops("host") == ["create-replacement", "replace", "delete-replaced"]
    [new] = world.instances()
    assert new == world.resource("host")["id"] != old
    assert result.outputs["instance_id"].value == new


def test_what_cannot_be_twice_goes_first_with_what_cannot_live_without_it(world: World) -> None:
    world.up()
    [old] = world.instances()
    world.wish.public_key = KEYS[1]
    result = world.up()
    assert world.changes(result) == {"same": RESOURCES - 2, "replace": 2}
    assert world.ops("key") == ["delete-replaced", "replace", "create-replacement"]
    assert world.ops("host") == ["delete-replaced", "replace", "create-replacement"]
    assert world.instances() == [world.resource("host")["id"]] != [old]
    assert len(world.ec2.describe_key_pairs()["KeyPairs"]) == 1


def test_what_leaves_the_program_is_deleted(world: World) -> None:
    world.up()
    world.wish.has_rule = False
    assert world.changes(world.up()) == {"same": RESOURCES - 1, "delete": 1}
    assert world.ops("ssh") == ["delete"]
    assert world.rules() == []


def test_a_preview_changes_nothing(world: World) -> None:
    before = world.checkpoint.read_text()
    heard: list[Any] = []
    result = world.stack.preview(on_event=heard.append)
    assert result.change_summary == {"create": RESOURCES}
    assert all(event.resource_pre_event.planning for event in heard if event.resource_pre_event)
    assert world.vpcs() == world.instances() == []
    assert world.checkpoint.read_text() == before
    assert world.stack.history() == []


def test_a_preview_tells_changes_and_replacements(world: World) -> None:
    world.up()
    before = world.checkpoint.read_text()
    world.wish.cidr, world.wish.ami, world.wish.has_rule = "198.51.100.9/32", "ami-22222222", True
    assert world.stack.preview().change_summary == {"same": RESOURCES - 2, "update": 1, "replace": 1}
    world.wish.has_rule = False
    assert world.stack.preview().change_summary == {"same": RESOURCES - 2, "delete": 1, "replace": 1}
    assert world.rules() == ["203.0.113.7/32"]
    assert world.checkpoint.read_text() == before


def test_refresh_sees_what_was_deleted_by_hand_and_up_makes_it_again(world: World) -> None:
    world.up()
    rule, group = world.resource("ssh")["id"], world.resource("group")["id"]
    world.ec2.revoke_security_group_ingress(GroupId=group, SecurityGroupRuleIds=[rule])
    result = world.stack.refresh()
    assert world.changes(result) == {"same": RESOURCES - 1, "delete": 1}
    assert world.changes(world.up()) == {"same": RESOURCES - 1, "create": 1}
    assert world.rules() == ["203.0.113.7/32"]


def test_nothing_depends_on_what_a_refresh_found_gone(world: World) -> None:
    world.up()
    key = world.resource("key")["urn"]
    assert key in world.resource("host")["dependencies"]
    world.ec2.delete_key_pair(KeyName="rehearsal")
    world.stack.refresh()
    host = world.resource("host")
    assert key not in json.dumps([host.get("dependencies"), host.get("propertyDependencies")])


def test_refresh_sees_what_was_changed_by_hand_and_up_puts_it_right(world: World) -> None:
    world.up()
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "CidrIpv4": "0.0.0.0/0"}
    by_hand = [{"SecurityGroupRuleId": world.resource("ssh")["id"], "SecurityGroupRule": rule}]
    world.ec2.modify_security_group_rules(GroupId=world.resource("group")["id"], SecurityGroupRules=by_hand)
    assert world.changes(world.up()) == {"same": RESOURCES}, "without a look nothing is to be seen"
    result = world.up(refresh=True)
    assert world.changes(result) == {"same": RESOURCES - 1, "update": 1}
    assert world.rules() == ["203.0.113.7/32"]


def test_up_with_refresh_replaces_an_instance_that_was_terminated(world: World) -> None:
    world.up()
    [gone] = world.instances()
    world.ec2.terminate_instances(InstanceIds=[gone])
    assert world.stack.preview(refresh=True).change_summary == {"same": RESOURCES - 1, "create": 1}
    assert world.changes(world.up(refresh=True)) == {"same": RESOURCES - 1, "create": 1}
    assert len(world.instances()) == 1


def test_a_previewed_refresh_changes_no_state(world: World) -> None:
    world.up()
    world.ec2.terminate_instances(InstanceIds=world.instances())
    before = world.checkpoint.read_text()
    assert dict(world.stack.preview_refresh().change_summary) == {"same": RESOURCES - 1, "delete": 1}
    assert world.checkpoint.read_text() == before


def test_destroy_removes_everything_in_order(world: World) -> None:
    world.up()
    assert world.changes(world.destroy()) == {"delete": RESOURCES}
    assert world.instances() == world.vpcs() == world.ec2.describe_key_pairs()["KeyPairs"] == []
    gone = [e.res_outputs_event.metadata.urn.rpartition("::")[2] for e in world.events if e.res_outputs_event]
    assert gone.index("host") < gone.index("subnet") < gone.index("vpc") < gone.index("aws")
    assert world.deployment().get("resources", []) == []
    assert world.stack.outputs() == {}
    world.stack.workspace.remove_stack(world.stack.name)
    assert not world.checkpoint.exists()


def test_a_previewed_destroy_destroys_nothing(world: World) -> None:
    world.up()
    assert world.stack.preview_destroy().change_summary == {"delete": RESOURCES}
    assert len(world.instances()) == 1


def test_history_is_newest_first(world: World) -> None:
    world.up()
    world.destroy()
    told = [(one.kind, one.result) for one in world.stack.history()]
    assert told == [("destroy", "succeeded"), ("update", "succeeded")]
    [second] = world.stack.history(page_size=1, page=2)
    assert second.kind == "update"
    assert second.resource_changes == {"create": RESOURCES}
    assert second.end_time is not None
    assert second.end_time >= second.start_time


def test_a_program_may_replace_what_depends_on_its_own_choice(world: World) -> None:
    """The program can say that the old one is to go first, although the provider would not."""
    world.wish.options = {"delete_before_replace": True}
    world.up()
    world.wish.ami = "ami-22222222"
    world.up()
    assert world.ops("host") == ["delete-replaced", "replace", "create-replacement"]
    assert len(world.instances()) == 1


def test_two_stacks_at_once(engine: Path, aws: dict[str, str], tmp_path: Path) -> None:
    ec2 = empty(aws)
    with served(Held(aws)) as port:
        stacks = [make_stack(engine, tmp_path / name, port, _vpc_only) for name in ("one", "two")]
        threads = [threading.Thread(target=stack.up) for stack in stacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ids = [stack.outputs()["vpc"].value for stack in stacks]
    assert len(set(ids)) == 2
    assert {vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"]} >= set(ids)


def _vpc_only() -> None:
    ours = pulumi.ResourceOptions(provider=AwsProvider("aws"))
    pulumi.export("vpc", resource("ec2/vpc:Vpc", "vpc", {"cidrBlock": "10.1.0.0/16"}, ours).id)


def test_our_program(engine: Path, aws: dict[str, str], tmp_path: Path) -> None:
    from mlops_env_infra.ec2 import Ec2HostArgs  # noqa: PLC0415 - a second, for this test alone
    from mlops_env_infra.ec2 import program as ours  # noqa: PLC0415 - as above

    ec2 = empty(aws)
    args = Ec2HostArgs(
        environment="default",
        identity="5d1a0c2e-0000-4000-8000-000000000000",
        owner="me@here",
        region="us-east-1",
        zone="us-east-1b",
        instance_type="t3.large",
        ami="ami-11111111",
        public_key=KEYS[0],
        allowed_cidr="203.0.113.7/32",
        user_data=USER_DATA,
    )
    with served(Held(aws)) as port:
        stack = make_stack(engine, tmp_path, port, lambda: ours(args))
        up = stack.up()
        assert up.summary.resource_changes == {"create": 14}
        outputs = {name: output.value for name, output in up.outputs.items()}
        [instance] = ec2.describe_instances()["Reservations"][0]["Instances"]
        assert outputs["instance_id"] == instance["InstanceId"]
        assert outputs["public_ip"] == instance["PublicIpAddress"]
        assert outputs["zone"] == "us-east-1b"
        assert outputs["ingress_rule_id"].startswith("sgr-")
        assert stack.up().summary.resource_changes == {"same": 14}
        assert stack.destroy().summary.resource_changes == {"delete": 14}
    assert not [vpc for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]]
    assert not ec2.describe_key_pairs()["KeyPairs"]
