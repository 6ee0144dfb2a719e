"""Who changed what since two copies were last the same, and what follows from it. Builds plans, does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RUNS = ".mlops-env/runs/"
HISTORY = (RUNS, ".mlops-env/mlflow/")


@dataclass(frozen=True)
class Plan:
    """What is to happen to the target. `conflicts` has, by name, what stands in the way there: mostly the file itself.

    `base` is what both sides have in common when nothing at all is sent.
    """

    send: tuple[str, ...]
    delete: tuple[str, ...]
    left: tuple[str, ...]
    conflicts: Mapping[str, str]
    base: Mapping[str, str]


def make_plan(base: Mapping[str, str], source: Mapping[str, str], target: Mapping[str, str]) -> Plan:
    """Compare versions by name, as of the last exchange, of the source and of the target now.

    Whoever differs from the base has changed. A change outlives a deletion, and a source's change a deletion there.
    """
    send, left, conflicts = [], [], {}
    source = {name: version for name, version in source.items() if not version.startswith("! ")}
    delete = [name for name, was in base.items() if name not in source and target.get(name) == was]
    delete = [name for name in delete if not name.startswith(HISTORY)]  # who makes room there wants it kept here
    common = {name: was for name, was in base.items() if name not in delete}
    for name in sorted(base.keys() | source.keys()):
        was, ours, theirs = base.get(name), source.get(name), _without_obstacle(name, target, delete)
        if ours == theirs:
            common.pop(name, None)
            common |= {name: ours} if ours else {}
        elif ours == was:
            left.append(name)
        elif ours and theirs in (None, was):
            send.append(name)
        elif ours and theirs:
            conflicts[name] = theirs[2:] if theirs.startswith("! ") else name
        elif name not in delete:
            left.append(name)
    return Plan(tuple(send), tuple(delete), tuple(left), conflicts, common)


def _without_obstacle(name: str, target: Mapping[str, str], delete: Sequence[str]) -> str | None:
    """The target's version; None also where what stands in its way is to be deleted."""
    version = target.get(name)
    if version and version.startswith("! "):
        obstacle = version[2:]
        if obstacle in delete:
            return None
        if obstacle == name and any(other.startswith(f"{name}/") for other in delete):
            return None
    return version


def supposed_base(
    base: Mapping[str, str],
    here: Mapping[str, str],
    there: Mapping[str, str],
    generated_here: Mapping[str, str],
    generated_there: Mapping[str, str],
) -> dict[str, str]:
    """The base, completed where it says nothing by what we generated on either side: that is nobody's change."""
    supposed = dict(base)
    for name in here.keys() & there.keys() - base.keys():
        for versions, generated in ((here, generated_here), (there, generated_there)):
            if is_made(versions[name], generated.get(name)):
                supposed[name] = versions[name]
                break
    return supposed


def is_made(version: str, digest: str | None) -> bool:
    """Whether the content is the one that we generated, and so nobody's change."""
    return version.split("+", 1)[0] == digest
