"""The test hosts are what they claim to be: without this, a bad day that does not happen would pass as survived."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from . import faults
from .harness import ENGINE_SETTINGS, ssh_argv
from .images import RELEASES
from .proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Host, Yard


@pytest.fixture(scope="module")
def bare(yard: Yard) -> Iterator[Host]:
    host = yard.start()
    yield host
    yard.stop(host)


def ssh(yard: Yard, host: Host, *command: str) -> subprocess.CompletedProcess[str]:
    known = yard.folder / "known"
    known.write_text(f"{host.address} {host.key}")
    argv = ssh_argv(host, yard.identity, known, *command)
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("release", RELEASES)
def test_a_bare_host(yard: Yard, release: str) -> None:
    host = yard.start(release)
    assert ssh(yard, host, "sudo", "-n", "id", "-un").stdout == "root\n"
    assert host.shell("cloud-init status --wait; systemctl is-system-running --wait").split()[-1] == "running"
    assert not host.succeeds("command -v docker || command -v git || python3 -c 'import ensurepip'")
    host.write("/root/mine", "of the disk")
    booted = host.shell("systemctl show --value --property=UserspaceTimestampMonotonic")
    host.reboot()
    assert host.shell("systemctl show --value --property=UserspaceTimestampMonotonic") != booted
    host.lose_power()
    assert ssh(yard, host, "true").returncode == 255
    host.power_on()
    assert ssh(yard, host, "true").returncode == 0
    assert host.read("/root/mine") == "of the disk"
    yard.stop(host)


def test_another_host_key_and_another_user_key(yard: Yard, bare: Host) -> None:
    before, bare.key = bare.key, yard.give_host_key(bare)
    bare.shell("systemctl restart ssh")
    bare.wait()
    new, bare.key = bare.key, before
    refused = ssh(yard, bare, "true")
    assert (refused.returncode, "REMOTE HOST IDENTIFICATION HAS CHANGED" in refused.stderr) == (255, True)
    bare.key = new
    assert ssh(yard, bare, "true").returncode == 0


def test_apt_is_busy(bare: Host) -> None:
    with faults.apt_busy(bare):
        assert bare.succeeds("apt-get -qq -s install git -o DPkg::Lock::Timeout=0 || true")
        assert not bare.succeeds("apt-get update -qq")
    assert bare.succeeds("apt-get update -qq")


def test_a_small_disk(bare: Host) -> None:
    with faults.small_disk(bare, "/home", 20):
        assert bare.succeeds("test -f /home/me/.ssh/authorized_keys")
        assert not bare.succeeds("head -c 30M /dev/zero >/home/me/much")
    assert bare.succeeds("head -c 30M /dev/zero >/home/me/much && rm /home/me/much")


@pytest.mark.parametrize("how", ["del", "blackhole"])
def test_offline(yard: Yard, bare: Host, how: str) -> None:
    with faults.offline(bare, how):
        assert not bare.succeeds("timeout 2 apt-get update -qq --error-on=any")
        assert ssh(yard, bare, "true").returncode == 0
    assert bare.succeeds("apt-get update -qq --error-on=any")


def test_no_sudo(yard: Yard, bare: Host) -> None:
    with faults.no_sudo(bare):
        assert ssh(yard, bare, "sudo", "-n", "true").returncode == 1
    assert ssh(yard, bare, "sudo", "-n", "true").returncode == 0


def test_a_taken_port(bare: Host) -> None:
    with faults.taken_port(bare, 6789):
        assert bare.succeeds("ss -ltn | grep -q 127.0.0.1:6789")
    assert not bare.succeeds("ss -ltn | grep -q 127.0.0.1:6789")


def test_docker_on_its_bad_days(bare: Host) -> None:
    """The registry beside the host, and each of Docker's ways to be of no use."""
    bare.shell("apt-get update -qq; apt-get install -qq -y --no-install-recommends docker.io")
    bare.shell("docker pull -q postgres:16-bookworm")
    assert "16" in bare.shell("docker run --rm --entrypoint postgres postgres:16-bookworm --version")
    assert json.loads(bare.read(ENGINE_SETTINGS))["registry-mirrors"]
    faults.stop_docker(bare)
    assert not bare.succeeds("systemctl is-active docker")
    faults.mask_docker(bare)
    assert not bare.succeeds("systemctl start docker")
    faults.unmask_docker(bare)
    bare.shell("systemctl start docker")
    with faults.bad_engine_settings(bare):
        assert not bare.succeeds("docker info")
    with faults.hanging_docker(bare):
        assert not bare.succeeds("timeout 2 docker info")
    faults.kill_docker(bare)
    bare.wait_for("docker info")  # systemd starts it again


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of somebody who says everything again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_the_proxy(echo: int) -> None:
    with Proxy("127.0.0.1", echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"one")
        assert client.recv(9) == b"one"
        proxy.cut()
        client.sendall(b"two")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(9)
        proxy.mend()
        client.settimeout(5)
        assert client.recv(9) == b"two"
        proxy.reset()
        with pytest.raises(ConnectionError):
            _until_it_ends(client)


def _echo(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            while data := connection.recv(9):
                connection.sendall(data)


def _until_it_ends(client: socket.socket) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        client.sendall(b"more")
        client.recv(9)
