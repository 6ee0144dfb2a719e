"""Whole commands for target ec2, on the sandbox without machines: what AWS has after each, and what people are told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from integration.harness import Machine

from .people import REHEARSE, ROOT, left, up

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_env.sandbox.control import Running

KINDS = {"instance", "volume", "interface", "security-group", "key-pair"}


class TestUp:
    def test_makes_it_and_says_what_it_made_with_what(self, machine: Machine, aws: Running) -> None:
        done = up(machine).succeeded()
        assert {thing["kind"] for thing in left(aws)} >= {"instance", "security-group", "key-pair"}
        assert done.result["instance"].startswith("i-")
        assert done.result["engine"]
        assert done.result["sandbox"] is True
        assert done.result["cost_per_hour"] == 0.0
        assert "price     $0.0" in done.messages()
        assert "port 22, for 203.0.113.1/32 only" in done.messages()
        assert "stops itself after 8 h" in done.messages()

    def test_again_asks_aws_twice_and_starts_no_engine(self, machine: Machine, aws: Running) -> None:
        first = up(machine).succeeded()
        aws.call("DELETE", "/sandbox/calls")
        again = up(machine).succeeded()
        assert aws.call("GET", "/sandbox/calls") == []  # of those that change something
        assert again.statuses("resource") == {"host": "ok"}
        assert again.result["instance"] == first.result["instance"]

    def test_nothing_is_made_unless_somebody_agrees(self, machine: Machine, aws: Running) -> None:
        done = machine(*REHEARSE)
        done.failed("not-confirmed", 2)
        assert "price     $0.0" in done.messages()
        assert left(aws) == []
        assert not machine.state.exists() or list(machine.state.iterdir()) == []

    def test_everything_bears_the_identity_from_its_creation_on(self, machine: Machine, aws: Running) -> None:
        up(machine).succeeded()
        identity = machine.record()["id"]
        assert {thing["identity"] for thing in left(aws)} == {identity}

    def test_another_instance_type_changes_the_host_in_place(self, machine: Machine) -> None:
        first = up(machine).succeeded()
        again = up(machine, "--instance-type", "t3.xlarge").succeeded()
        assert again.result["instance"] == first.result["instance"]
        assert machine.record()["cloud"]["plan"]["vcpus"] == 4
        assert up(machine).succeeded().statuses("resource") == {"host": "ok"}

    def test_another_region_is_another_environment(self, machine: Machine) -> None:
        up(machine).succeeded()
        up(machine, "--region", "eu-west-1").failed("environment-differs", 2)

    def test_secrets_are_the_owners_and_in_no_state(self, machine: Machine) -> None:
        up(machine).succeeded()
        folder = machine.state / "default"
        for name in ("id_ed25519", "host_key", "user-data"):
            assert (folder / name).stat().st_mode & 0o777 == 0o600
        secret = (folder / "host_key").read_text(encoding="ascii").splitlines()[2]
        for path in (folder / "pulumi").rglob("*"):
            assert not path.is_file() or secret not in path.read_text(encoding="utf-8", errors="replace")
        assert secret not in str(machine.record())


class TestPreview:
    def test_shows_plan_and_price_and_makes_nothing(self, machine: Machine, aws: Running) -> None:
        done = machine("preview", "--target", "ec2", "--sandbox", "--no-host").succeeded()
        assert done.result["resources"]["create"] > 3
        assert done.result["price"]["instance_hour"] > 0
        assert done.result["plan"]["user"] == "admin"
        assert left(aws) == []
        assert not machine.state.exists() or list(machine.state.iterdir()) == []

    def test_of_what_is_there_it_has_nothing_to_do(self, machine: Machine) -> None:
        up(machine).succeeded()
        done = machine("preview").succeeded()
        assert set(done.result["resources"]) == {"same"}


class TestDown:
    def test_leaves_nothing_and_proves_it(self, machine: Machine, aws: Running) -> None:
        up(machine).succeeded()
        done = machine("down").succeeded()
        rows = {row["kind"]: row for row in done.result["receipt"]}
        assert done.result["left"] == 0
        assert rows["instance"] == {"kind": "instance", "found": 1, "removed": 1, "left": 0}
        assert set(rows) >= KINDS | {"snapshot", "address", "role", "profile", "log-group", "vpc", "record"}
        assert left(aws) == []
        assert not machine.state.exists()
        machine("down").succeeded()

    def test_by_hand_deleted_state_does_not_keep_it_from_that(self, machine: Machine, aws: Running) -> None:
        up(machine).succeeded()
        for path in (machine.state / "default" / "pulumi").rglob("*.json*"):
            path.unlink()
        assert machine("down").succeeded().result["left"] == 0
        assert left(aws) == []

    def test_without_a_record_it_lists_and_wants_an_id(self, machine: Machine, machines: Any, aws: Running) -> None:
        up(machine).succeeded()
        identity = machine.record()["id"]
        other = machines("other")
        words = ("down", "--target", "ec2", "--sandbox")
        listed = other(*words)
        listed.failed("no-environment", 2)
        assert identity in listed.result["error"]["message"]
        assert len(left(aws)) > 0
        done = other(*words, "--id", identity).succeeded()
        assert done.result["left"] == 0
        assert left(aws) == []

    def test_of_two_machines_environments_of_one_name_only_the_own_one_goes(
        self, machine: Machine, machines: Any, aws: Running
    ) -> None:
        other = machines("other")
        up(machine).succeeded()
        up(other).succeeded()
        assert machine("down").succeeded().result["left"] == 0
        assert {thing["identity"] for thing in left(aws)} == {other.record()["id"]}
        assert other("down").succeeded().result["left"] == 0
        assert left(aws) == []

    def test_the_workspace_here_goes_only_if_somebody_agrees(self, machine: Machine) -> None:
        up(machine).succeeded()
        machine("down", "--delete-workspace").failed("not-confirmed", 2)
        assert machine("down", "--delete-workspace", "--yes").succeeded().result["left"] == 0


class TestStopAndStart:
    def test_the_bill_is_told_and_goes_on_where_it_was(self, machine: Machine) -> None:
        up(machine).succeeded()
        stopped = machine("stop").succeeded()
        assert stopped.result["stopped_per_month"] == pytest.approx(30 * 0.08)
        seen = machine("status").succeeded().result["environments"][0]
        assert seen["health"] == "stopped"
        assert seen["cost_per_hour"] == pytest.approx(30 * 0.08 / 730)
        assert up(machine).succeeded().statuses("resource")["instance"] == "changed"

    def test_a_stopped_one_that_is_to_be_another_type_runs_as_that(self, machine: Machine, aws: Running) -> None:
        first = up(machine).succeeded()
        machine("stop").succeeded()
        again = up(machine, "--instance-type", "t3.xlarge").succeeded()
        assert again.result["instance"] == first.result["instance"]
        assert machine("status").succeeded().result["environments"][0]["health"] == "up"
        assert [thing["kind"] for thing in left(aws)].count("instance") == 1


class TestSandbox:
    def test_it_starts_by_itself_and_ends_with_its_last_environment(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path / "m", tmp_path / "uv", ROOT)
        try:
            up(machine).succeeded()
            told = machine("sandbox", "status").succeeded().result
            assert told["running"] is True
            down = machine("down").succeeded()
            assert {"kind": "process", "found": 1, "removed": 1, "left": 0} in down.result["receipt"]
            assert machine("sandbox", "status").succeeded().result["running"] is False
            assert not machine.state.exists()
        finally:
            machine("sandbox", "stop")
            machine.kill_everything()

    def test_what_lived_in_one_that_was_killed_is_told_so_and_can_be_forgotten(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path / "m", tmp_path / "uv", ROOT)
        try:
            up(machine).succeeded()
            os.kill(machine("sandbox", "status").succeeded().result["pid"], 9)
            assert machine("status").succeeded().result["environments"][0]["health"] == "gone"
            machine("down").failed("sandbox-gone")
            assert machine("down", "--discard").succeeded().result["left"] == 0
            up(machine).succeeded()
            machine("down").succeeded()
        finally:
            machine("sandbox", "stop")
            machine.kill_everything()
