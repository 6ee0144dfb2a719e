"""What `up` is about to make on AWS and what it costs, for people to agree to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.ec2 import plan, price
from mlops_env.events import Event

if TYPE_CHECKING:
    from mlops_env.ec2.plan import Plan
    from mlops_env.ec2.price import Price
    from mlops_env.environment import Record
    from mlops_env.events import Emit


def show(record: Record, emit: Emit) -> None:
    cloud, chosen = record.cloud, plan_of(record)
    others = f" or one of {len(chosen.zones) - 1} other zones" if chosen.zones[1:] else ""
    network = "the default network" if chosen.vpc_id else "a network of its own"
    lines = [
        f"host      {chosen.instance_type} ({chosen.vcpus} vCPU, {chosen.memory_gb:g} GB), {chosen.image}",
        f"place     {chosen.zones[0]}{others}, in {network}",
        f"door      port 22, for {cloud['allowed_cidr']} only; the host has no role",
        f"disk      {cloud['disk']} GiB gp3, encrypted",
        *price_lines(record),
        f"lifetime  {lifetime(record)}",
        *chosen.notes,
    ]
    for line in lines:
        emit(Event("note", message=line))


def price_lines(record: Record) -> list[str]:
    told = price_of(record)
    if told is None:
        return ["price     what AWS takes for it: neither its price list nor our table has it"]
    return [
        f"price     ${told.per_hour:.3f} an hour, ${told.per_month:.2f} a month, stopped ${told.stopped_per_month:.2f}",
        f"          ({told.source}; before tax and traffic)",
        *(["          nothing of that here: it is a rehearsal"] if record.cloud["sandbox"] else []),
    ]


def bill(record: Record) -> str:
    """What it costs, in a few words."""
    told = price_of(record)
    text = f"${told.per_hour:.3f} an hour; stopped, ${told.stopped_per_month:.2f} a month" if told else "what AWS takes"
    return f"nothing: a rehearsal of {text}" if record.cloud["sandbox"] else text


def lifetime(record: Record) -> str:
    ttl = record.cloud["ttl"]
    if not ttl:
        return "none: it runs until `stop` or `down`"
    end = "stops itself" if record.cloud["ttl_action"] == "stop" else "ends itself, disk and all,"
    return f"{end} after {duration(ttl)}; `down` alone ends what the disk costs"


def duration(seconds: float) -> str:
    """Such as 7 h 59 min."""
    hours, minutes = divmod(max(0, round(seconds / 60)), 60)
    return " ".join([*([f"{hours} h"] if hours else []), *([f"{minutes} min"] if minutes or not hours else [])])


def plan_of(record: Record) -> Plan:
    return plan.from_json(record.cloud["plan"])


def price_of(record: Record) -> Price | None:
    told = record.cloud.get("price")
    return price.from_json(told) if told else None
