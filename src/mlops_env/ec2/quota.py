"""Whether an instance fits into the account's vCPU quota, before AWS refuses it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_env.ec2.aws import named
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from mlops_env.ec2.aws import Aws

# Codes of the service quotas "Running On-Demand … instances" (unit: vCPU), by the letters that an instance type begins
# with: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-on-demand-instances.html#ec2-on-demand-instances-limits
_CODES = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"), "L-1216C47A"),
    **dict.fromkeys(("g", "gr", "vt"), "L-DB2E81BA"),
    "dl": "L-6E869C2A",
    "f": "L-74FC7D96",
    "hpc": "L-F7808C92",
    "inf": "L-1945791B",
    "p": "L-417A185B",
    "trn": "L-2C3B7624",
    "u": "L-43DA4232",
    "x": "L-7295265B",
}


@dataclass(frozen=True)
class Quota:
    """Of the family an instance type belongs to, in vCPU; a `note` says why it is not known."""

    code: str = ""
    region: str = ""
    limit: int = 0
    used: int = 0
    note: str = ""

    def check(self, instance_type: str, vcpus: int) -> None:
        """Raise if that instance would not fit in, as far as is known."""
        left = max(self.limit - self.used, 0)
        if self.note or vcpus <= left:
            return
        raise MlopsEnvError(
            f"{instance_type} needs {vcpus} vCPU, you have {left} of {self.limit} left in {self.region}",
            code="aws-vcpu-quota",
            hint="stop or end instances there, use a smaller --instance-type or another --region, or ask for more: "
            f"console, Service Quotas, Amazon EC2, {self.code}",
        )


def ask(aws: Aws, instance_type: str) -> Quota:
    """Never fails: who may not ask finds out when AWS starts the instance."""
    code = _code(instance_type)
    if not code:
        return Quota(note=f"not asked for the vCPU quota: it is not known which one counts {instance_type}")
    try:
        with named("asking for the vCPU quota", region=aws.region, profile=aws.profile):
            told = aws.client("service-quotas").get_service_quota(ServiceCode="ec2", QuotaCode=code)
            return Quota(code, aws.region, int(told["Quota"]["Value"]), _running_vcpus(aws, code))
    except MlopsEnvError as error:
        return Quota(note=f"the vCPU quota is not known: {error.message}")


def _code(instance_type: str) -> str:
    letters = re.match(r"[a-z]+", instance_type)
    return _CODES.get(letters[0], "") if letters else ""


def _running_vcpus(aws: Aws, code: str) -> int:
    """What counts against the quota now: on-demand instances that run or are about to."""
    ec2 = aws.client("ec2")
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    running = [
        instance["InstanceType"]
        for page in ec2.get_paginator("describe_instances").paginate(Filters=states)
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
        if "InstanceLifecycle" not in instance and _code(instance["InstanceType"]) == code
    ]
    if not running:
        return 0
    chosen = [{"Name": "instance-type", "Values": sorted(set(running))}]
    vcpus = {
        kind["InstanceType"]: kind["VCpuInfo"]["DefaultVCpus"]
        for page in ec2.get_paginator("describe_instance_types").paginate(Filters=chosen)
        for kind in page["InstanceTypes"]
    }
    return sum(vcpus[name] for name in running)
