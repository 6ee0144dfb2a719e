"""Stacks, their states, and the secrets in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pulumi.automation.errors import (
    CommandError,
    StackAlreadyExistsError,
    StackNotFoundError,
)

from cloud.stacks import (
    PASSPHRASE,
    RESOURCES,
    USER_DATA,
    World,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stack_that_is_not_there(world: World) -> None:
    with pytest.raises(StackNotFoundError, match="no stack named 'nobody' found"):
        world.stack.workspace.select_stack("nobody")


def test_a_stack_that_is_there_already(world: World) -> None:
    with pytest.raises(StackAlreadyExistsError, match="already exists"):
        world.stack.workspace.create_stack(world.stack.name)


def test_a_stack_with_resources_is_not_removed(world: World) -> None:
    world.up()
    with pytest.raises(CommandError, match="still has resources; removal rejected"):
        world.stack.workspace.remove_stack(world.stack.name)
    assert len(world.instances()) == 1
    world.stack.workspace.remove_stack(world.stack.name, force=True)
    assert len(world.instances()) == 1
    assert not world.checkpoint.exists()


def test_what_is_exported_can_be_imported(world: World) -> None:
    world.up()
    exported = world.stack.export_stack()
    assert exported.version == 3
    world.stack.import_stack(exported)
    assert world.changes(world.up()) == {"same": RESOURCES}


def test_a_state_that_cannot_be_read(world: World) -> None:
    world.up()
    world.checkpoint.write_text(world.checkpoint.read_text()[:100])
    with pytest.raises(CommandError, match="failed to load checkpoint"):
        world.up()


def test_no_secret_is_on_disk_in_clear(world: World) -> None:
    result = world.up()
    assert result.outputs["password"].value == "swordfish"
    assert result.outputs["password"].secret
    assert not result.outputs["address"].secret
    files = [path for path in world.state.rglob("*") if path.is_file()]
    assert any(path.name == world.checkpoint.name for path in files)
    for path in files:
        content = path.read_bytes()
        for secret in ("PRIVATE-KEY-OF-THE-HOST", "swordfish", PASSPHRASE):
            assert secret.encode() not in content, f"{secret} is in {path}"
    exported: Any = world.stack.export_stack().deployment
    [host] = [one for one in exported["resources"] if one["urn"].endswith("::host")]
    assert json.loads(host["inputs"]["userData"]["plaintext"]) == USER_DATA
    assert json.loads(host["outputs"]["userData"]["plaintext"]) == USER_DATA


def test_a_wrong_passphrase_opens_nothing(world: World) -> None:
    world.up()
    before = world.checkpoint.read_text()
    world.stack.workspace.env_vars = {**world.stack.workspace.env_vars, "PULUMI_CONFIG_PASSPHRASE": "guessed"}
    for operation in (world.up, world.destroy, world.stack.outputs):
        with pytest.raises(CommandError, match="incorrect passphrase"):
            operation()
    assert world.checkpoint.read_text() == before


def test_a_passphrase_from_a_file(world: World, tmp_path: Path) -> None:
    world.up()
    file = tmp_path / "passphrase"
    file.write_text(PASSPHRASE + "\n")
    variables = {k: v for k, v in world.stack.workspace.env_vars.items() if k != "PULUMI_CONFIG_PASSPHRASE"}
    world.stack.workspace.env_vars = {**variables, "PULUMI_CONFIG_PASSPHRASE_FILE": str(file)}
    assert world.changes(world.up()) == {"same": RESOURCES}
    world.stack.workspace.env_vars = variables
    with pytest.raises(CommandError, match="passphrase must be set with PULUMI_CONFIG_PASSPHRASE"):
        world.up()
