"""The services of an environment on this host.

    python services.py check    exit 0 if all is installed, configured just so, running and healthy
    python services.py apply    make it so: everything that can overlap does
    python services.py status   one JSON object, services and how they are
    python services.py stop     end them all, and what they started
    python services.py exec SCRIPT …   run one of our scripts in the orchestrator's Python, with its environment

Runs in the tools venv. The environment's variables (MLOPS_ENV_*) say which one it acts for.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import processes
import psutil
import venvs
from supervision import Supervisor, SupervisorError
from workspace import UsageError

_HEALTHY_SECONDS = 300.0
_TRACKING = "mlflow"  # stands beside every orchestrator


class ServiceError(Exception):
    """A service does not come up; the message names it and its last words."""


@dataclass(frozen=True)
class Service:
    """One program. `owner` is the directory of orchestrators/ that declares it."""

    name: str
    owner: str
    preferred_port: int


@dataclass(frozen=True)
class Host:
    """Where everything of one environment is on this host."""

    identity: str
    orchestrator: str
    directory: Path
    workspace: Path
    tree: Path
    uv: str

    @classmethod
    def read(cls) -> Host:
        value = os.environ.__getitem__
        return cls(
            value("MLOPS_ENV_ID"),
            value("MLOPS_ENV_ORCHESTRATOR"),
            Path(value("MLOPS_ENV_HOST_DIR")),
            Path(value("MLOPS_ENV_WORKSPACE")),
            Path(value("MLOPS_ENV_TREE")),
            value("MLOPS_ENV_UV"),
        )

    @cached_property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.identity, self.directory, self.tree)

    @cached_property
    def declarations(self) -> dict[str, dict[str, Any]]:
        """The orchestrator.toml of the tracking server and of the orchestrator."""
        owners = dict.fromkeys((_TRACKING, self.orchestrator))
        return {owner: self._declaration(owner) for owner in owners}

    def _declaration(self, owner: str) -> dict[str, Any]:
        return tomllib.loads((self.script(owner, "orchestrator.toml")).read_text(encoding="utf-8"))

    def script(self, *parts: str) -> Path:
        return self.tree.joinpath("orchestrators", *parts)

    @cached_property
    def services(self) -> list[Service]:
        return [
            Service(service["name"], owner, service["port"])
            for owner, declaration in self.declarations.items()
            for service in declaration["services"]
        ]

    def venv(self, owner: str) -> venvs.Venv:
        lock = self.script(owner, "requirements.lock")
        return venvs.of_lock(self.directory / "venvs" / owner, lock, self.declarations[owner]["python"])

    @cached_property
    def pipeline_venv(self) -> venvs.Venv:
        return venvs.of_pipeline(self.directory / "venvs" / "pipeline", self.workspace)

    def settings(self, owner: str, ports: dict[str, int]) -> dict[str, str]:
        """What a script of this owner finds in its environment, beside what every script of ours gets."""
        first = {o: next(s.name for s in self.services if s.owner == o) for o in self.declarations}
        urls = {o: f"http://127.0.0.1:{ports[name]}" for o, name in first.items() if name in ports}
        values = {
            "MLOPS_ENV_ID": self.identity,
            "MLOPS_ENV_NAME": os.environ.get("MLOPS_ENV_NAME", "default"),
            "MLOPS_ENV_WORKSPACE": str(self.workspace),
            "MLOPS_ENV_TREE": str(self.tree),
            "MLOPS_ENV_VENVS": str(self.directory / "venvs"),
            "MLOPS_ENV_STATE": str(self.directory / "state"),
            "MLOPS_ENV_SECRETS": str(self.directory / "secrets"),
            "MLOPS_ENV_PORT": str(ports.get(first[owner], "")),
            "MLOPS_ENV_URL": urls.get(owner, ""),
            "MLFLOW_TRACKING_URI": urls.get(_TRACKING, ""),
            "PYTHONUTF8": "1",
        }
        # The tracking server is the same whatever stands beside it, so a swap does not restart it.
        return values if owner == _TRACKING else {**values, "MLOPS_ENV_ORCHESTRATOR": self.orchestrator}

    def specification(self, service: Service, ports: dict[str, int]) -> dict[str, Any]:
        settings = self.settings(service.owner, ports)
        settings |= {"MLOPS_ENV_SERVICE": service.name, "MLOPS_ENV_PORT": str(ports[service.name])}
        command = ["bash", str(self.script(service.owner, "services", f"{service.name}.sh"))]
        return {"argv": command, "cwd": str(self.workspace), "settings": settings}

    # Ports ------------------------------------------------------------------------------------------------

    @property
    def ports(self) -> dict[str, int]:
        try:
            return dict(json.loads((self.directory / "ports.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return {}

    def choose_ports(self) -> dict[str, int]:
        """Keep the ports of services that run; for the others the last one, the preferred one, or the next free."""
        running = {name for name, info in (self.supervisor.states() or {}).items() if info["pid"]}
        chosen, before = {}, self.ports
        taken = self._ports_of_others()
        for service in self.services:
            last = before.get(service.name)
            if last and service.name in running:
                chosen[service.name] = last
                continue
            for port in (
                *([last] if last else []),
                *range(service.preferred_port, service.preferred_port + 100),
            ):
                if port not in taken and _is_free(port):
                    break
                if port == service.preferred_port:
                    say("note", service.name, message=f"port {port} is taken by {_squatter(port)}")
            else:
                raise ServiceError(f"{service.name}: no free port from {service.preferred_port} on")
            taken.add(port)
            chosen[service.name] = port
        text = json.dumps({**before, **chosen})
        (self.directory / "ports.json").write_text(text, encoding="utf-8")
        return chosen

    def _ports_of_others(self) -> set[int]:
        """The ports of other environments, also of stopped ones: theirs to come back to."""
        taken: set[int] = set()
        for path in self.directory.parent.parent.glob("*/host/ports.json"):
            if path.parent != self.directory:
                try:
                    taken |= set(json.loads(path.read_text(encoding="utf-8")).values())
                except (OSError, ValueError):
                    continue
        return taken


def check(host: Host) -> bool:
    """Whether `apply` would have nothing to do."""
    everything = [host.venv(owner) for owner in host.declarations] + [host.pipeline_venv]
    ports, states = host.ports, host.supervisor.states()
    if states is None or not all(venv.is_current() for venv in everything):
        return False
    if states.keys() != {service.name for service in host.services}:
        return False
    for service in host.services:
        if service.name not in ports or states[service.name]["statename"] != "RUNNING":
            return False
        if not host.supervisor.is_current(service.name, host.specification(service, ports)):
            return False
    with ThreadPoolExecutor() as pool:
        healthy = pool.map(lambda owner: not health(host, owner, ports), host.declarations)
        projects = pool.submit(_project_is_current, host)
        if not all(healthy) or not projects.result():
            return False
    for owner in host.declarations:
        _say_healthy(host, owner, ports)
    return True


def apply(host: Host) -> None:
    """Install, configure and start, each service as soon as its own venv is there; then wait until all are healthy."""
    processes.end_all(host.identity, jobs=True)  # what an earlier, killed command of ours still has running
    if host.supervisor.states() is None:
        processes.end_all(host.identity, jobs=False)  # what a killed supervisor left behind
    make_secrets(host)
    host.supervisor.start()
    host.supervisor.keep_only({service.name for service in host.services})
    ports = host.choose_ports()
    with ThreadPoolExecutor() as pool:
        chains = [pool.submit(_bring_up, host, owner, ports) for owner in host.declarations]
        chains.append(pool.submit(_install, host, host.pipeline_venv, "pipeline", []))
        for chain in chains:
            chain.result()


def _bring_up(host: Host, owner: str, ports: dict[str, int]) -> None:
    mine = [service for service in host.services if service.owner == owner]
    _install(host, host.venv(owner), owner, mine)
    if host.script(owner, "project.py").is_file():
        _run_script(host, owner, "project.py", ports)
    for service in mine:
        host.supervisor.run(service.name, host.specification(service, ports))
    say("service", owner, "starting", "waiting until it is healthy")
    start = time.monotonic()
    while reason := _is_down(host, mine) or health(host, owner, ports):
        dead = [s for s in mine if _state(host, s) == "FATAL"]
        if dead or time.monotonic() > start + _HEALTHY_SECONDS:
            name = (dead or mine)[0].name
            say("service", owner, "failed", reason)
            raise ServiceError(
                f"{name} does not come up: {reason}\n{tail(host.directory / 'logs' / f'{name}.log')}"
            )
        time.sleep(0.5)
    _say_healthy(host, owner, ports)


def _say_healthy(host: Host, owner: str, ports: dict[str, int]) -> None:
    url = host.settings(owner, ports)["MLOPS_ENV_URL"]
    say("service", owner, "healthy", f"healthy at {url}", url=url)


def _install(host: Host, venv: venvs.Venv, name: str, users: list[Service]) -> None:
    if venv.is_current():
        return
    for service in users:
        host.supervisor.halt(service.name)  # not while its files change under it
    say("service", f"{name} venv", "installing")
    start = time.monotonic()
    try:
        venv.make(host.uv)
    except venvs.InstallError:
        say("service", f"{name} venv", "failed")
        raise
    say("service", f"{name} venv", "changed", "installed", seconds=round(time.monotonic() - start, 1))


def _state(host: Host, service: Service) -> str:
    return str((host.supervisor.states() or {}).get(service.name, {}).get("statename", "gone"))


def _is_down(host: Host, mine: list[Service]) -> str:
    for service in mine:
        state = _state(host, service)
        if state != "RUNNING":
            return f"{service.name} is {state.lower()}"
    return ""


def health(host: Host, owner: str, ports: dict[str, int]) -> str:
    """Why this owner's services are not healthy, by its own trigger.py; empty if they are."""
    first = next(service for service in host.services if service.owner == owner)
    if _is_free(
        ports[first.name]
    ):  # a look at the socket is a hundred times cheaper than a look at the service
        return f"nothing listens on port {ports[first.name]} yet"
    done = _script(host, owner, "trigger.py", ports, "health", capture=True)
    if done.returncode == 0:
        return ""
    try:
        return str(json.loads(done.stdout.splitlines()[-1])["reason"])
    except (ValueError, IndexError, KeyError):
        return done.stderr.strip()[-500:] or f"trigger.py health ended with {done.returncode}"


def _project_is_current(host: Host) -> bool:
    script = host.script(host.orchestrator, "project.py")
    return (
        not script.is_file()
        or _script(host, host.orchestrator, "project.py", host.ports, "check").returncode == 0
    )


def _run_script(host: Host, owner: str, script: str, ports: dict[str, int]) -> None:
    if _script(host, owner, script, ports).returncode:
        raise ServiceError(f"{owner}/{script} failed")


def _script(
    host: Host, owner: str, script: str, ports: dict[str, int], *words: str, capture: bool = False
) -> subprocess.CompletedProcess[str]:
    command = [str(host.venv(owner).executable), str(host.script(owner, script)), *words]
    variables = {**os.environ, **host.settings(owner, ports)}
    return subprocess.run(command, env=variables, capture_output=capture, text=True, check=False)


def make_secrets(host: Host) -> None:
    """Secrets are made on the host, once; only their owner can read them."""
    directory = host.directory / "secrets"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for declaration in host.declarations.values():
        for name in declaration.get("secrets", []):
            part = directory / f".{name}"
            if not (directory / name).exists():
                part.unlink(missing_ok=True)
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_urlsafe(24))
                part.rename(directory / name)


def status(host: Host) -> dict[str, Any]:
    ports, states = host.ports, host.supervisor.states() or {}
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor() as pool:
        reasons = dict(
            zip(
                host.declarations, pool.map(lambda o: _reason(host, o, ports), host.declarations), strict=True
            )
        )
    for service in host.services:
        info = states.get(service.name, {})
        row = {
            "name": service.name,
            "state": str(info.get("statename", "STOPPED")).lower(),
            "pid": info.get("pid") or None,
        }
        reason = reasons[service.owner] if row["state"] == "running" else row["state"]
        is_first = next(s for s in host.services if s.owner == service.owner) == service
        url = f"http://127.0.0.1:{ports[service.name]}" if is_first and service.name in ports else None
        rows.append({**row, "owner": service.owner, "healthy": not reason, "reason": reason, "url": url})
    return {"services": rows}


def _reason(host: Host, owner: str, ports: dict[str, int]) -> str:
    if any(service.name not in ports for service in host.services):
        return "not started yet"
    return health(host, owner, ports)


def stop(host: Host) -> dict[str, int]:
    before = {process.pid for process in processes.find(host.identity)}
    host.supervisor.shut_down()
    _, left = processes.end_all(host.identity)
    return {"stopped": len(before), "left": left}


def execute(host: Host, script: str, words: list[str]) -> None:
    """Become one of our scripts: the orchestrator's own, else one that all share."""
    path = host.script(host.orchestrator, script)
    path = path if path.is_file() else host.script(script)
    python = str(host.venv(host.orchestrator).executable)
    os.execve(
        python, [python, str(path), *words], {**os.environ, **host.settings(host.orchestrator, host.ports)}
    )


def tail(log: Path, lines: int = 10) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _is_free(port: int) -> bool:
    """Whether we could listen there: nobody accepts on it, and binding works."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _squatter(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"pid {connection.pid} ({command[:80]})"
    except psutil.Error:
        pass
    return "another process (the system does not tell which)"


_saying = threading.Lock()


def say(kind: str, name: str, status: str = "", message: str = "", **fields: object) -> None:
    """One event on fd 3, the event stream that the step opened; on stderr for somebody who runs this by hand."""
    event = {"type": kind, "name": name, "status": status, "message": message, **fields}
    line = json.dumps({key: value for key, value in event.items() if value != ""}) + "\n"
    with _saying:
        try:
            os.write(3, line.encode())
        except OSError:
            sys.stderr.write(line)


def main() -> int:
    verb, *words = sys.argv[1:] or ["status"]
    try:
        host = Host.read()
        if verb == "check":
            return 0 if check(host) else 1
        if verb == "apply":
            apply(host)
            return 0
        if verb == "exec":
            execute(host, words[0], words[1:])
        answers: dict[str, Callable[[Host], Any]] = {"status": status, "stop": stop}
        print(json.dumps(answers[verb](host)))
    except (ServiceError, SupervisorError, UsageError, venvs.InstallError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
