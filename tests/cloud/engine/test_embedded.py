"""What only the embedded engine has, or lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pulumi
import pulumi.automation as auto
import pytest
from pulumi.automation.errors import (
    CommandError,
)

from cloud.stacks import (
    PROJECT,
    Held,
    World,
    empty,
    is_alive,
    resource,
    served,
    wait_until,
)

LAUNCH = "Create aws:ec2/instance:Instance"


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ({"target": ["urn:x"]}, "no option --target"),
        ({"parallel": 4}, "no option --parallel"),
        ({"policy_packs": ["somewhere"]}, "no option --policy-pack"),
        ({"plan": "plan.json"}, "no option --plan"),
    ],
)
def test_it_says_what_it_lacks(alone: World, options: dict[str, Any], lacks: str) -> None:
    with pytest.raises(CommandError, match=lacks):
        alone.up(**options)
    assert alone.vpcs() == []


def test_commands_that_it_lacks(alone: World) -> None:
    with pytest.raises(CommandError, match="no command 'config set-all'"):
        alone.stack.set_all_config({"a": auto.ConfigValue("b")})
    vpc = {"type": "aws:ec2/vpc:Vpc", "name": "vpc", "id": "vpc-1"}
    with pytest.raises(CommandError, match="no command 'import'"):
        alone.stack.import_resources(resources=cast("Any", [vpc]), generate_code=False)
    alone.stack.workspace.install_plugin("aws", "v7.0.0")


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ({"import_": "i-1"}, "no imports"),
        ({"aliases": [pulumi.Alias(name="before")]}, "no aliases"),
        ({"replace_on_changes": ["ami"]}, "no replace_on_changes"),
        ({"retain_on_delete": True}, "no retain_on_delete"),
        ({"custom_timeouts": pulumi.CustomTimeouts(create="1m")}, "no custom timeouts"),
        ({"ignore_changes": ["rootBlockDevice.volumeSize"]}, "no ignore_changes of parts"),
    ],
)
def test_options_of_resources_that_it_lacks(alone: World, options: dict[str, Any], lacks: str) -> None:
    alone.wish.options = options
    with pytest.raises(CommandError, match=lacks):
        alone.up()
    assert alone.instances() == []


def test_a_resource_without_a_provider(alone: World) -> None:
    alone.stack.workspace.program = lambda: _loose_vpc(pulumi.ResourceOptions())
    with pytest.raises(CommandError, match="no default providers"):
        alone.up()


def _loose_vpc(options: pulumi.ResourceOptions) -> None:
    resource("ec2/vpc:Vpc", "vpc", {"cidrBlock": "10.1.0.0/16"}, options)


def test_it_imports_nothing_from_where_it_works(alone: World, tmp_path: Path) -> None:
    (tmp_path / "work" / "json.py").write_text("raise SystemExit('taken from the working directory')")
    alone.up()


def test_it_ends_well_when_its_driver_dies(embedded: Path, aws: dict[str, str], tmp_path: Path) -> None:
    """Nobody reads its output, takes its events or runs the program any more: what is in flight is finished."""
    ec2 = empty(aws)
    held = Held(aws)
    held.hold = LAUNCH
    with served(held) as port:
        tests = {"PYTHONPATH": str(Path(__file__).parents[2])}
        argv = [sys.executable, "-c", DRIVER, str(embedded), str(tmp_path), str(port)]
        driver = subprocess.Popen(argv, env={**os.environ, **tests})
        assert held.reached.wait(60)
        locks = tmp_path / "state" / ".pulumi" / "locks" / "organization" / PROJECT
        [lock] = list(locks.rglob("*.json"))
        engine_pid = json.loads(lock.read_text())["pid"]
        driver.kill()
        driver.wait()
        held.released.set()
        wait_until(lambda: not is_alive(engine_pid))
    assert not lock.exists()
    [checkpoint] = (tmp_path / "state" / ".pulumi" / "stacks" / PROJECT).glob("*.json")
    latest = json.loads(checkpoint.read_text())["checkpoint"]["latest"]
    [instance] = [one["id"] for one in latest["resources"] if one["type"] == "aws:ec2/instance:Instance"]
    assert instance == ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]
    assert "pending_operations" not in latest


DRIVER = """
import sys
from pathlib import Path
from cloud.stacks import Wish, make_stack, program

root, directory, port = sys.argv[1:]
make_stack(Path(root), Path(directory), int(port), program(Wish())).up(on_event=lambda event: None)
"""


def test_an_engine_of_another_kind_cannot_read_its_secrets_and_says_so(alone: World) -> None:
    deployment = json.loads(alone.checkpoint.read_text())
    deployment["checkpoint"]["latest"]["secrets_providers"]["state"]["salt"] = "v1:c2FsdA==:v1:bm9uY2U=:c2VjcmV0"
    alone.checkpoint.write_text(json.dumps(deployment))
    with pytest.raises(CommandError, match="made by another engine"):
        alone.up()
