"""An instance as a container with systemd, sshd and cloud-init: it follows what the API says, and the API it."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

from docker.errors import DockerException, NotFound
from requests.exceptions import RequestException

from mlops_env.sandbox import backend, host_files
from mlops_env.sandbox.timing import goal

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker.models.containers import Container
    from moto.ec2.models.instances import Instance

    from mlops_env.sandbox.yard import Yard

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 20
_CONSOLE_LINES = 50
_REBOOT = 129
"""How the first process of a container ends that asked for a reboot: by SIGHUP; for a halt it is SIGINT."""

# As little as lets systemd, and an engine, run in a container.
_PRIVILEGES: dict[str, Any] = {
    "cap_add": ["ALL"],
    "cap_drop": ["SYS_RESOURCE"],
    "security_opt": ["seccomp=unconfined", "apparmor=unconfined"],
    "device_cgroup_rules": ["a *:* rwm"],
    "tmpfs": {"/run": "", "/run/lock": ""},
}
_OPEN_PATHS: dict[str, list[str]] = {"MaskedPaths": [], "ReadonlyPaths": []}


class Host:
    """One container. What is to be done with it is done in the order in which it was asked for."""

    def __init__(self, instance: Instance, yard: Yard, faults: frozenset[str]) -> None:
        self._instance, self._yard, self._faults = instance, yard, faults
        self._name = f"mlops-env-{instance.id}"
        self._set_address(None)
        self._jobs = ThreadPoolExecutor(1, thread_name_prefix=instance.id)
        self._container: Container | None = None
        self._is_watched = False

    def do(self, job: Callable[[], None], done: threading.Event) -> Future[None]:
        """`done` is set when it has been done, or cannot be, since the container has been removed."""
        try:
            return self._jobs.submit(self._tried, job, done)
        except RuntimeError:
            done.set()
            nothing: Future[None] = Future()
            nothing.set_result(None)
            return nothing

    def _tried(self, job: Callable[[], None], done: threading.Event) -> None:
        try:
            job()
        except NotFound:
            _log.info("%s: %s: its container is gone", self._instance.id, job.__name__)
            backend.terminate(self._instance, "Server.InternalError", "Internal error")
            self.remove()
        except Exception:  # noqa: BLE001 - a thread cannot raise, and the instance has to end somehow
            _log.exception("%s: %s failed", self._instance.id, job.__name__)
            backend.terminate(self._instance, "Server.InternalError", "Internal error on launch")
            with contextlib.suppress(DockerException, RequestException):
                self.remove()
        finally:
            done.set()

    def boot(self) -> None:
        yard = self._yard
        yard.client.volumes.create(self._name, labels=self._labels())
        address = yard.next_address()
        self._container = self._made(address)
        self._container.put_archive("/", host_files.all_of(self._instance, self._faults))
        self._power_on(address)

    def _made(self, address: str) -> Container:
        """By the plain API: the SDK's own way leaves no room for `_OPEN_PATHS`."""
        yard, api = self._yard, self._yard.client.api
        network = str(yard.network.name)
        settings = api.create_host_config(
            binds={**yard.volumes, self._name: {"bind": "/var/lib/docker", "mode": "rw"}},
            network_mode=network,
            cgroupns="private" if yard.is_unified else None,
            **_PRIVILEGES,
        )
        made = api.create_container(
            yard.image,
            name=self._name,
            hostname=host_files.host_name(self._instance),
            labels=self._labels(),
            host_config={**settings, **_OPEN_PATHS},
            networking_config={"EndpointsConfig": {network: {"IPAMConfig": {"IPv4Address": address}}}},
        )
        return yard.client.containers.get(made["Id"])

    def _labels(self) -> dict[str, str]:
        own = {"mlops-env.instance": self._instance.id, "mlops-env.environment": backend.identity(self._instance)}
        return {**self._yard.labels, **own}

    def start(self) -> None:
        self._set_address(None)
        address = self._yard.next_address()
        self._yard.network.disconnect(self._there(), force=True)
        self._yard.network.connect(self._there(), ipv4_address=address)
        self._power_on(address)

    def _power_on(self, address: str) -> None:
        self._there().start()
        self._set_address(address)
        _log.info("%s runs at %s", self._instance.id, address)
        self._watch()

    def stop(self) -> None:
        self._there().stop(timeout=_GRACE_SECONDS)

    def reboot(self) -> None:
        self._there().restart(timeout=_GRACE_SECONDS)

    def admit(self) -> None:
        self._there().put_archive("/", host_files.admission(self._instance))

    def remove(self) -> None:
        with contextlib.suppress(NotFound):
            self._there().remove(force=True, v=True)
        with contextlib.suppress(NotFound):
            self._yard.client.volumes.get(self._name).remove()
        self._jobs.shutdown(wait=False)

    def console(self) -> str:
        try:
            _, said = self._there().exec_run(["journalctl", "--boot", "--no-pager", f"--lines={_CONSOLE_LINES}"])
        except (DockerException, RequestException):  # it does not run
            return ""
        return cast("bytes", said).decode(errors="replace")

    def _watch(self) -> None:
        if not self._is_watched:
            self._is_watched = True
            threading.Thread(target=self._await_end, daemon=True).start()

    def _await_end(self) -> None:
        with contextlib.suppress(DockerException, RequestException):  # `end` has a look anyway
            self._there().wait()
        self._is_watched = False
        self.do(self.end, threading.Event())

    def end(self) -> None:
        """The container has ended: as the API wanted it, or of its own, which the API is to know."""
        container = self._there()
        container.reload()
        if container.status == "running":
            self._watch()
        elif goal(self._instance) != "running":
            return
        elif container.attrs["State"]["ExitCode"] == _REBOOT:
            container.start()
            self._watch()
        else:
            _log.info("%s has shut itself down", self._instance.id)
            self._shut_down()

    def _shut_down(self) -> None:
        reason = ("Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
        if self._instance.instance_initiated_shutdown_behavior == "terminate":
            backend.terminate(self._instance, *reason)
            self.remove()
        else:
            backend.stop(self._instance, *reason)

    def _set_address(self, address: str | None) -> None:
        """The public one; as at AWS an instance keeps its private one, and has none if its subnet gives none."""
        interface = self._instance.nics[0]
        if interface.public_ip_auto_assign:
            interface.public_ip = address

    def _there(self) -> Container:
        if self._container is None:
            raise NotFound("it has not been made")
        return self._container
