"""The machine of the person who types: the real command line with a HOME of its own, which knows some hosts."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from integration.harness import CLI, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .harness import Host, Yard


class Laptop(Machine):
    """`Machine`, with an `~/.ssh`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ssh_folder.mkdir(mode=0o700)
        self.settings.update({"SSH_AUTH_SOCK": None, "SSH_AGENT_PID": None})

    @property
    def ssh_folder(self) -> Path:
        return self.home / ".ssh"

    @property
    def known_hosts(self) -> Path:
        return self.ssh_folder / "known_hosts"

    def take_key(self, identity: Path) -> None:
        """The key that ssh looks for by itself."""
        shutil.copy(identity, self.ssh_folder / "id_ed25519")
        shutil.copy(f"{identity}.pub", self.ssh_folder / "id_ed25519.pub")

    def know(self, host: Host, port: int = 22) -> None:
        """The host's key, by the name that it is reached by: its address, or a port of ours in front of it."""
        name = host.address if port == 22 else f"[127.0.0.1]:{port}"
        with self.known_hosts.open("a", encoding="utf-8") as file:
            file.write(f"{name} {' '.join(host.key.split()[:2])}\n")

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command for people, whose output is no JSON."""
        argv, variables = [*CLI, *words], self.variables()
        return subprocess.run(
            argv, env=variables, cwd=self.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def forget(self) -> None:
        """Whatever hosts it knew; and nothing that runs is left of it."""
        self.kill_everything()
        shutil.rmtree(self.folder)


@contextmanager
def borrowed(yard: Yard, product: Path, *known: Host) -> Iterator[Laptop]:
    """A machine with the key to all hosts, that knows some, and on which this copy of ours is installed."""
    laptop = Laptop(Path(tempfile.mkdtemp(dir=yard.folder)) / "m", yard.folder / "uv", product)
    laptop.take_key(yard.identity)
    for host in known:
        laptop.know(host)
    try:
        yield laptop
    finally:
        laptop.forget()
