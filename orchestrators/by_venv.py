"""Runtime `venv`: one venv a service, and a supervisor that keeps the services running. services.py has the verbs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
import time
import xmlrpc.client
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import logs
import ports
import processes
from events import say
from failures import Failure
from native import bring
from places import compose_settings
from supervision import SupervisorError

if TYPE_CHECKING:
    from pathlib import Path

    from host import Host, Service
    from venvs import Venv

_HEALTHY_SECONDS = 300.0
_RESTARTS = 3  # of one that ran and ended before it was healthy; those that end sooner the supervisor counts

_STOPPED = "stopped"  # while it is there, a reboot starts nothing: bootstrap/unit.sh


class ServiceError(Failure):
    """A service does not come up; the message names it and its last words."""


def check(host: Host) -> bool:
    """Whether `apply` would have nothing to do. Says where the pages are."""
    states = host.supervisor.states()
    if states is None or _in_containers(host) or not all(venv.is_current() for venv in _venvs(host).values()):
        return False
    if states.keys() != {service.name for service in host.services}:
        return False
    for service in host.services:
        if states[service.name]["statename"] != "RUNNING":
            return False
        if not host.supervisor.is_current(service.name, host.specification(service)):
            return False
    with ThreadPoolExecutor() as pool:
        unhealthy = pool.map(lambda owner: health(host, owner), host.owners)
        project = pool.submit(bring, host, "check")
        if any(unhealthy) or not project.result():
            return False
    for owner in host.owners:
        say("page", owner, url=host.url(owner))
    return True


def apply(host: Host) -> None:
    try:
        _apply(host)
    except xmlrpc.client.Error as error:
        message = f"the supervisor refuses: {error}; `mlops-env stop` and `mlops-env up` start another"
        raise SupervisorError(message) from error


def _apply(host: Host) -> None:
    """Each service is started as soon as its own venv is there; then all are waited for until they are healthy."""
    if _in_containers(host):
        import by_compose  # noqa: PLC0415 - only after a swap

        by_compose.end(host)
    (host.directory / _STOPPED).unlink(missing_ok=True)
    processes.end_all(host.identity, jobs=True)  # what an earlier, killed command of ours still has running
    if host.supervisor.states() is None:
        processes.end_all(host.identity, jobs=False)  # what a killed supervisor left behind
    host.supervisor.start()
    host.supervisor.keep_only({service.name for service in host.services})
    ports.choose(host, {name for name, info in (host.supervisor.states() or {}).items() if info["pid"]})
    given_up = threading.Event()
    with ThreadPoolExecutor() as pool:
        chains = [pool.submit(_bring_up, host, owner, given_up) for owner in host.owners]
        chains.append(pool.submit(_install, host, "pipeline", host.pipeline_venv, given_up))
        for chain in chains:
            chain.result()


def _in_containers(host: Host) -> bool:
    """Whether the other runtime has services of this environment; Docker is asked only where it ever had."""
    if not compose_settings(host.directory).exists():
        return False
    from engine import Engine  # noqa: PLC0415 - only after a swap

    return bool(Engine.here().containers(host.identity))


def _venvs(host: Host) -> dict[str, Venv]:
    return {"pipeline": host.pipeline_venv, **{owner: host.venv(owner) for owner in host.owners}}


def _bring_up(host: Host, owner: str, given_up: threading.Event) -> None:
    try:
        _install(host, owner, host.venv(owner), given_up)
        if owner == host.orchestrator:
            _generate(host)
        for service in host.services_of(owner):
            host.supervisor.run(service.name, host.specification(service))
        say("service", owner, "starting", "waiting until it is healthy")
        _wait(host, owner, given_up)
    except BaseException:
        given_up.set()  # the others need not wait for what they cannot do without
        say("service", owner, "failed")
        raise
    say("service", owner, "healthy", f"healthy at {host.url(owner)}")


def _install(host: Host, name: str, venv: Venv, given_up: threading.Event) -> None:
    if venv.is_current():
        return
    if name in host.owners:
        for service in host.services_of(name):
            host.supervisor.halt(service.name)  # not while its files change under it
    say("service", f"{name} venv", "installing")
    start = time.monotonic()
    try:
        venv.make(host.uv)
    except BaseException:
        given_up.set()
        say("service", f"{name} venv", "failed")
        raise
    say("service", f"{name} venv", "changed", "installed", seconds=round(time.monotonic() - start, 1))


def _generate(host: Host) -> None:
    if not bring(host):
        raise ServiceError(f"{host.orchestrator}/project.py failed")


def _wait(host: Host, owner: str, given_up: threading.Event) -> None:
    deadline = time.monotonic() + _HEALTHY_SECONDS
    pids: dict[Service, set[int]] = {service: set() for service in host.services_of(owner)}
    while not given_up.is_set():
        infos = host.supervisor.states() or {}
        states = {service: str(infos.get(service.name, {}).get("statename", "STOPPED")) for service in pids}
        down = [service for service, state in states.items() if state != "RUNNING"]
        reason = f"{down[0].name} is {states[down[0]].lower()}" if down else health(host, owner)
        if not reason:
            return
        for service in pids.keys() - set(down):
            pids[service].add(infos[service.name]["pid"])
        dead = [service for service in pids if states[service] == "FATAL" or len(pids[service]) > _RESTARTS]
        if dead or time.monotonic() > deadline:
            service = (dead or host.services_of(owner))[0]
            host.supervisor.halt(service.name)  # or it would be restarted for ever
            raise ServiceError(f"{service.name} does not come up: {reason}\n{_tail(host.log(service))}")
        time.sleep(0.3)


def health(host: Host, owner: str) -> str:
    """Why this owner's services are not healthy, by its own trigger.py; empty if they are."""
    name = host.services_of(owner)[0].name
    port = host.ports.get(name)
    if port is None:
        return "not started yet"
    if ports.is_free(port):  # a look at the socket is a hundred times cheaper than a look at the service
        return f"nothing listens on port {port} yet"
    pid = (host.supervisor.states() or {}).get(name, {}).get("pid")
    if not pid or port not in processes.listening(processes.family(pid)):
        return f"port {port} is taken by {ports.squatter(port)}"  # maybe a healthy MLflow, but not ours
    done = _run(host, owner, host.script(owner, "trigger.py"), "health", capture=True)
    if done.returncode == 0:
        return ""
    try:
        return str(json.loads(done.stdout.splitlines()[-1])["reason"])
    except (ValueError, IndexError, KeyError):
        return done.stderr.strip()[-500:] or f"trigger.py health ended with {done.returncode}"


def _run(host: Host, owner: str, script: Path, *words: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    command = [str(host.venv(owner).executable), str(script), *words]
    return subprocess.run(
        command, env={**os.environ, **host.settings(owner)}, capture_output=capture, text=True, check=False
    )


def status(host: Host) -> dict[str, Any]:
    """Every service: name, owner, state, pid, healthy, reason, url (of those with a page)."""
    states = host.supervisor.states() or {}
    with ThreadPoolExecutor() as pool:
        reasons = dict(zip(host.owners, pool.map(lambda owner: health(host, owner), host.owners), strict=True))
    rows = []
    for service in host.services:
        info = states.get(service.name, {})
        state = str(info.get("statename", "STOPPED")).lower()
        reason = reasons[service.owner] if state == "running" else state
        row = {"name": service.name, "owner": service.owner, "state": state, "pid": info.get("pid") or None}
        page = host.url(service.owner) if service == host.services_of(service.owner)[0] else ""
        rows.append({**row, "healthy": not reason, "reason": reason, "url": page})
    return {"services": rows}


def stop(host: Host) -> dict[str, int]:
    with contextlib.suppress(FileNotFoundError):  # there is nothing of it yet
        (host.directory / _STOPPED).touch()
    before = len(processes.find(host.identity))
    host.supervisor.shut_down()
    _, left = processes.end_all(host.identity)
    return {"stopped": before - left, "left": left}


def execute(host: Host, script: str, words: list[str]) -> int:
    """Become one of our scripts: the orchestrator's own, else one that all share."""
    own = host.script(host.orchestrator, script)
    python = str(host.venv(host.orchestrator).executable)
    command = [python, str(own if own.is_file() else host.script(script)), *words]
    os.execve(python, command, {**os.environ, **host.settings(host.orchestrator)})  # noqa: S606 - that is its purpose


def show_logs(host: Host, words: list[str]) -> None:
    logs.of_files(host.directory / "logs", words)


def _tail(log: Path, lines: int = 8) -> str:  # an error is shown with ten, and one of them says what this is
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
