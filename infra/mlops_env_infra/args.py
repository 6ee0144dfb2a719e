"""What one host is to be. Free of pulumi, so that who only compares need not wait for its import."""

from __future__ import annotations

import ipaddress
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlops_env_infra import tags

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAST_DISK_GB = 30
_MOST_USER_DATA = 16 * 1024  # bytes: the limit of RunInstances


@dataclass(frozen=True)
class Ec2HostArgs:
    """What one host is to be; raises ValueError, with everything that is wrong, where it cannot be that.

    Without `vpc_id` and `subnet_id` it gets a VPC of its own. There, each zone that is tried takes another
    `subnet_index`: the subnet of the next zone is made before that of the last one is gone. Without `zone` AWS chooses.
    `on_shutdown`, "stop" or "terminate", is what becomes of a host that powers itself off.
    """

    environment: str
    identity: str
    owner: str
    region: str
    zone: str
    instance_type: str
    ami: str
    public_key: str
    allowed_cidr: str
    user_data: str = field(repr=False)  # has the host's private key
    profile: str = ""
    vpc_id: str = ""
    subnet_id: str = ""
    subnet_index: int = 0
    disk_gb: int = _LEAST_DISK_GB
    on_shutdown: str = "stop"

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def tags(self) -> dict[str, str]:
        return tags.of(self.environment, self.identity, self.owner)

    @property
    def physical_name(self) -> str:
        return tags.physical_name(self.environment, self.identity)


def _problems(args: Ec2HostArgs) -> Iterator[str]:
    for name in ("environment", "owner", "region", "instance_type", "ami", "public_key", "user_data"):
        if not getattr(args, name):
            yield f"{name} is empty"
    if not _is_uuid(args.identity):
        yield f"identity is {args.identity!r}, not a UUID"
    if not _is_one_address(args.allowed_cidr):
        yield f"allowed_cidr is {args.allowed_cidr!r}, not one IPv4 address such as 203.0.113.7/32"
    if bool(args.vpc_id) != bool(args.subnet_id):
        yield "vpc_id and subnet_id go together: both, or neither for a VPC of its own"
    if not 0 <= args.subnet_index <= 255:  # noqa: PLR2004 - it is one byte of an address
        yield f"subnet_index is {args.subnet_index}, not 0 to 255"
    if args.disk_gb < _LEAST_DISK_GB:
        yield f"disk_gb is {args.disk_gb}, less than {_LEAST_DISK_GB}"
    if args.on_shutdown not in {"stop", "terminate"}:
        yield f"on_shutdown is {args.on_shutdown!r}, not 'stop' or 'terminate'"
    if len(args.user_data.encode()) > _MOST_USER_DATA:
        yield f"user_data has {len(args.user_data.encode())} bytes; EC2 takes {_MOST_USER_DATA}"


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_one_address(cidr: str) -> bool:
    try:
        return cidr == f"{ipaddress.IPv4Address(cidr.removesuffix('/32'))}/32"
    except ValueError:
        return False
