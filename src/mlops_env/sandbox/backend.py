"""moto's EC2, with hosts for its instances, and corrected where a tool would learn something wrong from it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import moto.ec2.models as ec2
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models import EC2Backend, ec2_backends, instances
from moto.ec2.models.instances import StateReason

from mlops_env.sandbox.timing import TimedState, goal, underway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from moto.ec2.models.instances import Instance, Reservation
    from moto.ec2.models.vpcs import VPC

    from mlops_env.sandbox.faults import Faults
    from mlops_env.sandbox.hosts import Hosts

IDENTITY = "mlops-env:id"
_NO_TOKEN = "ABCDE"  # noqa: S105 - what moto passes on where a call has none


def install(hosts: Hosts, faults: Faults) -> None:
    """From here on, moto's EC2 is this one; to be called before anybody has used it."""
    instances.InstanceState = TimedState  # type: ignore[misc]
    Backend.containers, Backend.faults = hosts, faults
    ec2_backends.backend = Backend


class Backend(EC2Backend):
    """One region."""

    __module__ = ec2.__name__  # from which moto makes the name of the module with its URLs
    containers: ClassVar[Hosts]
    faults: ClassVar[Faults]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self._launched: dict[str, Reservation] = {}
        _open(self, self.default_vpc)

    # Instances

    def run_instances(self, *args: Any, **options: Any) -> Reservation:
        """As at AWS the same client token launches once, and an interface goes with its instance."""
        token = str(options.get("client_token", _NO_TOKEN))
        if token in self._launched:
            return self._launched[token]
        with underway() as done:
            reservation = super().run_instances(*args, **options)
        if token != _NO_TOKEN:
            self._launched[token] = reservation
        for instance in reservation.instances:
            # Groups that are named with the interface are the instance's.
            instance.security_groups = instance.security_groups or list(instance.nics[0].group_set)
            for interface in instance.network_interfaces:
                interface.delete_on_termination = True
            self.containers.run(instance, done)
        return reservation

    def start_instances(self, instance_ids: list[str]) -> Any:
        self._need(instance_ids, {"stopped", "pending", "running"}, "started")
        stopped = [one for one in self.get_multi_instances_by_id(instance_ids) if one.state == "stopped"]
        with underway() as done:
            started = super().start_instances(instance_ids)
        for instance in stopped:
            self.containers.start(instance, done)
        return started

    def stop_instances(self, instance_ids: list[str]) -> Any:
        self._need(instance_ids, {"running", "stopping", "stopped"}, "stopped")
        running = [one for one in self.get_multi_instances_by_id(instance_ids) if one.state == "running"]
        with underway() as done:
            stopped = super().stop_instances(instance_ids)
        for instance in running:
            self.containers.stop(instance, done)
        return stopped

    def terminate_instances(self, instance_ids: list[str]) -> Any:
        found = self.get_multi_instances_by_id(instance_ids)
        gone = [(one, copy.copy(one.instance_state)) for one in found if goal(one) == "terminated"]
        others = [one for one in instance_ids if one not in {instance.id for instance, _ in gone}]
        with underway() as done:
            terminated = super().terminate_instances(others) if others else []
        for instance, _ in terminated:
            self.containers.terminate(instance, done)
        return terminated + gone

    def reboot_instances(self, instance_ids: list[str]) -> list[Instance]:
        rebooted = super().reboot_instances(instance_ids)
        for instance in rebooted:
            self.containers.reboot(instance)
        return rebooted

    def _need(self, instance_ids: list[str], states: set[str], done: str) -> None:
        for instance in self.get_multi_instances_by_id(instance_ids):
            if instance.state not in states:
                raise EC2ClientError(
                    "IncorrectInstanceState",
                    f"The instance '{instance.id}' is not in a state from which it can be {done}.",
                )

    def _there(self) -> Iterator[Instance]:
        return (instance for instance in self.all_instances() if instance.state != "terminated")

    # What is still in use

    def delete_security_group(self, name: str | None = None, group_id: str | None = None) -> None:
        users = [one for one in self._there() if group_id in {group.id for group in one.security_groups}]
        if users:
            raise DependencyViolationError(f"resource {group_id} has a dependent object")
        super().delete_security_group(name, group_id)

    def delete_subnet(self, subnet_id: str) -> Any:
        if any(instance.subnet_id == subnet_id for instance in self._there()):
            raise DependencyViolationError(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
        return super().delete_subnet(subnet_id)

    def detach_internet_gateway(self, internet_gateway_id: str, vpc_id: str) -> None:
        if any(instance.vpc_id == vpc_id and instance.state != "stopped" for instance in self._there()):
            raise DependencyViolationError(
                f"Network {vpc_id} has some mapped public address(es). Please unmap those public address(es) before "
                "detaching the gateway."
            )
        super().detach_internet_gateway(internet_gateway_id, vpc_id)

    def delete_vpc(self, vpc_id: str) -> VPC:
        gateways = [gateway for gateway in self.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
        groups = [group for group in self.groups[vpc_id].values() if group.name != "default"]
        if gateways or groups:
            raise DependencyViolationError(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
        return super().delete_vpc(vpc_id)

    # The default VPC

    def describe_vpcs(self, vpc_ids: list[str] | None = None, filters: Any = None) -> list[VPC]:
        found = super().describe_vpcs(vpc_ids, filters)
        return [vpc for vpc in found if not (self._hides_default_vpc() and vpc.is_default)]

    def get_default_vpc(self) -> VPC | None:
        return None if self._hides_default_vpc() else super().get_default_vpc()

    def _hides_default_vpc(self) -> bool:
        """Not while it is made."""
        return "no-default-vpc" in self.faults.names and hasattr(self, "default_vpc")

    # Tags

    def describe_tags(self, filters: dict[str, list[str]] | None = None) -> list[dict[str, str]]:
        """With the filter `tag:KEY`, which moto passes over, and without the tags of what has been deleted."""
        asked = dict(filters or {})
        if "resource-id" in asked:  # how moto itself looks up the tags of a thing
            return super().describe_tags(asked)
        wanted = {name.removeprefix("tag:"): asked.pop(name) for name in list(asked) if name.startswith("tag:")}
        found = [tag for tag in super().describe_tags(asked) if tag["resource_id"] in self._ids()]
        return [tag for tag in found if all(tag["key"] == key and tag["value"] in wanted[key] for key in wanted)]

    def _ids(self) -> set[str]:
        listed = {resource.arn.rpartition("/")[2] for resource in self.iter_tagged_resources()}
        rules = {rule.id for groups in self.groups.values() for group in groups.values() for rule in _rules(group)}
        return listed | rules | {pair.id for pair in self.key_pairs.values()} | {one.id or "" for one in self.addresses}


def _rules(group: Any) -> list[Any]:
    return [*group.ingress_rules, *group.egress_rules]


def _open(backend: EC2Backend, vpc: VPC) -> None:
    """A default VPC reaches the internet."""
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, vpc.id)
    (main,) = backend.describe_route_tables(filters={"vpc-id": vpc.id})
    backend.create_route(main.id, "0.0.0.0/0", gateway_id=gateway.id)


def regions() -> dict[str, EC2Backend]:
    """Those that anybody has used."""
    return dict(ec2_backends[DEFAULT_ACCOUNT_ID])


def find(identifier: str) -> Instance | None:
    """An instance, in whatever region."""
    found = (backend.get_instance_by_id(identifier) for backend in regions().values())
    return next(filter(None, found), None)


def identity(instance: Instance) -> str:
    """Of the environment whose it is, if it is one's."""
    return next((tag["value"] for tag in instance.get_tags() if tag["key"] == IDENTITY), "")


def stop(instance: Instance, code: str, message: str) -> None:
    """Not as somebody's call does it: for this reason."""
    instance.stop()
    instance.state_reason = StateReason(f"{code}: {message}", code)


def terminate(instance: Instance, code: str, message: str) -> None:
    """As `stop`; what is terminated stays as it is."""
    if goal(instance) != "terminated":
        instance.terminate()
        instance.state_reason = StateReason(f"{code}: {message}", code)


def things() -> list[Mapping[str, str]]:
    """Whatever bears an environment's tag and is still there."""
    return [
        {"region": region, "kind": tag["resource_type"], "id": tag["resource_id"], "identity": tag["value"]}
        for region, backend in regions().items()
        for tag in backend.describe_tags({"key": [IDENTITY]})
        if not _is_terminated(tag["resource_id"])
    ]


def _is_terminated(identifier: str) -> bool:
    instance = find(identifier)
    return instance is not None and instance.state == "terminated"
