"""What takes its time at AWS: an instance between two states, and an id until everybody knows it."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree as ET

from moto.ec2.models.instances import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from moto.ec2.models.instances import Instance

    from mlops_env.sandbox.call import Call

_CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
_ON_THE_WAY = {"running": "pending", "stopped": "stopping", "terminated": "shutting-down"}
_WORK: ContextVar[threading.Event | None] = ContextVar("_WORK", default=None)


@contextmanager
def underway() -> Iterator[threading.Event]:
    """Instances that change their state in here are on the way to it until the event is set, at the least."""
    done = threading.Event()
    token = _WORK.set(done)
    try:
        yield done
    finally:
        _WORK.reset(token)


class TimedState(InstanceState):
    """moto's state of an instance, on the way to a new one for `seconds`, or longer: see `underway`."""

    seconds = 1.0

    def __init__(self, name: str = "pending", code: int = 0) -> None:
        self.goal = ""
        self._until = 0.0
        self._work: threading.Event | None = None
        super().__init__(name, code)

    @property
    def name(self) -> str:
        is_underway = time.monotonic() < self._until or not (self._work is None or self._work.is_set())
        return _ON_THE_WAY.get(self.goal, self.goal) if is_underway else self.goal

    @name.setter
    def name(self, goal: str) -> None:
        if goal != self.goal:
            self._until, self._work = time.monotonic() + self.seconds, _WORK.get()
        self.goal = goal

    @property
    def code(self) -> int:
        return _CODES[self.name]

    @code.setter
    def code(self, code: int) -> None:
        """It follows from the name."""


def goal(instance: Instance) -> str:
    """The state that it is in or on the way to."""
    return cast("TimedState", instance.instance_state).goal


_NEW = {
    "RunInstances": "i",
    "CreateVpc": "vpc",
    "CreateSubnet": "subnet",
    "CreateInternetGateway": "igw",
    "CreateRouteTable": "rtb",
    "AssociateRouteTable": "rtbassoc",
    "CreateSecurityGroup": "sg",
    "AuthorizeSecurityGroupIngress": "sgr",
    "AuthorizeSecurityGroupEgress": "sgr",
    "CreateVolume": "vol",
}
_NOT_FOUND = {
    "i": ("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist"),
    "vpc": ("InvalidVpcID.NotFound", "The vpc ID '{}' does not exist"),
    "subnet": ("InvalidSubnetID.NotFound", "The subnet ID '{}' does not exist"),
    "igw": ("InvalidInternetGatewayID.NotFound", "The internetGateway ID '{}' does not exist"),
    "rtb": ("InvalidRouteTableID.NotFound", "The routeTable ID '{}' does not exist"),
    "rtbassoc": ("InvalidAssociationID.NotFound", "The association ID '{}' does not exist"),
    "sg": ("InvalidGroup.NotFound", "The security group '{}' does not exist"),
    "sgr": ("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '{}' does not exist"),
    "vol": ("InvalidVolume.NotFound", "The volume '{}' does not exist."),
}
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15"


class Consistency:
    """Ids that EC2 gave out less than `seconds` ago: whoever asks for one is told that there is none."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._born: dict[str, float] = {}

    def note(self, call: Call, answer: str) -> None:
        """Remember what a call made."""
        if self.seconds and (prefix := _NEW.get(call.action)):
            for identifier in re.findall(rf"\b{prefix}-[0-9a-f]{{8,}}\b", answer):
                self._born.setdefault(identifier, time.monotonic())

    def missed(self, call: Call) -> tuple[str, str] | None:
        """The code and message for a call that names an id too early; who filters by one finds nothing."""
        named = {str(value) for name, value in call.parameters.items() if not name.startswith("Filter.")}
        young = self._young() & named
        if not young:
            return None
        identifier = min(young)
        code, message = _NOT_FOUND[identifier.partition("-")[0]]
        return code, message.format(identifier)

    def without_young(self, answer: bytes) -> bytes:
        """A list as it looks to somebody who asks too early."""
        young = self._young()
        if not any(identifier.encode() in answer for identifier in young):
            return answer
        ET.register_namespace("", _NAMESPACE)
        root = ET.fromstring(answer)  # noqa: S314 - moto's own answer
        _drop(root, lambda item: bool(young.intersection(detail.text or "" for detail in item)))
        # A reservation is nothing by itself.
        _drop(root, lambda item: any(_is(detail, "instancesSet") and not len(detail) for detail in item))
        return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))

    def _young(self) -> set[str]:
        limit = time.monotonic() - self.seconds
        return {identifier for identifier, born in self._born.copy().items() if born > limit}


def _drop(root: ET.Element, is_to_go: Callable[[ET.Element], bool]) -> None:
    for parent in list(root.iter()):
        for item in [child for child in parent if _is(child, "item") and is_to_go(child)]:
            parent.remove(item)


def _is(element: ET.Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name
