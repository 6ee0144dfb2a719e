"""What is put into a container before it boots as an instance: all in which it differs from its image."""

from __future__ import annotations

import io
import tarfile
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

import yaml

from mlops_env.sandbox import canned

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from moto.ec2.models.instances import Instance

_SSH = 22
_SEED = "var/lib/cloud/seed/nocloud"
_UNITS = "etc/systemd/system"
_FIRST_LINE = "#cloud-config"


def all_of(instance: Instance, faults: Collection[str]) -> bytes:
    """A tar to be unpacked at /."""
    login = {"name": canned.login(instance.image_id), "lock_passwd": True, "shell": "/bin/bash"}
    login |= {"groups": ["adm"], "sudo": ["ALL=(ALL) NOPASSWD:ALL"]}
    files = {
        f"{_SEED}/meta-data": yaml.safe_dump(_meta_data(instance)),
        f"{_SEED}/user-data": _user_data(instance, faults),
        "etc/cloud/cloud.cfg.d/95-login.cfg": yaml.safe_dump({"system_info": {"default_user": login}}),
        **_admission(instance),
    }
    links = {}
    if "ssh-lost" in faults:
        links[f"{_UNITS}/ssh.service"] = "/dev/null"
    if "apt-lock" in faults:
        links[f"{_UNITS}/multi-user.target.wants/apt-lock.service"] = f"/{_UNITS}/apt-lock.service"
    return _tar(files, links)


def admission(instance: Instance) -> bytes:
    """A tar of the files by which sshd lets in whom the instance's security groups let in; others it turns away."""
    return _tar(_admission(instance), {})


def host_name(instance: Instance) -> str:
    return "ip-" + str(instance.private_ip).replace(".", "-")


def _meta_data(instance: Instance) -> dict[str, Any]:
    pairs = instance.ec2_backend.key_pairs
    keys = [pairs[instance.key_name].public_key.strip()] if instance.key_name in pairs else []
    return {"instance-id": instance.id, "local-hostname": host_name(instance), "public-keys": keys}


def _user_data(instance: Instance, faults: Collection[str]) -> str:
    text = instance.user_data.decode() if instance.user_data else ""
    if "user-data" not in faults:
        return text or f"{_FIRST_LINE}\n{{}}\n"
    config = yaml.safe_load(text) if text.startswith(_FIRST_LINE) else {}
    # Commands become one script, so that the exit of the first is the end of them all.
    config = {**(config or {}), "runcmd": ["exit 1", *(config or {}).get("runcmd", [])]}
    return f"{_FIRST_LINE}\n{yaml.safe_dump(config)}"


def _admission(instance: Instance) -> dict[str, str]:
    rules = [rule for group in instance.security_groups for rule in group.ingress_rules]
    networks = [IPv4Network(rule.cidr_ipv4, strict=False) for rule in rules if rule.cidr_ipv4 and _is_for_ssh(rule)]
    lines = sorted({f"sshd: {_spelled(network)}\n" for network in networks})
    return {"etc/hosts.allow": "".join(lines), "etc/hosts.deny": "sshd: ALL\n"}


def _spelled(network: IPv4Network) -> str:
    """For libwrap, to which a mask of all ones is no mask at all."""
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if alone else network.with_netmask


def _is_for_ssh(rule: Any) -> bool:
    if rule.ip_protocol == "-1":
        return True
    return rule.ip_protocol == "tcp" and int(rule.from_port) <= _SSH <= int(rule.to_port)


def _tar(files: Mapping[str, str], links: Mapping[str, str]) -> bytes:
    """Only root reads the seed: user-data holds keys."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            content = text.encode()
            entry.size, entry.mode = len(content), 0o600 if name.startswith(_SEED) else 0o644
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return stream.getvalue()
