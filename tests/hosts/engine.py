"""This machine's Docker Engine, on which the test hosts stand."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import tarfile
from ipaddress import IPv4Network, ip_interface
from pathlib import Path

import psutil

DOCKER = shutil.which("docker") or "docker"
LABEL = "mlops-env-test.run"
"""On whatever a test run starts, so that somebody whose run was killed can find it."""

_RANGE = IPv4Network("10.213.0.0/16")


def engine(*words: str, stdin: bytes = b"", timeout: float = 300) -> str:
    """`docker` with these words must succeed; what it says."""
    done = subprocess.run([DOCKER, *words], input=stdin, capture_output=True, check=False, timeout=timeout)
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.returncode}\n{out}{err}"
    return out.strip()


def make_network(label: str) -> tuple[str, IPv4Network]:
    """A network on which addresses can be chosen, in a range that neither this machine nor its engine uses."""
    taken = [
        ip_interface(f"{one.address}/{one.netmask}").network
        for addresses in psutil.net_if_addrs().values()
        for one in addresses
        if one.family == socket.AF_INET
    ]
    free = (one for one in _RANGE.subnets(new_prefix=24) if not any(one.overlaps(other) for other in taken))
    for subnet in free:
        name = f"mlops-env-test-{subnet.network_address}"
        words = [DOCKER, "network", "create", f"--label={LABEL}={label}", f"--subnet={subnet}", name]
        if subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0:  # else somebody has it
            return name, subnet
    raise AssertionError(f"no network to be had in {_RANGE}")


def remove(container: str) -> None:
    """With all that is in its anonymous volumes."""
    engine("rm", "--force", "--volumes", container)


def put(container: str, path: str, content: bytes, owner: int = 0, mode: int = 0o644) -> None:
    """A file into a container, running or not; its folder must be there."""
    target = Path(path)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(target.name)
        entry.size, entry.uid, entry.gid, entry.mode = len(content), owner, owner, mode
        archive.addfile(entry, io.BytesIO(content))
    engine("cp", "-", f"{container}:{target.parent}", stdin=stream.getvalue())
