"""What AWS is to have: plans it, makes it, removes it, through Pulumi."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from mlops_env.ec2 import recovery
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlops_env.ec2.recovery import Find
    from mlops_env.ec2.session import Session
    from mlops_env.ec2.surroundings import Surroundings
    from mlops_env.events import Emit
    from mlops_env_infra.args import Ec2HostArgs

PROJECT = "mlops-env"
"""As in the checkout's Pulumi.yaml, so that plain `pulumi` works on the same stacks."""

_NO_CAPACITY = "aws-no-capacity"
_UNUSABLE = {"state-corrupt", "state-sealed"}


@dataclass(frozen=True)
class Place:
    """Where the engine works for one environment: `directory` has settings, passphrase and, by default, the state."""

    directory: Path
    surroundings: Surroundings
    stack: str

    @property
    def state(self) -> Path | None:
        """The state's file; None where the user keeps states elsewhere, with PULUMI_BACKEND_URL."""
        if self.environ["PULUMI_BACKEND_URL"] != self.directory.as_uri():
            return None
        return self.directory / ".pulumi" / "stacks" / PROJECT / f"{self.stack}.json"

    @property
    def environ(self) -> dict[str, str]:
        """The engine's environment variables; in a sandbox free of what the user set for the real AWS and Pulumi."""
        backend = self.directory.as_uri()
        ours = {
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.directory / "passphrase"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        users = dict(os.environ)
        users.pop("PULUMI_CONFIG_PASSPHRASE", None)  # it would count more than our file
        if not self.surroundings.variables:
            return {"PULUMI_BACKEND_URL": backend, **users, **ours}
        return {
            **{name: value for name, value in users.items() if not name.startswith(("AWS_", "PULUMI_"))},
            **ours,
            "PULUMI_BACKEND_URL": backend,
            "PULUMI_HOME": str(self.directory / "home"),
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            **self.surroundings.variables,
        }


@dataclass(frozen=True)
class Outputs:
    """What the program exports."""

    instance_id: str
    public_ip: str
    security_group_id: str
    ingress_rule_id: str
    key_name: str
    zone: str


def preview(place: Place, args: Ec2HostArgs, emit: Emit) -> Mapping[str, int]:
    """How many resources `up` would create, update, leave the same, …; nothing on AWS changes."""
    session = _session(place, emit)
    with session.failures("previewing", args):
        return session.preview(args)


def up(
    place: Place, candidates: Sequence[Ec2HostArgs], find: Find, emit: Emit, *, refresh: bool = False
) -> tuple[Outputs, Ec2HostArgs]:
    """Make AWS have the first of the candidates, one a zone, that it has capacity for; and which of them that was.

    Raises `aws-no-capacity` if it has for none, `state-lost`, `state-corrupt`, `state-sealed`, `provision-locked`,
    `engine-killed`, and else the cause that AWS gave, or `provision-failed`.
    """
    session = _session(place, emit)
    for args, following in zip_longest(candidates, candidates[1:]):
        try:
            with session.failures("provisioning", args):
                return Outputs(**session.up(args, find, refresh=refresh)), args
        except MlopsEnvError as error:
            if error.code != _NO_CAPACITY:
                raise
            if following:
                emit(Event("note", message=f"{error.message}; trying {following.zone}"))
    raise MlopsEnvError(
        f"AWS has no {candidates[0].instance_type} free now in {', '.join(args.zone for args in candidates)}",
        code=_NO_CAPACITY,
        hint="repeat in some minutes: it goes on from what is there, of which nothing is billed; or `mlops-env down`, "
        "and `up` with another --instance-type or --region",
    )


def refresh(place: Place, find: Find, emit: Emit) -> None:
    """Have the state say what AWS says; raises as `up` does."""
    session = _session(place, emit)
    with session.failures("refreshing"):
        session.refresh(find)


def down(place: Place, find: Find, emit: Emit) -> None:
    """Remove from AWS what the state lists, then the stack; without a state it does nothing. Strays are not its matter.

    Raises as `up` does, and `provision-incomplete`. A state that cannot be used is set aside: tags find what it lists.
    """
    if place.state and not place.state.exists():
        return
    session = _session(place, emit)
    try:
        with session.failures("destroying"):
            session.destroy(find)
    except MlopsEnvError as error:
        if error.code not in _UNUSABLE:
            raise
        emit(Event("warning", message=f"{error.message}; it is set aside, and what there is will be found by tags"))
        if place.state:
            recovery.set_aside(place.state, place.directory / f"Pulumi.{place.stack}.yaml")


def outputs(place: Place, emit: Emit) -> Outputs | None:
    """What the last `up` exported; None if none came to its end."""
    if place.state and not place.state.exists():
        return None
    session = _session(place, emit)
    with session.failures("reading the state"):
        found = session.outputs()
    return Outputs(**found) if found else None


def _session(place: Place, emit: Emit) -> Session:
    from mlops_env.ec2.session import Session  # noqa: PLC0415 - pulumi takes 0.3 s to import

    return Session(place, emit)
