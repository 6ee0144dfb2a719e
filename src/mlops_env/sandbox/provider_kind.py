"""What all kinds of resources have in common, and how to wait for AWS."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlops_env.sandbox.wire import Values

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between two looks at AWS: short at first, since the sandbox mostly answers at once."""

VISIBLE_SECONDS = 120.0
"""How long a new id may be unknown to Describe calls; the real provider waits about as long."""

FREE_SECONDS = 120.0
"""How long AWS may say that something else still uses what is to be deleted."""


class NotReady(Exception):
    """What was made did not become what it should; it exists all the same."""


class Kind:
    """One type of resource: the properties it has, and the calls that make, find, change and remove it.

    `create` is the one call that makes it: if it fails, nothing exists. `settle` is all that follows, and may be
    run again, by whoever finds it half done. Everything here takes plain values: no secrets' marks, no unknowns.
    """

    required: ClassVar[frozenset[str]]
    optional: ClassVar[frozenset[str]] = frozenset({"tags"})
    defaults: ClassVar[Mapping[str, Any]] = {}
    computed: ClassVar[frozenset[str]] = frozenset()
    """What `look` tells beyond the inputs: unknown in a preview."""
    secrets: ClassVar[frozenset[str]] = frozenset()
    fixed: ClassVar[frozenset[str]] = frozenset()
    """To change one of these takes a new resource."""
    exclusive: ClassVar[bool] = False
    """AWS refuses a second one beside it (of its name, of its subnet): the old one goes before the new one comes."""

    def create(self, ec2: Any, inputs: Values) -> str:
        """Make it, and return its id."""
        raise NotImplementedError

    def settle(self, ec2: Any, id_: str, inputs: Values) -> None:
        """Wait until AWS knows it everywhere, and make it what a create call cannot."""
        wait_for(lambda: self.look(ec2, id_, inputs), f"{id_} is not visible yet", VISIBLE_SECONDS)

    def look(self, ec2: Any, id_: str, state: Values) -> Values | None:
        """The properties as AWS has them, or None if it is gone."""
        raise NotImplementedError

    def is_settled(self, _ec2: Any, _id: str, _live: Values) -> bool:
        """Whether `settle` came to its end, as far as AWS can tell and `look` does not."""
        return True

    def replaces(self, _old: Values, _new: Values) -> frozenset[str]:
        """Those properties of which a change takes a new resource, for these values."""
        return self.fixed

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        retag(ec2, id_, old, new)

    def delete(self, ec2: Any, id_: str, state: Values) -> None:
        raise NotImplementedError


def wait_for(look: Callable[[], T | None], otherwise: str, seconds: float) -> T:
    """Ask until there is an answer. Raises `NotReady` with `otherwise`."""
    pause, deadline = FIRST_PAUSE, time.monotonic() + seconds
    while not (answer := look()):
        if time.monotonic() > deadline:
            raise NotReady(f"{otherwise} after {seconds:.0f} seconds")
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)
    return answer


def code_of(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def is_gone(error: ClientError) -> bool:
    return code_of(error).endswith((".NotFound", "NotAttached"))


def found(call: Callable[[], list[Any]]) -> Any:
    """The first of what a Describe call lists, or None if AWS knows no such id."""
    try:
        return next(iter(call()), None)
    except ClientError as error:
        if is_gone(error):
            return None
        raise


def remove(call: Callable[[], object]) -> None:
    """Delete what may be gone already, and what others may still let go of."""
    deadline, pause = time.monotonic() + FREE_SECONDS, FIRST_PAUSE
    while True:
        try:
            call()
        except ClientError as error:
            if is_gone(error):
                return
            if code_of(error) != "DependencyViolation" or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def tag_specification(inputs: Values, *resource_types: str) -> dict[str, Any]:
    """The argument of a create call that tags what it makes, so that nothing is ever without its tags."""
    tags = as_list(inputs.get("tags", {}))
    specifications = [{"ResourceType": name, "Tags": tags} for name in resource_types]
    return {"TagSpecifications": specifications} if tags else {}


def retag(ec2: Any, id_: str, old: Values, new: Values) -> None:
    before, after = old.get("tags", {}), new.get("tags", {})
    gone = [{"Key": key} for key in before if key not in after]
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    if gone:
        ec2.delete_tags(Resources=[id_], Tags=gone)
    if changed:
        ec2.create_tags(Resources=[id_], Tags=as_list(changed))


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ()) if not tag["Key"].startswith("aws:")}
