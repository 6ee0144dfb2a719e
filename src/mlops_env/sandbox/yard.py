"""Where the containers of a sandbox stand: their network, and what they have in common."""

from __future__ import annotations

import threading
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from mlops_env.sandbox import traces

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.networks import Network

_OLD_CGROUPS = {"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup", "mode": "rw"}}
_TRIES = 3
_RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))


class Yard:
    """The network of the hosts, and what they have in common."""

    def __init__(self, client: DockerClient, directory: Path) -> None:
        self.client = client
        self.image = ""
        self.labels = {traces.LABEL: traces.digest(directory)}
        self.network = _make_network(client, self.labels)
        self.network.reload()
        plan = self.network.attrs["IPAM"]["Config"][0]
        self.gateway, self._subnet = str(plan["Gateway"]), IPv4Network(plan["Subnet"])
        self._last = IPv4Address(self.gateway)
        self._choosing = threading.Lock()
        self.is_unified = client.info().get("CgroupVersion") == "2"
        self.volumes = _resolvers(directory) | ({} if self.is_unified else _OLD_CGROUPS)

    def next_address(self) -> str:
        """Another one each time, until all have been had."""
        with self._choosing:
            self._last += 1
            if self._last >= self._subnet.broadcast_address:
                self._last = IPv4Address(self.gateway) + 1
            return str(self._last)


def _make_network(client: DockerClient, labels: dict[str, str]) -> Network:
    """One in which addresses can be chosen. Which are free here Docker knows: it is asked by a network that goes."""
    name = f"mlops-env-sandbox-{labels[traces.LABEL]}"
    for tries_left in reversed(range(_TRIES)):
        probe = client.networks.create(name, labels=labels)
        probe.reload()
        found = probe.attrs["IPAM"]["Config"][0]
        probe.remove()
        subnet = IPv4Network(found["Subnet"])
        gateway = found.get("Gateway") or str(subnet.network_address + 1)
        pool = IPAMPool(subnet=str(subnet), gateway=gateway)
        try:
            return client.networks.create(name, labels=labels, ipam=IPAMConfig(pool_configs=[pool]))
        except APIError:  # somebody else was given these addresses meanwhile
            if not tries_left:
                raise
    raise AssertionError


def _resolvers(directory: Path) -> dict[str, dict[str, str]]:
    """This machine's, if others can use them: an engine in a host cannot use the one that engines put there."""
    for candidate in _RESOLVERS:
        text = candidate.read_text(encoding="utf-8") if candidate.is_file() else ""
        servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
        if servers and not any(server.startswith("127.") or server == "::1" for server in servers):
            own = directory / "resolv.conf"
            own.write_text(text, encoding="utf-8")
            return {str(own): {"bind": "/etc/resolv.conf", "mode": "ro"}}
    return {}
