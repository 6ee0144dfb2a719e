"""A machine somewhere else: a container with systemd, sshd, sudo, cloud-init and room for Docker.

Its owner is `me`. The test acts on it as root through the engine, the product only through sshd.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from .engine import DOCKER, LABEL, engine, make_network, put, remove
from .images import REGISTRY, host_image

OWNER = "me"
OWNER_ID = 1000
HOME = f"/home/{OWNER}"
ENGINE_SETTINGS = "/etc/docker/daemon.json"

# As little as lets systemd, and an engine, run in a container; `--privileged` is not to be had everywhere.
_PRIVILEGES = (
    "--cap-add=ALL",
    "--cap-drop=SYS_RESOURCE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--security-opt=systempaths=unconfined",
    "--device-cgroup-rule=a *:* rwm",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
)
_IS_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
_CGROUPS = ("--cgroupns=private",) if _IS_UNIFIED else ("--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",)
# Debian 13's systemd takes the old hierarchy, where this machine has that, only when told; Debian 12's does not mind.
_INIT = ("/sbin/init",) + (
    () if _IS_UNIFIED else ("systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")
)
# The resolvers of this machine itself: an engine in a host cannot use the one that engines put into their networks.
_RESOLVERS = "--volume={}:/etc/resolv.conf:ro".format(
    next(path for path in ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf") if Path(path).exists())
)


@dataclass
class Host:
    """One such machine; `key` is its public host key."""

    container: str
    address: str
    key: str

    @property
    def destination(self) -> str:
        return f"{OWNER}@{self.address}"

    def root(self, *argv: str, stdin: bytes = b"", timeout: float = 300) -> str:
        """A command as root; it must succeed."""
        return engine("exec", "--interactive", self.container, *argv, stdin=stdin, timeout=timeout)

    def shell(self, script: str, timeout: float = 300) -> str:
        """A line of bash as root."""
        return self.root("bash", "-euc", script, timeout=timeout)

    def owner(self, script: str, timeout: float = 300) -> str:
        """A line of bash as the owner, in his home, with his environment."""
        return self.root("su", "--login", OWNER, "--command", script, timeout=timeout)

    def succeeds(self, script: str) -> bool:
        argv = [DOCKER, "exec", self.container, "bash", "-euc", script]
        return subprocess.run(argv, capture_output=True, check=False, timeout=300).returncode == 0

    def spawn(self, script: str) -> None:
        """A line of bash as root that goes on by itself."""
        engine("exec", "--detach", self.container, "bash", "-euc", script)

    def write(self, path: str, content: str, owner: int = 0, mode: int = 0o644) -> None:
        put(self.container, path, content.encode(), owner, mode)

    def read(self, path: str) -> str:
        return self.root("cat", path)

    def reboot(self) -> Host:
        engine("restart", "--time=20", self.container)
        return self._back()

    def lose_power(self) -> None:
        engine("kill", self.container)

    def power_on(self) -> Host:
        engine("start", self.container)
        return self._back()

    def wait(self, seconds: float = 60) -> Host:
        """Until its owner can log in."""
        deadline = time.monotonic() + seconds
        while not (_speaks_ssh(self.address) and self.succeeds("test ! -e /run/nologin")):
            assert time.monotonic() < deadline, engine("logs", self.container)
            time.sleep(0.1)
        return self

    def wait_for(self, script: str, seconds: float = 60) -> None:
        """Until a line of bash, as root, succeeds."""
        deadline = time.monotonic() + seconds
        while not self.succeeds(script):
            assert time.monotonic() < deadline, script
            time.sleep(0.3)

    def serves(self, url: str) -> bool:
        """Whether a page of this host answers on it."""
        opener = "urllib.request.build_opener(urllib.request.ProxyHandler({}))"
        return self.succeeds(f"python3 -c \"import urllib.request; {opener}.open('{url}', timeout=9)\"")

    def docker_left(self, identity: str) -> list[str]:
        """What Docker has of an environment."""
        if not self.succeeds("command -v docker"):
            return []
        label = f"--filter=label=mlops-env.id={identity}"
        kinds = {"container": "ps --all", "volume": "volume ls", "network": "network ls", "image": "images --all"}
        return [
            f"{kind} {found}"
            for kind, words in kinds.items()
            for found in self.root("docker", *words.split(), "--quiet", label).split()
        ]

    def stop(self) -> None:
        """The end of it, with whatever it had."""
        remove(self.container)

    def _back(self) -> Host:
        return self.wait()


@dataclass
class Yard:
    """Where test hosts stand: what they need around them, and the end of them all. `folder` keeps the keys."""

    folder: Path
    hosts: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        make_key(self.identity)
        self.network, subnet = make_network("yard")
        self._addresses = map(str, islice(subnet.hosts(), 1, None))  # the first is this machine's
        self.registry_address = next(self._addresses)
        self.registry = engine(
            "run", "--detach", f"--label={LABEL}=registry", *self._place(self.registry_address), REGISTRY
        )

    @property
    def identity(self) -> Path:
        """The key that opens every host."""
        return self.folder / "id_ed25519"

    def start(self, release: str = "debian12") -> Host:
        """A bare host on which its owner can log in."""
        address = next(self._addresses)
        words = (f"--label={LABEL}=host", f"--hostname={release}", *self._place(address), _RESOLVERS)
        disk = "--volume=/var/lib/docker"
        container = engine("create", *words, *_PRIVILEGES, *_CGROUPS, disk, host_image(release), *_INIT)
        host = Host(container, address, "")
        self.hosts.append(host)
        put(container, f"{HOME}/.ssh/authorized_keys", public(self.identity).encode(), OWNER_ID, 0o600)
        host.key = self.give_host_key(host)
        self._give_mirror(host)
        engine("start", container)
        return host.wait()

    def give_host_key(self, host: Host) -> str:
        """A new one; a running sshd reads it with `systemctl reload ssh`."""
        path = self.folder / f"host-{host.container[:12]}-{time.monotonic_ns()}"
        make_key(path)
        put(host.container, "/etc/ssh/ssh_host_ed25519_key", path.read_bytes(), 0, 0o600)
        put(host.container, "/etc/ssh/ssh_host_ed25519_key.pub", public(path).encode())
        return public(path)

    def stop(self, host: Host) -> None:
        self.hosts.remove(host)
        host.stop()

    def clear(self) -> None:
        while self.hosts:
            self.stop(self.hosts[-1])
        remove(self.registry)
        engine("network", "rm", self.network)

    def _place(self, address: str) -> tuple[str, str]:
        """Of its own, so that it is the same after a reboot."""
        return f"--network={self.network}", f"--ip={address}"

    def _give_mirror(self, host: Host) -> None:
        """An engine that is installed later reads this: it pulls public images from the registry beside it."""
        where = f"{self.registry_address}:5000"
        # BuildKit heeds that a mirror has no TLS only where it is named as insecure.
        settings = {"registry-mirrors": [f"http://{where}"], "insecure-registries": [where]}
        host.write(ENGINE_SETTINGS, json.dumps(settings))


def make_key(path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def public(path: Path) -> str:
    return path.with_name(f"{path.name}.pub").read_text(encoding="ascii")


def ssh_argv(host: Host, identity: Path, known_hosts: Path, *command: str) -> list[str]:
    """For a look by hand, past whatever the product does."""
    options = (f"UserKnownHostsFile={known_hosts}", "StrictHostKeyChecking=yes", "ConnectTimeout=3")
    argv = ["ssh", "-F", "none", *(f"-o{option}" for option in options), "-i", str(identity), host.destination]
    return [*argv, *([shlex.join(command)] if command else [])]


def _speaks_ssh(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
