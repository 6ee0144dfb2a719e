"""What goes wrong on hosts, each as a thing to do to one and, where it can be mended, to undo."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .harness import ENGINE_SETTINGS, HOME, OWNER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Host

_HOLD_APT = """
import fcntl, sys, time
open("/proc/self/comm", "w").write(sys.argv[1])
held = [open("/var/lib/" + name, "a") for name in ("dpkg/lock-frontend", "dpkg/lock", "apt/lists/lock")]
for one in held:
    fcntl.lockf(one, fcntl.LOCK_EX)
open("/run/apt-is-held", "w").close()
time.sleep(3600)
"""


@contextmanager
def apt_busy(host: Host, program: str = "unattended-upgr") -> Iterator[None]:
    """Another program holds apt's locks."""
    host.write("/usr/local/bin/hold-apt", _HOLD_APT)
    host.spawn(f"exec python3 /usr/local/bin/hold-apt {program}")
    host.wait_for("test -e /run/apt-is-held")
    try:
        yield
    finally:
        host.root("pkill", "-f", "hold-apt")
        host.root("rm", "/run/apt-is-held", "/usr/local/bin/hold-apt")


@contextmanager
def gone_source(host: Host) -> Iterator[None]:
    """Apt's only source is of a release that nobody has any more."""
    host.shell("mkdir /root/apt; cp -a /etc/apt/sources.list* /root/apt; rm -rf /etc/apt/sources.list.d/*")
    host.shell("sed -i 's/ bookworm[^ ]* / no-such-release /' /etc/apt/sources.list; rm -rf /var/lib/apt/lists/*")
    try:
        yield
    finally:
        host.shell("cp -aT /root/apt /etc/apt; rm -rf /root/apt /var/lib/apt/lists/*")


def interrupt_dpkg(host: Host) -> None:
    """As somebody leaves it who is killed while it writes down what it does."""
    host.shell(": >/var/lib/dpkg/updates/0000")
    assert not host.succeeds("apt-get install -y git"), "apt does not mind"


@contextmanager
def small_disk(host: Host, folder: str, megabytes: int) -> Iterator[None]:
    """A folder is on a disk of its own with so much free; what is written there meanwhile is lost at the end."""
    used = int(host.shell(f"du -sm {folder} | cut -f1"))
    host.shell(
        f"mkdir /run/small; mount -t tmpfs -o size={used + megabytes}m tmpfs /run/small; cp -aT {folder} /run/small;"
        f"mount --bind /run/small {folder}"
    )
    try:
        yield
    finally:
        host.shell(f"umount --lazy {folder} /run/small; rmdir /run/small")


@contextmanager
def offline(host: Host, how: str = "del") -> Iterator[None]:
    """No way to anything but the neighbours. `blackhole`: nobody even says so."""
    route = host.shell("ip route show default")
    host.shell("ip route del default" if how == "del" else "ip route del default; ip route add blackhole default")
    try:
        yield
    finally:
        host.shell(f"ip route del blackhole default 2>/dev/null || :; ip route replace {route}")


def mask_docker(host: Host) -> None:
    host.shell("systemctl mask --now docker.service docker.socket")


def unmask_docker(host: Host) -> None:
    host.shell("systemctl unmask docker.service docker.socket")


def stop_docker(host: Host) -> None:
    host.shell("systemctl stop docker.service docker.socket")


@contextmanager
def hanging_docker(host: Host) -> Iterator[None]:
    """The daemon takes connections and answers nothing."""
    host.shell("pkill -STOP -x dockerd")
    try:
        yield
    finally:
        host.shell("pkill -CONT -x dockerd")


@contextmanager
def bad_engine_settings(host: Host) -> Iterator[None]:
    """A comma too many in daemon.json: the next start of the daemon fails."""
    good = host.read(ENGINE_SETTINGS)
    host.write(ENGINE_SETTINGS, good.rstrip()[:-1] + ",}")
    host.shell("systemctl restart docker.service || :")
    try:
        yield
    finally:
        host.write(ENGINE_SETTINGS, good)
        host.shell("systemctl reset-failed docker.service docker.socket; systemctl start docker.service")


@contextmanager
def taken_port(host: Host, port: int, user: str = "root") -> Iterator[None]:
    """Somebody else on the host listens there."""
    host.spawn(f"exec runuser -u {user} -- python3 -m http.server --bind 127.0.0.1 {port}")
    host.wait_for(f"ss -ltn | grep -q 127.0.0.1:{port}")
    try:
        yield
    finally:
        host.root("pkill", "-f", f"python3 -m http.server --bind 127.0.0.1 {port}")
        host.wait_for(f"! ss -ltn | grep -q 127.0.0.1:{port}")


@contextmanager
def no_sudo(host: Host) -> Iterator[None]:
    rule = f"/etc/sudoers.d/{OWNER}"
    host.shell(f"mv {rule} /root/rule")
    try:
        yield
    finally:
        host.shell(f"mv /root/rule {rule}")


def kill_sessions(host: Host) -> None:
    """What sshd started for its owner, with -9."""
    host.shell(f"pkill -KILL -f '^sshd[^ ]*: {OWNER}'")


def kill_docker(host: Host) -> None:
    host.shell("pkill -KILL -x dockerd")


def slow_cloud_init(host: Host, seconds: int) -> None:
    """At its next boot the host is still being set up for so long."""
    host.write("/var/lib/cloud/seed/nocloud/meta-data", f"instance-id: slow-{time.monotonic_ns()}\n")
    host.write(
        "/var/lib/cloud/seed/nocloud/user-data",
        f"#cloud-config\nruncmd:\n- [sh, -c, 'sleep {seconds}; touch {HOME}/cloud-init-was-here']\n",
    )
