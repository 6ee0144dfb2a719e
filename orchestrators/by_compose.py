"""Runtime `compose`: each service a container. services.py has the verbs.

The docker CLI, with Compose, does what changes something; the engine is asked directly, in milliseconds. By hand:
    docker compose --env-file HOST_DIR/compose.env -f orchestrators/NAME/compose.yaml up -d
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import logs
import recipes
from engine import Container, Engine
from events import say
from failures import Failure
from host import TRACKING
from native import begin
from places import compose_settings, supervisor_socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from host import Host

# In a container nobody hears of it when `docker exec` is killed, but the end of its input arrives there.
_ATTENDED = '{ cat; kill -INT "$$"; } <&0 >/dev/null 2>&1 & exec "$@" </dev/null'

_SCRIPTS = "/opt/mlops-env/orchestrators"
_PYTHON = "/opt/mlops-env/venv/bin/python"
_INTERRUPTED = 130
_DAEMON_IS_GONE = ("Cannot connect to the Docker daemon", "error during connect")  # docker's own words
_NO_DIGEST = ""  # of a service whose image is not ours: it is as its neighbour's compose.yaml says
_STATES = {"exited": "stopped", "created": "stopped", "dead": "stopped"}


def check(host: Host) -> bool:
    """Whether `apply` would have nothing to do. Says where the pages are."""
    if under_supervisor(host) or not compose_settings(host.directory).exists():
        return False
    with begin(host, "check") as project:
        is_up = _is_up(host)
    if project.returncode or not is_up:
        return False
    for owner in host.owners:
        say("page", owner, url=host.url(owner))
    return True


def _is_up(host: Host) -> bool:
    engine, found = Engine.here(), recipes.values(host)
    if compose_settings(host.directory).read_text(encoding="utf-8") != recipes.env_file(found):
        return False
    running = {container.service: container for container in engine.containers(host.identity)}
    if running.keys() != {service.name for service in host.services}:
        return False
    wanted = {service.name: recipes.service_digest(service.owner, found) for service in host.services}
    if any(running[name].digest not in {digest, _NO_DIGEST} for name, digest in wanted.items()):
        return False
    return all(container.is_healthy for container in running.values()) and has_pipeline_venv(host, engine)


def apply(host: Host) -> None:
    """Each service is started as soon as its own image is there; then all are waited for until they are healthy."""
    from composing import Composing  # noqa: PLC0415 - `check` needs none of what it imports

    try:
        Composing(host).run()
    except Failure as failure:
        if any(words in str(failure) for words in _DAEMON_IS_GONE):
            raise Failure(
                f"the Docker daemon ended in the middle:\n{failure}",
                code="docker-stopped",
                hint="`sudo journalctl -u docker` says why; the same command again goes on, and starts it if need be",
            ) from failure
        raise


def status(host: Host) -> dict[str, Any]:
    """Every service: name, owner, state, pid (None), healthy, reason, url (of those with a page)."""
    engine = Engine.here()
    found = {container.service: container for container in engine.containers(host.identity) if not container.is_job}
    rows = []
    for service in host.services:
        container = found.get(service.name)
        state = _STATES.get(container.state, container.state) if container else "stopped"
        reason = _reason(engine, container) if container else "stopped"
        page = host.url(service.owner) if service == host.services_of(service.owner)[0] else ""
        row = {"name": service.name, "owner": service.owner, "state": state, "pid": None}
        rows.append({**row, "healthy": not reason, "reason": reason, "url": page})
    return {"services": rows}


def stop(host: Host) -> dict[str, int]:
    """They stay stopped, also after a reboot, until the next `apply`."""
    import processes  # noqa: PLC0415 - as above

    processes.end_all(host.identity)  # a command of ours that was killed may be about to start them again
    engine = Engine.here()
    before = _running(engine, host)
    _halt(engine, host, before)
    return {"stopped": len(before), "left": len(_running(engine, host))}


def execute(host: Host, script: str, words: list[str]) -> int:
    """Run one of our scripts in the orchestrator's container. Whoever ends us, even by KILL, ends it there."""
    name = host.services_of(host.orchestrator)[0].name
    running = {container.service: container.id for container in _running(Engine.here(), host)}
    if name not in running:
        raise Failure(f"{name} does not run", code="not-running", hint="`mlops-env up` or `mlops-env start` starts it")
    own = host.script(host.orchestrator, script).is_file()
    command = [_PYTHON, f"{_SCRIPTS}/{host.orchestrator}/{script}" if own else f"{_SCRIPTS}/{script}", *words]
    attended = ["docker", "exec", "--interactive", running[name], "bash", "-c", _ATTENDED, "attended", *command]
    # In a session of its own and without our mark: a Ctrl-C, or who ends what is marked, is to reach us alone.
    unmarked = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_ENV_")}
    with subprocess.Popen(attended, stdin=subprocess.PIPE, env=unmarked, start_new_session=True) as process:
        held = process.stdin
        assert held is not None  # noqa: S101 (by PIPE above)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: held.close())
        code = process.wait()
        return _INTERRUPTED if held.closed or code < 0 else code


def show_logs(host: Host, words: list[str]) -> None:
    logs.of_containers(recipes.project(host), {c.service for c in Engine.here().containers(host.identity)}, words)


def end(host: Host) -> None:
    """Remove the containers, for the other runtime to take over: volumes and images stay for a swap back."""
    engine = Engine.here()
    _halt(engine, host, _running(engine, host))
    remove(engine, engine.containers(host.identity))
    for network in engine.find("networks", host.identity):
        engine.remove(f"/networks/{network['Id']}")
    compose_settings(host.directory).unlink(missing_ok=True)


def remove(engine: Engine, containers: Iterable[Container]) -> None:
    for container in containers:
        engine.remove(f"/containers/{container.id}", force="1", v="1")


def halt_one(engine: Engine, container: Container) -> None:
    engine.call("POST", f"/containers/{container.id}/stop", seconds=120)


def under_supervisor(host: Host) -> bool:
    """Whether the other runtime has services of this environment."""
    return supervisor_socket(host.identity).exists()


def has_pipeline_venv(host: Host, engine: Engine) -> bool:
    """Whether the pipeline's venv in its volume is as this host's files say, without a look inside."""
    stamp, file = _stamp(host, engine), _stamp_file(host)
    return bool(stamp) and file.is_file() and file.read_text(encoding="utf-8") == stamp


def stamp_pipeline_venv(host: Host, engine: Engine) -> None:
    _stamp_file(host).parent.mkdir(parents=True, exist_ok=True)
    _stamp_file(host).write_text(_stamp(host, engine), encoding="utf-8")


def _stamp(host: Host, engine: Engine) -> str:
    """What the venv is made from, and which volume it is in: one that was made anew since then is empty."""
    volume = engine.volume(f"{recipes.project(host)}_pipeline")
    return f"{host.pipeline_venv.digest()} {volume['CreatedAt']}\n" if volume else ""


def _stamp_file(host: Host) -> Path:
    return host.directory / "state" / "pipeline-volume"


def _running(engine: Engine, host: Host) -> list[Container]:
    return [one for one in engine.containers(host.identity) if one.state in {"running", "restarting", "paused"}]


def _halt(engine: Engine, host: Host, containers: list[Container]) -> None:
    """The orchestrator first: what it ends is still to be recorded in the tracking server and in its database."""
    tracking = {service.name for service in host.services_of(TRACKING)}
    late = {one.id for one in containers if one.service in tracking or one.digest == _NO_DIGEST}
    for group in ([one for one in containers if one.id not in late], [one for one in containers if one.id in late]):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: halt_one(engine, one), group))
    remove(engine, [one for one in containers if one.is_job])


def variables(host: Host, found: Mapping[str, str]) -> dict[str, str]:
    """Of a docker command: Compose takes what is set where `up` was typed for more important than its own file."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "MLOPS_ENV_"))}
    marks = {key: os.environ[key] for key in ("MLOPS_ENV_ID", "MLOPS_ENV_JOB") if key in os.environ}
    # What a build notes down goes with the environment, not into ~/.docker.
    ours = {"COMPOSE_PROGRESS": "quiet", "BUILDX_CONFIG": str(host.directory / "state" / "buildx")}
    return {**kept, **marks, **ours, **found}


def _reason(engine: Engine, container: Container) -> str:
    """Why it is not healthy; empty if it is."""
    if container.is_healthy:
        return ""
    state = engine.get(f"/containers/{container.id}/json")["State"]
    if container.state != "running":
        if state.get("OOMKilled"):
            return "out of memory"
        return state.get("Error") or (f"ended with {state['ExitCode']}" if state["ExitCode"] else "stopped")
    return said(state)


def said(state: dict[str, Any]) -> str:
    """What the last look at its health had to say."""
    looks = (state.get("Health") or {}).get("Log") or []
    output = str(looks[-1].get("Output", "")).strip() if looks else ""
    try:
        return str(json.loads(output.splitlines()[-1])["reason"]) or "starting"
    except (ValueError, LookupError, TypeError):
        return output[-300:] or "starting"
