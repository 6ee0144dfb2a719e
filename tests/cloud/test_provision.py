"""Provisioning with either engine, on good days and on AWS's bad ones; after each the next `up` or `down` works."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlops_env.ec2 import provision
from mlops_env.ec2.surroundings import Surroundings
from mlops_env.errors import MlopsEnvError
from mlops_env_infra.args import Ec2HostArgs

from .provisioned import ENGINES, SECRET, ZONES, Provisioned, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_env.events import Event
    from mlops_env.sandbox.control import Running

NAMES = {
    "vpc", "internet-gateway", "subnet", "route-table", "route", "association",
    "security-group", "ingress-rule", "egress-rule", "key-pair", "instance",
}  # fmt: skip
FOR_EVER = 1_000_000


@pytest.fixture(params=ENGINES)
def one(request: pytest.FixtureRequest, sandbox: Running, tmp_path: Path) -> Iterator[Provisioned]:
    sandbox.call("PUT", "/sandbox/timing", {"transition": 0.1})
    with environment(sandbox, tmp_path / "an environment, 100 % öffentlich #1", request.param) as fresh:
        yield fresh


def fails(one: Provisioned, code: str) -> MlopsEnvError:
    with pytest.raises(MlopsEnvError) as failed:
        one.up()
    assert failed.value.code == code, failed.value.message
    return failed.value


def break_(one: Provisioned, *names: str, **rule: Any) -> None:
    one.running.call("PUT", "/sandbox/faults", {"names": names, "rules": [rule] if rule else []})


def mend(one: Provisioned) -> None:
    one.running.call("DELETE", "/sandbox/faults")


def all_gone(one: Provisioned) -> bool:
    one.down()
    return one.things() == []


def test_up_makes_it_up_again_changes_nothing_and_down_removes_it(
    one: Provisioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A proxy is for other machines.
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    args = one.candidates()[0]
    assert provision.outputs(one.place, one.events.append) is None
    assert provision.preview(one.place, args, one.events.append) == {"create": len(NAMES) + 3}
    assert one.running.call("GET", "/sandbox/calls") == []
    outputs = one.up()
    assert (one.instances(), outputs.zone) == ([outputs.instance_id], ZONES[0])
    assert outputs.public_ip
    assert_steps(one, "started", "changed")
    done = {event.name: event for event in one.events if event.status == "changed"}
    assert (done["instance"].message, done["instance"].fields["id"]) == ("created", outputs.instance_id)
    assert done["instance"].fields["seconds"] >= 0.1

    one.running.call("DELETE", "/sandbox/calls")
    assert one.up() == outputs
    assert_steps(one, "ok")
    assert provision.preview(one.place, args, one.events.append) == {"same": len(NAMES) + 3}
    assert provision.outputs(one.place, one.events.append) == outputs
    assert one.running.call("GET", "/sandbox/calls") == []

    changed = one.up(allowed_cidr="198.51.100.7/32")
    assert (changed.instance_id, changed.ingress_rule_id) == (outputs.instance_id, outputs.ingress_rule_id)
    assert [event.name for event in one.events if event.status == "changed"] == ["ingress-rule"]

    assert_no_secret_is_in_clear(one)
    one.down()
    assert_steps(one, "started", "changed")
    assert one.things() == []
    assert one.place.state
    assert not one.place.state.exists()


def assert_steps(one: Provisioned, *statuses: str) -> None:
    """Each resource has these lines, and no others."""
    told = Counter((event.name, event.status) for event in one.events if event.type == "resource")
    assert told == {(name, status): 1 for name in NAMES for status in statuses}


def assert_no_secret_is_in_clear(one: Provisioned) -> None:
    files = [path for path in one.directory.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert (one.directory / "passphrase").stat().st_mode & 0o777 == 0o600
    assert one.directory.stat().st_mode & 0o777 == 0o700
    assert SECRET not in repr(one.events)


def test_what_was_ended_or_deleted_outside_is_told_and_made_again(one: Provisioned) -> None:
    outputs = one.up()
    ec2 = one.aws.client("ec2")
    ec2.terminate_instances(InstanceIds=[outputs.instance_id])
    until(lambda: not one.instances(), "the instance is gone")
    time.sleep(0.1)  # its last state takes as long again
    ec2.delete_security_group(GroupId=outputs.security_group_id)
    again = one.up(refresh=True)
    assert one.instances() == [again.instance_id] != [outputs.instance_id]
    gone = {event.name for event in one.events if "deleted outside of" in event.message}
    assert gone == {"instance", "security-group", "ingress-rule", "egress-rule"}

    ec2.terminate_instances(InstanceIds=[again.instance_id])
    until(lambda: not one.instances(), "the instance is gone")
    provision.refresh(one.place, one.find, one.events.append)
    assert "aws:ec2/instance:Instance" not in {resource["type"] for resource in one.state()["resources"]}
    assert all_gone(one)


def test_without_capacity_in_a_zone_the_next_one_is_taken(one: Provisioned) -> None:
    break_(one, "no-capacity-zone")
    outputs = one.up()
    assert outputs.zone == ZONES[1]
    assert [note for note in one.told("note") if f"free in {ZONES[0]}" in note and ZONES[1] in note]
    assert Counter(one.things())["subnet"] == 1
    mend(one)
    assert all_gone(one)


def test_without_capacity_anywhere_it_says_where_it_tried_and_what_else_would_do(one: Provisioned) -> None:
    break_(one, "no-capacity")
    failed = fails(one, "aws-no-capacity")
    assert failed.message == "AWS has no t3.large free now in us-east-1a, us-east-1b"
    assert "--instance-type" in failed.hint
    assert "--region" in failed.hint
    mend(one)
    assert one.up().instance_id
    assert all_gone(one)


def test_a_quota_is_no_reason_to_try_another_zone(one: Provisioned) -> None:
    break_(one, "quota")
    failed = fails(one, "aws-vcpu-quota")
    assert "t3.large does not fit" in failed.message
    tried = [call for call in one.running.call("GET", "/sandbox/calls") if call["action"] == "RunInstances"]
    assert len(tried) == 1
    mend(one)
    assert all_gone(one)


def test_a_token_that_expires_in_the_middle(one: Provisioned) -> None:
    break_(one, "expired-token")
    failed = fails(one, "aws-expired")
    assert "log in again" in failed.hint
    assert one.state()["resources"]
    mend(one)
    assert one.instances() == [] != [one.up().instance_id]
    assert all_gone(one)


@pytest.mark.parametrize("fault", ["throttling", "api-500"])
def test_what_passes_is_tried_again(one: Provisioned, fault: str) -> None:
    break_(one, fault)
    one.up()
    assert len(one.instances()) == 1
    assert all_gone(one)


def test_what_does_not_pass_is_named_and_mended_by_the_next_up(one: Provisioned) -> None:
    break_(one, action="CreateSubnet", code="RequestLimitExceeded", message="no", status=503, times=FOR_EVER)
    failed = fails(one, "aws-throttled")
    assert failed.message.startswith("provisioning: ")
    mend(one)
    one.up()
    assert len(one.instances()) == 1
    assert all_gone(one)


def test_what_aws_says_to_an_operation_that_is_not_allowed_reaches_the_user(one: Provisioned) -> None:
    break_(one, action="AuthorizeSecurityGroupIngress", code="UnauthorizedOperation", message="You are not.", times=1)
    failed = fails(one, "aws-not-allowed")
    assert "iam-policy" in failed.hint
    assert all_gone(one)


def test_ids_that_aws_does_not_know_at_once(one: Provisioned) -> None:
    one.running.call("PUT", "/sandbox/timing", {"consistency": 0.4})
    one.up()
    assert len(one.instances()) == 1
    assert all_gone(one)


def test_the_first_ctrl_c_leaves_a_state_from_which_the_next_up_goes_on(one: Provisioned) -> None:
    break_(one, action="RunInstances", hold="after")
    command = one.begin("up")
    command.wait_for_hold()
    command.interrupt()
    command.release()
    assert command.end()["interrupted"]
    assert one.locks() == []
    assert not one.state().get("pending_operations")
    made = one.instances()
    assert len(made) == 1
    assert [one.up().instance_id] == made
    assert "ok" in {event.status for event in one.events if event.name == "instance"}
    assert all_gone(one)


def test_the_second_ctrl_c_kills_and_the_next_up_keeps_what_was_made(one: Provisioned) -> None:
    break_(one, action="RunInstances", hold="after")
    command = one.begin("up")
    command.wait_for_hold()
    command.interrupt()
    command.process.send_signal(signal.SIGINT)
    assert command.end()["interrupted"]
    command.release()
    until(one.instances, "AWS starts the instance")
    made = one.instances()
    assert [one.up().instance_id] == made
    assert one.told("note")[-1] == f"found instance {made[0]}, which a killed command was creating: it is kept"
    assert all_gone(one)


def test_ctrl_c_in_down_is_no_success(one: Provisioned) -> None:
    one.up()
    break_(one, action="TerminateInstances", hold="after")
    command = one.begin("down")
    command.wait_for_hold()
    command.interrupt()
    command.release()
    assert command.end()["interrupted"]
    assert one.things() != []
    assert all_gone(one)


def test_an_engine_that_is_interrupted_by_somebody_else_in_down_is_no_success_either(one: Provisioned) -> None:
    one.up()
    break_(one, action="TerminateInstances", hold="after")
    command = one.begin("down")
    command.wait_for_hold()
    os.kill(command.engine(), signal.SIGINT)
    command.release()
    assert command.end()["code"] == "provision-incomplete"
    assert all_gone(one)


def test_of_two_ups_at_once_the_second_waits_and_makes_nothing(one: Provisioned) -> None:
    break_(one, action="RunInstances", hold="after")
    first = one.begin("up")
    first.wait_for_hold()
    second = one.begin("up")
    until(lambda: "waiting for the Pulumi" in str(second.said()), "the second waits")
    first.release()
    assert (first.end()["code"], second.end()["code"]) == ("", "")
    assert len(one.instances()) == 1
    assert all_gone(one)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {
        "AWS_PROFILE": "work",
        "AWS_SECRET_ACCESS_KEY": "real",
        "PULUMI_ACCESS_TOKEN": "real",
        "PULUMI_CONFIG_PASSPHRASE": "another",
        "PULUMI_HOME": "/home/me/pulumi",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_sandboxs_engine_sees_nothing_of_the_users_accounts(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environ.setenv("PULUMI_BACKEND_URL", "s3://mine")
    around = Surroundings({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "", Path(), "")
    found = provision.Place(tmp_path, around, "test").environ
    assert {name: value for name, value in found.items() if value in {"work", "real", "another"}} == {}
    assert found["PULUMI_HOME"] == str(tmp_path / "home")
    assert found["PULUMI_BACKEND_URL"] == tmp_path.as_uri()
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"


def test_the_real_engine_has_the_users_plugins_and_our_passphrase(environ: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = provision.Place(tmp_path, Surroundings({}, "", Path(), ""), "test")
    assert place.environ["PULUMI_HOME"] == "/home/me/pulumi"
    assert place.environ["AWS_PROFILE"] == "work"
    assert "PULUMI_CONFIG_PASSPHRASE" not in place.environ
    assert place.environ["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(tmp_path / "passphrase")
    assert place.state == tmp_path / ".pulumi" / "stacks" / "mlops-env" / "test.json"
    environ.setenv("PULUMI_BACKEND_URL", "s3://mine")
    assert place.environ["PULUMI_BACKEND_URL"] == "s3://mine"
    assert place.state is None


CLI = """#!/bin/sh
echo "$*" >> "$PULUMI_HOME/calls"
case "$*" in
  *"plugin install"*) [ -e "$PULUMI_HOME/online" ] || { echo "$OFFLINE" >&2; exit 255; }
                      mkdir -p "$PULUMI_HOME/plugins/resource-aws-$6" ;;
  *"stack export"*) echo '{"version": 3, "deployment": {}}' ;;
  *" up "*) echo "error: that is enough" >&2; exit 255 ;;
esac
"""
OFFLINE = """\
warning: Error downloading plugin: Get "https://get.pulumi.com/x": no such host
error: [resource plugin aws-7.51.1] downloading from : failed to download plugin: aws-7.51.1: failed all 5 attempts"""


def test_for_the_real_aws_the_plugin_is_fetched_once_and_that_is_told(
    environ: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "pulumi home"
    cli = tmp_path / "bin" / "pulumi"
    for directory in (home, cli.parent):
        directory.mkdir()
    cli.write_text(CLI, encoding="utf-8")
    cli.chmod(0o755)
    environ.setenv("PULUMI_HOME", str(home))
    environ.setenv("OFFLINE", OFFLINE)
    place = provision.Place(tmp_path / "env", Surroundings({}, "", tmp_path, ""), "test")
    args = Ec2HostArgs(
        "test", str(uuid.uuid4()), "me", "us-east-1", "", "t3.large", "ami-1", "key", "1.2.3.4/32", "data"
    )

    def ends_with(code: str) -> list[tuple[str, str]]:
        events: list[Event] = []
        with pytest.raises(MlopsEnvError) as failed:
            provision.up(place, [args], lambda _: [], events.append)
        assert failed.value.code == code, failed.value.message
        return [(event.name, event.status) for event in events]

    assert ends_with("plugin-missing") == [("plugin", "started")]
    (home / "online").touch()
    assert ends_with("provision-failed") == [("plugin", "started"), ("plugin", "changed")]
    assert ends_with("provision-failed") == []
    calls = (home / "calls").read_text(encoding="utf-8").splitlines()
    version = importlib.metadata.version("pulumi-aws")
    assert calls.count(f"--non-interactive plugin install resource aws v{version}") == 2
