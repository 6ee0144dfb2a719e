"""What a killed command left in the state: locks that nobody holds, and resources that were just being made."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlops_env.ec2.progress import kind
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulumi.automation import ConcurrentUpdateError, Stack

    from mlops_env.events import Emit

    Find = Callable[[str], list[str]]
    """The ids, as Pulumi's state has them, of this environment's resources of a Pulumi type, by their tags."""

Answer = TypeVar("Answer")

FINISHING_SECONDS = 300
"""How long an engine whose command was killed may need to end what it has begun: AWS takes minutes at the worst."""

CONSISTENT_SECONDS = 8
"""How long AWS may need to show a new resource by its tags."""

_ATTEMPTS = 3
_LOCK = re.compile(
    r"created by (?P<user>.*)@(?P<host>[^@\s]+) \(pid (?P<pid>\d+)\) at (?P<since>[-\d]+T[:\d]+(Z|[+-][:\d]+))"
)
_ALONE = (
    "aws:ec2/vpc:Vpc",
    "aws:ec2/securityGroup:SecurityGroup",
    "aws:ec2/keyPair:KeyPair",
    "aws:ec2/instance:Instance",
)
"""What can be there without the others: all else goes with one of these."""


@dataclass(frozen=True)
class _Holder:
    user: str
    host: str
    pid: int
    since: datetime


def when_free(stack: Stack, operation: Callable[[], Answer], emit: Emit) -> Answer:
    """Do it; where the state is locked by a process that is no more, free it and do it again.

    Raises `provision-locked` where another process works on this environment.
    """
    from pulumi.automation import ConcurrentUpdateError  # noqa: PLC0415 - 0.3 s, for who deploys

    for _ in range(_ATTEMPTS - 1):
        try:
            return operation()
        except ConcurrentUpdateError as error:
            _free(stack, error, emit)
    return operation()


def _free(stack: Stack, error: ConcurrentUpdateError, emit: Emit) -> None:
    """Return when the state is likely to be free; else raise."""
    holders = [
        _Holder(told["user"], told["host"], int(told["pid"]), datetime.fromisoformat(told["since"]))
        for told in _LOCK.finditer(str(error))
    ]
    living = [holder for holder in holders if _lives(holder)]
    for holder in living:
        if not _works_in(stack.workspace.work_dir, holder) or not _ends(holder, emit):
            raise MlopsEnvError(
                f"the state is locked by process {holder.pid} of {holder.user} on {holder.host}, "
                f"since {holder.since:%Y-%m-%d %H:%M}",
                code="provision-locked",
                hint="wait for it to end, or end it there, then run the same again",
            )
    if not holders:
        raise error
    if not living:
        stack.cancel()
        emit(Event("note", message="freed the lock of a Pulumi that was killed"))


def _ends(holder: _Holder, emit: Emit) -> bool:
    """Whether the engine that a killed command of ours left ends: it does so by itself."""
    message = f"waiting for the Pulumi of a killed command (process {holder.pid}) to end what it has begun"
    emit(Event("note", message=message))
    end = time.monotonic() + FINISHING_SECONDS
    while _lives(holder) and time.monotonic() < end:
        time.sleep(0.2)
    return not _lives(holder)


def _lives(holder: _Holder) -> bool:
    """Of one on another machine nobody here knows, so it counts as alive."""
    import psutil  # noqa: PLC0415 - only after a kill

    if holder.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(holder.pid)
        # A younger process has only the number of the one that took the lock, which knows whole seconds.
        is_it = process.create_time() < holder.since.timestamp() + 1
        return is_it and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _works_in(directory: str, holder: _Holder) -> bool:
    import psutil  # noqa: PLC0415 - as above

    try:
        return holder.host == socket.gethostname() and psutil.Process(holder.pid).cwd() == directory
    except psutil.NoSuchProcess:
        return True  # it has just ended
    except psutil.AccessDenied:
        return False


@dataclass(frozen=True)
class Settled:
    """How many resources the state has, and how many operations were under way when the engine died."""

    resources: int
    pending: int


def settle(stack: Stack, find: Find, emit: Emit, *, patient: bool) -> Settled:
    """Take out of the state what was under way when the engine died.

    A resource that was being created and is there, found by tag, becomes one of the state, with what is known of it:
    refresh to know the rest. Plain Pulumi forgets it, and would create a second. `patient` waits for AWS to show it.
    """
    state = _export(stack)
    deployment = state["deployment"]
    resources = deployment.setdefault("resources", [])
    pending = deployment.pop("pending_operations", [])
    if pending:
        until = _written(deployment) + CONSISTENT_SECONDS if patient else 0
        created = [operation["resource"] for operation in pending if operation["type"] == "creating"]
        told = [event for resource in created for event in _adopt(resource, resources, find, until)]
        _import(stack, state)
        for event in told:
            emit(event)
    return Settled(len(resources), len(pending))


def resources(stack: Stack) -> int:
    """How many the state has."""
    return len(_export(stack)["deployment"].get("resources", []))


def _export(stack: Stack) -> dict[str, Any]:
    """As the SDK's, which however shows what is sealed in it, and that is to be nowhere in clear."""
    workspace = stack.workspace
    done = workspace.pulumi_command.run(["stack", "export", "--stack", stack.name], workspace.work_dir, {})
    state: dict[str, Any] = json.loads(done.stdout)
    return state


def _import(stack: Stack, state: dict[str, Any]) -> None:
    workspace = stack.workspace
    file = Path(workspace.work_dir, "import.json")
    file.touch(mode=0o600)
    file.write_text(json.dumps(state), encoding="utf-8")
    try:
        args = ["stack", "import", "--file", str(file), "--stack", stack.name]
        workspace.pulumi_command.run(args, workspace.work_dir, {})
    finally:
        file.unlink()


def _written(deployment: dict[str, Any]) -> float:
    return datetime.fromisoformat(deployment["manifest"]["time"]).timestamp()


def _adopt(resource: dict[str, Any], resources: list[dict[str, Any]], find: Find, until: float) -> list[Event]:
    """Add the resource to those of the state, if exactly one that the state does not know bears our tag."""
    pulumi_type = resource["type"]
    if not pulumi_type.startswith("aws:"):
        return []
    strays = _strays(pulumi_type, resources, find)
    while not strays and time.time() < until:
        time.sleep(1)
        strays = _strays(pulumi_type, resources, find)
    if len(strays) > 1:
        message = f"{len(strays)} of {kind(pulumi_type)} are there that the state does not know: `down` removes them"
        return [Event("warning", message=message)]
    if not strays:
        return []
    for other in resources:
        if other["urn"] == resource["urn"]:  # the one that it was to replace
            other["delete"] = True
    [found] = strays
    resources.append({**resource, "id": found, "outputs": {**resource["inputs"], "id": found}})
    message = f"found {kind(pulumi_type)} {found}, which a killed command was creating: it is kept"
    return [Event("note", message=message)]


def _strays(pulumi_type: str, resources: list[dict[str, Any]], find: Find) -> set[str]:
    return set(find(pulumi_type)) - {other.get("id", "") for other in resources if other["type"] == pulumi_type}


def refuse_lost(find: Find) -> None:
    """Raise `state-lost` if AWS has things of this environment, whose state has none."""
    there = [f"{kind(one)} {', '.join(ids)}" for one in _ALONE if (ids := find(one))]
    if there:
        raise MlopsEnvError(
            f"AWS has {'; '.join(there)} of this environment, but its Pulumi state is lost",
            code="state-lost",
            hint="`mlops-env down` removes them by their tags, then `up` makes all anew; where the state is kept "
            "elsewhere, set PULUMI_BACKEND_URL as it was",
        )


def set_aside(state: Path, settings: Path) -> None:
    """Rename a state that cannot be used, and forget how it was sealed."""
    state.replace(state.with_name(f"{state.name}.unusable"))
    settings.unlink(missing_ok=True)
