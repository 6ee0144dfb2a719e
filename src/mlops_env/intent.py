"""What the record of an environment is to say, by what is asked now and what was asked before."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.config import FILE, Config, Ec2, Local, Ssh, default_orchestrator, default_runtime
from mlops_env.environment import find
from mlops_env.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.environment import Environment

_CLOUD_DEFAULTS: Mapping[str, Any] = {
    "region": "",
    "profile": "",
    "instance_type": "t3.large",
    "image": "debian12",
    "disk": 30,
    "ttl": 8 * 3600,
    "ttl_action": "stop",
    "allow": "",
    "sandbox": False,
    "no_host": False,
}
_IDENTITY = ("region", "profile", "image", "ttl_action", "sandbox", "no_host")
"""What a host in the cloud is known by, or had settled when it was made."""

_CHANGEABLE = ("instance_type", "disk", "ttl", "allow")


def settle(asked: Config, found: Environment | None) -> dict[str, Any]:
    """What the record is to say: what is asked for now, else what was asked for before, else the defaults.

    Raises `UsageError` where the request contradicts the identity of the environment that exists.
    """
    if found:
        return {**_settled_before(asked, found), "stopped": False}
    workspace = asked.workspace or Path.home() / "mlops-env" / asked.name
    _refuse_foreign(workspace, asked.name)
    target, host, cloud = _place(asked)
    return {
        "target": target,
        "host": host,
        "cloud": {**_CLOUD_DEFAULTS, **cloud} if target == "ec2" else {},
        "orchestrator": asked.orchestrator or default_orchestrator(),
        "runtime": asked.runtime or default_runtime(target),
        "workspace": str(workspace),
        "own_workspace": (workspace / FILE).is_file() and not _is_our_copy(workspace),
    }


def _settled_before(asked: Config, found: Environment) -> dict[str, Any]:
    record = found.record
    target, host, cloud = _place(asked)
    _refuse_difference(asked, found, target, host, cloud)
    orchestrator = asked.orchestrator or record.orchestrator
    return {
        "target": record.target,
        # Another key for the same host is no other host.
        "host": {**record.host, **{key: value for key, value in host.items() if value}}
        if target == record.target == "ssh" and asked.target
        else record.host,
        "cloud": {**record.cloud, **{key: cloud[key] for key in _CHANGEABLE if key in cloud}},
        "orchestrator": orchestrator,
        "runtime": asked.runtime or record.runtime,
        "workspace": record.workspace,
        "own_workspace": record.own_workspace,
        "run": {} if orchestrator != record.orchestrator else record.run,
    }


def _refuse_difference(
    asked: Config, found: Environment, target: str, host: Mapping[str, Any], cloud: Mapping[str, Any]
) -> None:
    """A `UsageError` where the request names another place than the environment has."""
    record = found.record
    place = ("is on", _spoken(record.target, record.host), _spoken(target, host), asked.target is not None)
    if record.target == target == "ec2":
        place = ("is on", "", "", False)
    settled = [
        (f"has {key.replace('_', ' ')}", record.cloud.get(key), cloud[key], True) for key in _IDENTITY if key in cloud
    ]
    elsewhere = _is_elsewhere(asked.workspace, found)
    for what, before, now, is_asked in (
        place,
        *(settled if record.target == "ec2" else []),
        ("has its workspace in", record.workspace, str(asked.workspace), elsewhere),
    ):
        if is_asked and before != now:
            raise UsageError(
                f"environment {asked.name!r} {what} {before}, not {now}",
                code="environment-differs",
                hint=f"another environment: `mlops-env up --name OTHER`; or end this one: "
                f"`mlops-env down --name {asked.name}`",
            )


def _place(asked: Config) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The target, what is known of its host, and what was asked of the cloud."""
    match asked.target:
        case Ssh(destination, identity):
            return "ssh", {"destination": destination, "identity": str(identity) if identity else None}, {}
        case Ec2() as wish:
            cloud = {key: value for key, value in asdict(wish).items() if value not in {None, False}}
            return "ec2", {"destination": f"mlops-env-{asked.name}", "identity": None}, cloud
        case Local() | None:
            return "local", {}, {}


def _spoken(target: str, host: Mapping[str, Any]) -> str:
    return f"ssh {host['destination']}" if target == "ssh" else f"target {target}"


def _is_elsewhere(workspace: Path | None, found: Environment) -> bool:
    return workspace is not None and not _same(workspace, found.workspace)


def _same(one: Path, other: Path) -> bool:
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _refuse_foreign(workspace: Path, name: str) -> None:
    """A folder of somebody else's files gets no taxi pipeline, and one workspace has one environment."""
    if (workspace / FILE).is_file():
        owner = _owner(workspace)
        other = find(owner["name"]) if owner else None
        if other and owner and other.record.id == owner["id"]:
            raise UsageError(
                f"{workspace} is the workspace of environment {other.name!r} already",
                code="workspace-in-use",
                hint=f"use that one: `mlops-env up --name {other.name}`; or `mlops-env down --name {other.name}` first",
            )
    elif workspace.is_dir() and any(path.name != ".mlops-env" for path in workspace.iterdir()):
        raise UsageError(
            f"{workspace} has files, but no {FILE}",
            code="no-pipeline-file",
            hint=f'`mlops-env init --workspace {workspace} --run "python train.py"` describes your pipeline; an empty '
            f"folder gets the taxi pipeline; --name {name}2 leaves this folder alone",
        )


def _owner(workspace: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads((workspace / ".mlops-env" / "environment.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _is_our_copy(workspace: Path) -> bool:
    """Whether an earlier `up` laid the taxi pipeline out there: its manifest names the pipeline file."""
    try:
        manifest = json.loads((workspace / ".mlops-env" / "manifest.json").read_text(encoding="utf-8"))
        return FILE in manifest.get("pipeline", {})
    except (OSError, ValueError, AttributeError):
        return False
