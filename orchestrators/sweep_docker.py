"""What Docker keeps of an environment: found by its label, removed, counted. For sweep.py."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from engine import LABEL, Engine
from failures import Failure
from places import pulled_images

if TYPE_CHECKING:
    from pathlib import Path

_MARK = "mlops-env"  # in the commands by which our images are built
_BORROWED = ("from local", "pulled from")  # a base image's part of the build cache
_PRUNE_SECONDS = 300

Counts = dict[str, tuple[int, int]]  # kind: found, left


def sweep(identity: str, host: Path) -> Counts:
    """Found and left of each kind; nothing at all where Docker has nothing of ours and never had."""
    may_have = pulled_images(host).exists()
    try:
        engine = Engine.here()
        counts = _labelled(engine, identity)
        counts["image"] = _plus(counts["image"], _pulled(engine, host))
        if may_have or any(found for found, _ in counts.values()):
            return {**counts, "build-cache": _cache(engine)}
    except Failure as failure:
        if may_have:
            print(f"what Docker keeps of this environment cannot be asked: {failure}", file=sys.stderr)
            return {"container": (1, 1)}
    return {}


def _labelled(engine: Engine, identity: str) -> Counts:
    """Containers first: they use all the others."""
    containers = engine.containers(identity)
    for container in containers:
        engine.remove(f"/containers/{container.id}", force="1", v="1")
    counts = {"container": (len(containers), len(engine.containers(identity)))}
    for kind, key in (("networks", "Id"), ("volumes", "Name"), ("images", "Id")):
        found = engine.find(kind, identity)
        for one in found:
            engine.remove(f"/{kind}/{one[key]}", **({"force": "1"} if kind == "images" else {}))
        counts[kind.removesuffix("s")] = (len(found), len(engine.find(kind, identity)))
    return counts


def _pulled(engine: Engine, host: Path) -> tuple[int, int]:
    """Base images that came here for us, unless somebody else has made something of them meanwhile."""
    try:
        names = set(pulled_images(host).read_text(encoding="utf-8").split())
    except OSError:
        return 0, 0
    removed = sum(engine.remove(f"/images/{name}") for name in names if engine.image(name))
    return removed, 0


def _cache(engine: Engine) -> tuple[int, int]:
    """What building our images left behind; it stays while another environment's images share it."""
    if engine.get("/images/json", filters=json.dumps({"label": [LABEL]})):
        return 0, 0
    ours = _ours(engine.get("/system/df").get("BuildCache") or [])
    if ours:
        pattern = f'"^({"|".join(sorted(ours))})$"'
        query = {"all": "1", "filters": json.dumps({"id": [pattern]})}
        engine.call("POST", "/build/prune", query, seconds=_PRUNE_SECONDS)
    left = _ours(engine.get("/system/df").get("BuildCache") or []) if ours else set()
    return len(ours), len(left & ours)


def _ours(records: list[dict[str, Any]]) -> set[str]:
    """The records of our commands, with what lies below and above them, but for the base images."""
    parents = {one["ID"]: set(one.get("Parents") or [one.get("Parent", "")]) for one in records}
    borrowed = {one["ID"] for one in records if one["Description"].startswith(_BORROWED)}
    ours = {one["ID"] for one in records if _MARK in one["Description"]}
    while True:
        below = {parent for one in ours for parent in parents[one] if parent in parents}
        above = {one for one, under in parents.items() if under & ours}
        more = ours | below | above
        if more - borrowed == ours:
            return ours
        ours = more - borrowed


def _plus(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
