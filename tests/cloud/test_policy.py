"""The policy that `mlops-env iam-policy` prints: enough for all that is called, and no more than it says."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import boto3

from mlops_env.ec2 import instance, inventory, plan, policy, price
from mlops_env.ec2.aws import Aws
from mlops_env.ec2.plan import Wish
from mlops_env_infra import tags

from .estate import Estate, aws_of
from .provisioned import environment

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from mlops_env.events import Event
    from mlops_env.sandbox.control import Running

STATEMENTS: list[dict[str, Any]] = policy.document()["Statement"]
SERVICES = {"servicequotas": "service-quotas"}
"""By the prefix in a policy, where boto3 calls them otherwise."""


def _nobody(_: Event) -> None:
    """Events that the test does not look at."""


class Recorder(Aws):
    """Remembers what its clients call, by the names of IAM, with the parameters."""

    def __init__(self, sandbox: Running) -> None:
        super().__init__("us-east-1", "", sandbox.variables())
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str, *, region: str = "", patient: bool = True) -> Any:
        client = super().client(service, region=region, patient=patient)
        client.meta.events.register("provide-client-params", self._note, unique_id=f"policy-{id(self)}")
        return client

    def _note(self, params: dict[str, Any], model: Any, **_: object) -> None:
        self.calls.append((f"{model.service_model.signing_name}:{model.name}", params))


def _allowing(action: str) -> list[dict[str, Any]]:
    return [one for one in STATEMENTS if any(fnmatchcase(action, pattern) for pattern in one["Action"])]


def _whole_life(aws: Aws, host: Estate) -> None:
    """Everything that we ask of AWS ourselves, from the first question to the last."""
    chosen = plan.make(aws, Wish("us-east-1", "t3.large", "debian12", 30))
    price.ask(aws, chosen)
    found = instance.look(aws, host.identity)
    assert found
    instance.find_by_tag_all(aws, host.identity)
    instance.stop(aws, found, _nobody)
    instance.start(aws, found, _nobody)
    instance.console(aws, found.id)
    instance.move_rule(aws, host.made["ingress"], host.made["security-group"], "203.0.113.9/32")
    inventory.candidates(aws)
    for pulumi_type in inventory._IDENTIFIED:
        inventory.identify(aws, host.identity, pulumi_type)
    before = inventory.survey(aws, host.identity, host.name)
    inventory.sweep(aws, host.identity, host.name, before, _nobody)


def _with_odds_and_ends(host: Estate) -> Estate:
    """With what the program does not make, and a sweep removes all the same."""
    address = host.ec2.allocate_address(Domain="vpc", TagSpecifications=host.tagged("elastic-ip"))
    host.ec2.associate_address(AllocationId=address["AllocationId"], InstanceId=host.made["instance"])
    volume = host.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=host.tagged("volume"))
    host.ec2.create_snapshot(VolumeId=volume["VolumeId"], TagSpecifications=host.tagged("snapshot"))
    host.ec2.create_network_interface(SubnetId=host.made["subnet"], TagSpecifications=host.tagged("network-interface"))
    return host


def test_all_that_we_call_ourselves_is_allowed(sandbox: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_PAUSE", 0.2)
    host = _with_odds_and_ends(Estate(aws_of(sandbox)).whole())
    recorder = Recorder(sandbox)
    _whole_life(recorder, host)
    called = {action for action, _ in recorder.calls}
    assert {"ec2:TerminateInstances", "ec2:DeleteVpc", "pricing:GetProducts", "iam:ListRoles"} <= called
    assert [action for action in sorted(called) if not _allowing(action)] == []


def test_all_that_the_engine_changes_is_allowed(sandbox: Running, tmp_path: Path) -> None:
    with environment(sandbox, tmp_path / "engine", "embedded") as one:
        one.up()
        one.up(allowed_cidr="203.0.113.9/32", instance_type="t3.xlarge", disk_gb=40, refresh=True)
        one.down()
        calls = sandbox.call("GET", "/sandbox/calls")
    called = {f"{call['service']}:{call['action']}" for call in calls}
    assert {"ec2:RunInstances", "ec2:CreateVpc", "ec2:CreateRoute", "ec2:DeleteVpc"} <= called
    assert [action for action in sorted(called) if not _allowing(action)] == []


def test_what_the_policy_allows_to_make_only_with_a_tag_is_made_with_it(sandbox: Running) -> None:
    recorder = Recorder(sandbox)
    host = Estate(recorder).whole()
    made = {action.removeprefix("ec2:"): params for action, params in recorder.calls}
    assert policy._MADE.keys() <= made.keys()
    for action, kinds in policy._MADE.items():
        specifications = {one["ResourceType"]: one["Tags"] for one in made[action]["TagSpecifications"]}
        assert specifications.keys() == set(kinds), action
        assert all({"Key": tags.IDENTITY, "Value": host.identity} in pairs for pairs in specifications.values())


def test_nothing_that_changes_something_is_allowed_by_a_pattern() -> None:
    patterns = {action for one in STATEMENTS for action in one["Action"] if "*" in action}
    assert patterns == {"ec2:Describe*"}


def test_every_change_is_bound_to_the_tag_but_those_that_use_what_is_not_ours() -> None:
    conditions = {
        one["Sid"]: json.dumps(one.get("Condition", ""))
        for one in STATEMENTS
        if one["Sid"] not in {"Ask", "AskForImages"}
    }
    free = {name for name, condition in conditions.items() if tags.IDENTITY not in condition}
    assert free == {"TagWhatIsMade", "UseDefaultNetwork", "UseImage"}
    assert '"ec2:CreateAction": ["' in conditions["TagWhatIsMade"]


def test_every_action_is_one_that_there_is() -> None:
    actions = {action for one in STATEMENTS for action in one["Action"] if "*" not in action}
    services = {action.partition(":")[0] for action in actions}
    session = boto3.Session(region_name="us-east-1")
    known = {
        f"{service}:{operation}"
        for service in services
        for operation in session.client(SERVICES.get(service, service)).meta.service_model.operation_names
    }
    assert actions - known == set()


def test_it_fits_into_a_managed_policy() -> None:
    """IAM's limit, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html; blanks do not count."""
    assert len(json.dumps(policy.document(), separators=(",", ":"))) <= 6144
    assert len({one["Sid"] for one in STATEMENTS}) == len(STATEMENTS)
    assert all(one["Sid"].isalnum() for one in STATEMENTS)
