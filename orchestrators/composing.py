"""How an environment's containers come up: what can overlap does, and each failure has a name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import by_compose
import images
import ports
import processes
import recipes
from engine import Container, Engine
from events import say
from failures import Failure
from files import replace
from native import bring
from places import compose_settings, pulled_images

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from host import Host

_HEALTHY_SECONDS = 300.0
_RESTARTS = 3  # of one that is not healthy yet
_ILLEGAL_INSTRUCTION, _KILLED = 132, 137

_NO_AVX = {"code": "no-avx", "hint": "this processor lacks instructions (AVX) that it needs: take another machine"}
_NO_MEMORY = {"code": "out-of-memory", "hint": "give the machine more memory, or end what else takes it (`free -m`)"}

# As this host reaches the network, so does uv in a container.
_NETWORK = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL")
_CERTIFICATES = "SSL_CERT_FILE"

_TAKEN = ("port is already allocated", "address already in use")


class Composing:
    """One `apply`. Whoever fails makes the others give up: they need not wait for what they cannot do without."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._engine = Engine.here()
        self._given_up = threading.Event()
        self._one_at_a_time = threading.Lock()  # of `docker compose`: two would both make the network
        self._found: dict[str, str] = {}
        self._services: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        host = self._host
        self._clear()
        self._configure()
        beside = [service.name for service in host.services if "build" not in self._services[service.name]]
        with ThreadPoolExecutor(max_workers=12) as pool:  # more than there are tasks: some wait for others
            bases = [pool.submit(self._attempt, self._bring_up_beside, name) for name in beside]
            built = {owner: pool.submit(self._attempt, self._build, owner) for owner in host.owners}
            needed = {owner: [built[owner], *(bases if owner == host.orchestrator else [])] for owner in host.owners}
            started = {owner: pool.submit(self._attempt, self._start, owner, needed[owner]) for owner in host.owners}
            ends = [pool.submit(self._attempt, self._wait_for, owner, started[owner]) for owner in host.owners]
            ends.append(pool.submit(self._attempt, self._install_pipeline, started[host.orchestrator]))
            for one in [*bases, *built.values(), *started.values(), *ends]:
                one.result()
        images.forget_old(host, self._engine, self._found)

    def _clear(self) -> None:
        """What killed commands of ours, the other runtime or another orchestrator have running."""
        host = self._host
        processes.end_all(host.identity, jobs=True)
        if by_compose.under_supervisor(host):
            host.supervisor.shut_down()
            host.supervisor.socket.unlink(missing_ok=True)  # one that was killed leaves it
        processes.end_all(host.identity)
        shutil.rmtree(host.directory / "programs", ignore_errors=True)
        pulled_images(host.directory).parent.mkdir(parents=True, exist_ok=True)
        pulled_images(host.directory).touch()
        names = {service.name for service in host.services}
        strays = [one for one in self._containers() if one.is_job or one.service not in names]
        by_compose.remove(self._engine, strays)

    def _configure(self) -> None:
        """Choose ports, write what the compose.yaml files need to know, and have Compose read them."""
        host = self._host
        ports.choose(host, {one.service for one in self._containers() if one.state in {"running", "restarting"}})
        self._found = recipes.values(host)
        replace(compose_settings(host.directory), recipes.env_file(self._found).encode())
        self._services = json.loads(self._compose("config", "--format", "json"))["services"]

    def _bring_up_beside(self, name: str) -> None:
        """A service whose image is not ours."""
        images.pull(self._host, self._engine, self._services[name]["image"])
        self._up(name)
        self._told_of(name, [name], "")

    def _build(self, owner: str) -> None:
        host = self._host
        if self._engine.image(recipes.image(owner, self._found)):
            return
        for base in images.bases(host, owner):
            images.pull(host, self._engine, base)
        variables = by_compose.variables(self._host, self._found)
        images.timed(f"{owner} image", "building", "built", lambda: images.build(host, owner, self._found, variables))

    def _start(self, owner: str, needed: list[Future[None]]) -> None:
        for one in needed:
            one.result()
        if owner == self._host.orchestrator and not bring(self._host):
            raise Failure(f"{owner}/project.py failed")
        self._up(*self._names(owner))

    def _wait_for(self, owner: str, started: Future[None]) -> None:
        started.result()
        self._told_of(owner, self._names(owner), self._host.url(owner))

    def _told_of(self, name: str, services: list[str], url: str) -> None:
        say("service", name, "starting", "waiting until it is healthy")
        try:
            self._wait(services)
        except BaseException:
            say("service", name, "failed")
            raise
        say("service", name, "healthy", f"healthy at {url}" if url else "")

    def _install_pipeline(self, started: Future[None]) -> None:
        """In the orchestrator's image, since there its steps run; into a volume, since it outlives every container."""
        host = self._host
        started.result()  # and with it the volume
        if by_compose.has_pipeline_venv(host, self._engine):
            return
        settings = {name: os.environ[name] for name in _NETWORK if name in os.environ}
        settings |= {name.lower(): os.environ[name.lower()] for name in _NETWORK if name.lower() in os.environ}
        certificates = Path(os.environ.get(_CERTIFICATES, ""))
        words = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "/opt/mlops-env/venv/bin/python"]
        if certificates.is_file():
            words += ["--volume", f"{certificates.resolve()}:/run/certificates.pem:ro"]
            settings[_CERTIFICATES] = "/run/certificates.pem"
        words += [word for name in settings for word in ("--env", name)]
        words += [self._names(host.orchestrator)[0], "/opt/mlops-env/orchestrators/venvs.py"]
        images.timed("pipeline venv", "installing", "installed", lambda: self._run(words, settings))
        by_compose.stamp_pipeline_venv(host, self._engine)

    def _run(self, words: list[str], settings: dict[str, str]) -> None:
        variables = {**by_compose.variables(self._host, self._found), **settings}
        if subprocess.run([*self._command(), *words], env=variables, stdin=subprocess.DEVNULL, check=False).returncode:
            raise Failure("the pipeline's venv could not be made")

    def _wait(self, names: list[str]) -> None:
        deadline = time.monotonic() + _HEALTHY_SECONDS
        while not self._given_up.is_set():
            found = {one.service: one for one in self._containers() if not one.is_job}
            waiting = [name for name in names if name not in found or not found[name].is_healthy]
            if not waiting:
                return
            for name in waiting:
                self._require_hope(name, found.get(name), late=time.monotonic() > deadline)
            time.sleep(0.2)

    def _require_hope(self, name: str, container: Container | None, *, late: bool) -> None:
        """Raise Failure where waiting longer makes no sense."""
        if container is None:
            raise Failure(f"the container of {name} is gone", hint="`mlops-env up` makes it anew")
        told = self._engine.get(f"/containers/{container.id}/json")
        state = told["State"]
        code = 0 if state["Running"] and not state["Restarting"] else state["ExitCode"]
        given_up = told["RestartCount"] > _RESTARTS or state["Status"] == "dead" or late
        if not given_up and code != _ILLEGAL_INSTRUCTION:
            if state["Status"] == "exited":  # none stays so by itself: the daemon that kept it was killed, or somebody
                self._engine.call("POST", f"/containers/{container.id}/start")  # stopped it
            return
        log = ["docker", "logs", "--tail", "8", container.id]
        last = subprocess.run(log, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
        by_compose.halt_one(self._engine, container)  # or it would be restarted for ever
        memory = state["OOMKilled"] or code == _KILLED
        cure = _NO_AVX if code == _ILLEGAL_INSTRUCTION else _NO_MEMORY if memory else {}
        reason = f"it ended with {code}" if code else by_compose.said(state)
        raise Failure(f"{name} does not come up: {reason}\n{last}", **cure)

    def _attempt(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException:
            self._given_up.set()
            raise

    def _names(self, owner: str) -> list[str]:
        """Its services with its own image, the one with the page first."""
        return [one.name for one in self._host.services_of(owner) if "build" in self._services[one.name]]

    def _containers(self) -> list[Container]:
        return self._engine.containers(self._host.identity)

    def _up(self, *names: str) -> None:
        with self._one_at_a_time:
            self._compose("up", "--detach", "--no-deps", "--no-build", *names)

    def _compose(self, *words: str) -> str:
        variables = by_compose.variables(self._host, self._found)
        done = subprocess.run([*self._command(), *words], env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-6:])
            taken = any(words in done.stderr for words in _TAKEN)
            cure = {"code": "port-taken", "hint": "run the same command again: another port is chosen"} if taken else {}
            raise Failure(f"`docker compose {words[0]}` failed:\n{last}", **cure)
        return done.stdout

    def _command(self) -> list[str]:
        host = self._host
        files = ["--env-file", str(compose_settings(host.directory)), "--file", str(recipes.compose_file(host))]
        return ["docker", "compose", *files]
