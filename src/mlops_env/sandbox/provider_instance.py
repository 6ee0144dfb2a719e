"""A host: made with everything in one call, its disk and its interface tagged like itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_env.sandbox.provider_kind import (
    VISIBLE_SECONDS,
    Kind,
    NotReady,
    as_list,
    found,
    remove,
    retag,
    tag_specification,
    tags_of,
    wait_for,
)

if TYPE_CHECKING:
    from mlops_env.sandbox.wire import Values

STATE_SECONDS = 600.0
"""How long an instance may take from one state to the next; the real provider's default for creation."""

_DISK = ("volumeType", "volumeSize", "encrypted", "deleteOnTermination", "iops", "throughput")
_METADATA = ("httpTokens", "httpEndpoint", "httpPutResponseHopLimit", "instanceMetadataTags")


class Instance(Kind):
    required = frozenset({"ami", "instanceType"})
    optional = frozenset({
        "subnetId", "availabilityZone", "vpcSecurityGroupIds", "keyName", "associatePublicIpAddress",
        "userData", "userDataReplaceOnChange", "instanceInitiatedShutdownBehavior",
        "rootBlockDevice", "metadataOptions", "tags", "volumeTags",
    })  # fmt: skip
    fixed = frozenset({"ami", "subnetId", "availabilityZone", "keyName", "associatePublicIpAddress"})
    computed = frozenset({"publicIp", "privateIp", "availabilityZone", "instanceState"})
    secrets = frozenset({"userData"})

    def create(self, ec2: Any, inputs: Values) -> str:
        launched = ec2.run_instances(
            MinCount=1,
            MaxCount=1,
            ImageId=inputs["ami"],
            InstanceType=inputs["instanceType"],
            **_given(inputs, keyName="KeyName", userData="UserData"),
            **_given(inputs, instanceInitiatedShutdownBehavior="InstanceInitiatedShutdownBehavior"),
            **_placement(inputs),
            **_disk(ec2, inputs),
            **_metadata(inputs),
            **_tags(inputs),
        )
        return str(launched["Instances"][0]["InstanceId"])

    def settle(self, ec2: Any, id_: str, _inputs: Values) -> None:
        wait_for(lambda: _describe(ec2, id_), f"{id_} is not visible yet", VISIBLE_SECONDS)
        _wait_for_state(ec2, id_, "running", via={"pending"})

    def is_settled(self, _ec2: Any, _id: str, live: Values) -> bool:
        return bool(live["instanceState"] != "pending")

    def look(self, ec2: Any, id_: str, _state: Values) -> Values | None:
        instance = _describe(ec2, id_)
        if not instance or instance["State"]["Name"] in {"shutting-down", "terminated"}:
            return None
        groups = sorted(group["GroupId"] for group in instance.get("SecurityGroups", ()))
        return {
            "ami": instance["ImageId"],
            "instanceType": instance["InstanceType"],
            "availabilityZone": instance["Placement"]["AvailabilityZone"],
            "instanceState": instance["State"]["Name"],
            "publicIp": instance.get("PublicIpAddress", ""),
            "privateIp": instance.get("PrivateIpAddress", ""),
            "tags": tags_of(instance),
            **({"vpcSecurityGroupIds": groups} if groups else {}),
        }

    def replaces(self, old: Values, new: Values) -> frozenset[str]:
        also = set()
        if old.get("rootBlockDevice", {}).get("encrypted") != new.get("rootBlockDevice", {}).get("encrypted"):
            also.add("rootBlockDevice")
        if new.get("userDataReplaceOnChange"):
            also.add("userData")
        return self.fixed | also

    def change(self, ec2: Any, id_: str, old: Values, new: Values) -> None:
        changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        super().change(ec2, id_, old, new)
        if "vpcSecurityGroupIds" in changed:
            ec2.modify_instance_attribute(InstanceId=id_, Groups=new["vpcSecurityGroupIds"])
        if "metadataOptions" in changed:
            ec2.modify_instance_metadata_options(InstanceId=id_, **_metadata(new)["MetadataOptions"])
        if "instanceInitiatedShutdownBehavior" in changed:
            behaviour = {"Value": new["instanceInitiatedShutdownBehavior"]}
            ec2.modify_instance_attribute(InstanceId=id_, InstanceInitiatedShutdownBehavior=behaviour)
        if changed & {"rootBlockDevice", "volumeTags"}:
            _change_disk(ec2, id_, old, new)
        if changed & {"instanceType", "userData"}:
            _change_stopped(ec2, id_, new, changed)

    def delete(self, ec2: Any, id_: str, _state: Values) -> None:
        remove(lambda: ec2.terminate_instances(InstanceIds=[id_]))
        wait_for(lambda: _is_terminated(ec2, id_), f"{id_} is not terminated", STATE_SECONDS)


def _describe(ec2: Any, id_: str) -> Any | None:
    reservation = found(lambda: ec2.describe_instances(InstanceIds=[id_])["Reservations"])
    return reservation["Instances"][0] if reservation else None


def _is_terminated(ec2: Any, id_: str) -> bool:
    instance = _describe(ec2, id_)
    return not instance or instance["State"]["Name"] == "terminated"


def _wait_for_state(ec2: Any, id_: str, state: str, *, via: set[str]) -> None:
    def arrived() -> bool:
        instance = _describe(ec2, id_)
        now = instance["State"]["Name"] if instance else "gone"
        if now != state and now not in via:
            reason = (instance or {}).get("StateReason", {}).get("Message", "")
            raise NotReady(f"{id_} is {now} instead of {state}: {reason or 'AWS gives no reason'}")
        return now == state

    wait_for(arrived, f"{id_} is not {state}", STATE_SECONDS)


def _change_stopped(ec2: Any, id_: str, new: Values, changed: set[str]) -> None:
    """AWS takes these only from an instance that is stopped."""
    ec2.stop_instances(InstanceIds=[id_])
    _wait_for_state(ec2, id_, "stopped", via={"running", "stopping"})
    if "instanceType" in changed:
        ec2.modify_instance_attribute(InstanceId=id_, InstanceType={"Value": new["instanceType"]})
    if "userData" in changed:
        ec2.modify_instance_attribute(InstanceId=id_, UserData={"Value": new.get("userData", "").encode()})
    ec2.start_instances(InstanceIds=[id_])
    _wait_for_state(ec2, id_, "running", via={"stopped", "pending"})


def _change_disk(ec2: Any, id_: str, old: Values, new: Values) -> None:
    instance = _describe(ec2, id_)
    for device in instance["BlockDeviceMappings"] if instance else ():
        volume = device["Ebs"]["VolumeId"]
        retag(ec2, volume, {"tags": _disk_tags(old)}, {"tags": _disk_tags(new)})
        before, after = (_given(side.get("rootBlockDevice", {}), volumeSize="Size", volumeType="VolumeType",
                                iops="Iops", throughput="Throughput") for side in (old, new))  # fmt: skip
        if before != after:
            ec2.modify_volume(VolumeId=volume, **after)


def _given(values: Values, **names: str) -> dict[str, Any]:
    return {theirs: values[ours] for ours, theirs in names.items() if ours in values}


def _placement(inputs: Values) -> dict[str, Any]:
    zone = {"Placement": {"AvailabilityZone": inputs["availabilityZone"]}} if "availabilityZone" in inputs else {}
    if "associatePublicIpAddress" not in inputs:
        return {**zone, **_given(inputs, subnetId="SubnetId", vpcSecurityGroupIds="SecurityGroupIds")}
    interface = {
        "DeviceIndex": 0,
        "AssociatePublicIpAddress": inputs["associatePublicIpAddress"],
        "DeleteOnTermination": True,
        **_given(inputs, subnetId="SubnetId", vpcSecurityGroupIds="Groups"),
    }
    return {**zone, "NetworkInterfaces": [interface]}


def _disk(ec2: Any, inputs: Values) -> dict[str, Any]:
    disk = inputs.get("rootBlockDevice")
    if not disk:
        return {}
    image = found(lambda: ec2.describe_images(ImageIds=[inputs["ami"]])["Images"])
    settings = _given(disk, **{name: name[0].upper() + name[1:] for name in _DISK})
    device = image["RootDeviceName"] if image else "/dev/xvda"
    return {"BlockDeviceMappings": [{"DeviceName": device, "Ebs": {"DeleteOnTermination": True, **settings}}]}


def _metadata(inputs: Values) -> dict[str, Any]:
    options = inputs.get("metadataOptions")
    return {"MetadataOptions": _given(options, **{n: n[0].upper() + n[1:] for n in _METADATA})} if options else {}


def _tags(inputs: Values) -> dict[str, Any]:
    specifications = tag_specification(inputs, "instance", "network-interface").get("TagSpecifications", [])
    if _disk_tags(inputs):
        specifications.append({"ResourceType": "volume", "Tags": as_list(_disk_tags(inputs))})
    return {"TagSpecifications": specifications} if specifications else {}


def _disk_tags(inputs: Values) -> dict[str, str]:
    return {**inputs.get("volumeTags", {}), **inputs.get("rootBlockDevice", {}).get("tags", {})}
