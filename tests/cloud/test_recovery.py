"""After a kill, and with a state that is gone, broken or sealed: what is there is kept or removed, never doubled."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from mlops_env.connection import quoted
from mlops_env.ec2 import recovery
from mlops_env.errors import MlopsEnvError

from .provisioned import ENGINES, ZONES, Provisioned, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_env.sandbox.control import Running

INSTANCE = "aws:ec2/instance:Instance"


@pytest.fixture(params=ENGINES)
def one(request: pytest.FixtureRequest, sandbox: Running, tmp_path: Path) -> Iterator[Provisioned]:
    sandbox.call("PUT", "/sandbox/timing", {"transition": 0.1})
    with environment(sandbox, tmp_path / "an environment", request.param) as fresh:
        yield fresh


def hold(one: Provisioned, action: str, when: str = "after", **rule: Any) -> None:
    one.running.call("PUT", "/sandbox/faults", {"rules": [{"action": action, "hold": when, **rule}]})


def fails(one: Provisioned, code: str) -> MlopsEnvError:
    with pytest.raises(MlopsEnvError) as failed:
        one.up()
    assert failed.value.code == code, failed.value.message
    return failed.value


def killed_in_run_instances(one: Provisioned) -> str:
    """An `up` of which we and the engine were killed while AWS started the instance; its id."""
    hold(one, "RunInstances")
    command = one.begin("up")
    command.wait_for_hold()
    command.kill()
    command.release()
    until(one.instances, "AWS starts the instance")
    return one.instances()[0]


def test_after_a_kill_of_both_up_keeps_the_instance_that_was_being_made(one: Provisioned) -> None:
    made = killed_in_run_instances(one)
    assert len(one.locks()) == 1
    assert [operation["type"] for operation in one.state()["pending_operations"]] == ["creating"]
    assert one.up().instance_id == made
    assert one.instances() == [made]
    assert one.told("note") == [
        "freed the lock of a Pulumi that was killed",
        f"found instance {made}, which a killed command was creating: it is kept",
    ]
    assert one.up().public_ip
    one.down()
    assert one.things() == []


def test_after_a_kill_of_both_down_removes_it(one: Provisioned) -> None:
    killed_in_run_instances(one)
    one.down()
    assert one.things() == []


def test_after_a_kill_of_the_engine_alone_the_command_says_so(one: Provisioned) -> None:
    hold(one, "RunInstances")
    command = one.begin("up")
    command.wait_for_hold()
    command.kill(us=False)
    assert command.end()["code"] == "engine-killed"
    command.release()
    until(one.instances, "AWS starts the instance")
    made = one.instances()
    assert [one.up().instance_id] == made == one.instances()


def test_an_engine_that_outlives_us_is_waited_for(one: Provisioned) -> None:
    hold(one, "RunInstances", hold_seconds=4)
    command = one.begin("up")
    command.wait_for_hold()
    command.kill(engine=False)
    outputs = one.up()
    assert [note for note in one.told("note") if note.startswith("waiting for the Pulumi of a killed command")]
    assert one.instances() == [outputs.instance_id]


def test_an_engine_that_outlives_us_for_too_long_is_named(one: Provisioned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "FINISHING_SECONDS", 0.3)
    hold(one, "RunInstances")
    command = one.begin("up")
    command.wait_for_hold()
    pid = command.engine()
    command.kill(engine=False)
    assert f"process {pid}" in fails(one, "provision-locked").message


def test_what_was_not_made_when_the_kill_came_is_made_once(one: Provisioned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "CONSISTENT_SECONDS", 0.5)
    hold(one, "RunInstances", "before", code="InternalError", message="never carried out")
    command = one.begin("up")
    command.wait_for_hold()
    command.kill()
    one.running.call("DELETE", "/sandbox/faults")
    assert one.up().instance_id
    assert len(one.instances()) == 1


def test_aws_may_show_late_what_was_made(one: Provisioned) -> None:
    hold(one, "RunInstances")
    command = one.begin("up")
    command.wait_for_hold()
    one.running.call("PUT", "/sandbox/timing", {"consistency": 3.0})
    command.kill()
    command.release()
    one.running.call("DELETE", "/sandbox/faults")
    outputs = one.up()
    until(one.instances, "AWS shows the instance")
    assert one.instances() == [outputs.instance_id]


def test_a_kill_while_the_next_zone_is_tried(one: Provisioned) -> None:
    one.running.call("PUT", "/sandbox/faults", {"names": ["no-capacity-zone"]})
    hold(one, "CreateSubnet", nth=2)
    command = one.begin("up")
    command.wait_for_hold()
    command.kill()
    command.release()
    one.running.call("DELETE", "/sandbox/faults")
    assert one.up().zone == ZONES[0]
    assert one.things().count("subnet") == 1
    one.down()
    assert one.things() == []


def test_of_more_than_one_stray_none_is_taken_and_that_is_said(one: Provisioned) -> None:
    made = killed_in_run_instances(one)
    ec2 = one.aws.client("ec2")
    [like] = ec2.describe_instances(InstanceIds=[made])["Reservations"][0]["Instances"]
    ec2.run_instances(
        ImageId=like["ImageId"],
        InstanceType="t3.large",
        MinCount=1,
        MaxCount=1,
        SubnetId=like["SubnetId"],
        TagSpecifications=[{"ResourceType": "instance", "Tags": like["Tags"]}],
    )
    outputs = one.up()
    assert outputs.instance_id in one.instances()
    assert len(one.instances()) == 3
    assert one.told("warning") == ["2 of instance are there that the state does not know: `down` removes them"]


def lock(one: Provisioned, pid: int, host: str, since: str) -> Path:
    directory = one.directory / ".pulumi" / "locks" / "organization" / "mlops-env" / one.place.stack
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{uuid.uuid4()}.json"
    content = {"pid": pid, "username": "anna", "hostname": host, "timestamp": since}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime())


def test_locks_that_somebody_holds_are_respected_and_others_freed(one: Provisioned) -> None:
    one.up()
    ours = lock(one, os.getpid(), socket.gethostname(), now())
    failed = fails(one, "provision-locked")
    assert f"process {os.getpid()} of anna on {socket.gethostname()}" in failed.message
    assert ours.exists()
    ours.unlink()

    elsewhere = lock(one, 1, "another-machine", "2026-01-02T03:04:05.123456789Z")
    failed = fails(one, "provision-locked")
    assert "process 1 of anna on another-machine, since 2026-01-02 03:04" in failed.message
    dead = lock(one, 2**22 - 1, socket.gethostname(), now())
    fails(one, "provision-locked")
    assert dead.exists()
    elsewhere.unlink()

    # A process has the number now that another one had when it took the lock.
    lock(one, os.getpid(), socket.gethostname(), "2026-01-02T03:04:05.123456789Z")
    one.up()
    assert one.locks() == []
    assert one.told("note")[-1] == "freed the lock of a Pulumi that was killed"


def test_without_its_state_up_makes_nothing_twice_and_down_goes_by_tags(one: Provisioned) -> None:
    outputs = one.up()
    assert one.place.state
    one.place.state.unlink()
    failed = fails(one, "state-lost")
    assert f"instance {outputs.instance_id}" in failed.message
    assert "`mlops-env down`" in failed.hint
    assert not one.place.state.exists()
    assert one.instances() == [outputs.instance_id]
    one.down()
    assert one.sweep() > 0
    assert one.things() == []
    assert one.up().instance_id != outputs.instance_id


def test_a_broken_state_is_named_with_the_copy_that_mends_it(one: Provisioned) -> None:
    outputs = one.up()
    state = one.place.state
    assert state
    copy = state.with_name(f"{state.name}.bak")
    if not copy.exists():  # the real engine keeps one
        copy.write_bytes(state.read_bytes())
    state.write_text('{"version": 3, "checkpoint": {"sta', encoding="utf-8")
    failed = fails(one, "state-corrupt")
    assert f"`{quoted(['cp', str(copy), str(state)])}`" in failed.hint
    copy.replace(state)
    assert one.up() == outputs

    state.write_text("", encoding="utf-8")
    copy.unlink(missing_ok=True)
    hint = fails(one, "state-corrupt").hint
    assert hint == "`mlops-env down` finds by tag what the state lists, and removes it"


@pytest.mark.parametrize("broken", ["state", "passphrase"])
def test_down_does_without_a_state_that_cannot_be_used(one: Provisioned, broken: str) -> None:
    one.up()
    assert one.place.state
    if broken == "state":
        one.place.state.write_text("", encoding="utf-8")
    else:
        (one.directory / "passphrase").unlink()
        assert "passphrase" in fails(one, "state-sealed").hint
    one.down()
    assert [warning for warning in one.told("warning") if "set aside" in warning]
    one.sweep()
    assert one.things() == []
    assert one.up().instance_id


def test_plain_kills_of_down_are_finished_by_the_next_one(one: Provisioned) -> None:
    one.up()
    hold(one, "TerminateInstances")
    command = one.begin("down")
    command.wait_for_hold()
    command.kill()
    command.release()
    one.down()
    assert one.things() == []


def test_an_engine_that_is_stopped_from_outside_keeps_its_state(one: Provisioned) -> None:
    hold(one, "RunInstances")
    command = one.begin("up")
    command.wait_for_hold()
    os.kill(command.engine(), signal.SIGTERM)
    command.release()
    assert command.end()["code"] == "provision-incomplete"
    assert one.locks() == []
    made = one.instances()
    assert [one.up().instance_id] == made
