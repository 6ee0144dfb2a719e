"""One environment on this host: where everything is, which services it has, and what each script is told."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import venvs

if TYPE_CHECKING:
    from supervision import Supervisor

TRACKING = "mlflow"  # stands beside every orchestrator


@dataclass(frozen=True)
class Service:
    """One program. `owner` is the directory of orchestrators/ that declares it; some listen on no port."""

    name: str
    owner: str
    preferred_port: int | None


@dataclass(frozen=True)
class Host:
    """`directory` holds all that we make here; `ports` has the port of each service that ever had one.

    `runtime` is how services run: `venv`, under a supervisor, or `compose`, in containers.
    """

    identity: str
    name: str
    orchestrator: str
    directory: Path
    workspace: Path
    tree: Path
    uv: str
    ports: dict[str, int]
    runtime: str = "venv"

    @classmethod
    def read(cls) -> Host:
        value = os.environ.__getitem__
        directory = Path(value("MLOPS_ENV_HOST_DIR"))
        return cls(
            identity=value("MLOPS_ENV_ID"),
            name=value("MLOPS_ENV_NAME"),
            orchestrator=value("MLOPS_ENV_ORCHESTRATOR"),
            directory=directory,
            workspace=Path(value("MLOPS_ENV_WORKSPACE")),
            tree=Path(value("MLOPS_ENV_TREE")),
            uv=os.environ.get("MLOPS_ENV_UV", "uv"),  # only installing needs it
            ports=recorded_ports(directory),
            runtime=os.environ.get("MLOPS_ENV_RUNTIME") or "venv",
        )

    def script(self, *parts: str) -> Path:
        return self.tree.joinpath("orchestrators", *parts)

    @cached_property
    def supervisor(self) -> Supervisor:
        from supervision import Supervisor  # noqa: PLC0415 - much to import, and containers need none of it

        return Supervisor(self.identity, self.directory, self.tree)

    @cached_property
    def owners(self) -> dict[str, dict[str, Any]]:
        """The orchestrator.toml of the tracking server and of the orchestrator, by directory."""
        names = dict.fromkeys((TRACKING, self.orchestrator))
        return {
            name: tomllib.loads(self.script(name, "orchestrator.toml").read_text(encoding="utf-8")) for name in names
        }

    @cached_property
    def services(self) -> list[Service]:
        return [
            Service(service["name"], owner, service.get("port"))
            for owner in self.owners
            for service in self._declared(owner)
        ]

    def _declared(self, owner: str) -> list[dict[str, Any]]:
        services: list[dict[str, Any]] = self.owners[owner]["services"]
        return [service for service in services if service.get("runtime", self.runtime) == self.runtime]

    @property
    def secrets(self) -> list[str]:
        """The names of all secrets that somebody here needs."""
        named = [name for declared in self.owners.values() for name in declared.get("secrets", [])]
        services = (service for owner in self.owners for service in self._declared(owner))
        return named + [service["secret"] for service in services if "secret" in service]

    def services_of(self, owner: str) -> list[Service]:
        """The first one is the one with the page."""
        return [service for service in self.services if service.owner == owner]

    def venv(self, owner: str) -> venvs.Venv:
        lock = self.script(owner, "requirements.lock")
        return venvs.of_lock(self.directory / "venvs" / owner, lock, self.owners[owner]["python"])

    @cached_property
    def pipeline_venv(self) -> venvs.Venv:
        return venvs.of_pipeline(self.directory / "venvs" / "pipeline", self.workspace)

    def log(self, service: Service) -> Path:
        return self.directory / "logs" / f"{service.name}.log"

    def url(self, owner: str) -> str:
        """Where its page is; empty before it has a port."""
        port = self.ports.get(self.services_of(owner)[0].name)
        return f"http://127.0.0.1:{port}" if port else ""

    def settings(self, owner: str) -> dict[str, str]:
        """What a script of this owner finds in its environment variables."""
        values = {
            "MLOPS_ENV_ID": self.identity,
            "MLOPS_ENV_NAME": self.name,
            "MLOPS_ENV_WORKSPACE": str(self.workspace),
            "MLOPS_ENV_TREE": str(self.tree),
            "MLOPS_ENV_VENV": str(self.directory / "venvs" / owner),
            "MLOPS_ENV_VENVS": str(self.directory / "venvs"),
            "MLOPS_ENV_STATE": str(self.directory / "state"),
            "MLOPS_ENV_SECRETS": str(self.directory / "secrets"),
            "MLOPS_ENV_URL": self.url(owner),
            "MLFLOW_TRACKING_URI": self.url(TRACKING),
            "PYTHONUTF8": "1",
        }
        # The tracking server is the same whatever stands beside it, so a swap does not restart it.
        return values if owner == TRACKING else {**values, "MLOPS_ENV_ORCHESTRATOR": self.orchestrator}

    def specification(self, service: Service) -> dict[str, Any]:
        """What group.py runs for this service."""
        settings = {"MLOPS_ENV_SERVICE": service.name, "MLOPS_ENV_PORT": str(self.ports.get(service.name, ""))}
        return {
            "argv": ["bash", str(self.script(service.owner, "services", f"{service.name}.sh"))],
            "cwd": str(self.workspace),
            "settings": {**self.settings(service.owner), **settings},
        }


def recorded_ports(directory: Path) -> dict[str, int]:
    try:
        return dict(json.loads((directory / "ports.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
