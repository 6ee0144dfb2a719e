"""The pages of a remote host, on ports of this computer: one `ssh -N` with a `-L` for each, kept by a supervisor.

    python forwards.py apply    have just what stdin says, answering: {"ssh": [what stands before a remote command],
                                "ports": [on the host]}
    python forwards.py state    whether the pages answer, else why not
    python forwards.py stop     end it, and what it started

This runs where the person is, not on the host, in a Python that has supervisor and psutil. MLOPS_ENV_ID and
MLOPS_ENV_HOST_DIR name a supervisor that has this one program. The last line of stdout is the result, those before it
are events.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import processes
from events import say
from files import locked, replace
from places import runtime_directory, supervisor_socket
from tunnel import NO_SIGN, command, last_words, silence

# supervision.py and ports.py are imported where they are needed: where all is well a look costs a third without them.
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from supervision import Supervisor

_NAME = "forward"
_CONNECT_SECONDS = 30.0
_PAGE_SECONDS = 5.0  # once there is a connection: the services of the host were healthy before we were asked
_TRIES = 100

_TAKEN = "Address already in use"
_FINAL = {
    "verification failed": "`mlops-env up --accept-new-host-key` shows and keeps the key of a host that is new; if it"
    " has changed, ask whoever runs the host before you remove the old key from known_hosts",
    "Permission denied": "a tunnel needs a key that works without a question: `ssh-add` gives it to your agent",
    "authentication failures": "your agent offers too many keys: name the right one with IdentityFile in ~/.ssh/config",
    _TAKEN: "a program here has just taken the port: the same command takes the next free one",
    "command not found": "install the OpenSSH client",
}
"""Last words of ssh that waiting does not change, and what does."""
_HINT = "see whether `ssh` to this host works from here; the tunnel goes on trying, and the same command looks again"


class ForwardError(Exception):
    """The pages do not come up; the message says why, in ssh's own words where it ended."""

    def __init__(self, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.hint = hint


class PortTaken(ForwardError):
    """A program here was quicker than ssh: chosen anew, it is another port."""


@dataclass(frozen=True)
class Forward:
    """The tunnel of one environment; `directory` is its supervisor's."""

    identity: str
    directory: Path
    tree: Path

    @cached_property
    def supervisor(self) -> Supervisor:
        from supervision import Supervisor  # noqa: PLC0415 - as above

        return Supervisor(self.identity, self.directory, self.tree)

    @property
    def log(self) -> Path:
        return self.directory / "logs" / f"{_NAME}.log"

    @property
    def agent(self) -> Path:
        """One name for whichever ssh agent was there last: a tunnel is not another one because of a new login."""
        return runtime_directory(self.identity) / "agent"

    def ports(self) -> dict[int, int]:
        """The recorded local port of each port on the host."""
        return {int(remote): local for remote, local in _json(self.directory / "ports.json").items()}

    def specification(self, ssh: Sequence[str], ports: dict[int, int]) -> dict[str, Any]:
        return {
            "argv": ["bash", str(self.tree / "orchestrators" / "forward.sh"), *command(ssh, ports)],
            "cwd": str(self.directory),
            "settings": {
                "MLOPS_ENV_ID": self.identity,
                "MLOPS_ENV_SERVICE": _NAME,
                "SSH_AUTH_SOCK": str(self.agent),
            },
        }

    def is_recorded(self, specification: dict[str, Any]) -> bool:
        return _json(self.directory / "programs" / f"{_NAME}.json") == specification


def apply(forward: Forward, ssh: Sequence[str], wanted: Sequence[int]) -> dict[int, int]:
    """The local port of each port on the host; those that are wanted answer.

    Pages that are not wanted now, as what they show does not run, stay; those of another orchestrator go.
    """
    forward.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(forward.directory):
        ports = forward.ports()
        has_all = ports.keys() >= set(wanted)
        is_same = has_all and forward.is_recorded(forward.specification(ssh, ports))
        if is_same and not _trouble(forward, ports, wanted):
            _lend_agent(forward)
            return ports
        pages = ports if has_all else wanted
        try:
            return _bring_up(forward, ssh, pages, wanted)
        except PortTaken:
            return _bring_up(forward, ssh, pages, wanted)


def _bring_up(forward: Forward, ssh: Sequence[str], pages: Iterable[int], wanted: Sequence[int]) -> dict[int, int]:
    if forward.supervisor.states() is None:
        processes.end_all(forward.identity, jobs=False)  # what a killed supervisor left behind
    forward.supervisor.start()
    _lend_agent(forward)
    ports = choose(forward, pages)
    replace(forward.directory / "ports.json", json.dumps(ports).encode())
    specification = forward.specification(ssh, ports)
    if forward.supervisor.is_current(_NAME, specification):
        # It waits before it tries again, or has not noticed yet that its connection is dead.
        forward.supervisor.halt(_NAME)
    said = forward.log.stat().st_size if forward.log.exists() else 0
    forward.supervisor.run(_NAME, specification)
    _wait(forward, ports, wanted, said)
    return ports


def choose(forward: Forward, wanted: Iterable[int]) -> dict[int, int]:
    """For each port on the host the local one it had, if we have it or could; else the same number, or the next free.

    Not one that another page or environment had: theirs to come back to.
    """
    import ports  # noqa: PLC0415 - as above

    before = forward.ports()
    ours = processes.listening(processes.find(forward.identity))
    records = forward.directory.parent.parent.glob("*/*/ports.json")
    taken = {port for path in records if path.parent != forward.directory for port in _json(path).values()}
    taken |= set(before.values())
    chosen = {}
    for remote in wanted:
        last = before.get(remote)
        if last and (last in ours or ports.is_free(last)):
            chosen[remote] = last
            continue
        candidates = (port for port in range(remote, min(remote + _TRIES, 65536)) if port not in taken)
        chosen[remote] = next((port for port in candidates if ports.is_free(port)), 0)
        if not chosen[remote]:
            raise ForwardError(f"no free port here from {remote} to {remote + _TRIES - 1}", "end what uses them")
        if chosen[remote] != remote:
            who = "another environment" if ports.is_free(remote) else ports.squatter(remote)
            say("note", _NAME, message=f"port {remote} here is taken by {who}: {chosen[remote]} instead")
        taken.add(chosen[remote])
    return chosen


def _lend_agent(forward: Forward) -> None:
    agent = os.environ.get("SSH_AUTH_SOCK")
    if not agent or agent == str(forward.agent):
        return
    if forward.agent.is_symlink() and str(forward.agent.readlink()) == agent:
        return
    new = forward.agent.with_name("agent.new")
    new.unlink(missing_ok=True)
    new.symlink_to(agent)
    new.replace(forward.agent)


def _wait(forward: Forward, ports: dict[int, int], wanted: Sequence[int], said: int) -> None:
    deadline, connected = time.monotonic() + _CONNECT_SECONDS, False
    while trouble := _trouble(forward, ports, wanted):
        words = last_words(forward.log, said)
        for final, hint in _FINAL.items():
            if final in words:
                forward.supervisor.halt(_NAME)  # or it would knock at the host's door for ever
                kind = PortTaken if final == _TAKEN else ForwardError
                raise kind(f"no tunnel to the host: {words}", hint)
        if not connected and is_connected(forward, ports):
            deadline, connected = time.monotonic() + _PAGE_SECONDS, True
        if time.monotonic() > deadline:
            raise ForwardError(f"no tunnel to the host: {words}" if words and not connected else trouble)
        time.sleep(0.1)


def _trouble(forward: Forward, ports: dict[int, int], wanted: Sequence[int]) -> str:
    """Why one of the wanted pages does not answer, or nothing."""
    if not is_running(forward):
        return "the tunnel to the host is not running"
    if not is_connected(forward, ports):
        return "the tunnel to the host has not come up"
    return next(iter(silence({remote: ports[remote] for remote in wanted}).values()), "")


def state(forward: Forward) -> dict[str, str]:
    """`up`, `down` or `stopped`, with the reason; a page that the host itself does not serve is none."""
    ports = forward.ports()
    if not ports or not is_running(forward):
        return {"state": "stopped", "reason": "the tunnel to the host is not running"}
    if not is_connected(forward, ports):
        return {"state": "down", "reason": f"the tunnel to the host is down: {last_words(forward.log) or 'connecting'}"}
    silent = silence(ports)
    if all(silent.get(remote) == NO_SIGN for remote in ports):
        return {"state": "down", "reason": f"the tunnel to the host is down: {NO_SIGN}"}
    return {"state": "up", "reason": ""}


def is_running(forward: Forward) -> bool:
    """Whether its supervisor is there, whose socket it is."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(supervisor_socket(forward.identity)))
        except OSError:
            return False
    return True


def is_connected(forward: Forward, ports: dict[int, int]) -> bool:
    """Whether it listens, which ssh does when it is connected; who else may listen there is not asked."""
    return processes.listening(processes.find(forward.identity)) >= set(ports.values())


def stop(forward: Forward) -> dict[str, int]:
    before = len(processes.find(forward.identity))
    forward.supervisor.shut_down()
    _, left = processes.end_all(forward.identity)
    return {"stopped": before - left, "left": left}


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def main() -> int:
    os.dup2(1, 3)  # where events go; nobody has opened it for us
    verb = " ".join(sys.argv[1:])
    tree = Path(__file__).resolve().parent.parent
    forward = Forward(os.environ["MLOPS_ENV_ID"], Path(os.environ["MLOPS_ENV_HOST_DIR"]), tree)
    match verb:
        case "apply":
            return _apply(forward, json.load(sys.stdin))
        case "state":
            print(json.dumps(state(forward)))
        case "stop":
            print(json.dumps(stop(forward)))
        case _:
            sys.exit(__doc__)
    return 0


def _apply(forward: Forward, wish: dict[str, Any]) -> int:
    try:
        print(json.dumps({"ports": apply(forward, wish["ssh"], wish["ports"])}))
    except ForwardError as error:
        say("cause", _NAME, message=str(error), code="forward-failed", hint=error.hint)
    except Exception as error:  # noqa: BLE001 - of the supervisor, the disk: their own words say it best
        say("cause", _NAME, message=f"no tunnel to the host: {error}", code="forward-failed", hint=_HINT)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
