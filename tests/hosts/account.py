"""An AWS account that is a sandbox with machines, whose engines reach the registry of the yard."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from integration.harness import Machine

from mlops_env.sandbox import control, traces

from .engine import engine
from .harness import Host
from .images import SANDBOX_HOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.harness import Ended

    from mlops_env.sandbox.control import Running

    from .harness import Yard

OWNER = "admin"
HOME = f"/home/{OWNER}"
HOST_DIRECTORY = f"{HOME}/.local/state/mlops-env/default/host"


@dataclass
class Account:
    """The sandbox, and the machine of somebody who uses it."""

    sandbox: Running
    laptop: Machine

    def up(self, *words: str) -> Ended:
        return self.laptop("up", "--target", "ec2", "--sandbox", "--yes", *words)

    def host(self, name: str = "default") -> Host:
        """The machine of an environment, as root sees it."""
        instance = self.laptop.record(name)["cloud"]["outputs"]["instance_id"]
        networks = json.loads(engine("inspect", f"mlops-env-{instance}"))[0]["NetworkSettings"]["Networks"]
        (network,) = networks.values()
        return Host(f"mlops-env-{instance}", network["IPAddress"], "")

    def things(self) -> list[Any]:
        """What AWS has that bears a tag of ours."""
        return list(self.sandbox.call("GET", "/sandbox/things"))

    def containers(self) -> list[str]:
        return engine("ps", "--all", "--quiet", f"--filter=label={self._label}").split()

    def volumes(self) -> list[str]:
        return engine("volume", "ls", "--quiet", f"--filter=label={self._label}").split()

    def cause(self, *rules: dict[str, Any]) -> None:
        """What goes wrong from here on."""
        self.sandbox.call("PUT", "/sandbox/faults", {"rules": list(rules)})

    @property
    def _label(self) -> str:
        return f"{traces.LABEL}={traces.digest(self.sandbox.directory)}"


@contextmanager
def opened(yard: Yard, product: Path) -> Iterator[Account]:
    """A fresh one; it and all that is in it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=yard.folder))
    directory = folder / "sandbox"
    settings: dict[str, str | None] = {
        "MLOPS_ENV_SANDBOX": str(directory),
        "MLOPS_ENV_SANDBOX_IMAGE": SANDBOX_HOST,
        "SSH_AUTH_SOCK": None,
    }
    laptop = Machine(folder / "a laptop", yard.folder / "uv", product, settings)
    network = ""
    try:
        laptop("sandbox", "start").succeeded()
        sandbox = control.running(directory)
        assert sandbox is not None
        sandbox.call("PUT", "/sandbox/hosts", {"image": SANDBOX_HOST})
        network = f"mlops-env-sandbox-{traces.digest(directory)}"
        subnet = IPv4Network(json.loads(engine("network", "inspect", network))[0]["IPAM"]["Config"][0]["Subnet"])
        engine("network", "connect", f"--ip={subnet.broadcast_address - 1}", network, yard.registry)
        yield Account(sandbox, laptop)
    finally:
        if network:
            engine("network", "disconnect", "--force", network, yard.registry)
        control.stop(directory, lambda _: None)
        laptop.kill_everything()
        shutil.rmtree(folder)
