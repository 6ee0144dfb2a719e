"""A real sshd of this user on loopback, with keys and a HOME of its own; and a wire to it that can be cut."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

_SSHD = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin") or "sshd"
_SSH_AGENT, _SSH_ADD = (shutil.which(name) or name for name in ("ssh-agent", "ssh-add"))
KEYGEN = shutil.which("ssh-keygen") or "ssh-keygen"


def make_key(path: Path, *, locked_with: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", locked_with, "-f", str(path)], check=True)
    return path


def public(key: Path) -> str:
    return Path(f"{key}.pub").read_text(encoding="utf-8")


@dataclass
class Sshd:
    """`allow` lets a key in; `process.pid` is the listening daemon."""

    folder: Path
    port: int
    settings: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def destination(self) -> str:
        return f"{getuser()}@127.0.0.1"

    @property
    def home(self) -> Path:
        """HOME of what runs there."""
        return self.folder / "home"

    @property
    def host_key(self) -> Path:
        return self.folder / "host_key"

    @property
    def known_line(self) -> str:
        """What a known_hosts file says about it."""
        return f"[127.0.0.1]:{self.port} {public(self.host_key)}"

    @property
    def fingerprint(self) -> str:
        words = [KEYGEN, "-l", "-f", str(self.host_key)]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[1]

    def allow(self, key: Path) -> None:
        with (self.folder / "authorized_keys").open("a", encoding="utf-8") as stream:
            stream.write(public(key))

    def new_host_key(self) -> None:
        self.host_key.unlink()
        make_key(self.host_key)
        self.stop()
        self.start()

    def start(self) -> None:
        config = self.folder / "sshd_config"
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}",
            f'HostKey "{self.host_key}"',
            f'SetEnv "HOME={self.home}"',  # with no start-up files but a test's own
            f'AuthorizedKeysFile "{self.folder / "authorized_keys"}"',
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "MaxSessions 50",
            "MaxStartups 100",
            self.settings,
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([_SSHD, "-D", "-e", "-f", str(config)], stderr=log)
        deadline = time.monotonic() + 10
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "log").read_text(encoding="utf-8"))
            time.sleep(0.01)

    def sessions(self) -> list[psutil.Process]:
        """The daemon's children, one for each connection."""
        return psutil.Process(self.process.pid).children() if self.process else []

    def stop(self) -> None:
        """The daemon and the connections that it serves."""
        if not self.process:
            return
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.terminate()
        self.process.wait()
        self.process = None
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


@contextlib.contextmanager
def sshd(folder: Path, settings: str = "") -> Iterator[Sshd]:
    one = Sshd(folder, free_port(), settings)
    one.home.mkdir(parents=True)
    make_key(one.host_key)
    (folder / "authorized_keys").touch()
    one.start()
    try:
        yield one
    finally:
        one.stop()


@contextlib.contextmanager
def ssh_agent(folder: Path, *keys: Path) -> Iterator[Path]:
    """Its socket; it holds the keys."""
    way = folder / "agent"
    process = subprocess.Popen([_SSH_AGENT, "-D", "-a", str(way)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not way.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for key in keys:
            variables = {**os.environ, "SSH_AUTH_SOCK": str(way)}
            subprocess.run([_SSH_ADD, "-q", str(key)], check=True, env=variables)
        yield way
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Wire:
    """A TCP proxy; while `is_whole` is not set nothing gets through, and nobody is told."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        self.is_whole = threading.Event()
        self.is_whole.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.is_whole.wait()
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.is_whole.set()
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
