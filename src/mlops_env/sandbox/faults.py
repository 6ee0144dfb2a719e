"""What goes wrong on purpose: rules about calls, and the names under which users ask for them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlops_env.sandbox.call import Call

_FOR_EVER = 1_000_000
_ANY_CHANGE = "*"
_ADDRESS = "CheckIp"
EXPIRED = "RequestExpired"
"""As EC2 says it; each protocol has a code of its own for that."""


@dataclass(frozen=True)
class Rule:
    """Which calls, and what happens to them.

    `action` is one action, `*` for any that changes something, or empty for all; `match` is some text in the request's
    body; `zone` is that of a RunInstances' subnet, or `first`: whichever comes first. Of the calls that fit once
    `after_changes` changing ones have passed, the `nth` and those after it are hit, `times` in all.

    `delay` is in seconds. `hold` keeps the call before, or its answer after, it is carried out, until it is released or
    `hold_seconds` are over: fewer than those after which clients ask again. Without a `code` a call succeeds.

    `message` may name {type}, {zone} and {others}, the region's other zones. For `CheckIp`, which is no call of AWS,
    it is the address to answer with.
    """

    action: str = ""
    code: str = ""
    message: str = ""
    status: int = 400
    times: int = 1
    nth: int = 1
    match: str = ""
    zone: str = ""
    after_changes: int = 0
    delay: float = 0
    hold: Literal["", "before", "after"] = ""
    hold_seconds: float = 15


_NO_CAPACITY = Rule(
    "RunInstances",
    "InsufficientInstanceCapacity",
    "We currently do not have sufficient {type} capacity in the Availability Zone you requested ({zone}). Our system "
    "will be working on provisioning additional capacity. You can currently get {type} capacity by not specifying an "
    "Availability Zone in your request or choosing {others}.",
    status=500,
    times=_FOR_EVER,
)
_QUOTA = Rule(
    "RunInstances",
    "VcpuLimitExceeded",
    "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the instance bucket that the "
    "specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an "
    "adjustment to this limit.",
    times=_FOR_EVER,
)
# What the first changes made is there when the rest fails.
_EXPIRED = Rule(code=EXPIRED, message="Request has expired.", times=_FOR_EVER, after_changes=2)
_THROTTLED = Rule(code="RequestLimitExceeded", message="Request limit exceeded.", status=503, times=2)
_INTERNAL = Rule(code="InternalError", message="An internal error has occurred", status=500, times=2)
_TRYING_ACTIONS = ("CreateSecurityGroup", "RunInstances", "DescribeInstances", "TerminateInstances")

_RULES: Mapping[str, tuple[Rule, ...]] = {
    "no-capacity": (_NO_CAPACITY,),
    "no-capacity-zone": (replace(_NO_CAPACITY, zone="first"),),
    "quota": (_QUOTA,),
    "expired-token": (_EXPIRED,),
    "throttling": tuple(replace(_THROTTLED, action=action) for action in _TRYING_ACTIONS),
    "api-500": tuple(replace(_INTERNAL, action=action) for action in _TRYING_ACTIONS),
    "slow": (Rule(times=_FOR_EVER, delay=0.5),),
    # The rest is not about calls: see `Faults.names`.
    "no-default-vpc": (),
    "ssh-lost": (),
    "user-data": (),
    "apt-lock": (),
}
NAMES = tuple(_RULES)


class Faults:
    """What is in force: faults that have names, and rules that somebody made; how often each fitted and hit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.names: frozenset[str] = frozenset()
        self._named: list[_Counted] = []
        self._made: list[_Counted] = []

    def clear(self) -> None:
        self.set_names(())
        self.set_rules(())

    def set_names(self, names: Sequence[str]) -> None:
        """These faults and no others. Raises ValueError for what none is called."""
        if unknown := sorted(set(names) - set(NAMES)):
            raise ValueError(f"no fault is called {', '.join(unknown)}; there are: {', '.join(NAMES)}")
        with self._lock:
            self.names = frozenset(names)
            self._named = [_Counted(rule) for name in names for rule in _RULES[name]]

    def set_rules(self, rules: Iterable[Mapping[str, Any]]) -> None:
        """These rules and no others, beside the faults. Raises ValueError for what a rule does not have."""
        made = [_Counted(_rule(values)) for values in rules]
        with self._lock:
            self._made = made

    def add_rules(self, rules: Iterable[Mapping[str, Any]]) -> None:
        """These rules too. Raises ValueError as `set_rules` does."""
        made = [_Counted(_rule(values)) for values in rules]
        with self._lock:
            self._made += made

    def due(self, call: Call, zone: str) -> list[Rule]:
        """The rules that hit this call; each is counted."""
        with self._lock:
            return [counted.rule for counted in [*self._made, *self._named] if counted.hits(call, zone)]

    def address(self) -> str:
        """Where callers are said to come from, if a rule says so."""
        with self._lock:
            said = [counted.rule.message for counted in self._made if counted.rule.action == _ADDRESS]
        return said[-1] if said else ""


def _rule(values: Mapping[str, Any]) -> Rule:
    if unknown := sorted(set(values) - {field.name for field in fields(Rule)}):
        raise ValueError(f"a rule has no {', '.join(unknown)}")
    return Rule(**values)


class _Counted:
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._changes = 0
        self._fitting = 0
        self._hits = 0

    def hits(self, call: Call, zone: str) -> bool:
        passed = self._changes
        self._changes += call.is_mutating
        if passed < self.rule.after_changes or not self._fits(call, zone):
            return False
        self._fitting += 1
        if self._fitting < self.rule.nth or self._hits >= self.rule.times:
            return False
        self._hits += 1
        return True

    def _fits(self, call: Call, zone: str) -> bool:
        rule = self.rule
        if rule.action == _ANY_CHANGE and not call.is_mutating:
            return False
        if rule.action not in {"", _ANY_CHANGE, call.action} or rule.match not in call.body:
            return False
        if rule.zone == "first":
            self.rule = replace(rule, zone=zone)
        return self.rule.zone in {"", zone}
