"""What a host in the cloud has cost so far: from when to when it ran, as far as we know, times the list price."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.ec2.price import Price

_HOUR = 3600.0


def started(cloud: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with a host that runs from now on."""
    now = time.time()
    return {**stopped(cloud), "created": cloud.get("created") or now, "ran": [*cloud.get("ran", []), [now, None]]}


def stopped(cloud: Mapping[str, Any], when: float | None = None) -> dict[str, Any]:
    """The same, with a host that runs no more since then, or since its deadline if that was before."""
    end = min(when or time.time(), cloud.get("deadline") or float("inf"))
    ran = [[begin, max(begin, end) if until is None else until] for begin, until in cloud.get("ran", [])]
    return {**cloud, "ran": ran}


def accrued(cloud: Mapping[str, Any], price: Price) -> float:
    """USD until now: instance and address while it ran, the disk since it was made."""
    now = time.time()
    hours: float = sum((until or now) - begin for begin, until in cloud.get("ran", [])) / _HOUR
    disk_hours: float = (now - cloud["created"]) / _HOUR if cloud.get("created") else 0.0
    return hours * (price.instance_hour + price.address_hour) + disk_hours * price.disk_hour
