"""Two engines at once, interrupted ones, and those that were killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from typing import Any

import pulumi.automation as auto
import pytest
from pulumi.automation.errors import (
    CommandError,
    ConcurrentUpdateError,
)

from cloud.stacks import (
    PROJECT,
    RESOURCES,
    Background,
    World,
    is_alive,
    wait_until,
)

LAUNCH = "Create aws:ec2/instance:Instance"


def test_while_one_works_others_are_refused(world: World) -> None:
    first = Background(world, world.up, LAUNCH)
    [lock] = world.locks
    assert lock["hostname"] == socket.gethostname()
    assert is_alive(lock["pid"])
    with pytest.raises(ConcurrentUpdateError) as error:
        world.stack.destroy()
    assert "the stack is currently locked by 1 lock(s)" in str(error.value)
    assert f"@{socket.gethostname()} (pid {lock['pid']}) at 2" in str(error.value)
    world.provider.hold = ""
    assert "create" in world.stack.preview().change_summary
    assert world.changes(first.result()) == {"create": RESOURCES}
    assert world.locks == []


def test_the_lock_of_a_dead_process_stays_until_it_is_cancelled(world: World) -> None:
    world.up()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = world.state / ".pulumi" / "locks" / "organization" / PROJECT / world.stack.name / f"{uuid.uuid4()}.json"
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = {"pid": dead.pid, "username": "someone", "hostname": "elsewhere", "timestamp": "2026-01-02T03:04:05Z"}
    lock.write_text(json.dumps(holder))
    with pytest.raises(ConcurrentUpdateError, match=rf"someone@elsewhere \(pid {dead.pid}\) at 2026-01-02T03:04:05Z"):
        world.up()
    world.stack.cancel()
    assert world.changes(world.up()) == {"same": RESOURCES}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_lets_what_is_in_flight_finish(world: World, number: signal.Signals) -> None:
    run = Background(world, world.up, "Create aws:ec2/keyPair:KeyPair")
    os.kill(world.engine_pid(), number)
    wait_until(lambda: any(event.stdout_event for event in world.events))
    assert world.pending == ["creating key"]
    with pytest.raises(CommandError, match="update canceled"):
        run.result()
    assert world.is_at_rest
    assert world.instances() == []
    assert world.resource("key")["id"] == "rehearsal"
    assert world.changes(world.up())["create"] >= 1
    assert len(world.instances()) == 1


def test_two_interrupts_end_at_once_and_leave_a_note(world: World) -> None:
    run = Background(world, world.up, LAUNCH)
    pid = world.engine_pid()
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: any(event.stdout_event for event in world.events))
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: not world.locks)
    assert world.pending == ["creating host"]
    with pytest.raises(CommandError, match="code: 8"):
        run.result()
    assert world.pending == ["creating host"]
    assert len(world.instances()) == 1


def test_an_interrupted_destroy_leaves_the_rest_in_the_state(world: World, is_embedded: bool) -> None:
    world.up()
    run = Background(world, world.destroy, "Delete aws:ec2/instance:Instance")
    os.kill(world.engine_pid(), signal.SIGINT)
    wait_until(lambda: any(event.stdout_event for event in world.events))
    if is_embedded:
        with pytest.raises(CommandError, match="update canceled"):
            run.result()
    else:
        run.result()  # which says that all went well
    left = [one["urn"].rpartition("::")[2] for one in world.deployment()["resources"]]
    assert "vpc" in left
    assert "host" not in left
    assert world.is_at_rest
    assert world.changes(world.destroy()) == {"delete": len(left)}
    assert world.vpcs() == []


def _kill_during_launch(world: World) -> str:
    """Kill the engine after AWS made the instance, before the engine learnt of it; the instance's id."""
    run = Background(world, world.up, LAUNCH)
    os.kill(world.engine_pid(), signal.SIGKILL)
    with pytest.raises(CommandError):
        run.result()
    [instance] = world.instances()
    return instance


def test_a_killed_engine_leaves_its_lock_and_a_note(world: World) -> None:
    _kill_during_launch(world)
    [lock] = world.locks
    assert not is_alive(lock["pid"])
    assert world.pending == ["creating host"]
    for operation in (world.up, world.destroy, world.stack.refresh):
        with pytest.raises(ConcurrentUpdateError, match=f"pid {lock['pid']}"):
            operation()


def test_up_after_a_kill_warns_and_makes_a_second_one(world: World) -> None:
    orphan = _kill_during_launch(world)
    world.stack.cancel()
    world.up()
    [warning] = [message for _, message in world.diagnostics("warning")]
    assert warning.startswith("Attempting to deploy or update resources with 1 pending operations from previous deploy")
    assert f"  * {world.resource('host')['urn']}, interrupted while creating" in warning
    assert orphan in world.instances()
    assert len(world.instances()) == 2
    assert world.pending == ["creating host"], "only people can tell what became of a creation"


def test_a_pending_creation_outlives_a_refresh_unless_it_is_cleared(world: World) -> None:
    _kill_during_launch(world)
    world.stack.cancel()
    world.stack.refresh()
    assert world.pending == ["creating host"]
    world.stack.refresh(clear_pending_creates=True)
    assert world.pending == []


def _adopt(world: World, instance: str) -> None:
    """Edit the state: what was being created is this instance; what it was to replace is to go."""
    deployment: dict[str, Any] = dict(world.stack.export_stack().deployment or {})
    [operation] = deployment.pop("pending_operations")
    made = operation["resource"]
    before = [{**one, "delete": True} if one["urn"] == made["urn"] else one for one in deployment["resources"]]
    found = {**made, "id": instance, "outputs": {**made["inputs"], "id": instance}}
    world.stack.import_stack(auto.Deployment(version=3, deployment={**deployment, "resources": [*before, found]}))


def test_what_a_killed_engine_made_is_adopted_by_an_edit_of_the_state(world: World) -> None:
    orphan = _kill_during_launch(world)
    world.stack.cancel()
    _adopt(world, orphan)
    world.up(refresh=True)
    assert world.ops("host") == ["refresh", "same"]
    assert world.instances() == [orphan] == [world.resource("host")["id"]]
    assert world.up().outputs["address"].value.startswith("10.77.0.")


def test_a_replacement_that_was_adopted_takes_the_place_of_the_old_one(world: World) -> None:
    world.up()
    [old] = world.instances()
    world.wish.ami = "ami-22222222"
    run = Background(world, world.up, LAUNCH)
    os.kill(world.engine_pid(), signal.SIGKILL)
    with pytest.raises(CommandError):
        run.result()
    [new] = set(world.instances()) - {old}
    world.stack.cancel()
    _adopt(world, new)
    world.up(refresh=True)
    assert world.ops("host")[-1] == "delete-replaced"
    assert world.instances() == [new]
