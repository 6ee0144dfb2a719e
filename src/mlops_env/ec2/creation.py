"""From a wish to a host that answers: asked, shown, recorded, made, and found again after any interruption."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.ec2 import arrival, costs, host_key, instance, inventory, offer, plan, price, reach, surroundings
from mlops_env.ec2.aws import need_extra
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlops_env.ec2.aws import Aws
    from mlops_env.ec2.instance import Instance
    from mlops_env.ec2.provision import Place
    from mlops_env.ec2.surroundings import Surroundings
    from mlops_env.environment import Environment
    from mlops_env.events import Emit
    from mlops_env_infra.args import Ec2HostArgs

_OF_ONE_HOST = ("outputs", "digest", "own_key", "armed_ttl", "deadline")
_KEY_FILES = ("user-data", "host_key", "host_key.pub", "known_hosts")


def provide(env: Environment, emit: Emit, agree: Callable[[], None], faults: Sequence[str] = ()) -> Environment:
    """The environment, saved, with a host that runs and answers: made, adopted, started, or as it was.

    What will be made, and what it costs, is shown before anything that costs is made; `agree` raises if it is not to
    be. A host that is as it should be is recognised by two questions to AWS, and no engine is started.
    """
    need_extra()
    env = in_its_region(env)
    around = surroundings.of(env, emit, start=True)
    surroundings.rehearse(env, faults)
    aws = around.aws(env)
    seen = look(env, aws, around)
    if _is_whole(env, seen):
        return _running(env, aws, seen, emit)
    env = _planned(env, aws, seen)
    if seen.instance is None:
        offer.show(env.record, emit)
        agree()
    env = env.save(host={**env.record.host, "identity": str(env.directory / "id_ed25519")})
    around = surroundings.with_engine(around, env, emit)
    env = env.save(cloud={**env.record.cloud, "engine": around.engine})
    env = _made(env, aws, around, seen, emit)
    arrival.wait(env, aws, instance.look(aws, env.record.id) or arrival.gone(), emit)
    return env


def start(env: Environment, emit: Emit) -> Environment:
    """The environment, saved, with its host, which was stopped by us or by its deadline, as it runs and answers."""
    around = surroundings.of(env, emit)
    aws = around.aws(env)
    return _running(env, aws, look(env, aws, around), emit)


def preview(env: Environment, emit: Emit) -> tuple[Environment, dict[str, int]]:
    """The environment as `up` would plan it, and how many resources the engine would do what with; nothing is made.

    Of an environment that is there it is the engine's own state that is compared; of another one nothing is kept.
    """
    from mlops_env.ec2 import provision  # noqa: PLC0415 - pulumi, for who makes something

    need_extra()
    env = in_its_region(env)
    around = surroundings.of(env, emit, start=True)
    surroundings.rehearse(env, ())
    aws = around.aws(env)
    env = _planned(env, aws, look(env, aws, around))
    offer.show(env.record, emit)
    around = surroundings.with_engine(around, env, emit)
    with tempfile.TemporaryDirectory() as name:
        known = env if env.directory.exists() else replace(env, directory=Path(name))
        return env, dict(provision.preview(place(known, around), candidates(known)[0], emit))


def stop(env: Environment, emit: Emit) -> Environment:
    """The environment, saved, with its host off; its disk stays."""
    around = surroundings.of(env, emit)
    aws = around.aws(env)
    instance.stop(aws, instance.look(aws, env.record.id) or arrival.gone(), emit)
    return env.save(cloud=costs.stopped(env.record.cloud))


@dataclass(frozen=True)
class Seen:
    """What AWS has of an environment, and from where we come, as a network of one address."""

    instance: Instance | None
    ids: frozenset[str]
    cidr: str


def look(env: Environment, aws: Aws, around: Surroundings) -> Seen:
    cloud, identity = env.record.cloud, env.record.id
    with ThreadPoolExecutor(3) as pool:
        found = pool.submit(instance.look, aws, identity)
        ids = pool.submit(instance.find_by_tag_all, aws, identity)
        cidr = cloud.get("allow") or pool.submit(instance.caller_address, around.address_url).result()
        return Seen(found.result(), ids.result(), cidr)


def place(env: Environment, around: Surroundings) -> Place:
    from mlops_env.ec2.provision import Place  # noqa: PLC0415 - only where an engine is wanted

    return Place(env.directory / "pulumi", around, f"{env.name}-{env.record.id[:8]}")


def finder(env: Environment, aws: Aws) -> Callable[[str], list[str]]:
    """Ids of what AWS has of one Pulumi type with the environment's tag."""
    return partial(inventory.identify, aws, env.record.id)


def candidates(env: Environment) -> list[Ec2HostArgs]:
    """What the program is to make, in each zone that comes into question; the zone where it is comes first."""
    from mlops_env_infra.args import Ec2HostArgs  # noqa: PLC0415 - comes with the extra

    cloud, chosen = env.record.cloud, offer.plan_of(env.record)
    zones = sorted(chosen.zones, key=lambda zone: zone != cloud.get("outputs", {}).get("zone"))
    return [
        Ec2HostArgs(
            environment=env.name,
            identity=env.record.id,
            owner=owner(),
            region=chosen.region,
            profile=cloud["profile"],
            zone=zone,
            instance_type=cloud["instance_type"],
            ami=chosen.ami,
            public_key=host_key.make(env.directory / "id_ed25519"),
            allowed_cidr=cloud["allowed_cidr"],
            user_data=_user_data(env),
            vpc_id=chosen.vpc_id,
            subnet_id=chosen.subnets.get(zone, ""),
            subnet_index=chosen.zones.index(zone),
            disk_gb=cloud["disk"],
            on_shutdown=cloud["ttl_action"],
        )
        for zone in zones
    ]


def owner() -> str:
    return f"{getpass.getuser()}@{platform.node()}"


def digest(env: Environment) -> str:
    """Of what the program makes of the wish; a door that moved is not its matter, nor what was settled once."""
    cloud = env.record.cloud
    wished = [cloud[key] for key in ("instance_type", "disk", "ttl_action")]
    return hashlib.sha256(json.dumps(wished).encode()).hexdigest()[:16]


def in_its_region(env: Environment) -> Environment:
    cloud = env.record.cloud
    found = surroundings.region(cloud["region"], cloud["profile"], is_sandbox=cloud["sandbox"])
    return env.changed(cloud={**cloud, "region": found})


def _is_whole(env: Environment, seen: Seen) -> bool:
    """Whether AWS has what the last `up` left, and nothing else is wanted now."""
    cloud = env.record.cloud
    made = cloud.get("outputs", {})
    lasting = {made.get(key) for key in ("instance_id", "security_group_id", "ingress_rule_id")}
    is_there = seen.instance is not None and seen.instance.id == made.get("instance_id")
    return is_there and lasting <= seen.ids and cloud.get("digest") == digest(env)


def _running(env: Environment, aws: Aws, seen: Seen, emit: Emit) -> Environment:
    """As it was; one that was stopped, by whomever, is started."""
    found = seen.instance or arrival.gone()
    if found.state == "running":
        emit(Event("resource", "ok", "host", f"{found.id} runs", fields={"id": found.id}))
    else:
        found = instance.start(aws, found, emit)
        env = env.changed(cloud=costs.started(env.record.cloud))
    env = reach.open_door(env.save(), aws, found, seen.cidr, emit)
    arrival.wait(env, aws, found, emit)
    return env


def _planned(env: Environment, aws: Aws, seen: Seen) -> Environment:
    """With everything about the host settled that is settled once; a host that is no more leaves nothing settled."""
    cloud: dict[str, Any] = {**env.record.cloud, "allowed_cidr": seen.cidr}
    if seen.instance is None:
        cloud = {key: value for key, value in cloud.items() if key not in {"plan", "price"}}
    if "plan" not in cloud or cloud["plan"]["instance_type"] != cloud["instance_type"]:
        wish = plan.Wish(cloud["region"], cloud["instance_type"], cloud["image"], cloud["disk"])
        chosen = plan.make(aws, wish)
        told = price.ask(aws, chosen)
        if told and cloud["sandbox"]:
            told = replace(told, source=f"AWS's list prices of {price.table_date()}, which the sandbox plays")
        settled = cloud.get("plan", {})
        kept = {key: settled[key] for key in ("ami", "vpc_id", "subnets", "zones") if key in settled}
        cloud |= {"plan": {**chosen.as_json(), **kept}, "price": told.as_json() if told else None}
    return env.changed(cloud=cloud)


def _user_data(env: Environment) -> str:
    from mlops_env_infra import userdata  # noqa: PLC0415 - comes with the extra

    path, key = env.directory / "user-data", env.directory / "host_key"
    if not path.exists():
        public = host_key.make(key)
        text = userdata.render(
            host_key=key.read_text("ascii"), host_key_public=public, ttl_seconds=env.record.cloud["ttl"] or None
        )
        host_key.write_secret(path, text.encode())
    return path.read_text(encoding="utf-8")


def _made(env: Environment, aws: Aws, around: Surroundings, seen: Seen, emit: Emit) -> Environment:
    from mlops_env.ec2 import provision  # noqa: PLC0415 - pulumi, for who makes something

    was_there = "outputs" in env.record.cloud
    if was_there and seen.instance is None:
        env = _as_before_the_first(env)
    emit(Event("note", message=f"engine    {around.engine}"))
    outputs, _ = provision.up(place(env, around), candidates(env), finder(env, aws), emit, refresh=was_there)
    if not env.known_hosts.exists():
        host_key.pin(env, (env.directory / "host_key.pub").read_text("ascii"))
    cloud = {**env.record.cloud, "outputs": asdict(outputs), "digest": digest(env)}
    ran = was_there and seen.instance is not None and seen.instance.state == "running"
    return env.save(cloud=cloud if ran else costs.started(cloud))


def _as_before_the_first(env: Environment) -> Environment:
    """What is known of a host that is no more is not true of the next one."""
    for name in _KEY_FILES:
        (env.directory / name).unlink(missing_ok=True)
    host = {key: env.record.host[key] for key in ("destination", "identity")}
    cloud = {key: value for key, value in env.record.cloud.items() if key not in _OF_ONE_HOST}
    return env.save(host=host, cloud=costs.stopped(cloud), run={})
