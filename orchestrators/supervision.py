"""The supervisor of an environment's services: its configuration, and talking to it over its socket.

Needs supervisor (the tools venv). Each service is a program that runs group.py with a specification of its own, so
that the configuration names nothing but paths of ours, and a service restarts exactly when its specification changed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import stat
import subprocess
import sys
import threading
import time
import xmlrpc.client
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from supervisor.xmlrpc import SupervisorTransport

from failures import Failure
from files import replace
from places import runtime_directory, supervisor_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 20.0

# Logs are relative to the host directory, where the daemon starts: a `%` or ` ;` of its name would be syntax here.
_DAEMON = """\
[supervisord]
logfile=logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={runtime}/supervisord.pid
childlogdir=logs

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

; relative, since spaces would separate names
[include]
files=programs/*.conf
"""

# The supervisor's SIGTERM goes to group.py alone, which ends the whole group; 35 s is more than it ever takes.
_PROGRAM = """\
[program:{name}]
command={command}
autorestart=true
startsecs=2
startretries=3
stopwaitsecs=35
redirect_stderr=true
stdout_logfile=logs/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=3
"""


class SupervisorError(Failure):
    """The supervisor cannot be started or does not do what it was asked."""


@dataclass(frozen=True)
class Supervisor:
    """The daemon of one environment; `host` is the environment's directory on this host."""

    identity: str
    host: Path
    tree: Path
    _reloading: threading.Lock = field(default_factory=threading.Lock, compare=False)

    @property
    def socket(self) -> Path:
        return supervisor_socket(self.identity)

    def states(self) -> dict[str, dict[str, Any]] | None:
        """What the supervisor says of each service (statename, pid, spawnerr); None where no supervisor answers."""
        try:
            with self._rpc() as rpc:
                return {info["name"]: info for info in rpc.getAllProcessInfo()}
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return None

    def start(self) -> None:
        """Start the daemon where none answers; stale pid and socket files are its own to replace."""
        runtime, programs = runtime_directory(self.identity), self.host / "programs"
        runtime.mkdir(mode=0o700, exist_ok=True)
        status = runtime.lstat()
        if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
            raise SupervisorError(f"{runtime} belongs to another user or is a link: have it removed")
        runtime.chmod(0o700)
        for directory in (programs, self.host / "logs"):
            directory.mkdir(parents=True, exist_ok=True)
        text = _DAEMON.format(runtime=runtime, socket=self.socket)
        configuration = self.host / "supervisord.conf"
        if self.states() is not None:
            if configuration.is_file() and configuration.read_bytes() == text.encode():
                return
            self.shut_down()  # an earlier version of us has started it, and would have it read what it cannot
        replace(configuration, text.encode())
        # The daemon outlives this job: it must not carry the mark by which a dead job's processes are found.
        variables = {key: value for key, value in os.environ.items() if key != "MLOPS_ENV_JOB"}
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        with (self.host / "logs" / "supervisord.start").open("wb") as log:
            code = subprocess.run(command, cwd=self.host, env=variables, stdout=log, stderr=log, check=False).returncode
        deadline = time.monotonic() + _START_SECONDS
        while self.states() is None:
            if code or time.monotonic() > deadline:
                said = (self.host / "logs" / "supervisord.start").read_text(encoding="utf-8", errors="replace")
                raise SupervisorError(f"the supervisor did not start: {said.strip()[-500:]}")
            time.sleep(0.05)

    def specification(self, name: str) -> Path:
        return self.host / "programs" / f"{name}.json"

    def is_current(self, name: str, specification: dict[str, Any]) -> bool:
        """Whether this service is configured just so (not whether it runs)."""
        try:
            current = json.loads(self.specification(name).read_text(encoding="utf-8"))
            program = (self.host / "programs" / f"{name}.conf").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False
        return bool(current == specification and program == self._program(name))

    def run(self, name: str, specification: dict[str, Any]) -> None:
        """Have this service running with this specification: started, restarted, or left alone."""
        with self._reloading:
            current = self.is_current(name, specification)
            if current and (self.states() or {}).get(name, {}).get("statename") in {"RUNNING", "STARTING"}:
                return
            replace(self.specification(name), json.dumps(specification).encode())
            replace(self.host / "programs" / f"{name}.conf", self._program(name).encode())
            if name in self._reload():  # started just now; a TERM so soon could be lost, and with it half a minute
                return
        self.halt(name)
        with self._rpc() as rpc:
            rpc.startProcess(name, False)

    def halt(self, name: str) -> None:
        """Stop it, if it runs."""
        with contextlib.suppress(xmlrpc.client.Fault), self._rpc() as rpc:  # it was not running
            rpc.stopProcess(name)

    def keep_only(self, names: set[str]) -> None:
        """Stop and forget every service that is not one of these: another orchestrator's."""
        with self._reloading:
            for path in (self.host / "programs").glob("*.conf"):
                if path.stem not in names:
                    path.unlink()
                    path.with_suffix(".json").unlink(missing_ok=True)
            self._reload()

    def shut_down(self) -> None:
        """Stop all services and the daemon itself; returns when it no longer answers."""
        with contextlib.suppress(OSError, http.client.HTTPException, xmlrpc.client.Error), self._rpc() as rpc:
            rpc.shutdown()
        deadline = time.monotonic() + 40
        while self._answers() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Also while it shuts down, when it answers every question with a fault."""
        try:
            with self._rpc() as rpc:
                rpc.getState()
        except xmlrpc.client.Fault:
            return True
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False
        return True

    def _program(self, name: str) -> str:
        command = [
            sys.executable,
            str(self.tree / "orchestrators" / "group.py"),
            str(self.specification(name)),
        ]
        return _PROGRAM.format(name=name, command=shlex.join(command).replace("%", "%%"))

    def _reload(self) -> set[str]:
        """Read the programs again; returns those that were started by that, new or changed."""
        with self._rpc() as rpc:
            added, changed, removed = rpc.reloadConfig()[0]
            for name in (*removed, *changed):
                with contextlib.suppress(xmlrpc.client.Fault):
                    rpc.stopProcessGroup(name)
                    rpc.removeProcessGroup(name)
            for name in (*added, *changed):
                rpc.addProcessGroup(name)
        return {*added, *changed}

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        # The address is a formality: the transport goes to the socket.
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            yield proxy.supervisor
