"""The instances that are containers: which they are, and what the API wants of them."""

from __future__ import annotations

import threading
from concurrent.futures import wait
from typing import TYPE_CHECKING

from mlops_env.sandbox import backend, traces
from mlops_env.sandbox.container import Host
from mlops_env.sandbox.yard import Yard

if TYPE_CHECKING:
    from pathlib import Path

    from moto.ec2.models.instances import Instance

    from mlops_env.sandbox.faults import Faults

_NOWHERE = "203.0.113.1"
"""Where callers come from as long as there is no network: an address for documentation, which nobody has."""

_PATIENCE_SECONDS = 5
_GROUP_ACTIONS = {
    "AuthorizeSecurityGroupIngress",
    "RevokeSecurityGroupIngress",
    "ModifySecurityGroupRules",
    "ModifyInstanceAttribute",
    "ModifyNetworkInterfaceAttribute",
}


class Hosts:
    """The containers of the environments that want them; other instances are moto's alone."""

    def __init__(self, directory: Path, faults: Faults) -> None:
        self.gateway = _NOWHERE
        self._directory = directory
        self._faults = faults
        self._without: set[str] = set()
        self._hosts: dict[str, Host] = {}
        self._yard: Yard | None = None
        self._opening = threading.Lock()

    def open(self, image: str) -> None:
        """Have a place for hosts; new ones are of this image. What an earlier process of this sandbox left goes."""
        with self._opening:
            if self._yard is None:
                client = traces.docker()
                traces.sweep(client, self._directory)
                self._yard = Yard(client, self._directory)
                self.gateway = self._yard.gateway
            self._yard.image = image

    def leave_without(self, identity: str) -> None:
        """Instances of this environment are moto's alone."""
        self._without.add(identity)

    def count(self) -> int:
        return len(self._hosts)

    def clear(self) -> None:
        """No host any more."""
        for host in self._hosts.values():
            host.do(host.remove, threading.Event()).result()
        self._hosts.clear()

    def run(self, instance: Instance, done: threading.Event) -> None:
        if self._yard is None or backend.identity(instance) in {"", *self._without}:
            done.set()
            return
        host = self._hosts[instance.id] = Host(instance, self._yard, self._faults.names)
        host.do(host.boot, done)

    def start(self, instance: Instance, done: threading.Event) -> None:
        if host := self._host(instance, done):
            host.do(host.start, done)

    def stop(self, instance: Instance, done: threading.Event) -> None:
        if host := self._host(instance, done):
            host.do(host.stop, done)

    def terminate(self, instance: Instance, done: threading.Event) -> None:
        if host := self._host(instance, done):
            del self._hosts[instance.id]
            host.do(host.remove, done)

    def reboot(self, instance: Instance) -> None:
        if host := self._host(instance, threading.Event()):
            host.do(host.reboot, threading.Event())

    def heed_groups(self, action: str) -> None:
        """A call that changes what a security group lets in is carried out when the hosts know."""
        if action in _GROUP_ACTIONS:
            wait([host.do(host.admit, threading.Event()) for host in self._hosts.values()], timeout=_PATIENCE_SECONDS)

    def console(self, identifier: str) -> str:
        """What an instance has said since its boot, the last of it."""
        host = self._hosts.get(identifier)
        return host.console() if host else "There is no machine to this instance of the sandbox."

    def _host(self, instance: Instance, done: threading.Event) -> Host | None:
        host = self._hosts.get(instance.id)
        if host is None:
            done.set()
        return host
