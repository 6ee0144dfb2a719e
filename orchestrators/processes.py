"""Which processes belong to an environment: those that carry its id in their environment variables.

A variable is inherited by every child, also by one that made a session of its own or lost its parent, so nothing
that a service started can hide; and no process id is ever taken from a file that may be older than the last reboot.
Processes in containers carry it too, but are not ours to end: they go with their container.
Needs psutil (the tools venv, or the CLI's own Python).
"""

from __future__ import annotations

import os
import time

import psutil


def find(identity: str, *, service: str | None = None, jobs: bool | None = None) -> list[psutil.Process]:
    """Processes of the environment `identity`, without our own session and ancestors.

    Args:
        identity: the value of MLOPS_ENV_ID.
        service: only those of this service (MLOPS_ENV_SERVICE).
        jobs: True for bootstrap's own commands only (MLOPS_ENV_JOB), False for all others.
    """
    ancestors = {process.pid for process in psutil.Process().parents()}
    here = _namespace("self")
    found = []
    for process in psutil.process_iter():
        try:
            variables = process.environ()
            mine = os.getsid(process.pid) == os.getsid(0)
        except (psutil.Error, OSError):  # another user's, a kernel thread, or gone meanwhile
            continue
        if variables.get("MLOPS_ENV_ID") != identity or mine or process.pid in ancestors:
            continue
        if service is not None and variables.get("MLOPS_ENV_SERVICE") != service:
            continue
        if jobs is not None and ("MLOPS_ENV_JOB" in variables) != jobs:
            continue
        if _namespace(process.pid) != here:
            continue
        found.append(process)
    return found


def end(found: list[psutil.Process], *, grace: float = 5.0) -> list[psutil.Process]:
    """Ask them to end, wait `grace` seconds, then kill; returns those that are still there."""
    for process in found:
        _signal(process, kill=False)
    alive = _wait(found, grace)
    for process in alive:
        _signal(process, kill=True)
    return _wait(alive, grace)


def end_all(identity: str, *, service: str | None = None, jobs: bool | None = None) -> tuple[int, int]:
    """End what `find` finds until it finds nothing: a process may fork while it is being ended.

    Returns how many were found and how many are left after three rounds.
    """
    seen: set[int] = set()
    for _ in range(3):
        found = find(identity, service=service, jobs=jobs)
        if not found:
            return len(seen), 0
        seen |= {process.pid for process in found}
        end(found)
    return len(seen), len(find(identity, service=service, jobs=jobs))


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, as far as they are still there."""
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def listening(found: list[psutil.Process]) -> set[int]:
    """The TCP ports on which these processes listen."""
    ports = set()
    for process in found:
        try:
            connections = process.net_connections("tcp")
        except psutil.Error:
            continue
        ports |= {c.laddr[1] for c in connections if c.status == psutil.CONN_LISTEN}
    return ports


def _namespace(pid: int | str) -> str:
    """Where this process's number is valid: another one in each container; empty where the system has no such thing."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 - it leads nowhere
    except OSError:
        return ""


def _wait(found: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after this time, or nothing as soon as there are none."""
    deadline = time.monotonic() + seconds
    while (alive := [process for process in found if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _runs(process: psutil.Process) -> bool:
    """A zombie does not: it waits for a parent to take note, and in a container there may be none that does."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        process.kill() if kill else process.terminate()
    except psutil.Error:
        return
