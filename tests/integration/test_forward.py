"""A real tunnel through a real sshd to a real page: cut, killed, in the way of another program, and ended."""

from __future__ import annotations

import http.server
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

import processes
from mlops_env import forward
from mlops_env.connection import LocalConnection
from mlops_env.environment import Environment, Record
from mlops_env.errors import MlopsEnvError
from places import runtime_directory

from .sshd import Wire, make_key, public, ssh_agent, sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlops_env.events import Event

    from .sshd import Sshd

BODY = b"the page of the host"
SCRIPTS = Path(__file__).resolve().parents[2] / "orchestrators"
PYTHON = Path(sys.executable).name


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Page(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Tests have enough to say."""


@pytest.fixture(scope="module")
def page() -> Iterator[str]:
    """What the host serves, at its own address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@dataclass
class Host:
    """`ssh` is what stands before a command for it; `folder` has keys, and files that say what its own is."""

    folder: Path
    daemon: Sshd

    def ssh(self, port: int = 0, *, key: str = "user", known: str = "known") -> list[str]:
        options = (f'UserKnownHostsFile="{self.folder / known}"', "HostKeyAlias=box")
        words = [word for option in options for word in ("-o", option)]
        words += ["-i", str(self.folder / key)] if key else []
        return ["ssh", "-F", "none", *words, "-p", str(port or self.daemon.port), "--", self.daemon.destination]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("k é y s")
    with sshd(folder / "sshd") as daemon:
        daemon.allow(make_key(folder / "user"))
        (folder / "known").write_text(f"box {public(daemon.host_key)}")
        (folder / "changed").write_text(f"box {public(make_key(folder / 'wrong'))}")
        (folder / "unknown").touch()
        yield Host(folder, daemon)


class Cable(Wire):
    """A wire that can be mended."""

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._ends = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()


@pytest.fixture
def cable(host: Host) -> Iterator[Cable]:
    one = Cable(host.daemon.port)
    yield one
    one.close()


@dataclass
class Laptop:
    """One environment's tunnel, and what a person sees of it."""

    environment: Environment
    events: list[Event] = field(default_factory=list)

    def ensure(self, ssh: list[str], *pages: str) -> list[str]:
        urls = {str(number): url for number, url in enumerate(pages)}
        with LocalConnection() as connection:
            return list(forward.ensure(connection, self.environment, ssh, urls, self.events.append).values())

    def state(self) -> forward.State:
        return forward.state(LocalConnection(), self.environment)

    def end(self) -> dict[str, tuple[int, int, int]]:
        rows = forward.end(LocalConnection(), self.environment)
        return {row.kind: (row.found, row.removed, row.left) for row in rows}

    def processes(self, start: str = "") -> list[psutil.Process]:
        """Ours whose command line, from the program's name on, starts so; one that ends meanwhile is not there."""
        found = []
        for process in processes.find(forward.identity(self.environment)):
            with suppress(psutil.Error, IndexError):
                program, *words = process.cmdline()
                if " ".join([Path(program).name, *words]).startswith(start):
                    found.append(process)
        return found

    def ssh(self) -> psutil.Process:
        """There is exactly one."""
        (one,) = self.processes("ssh -N")
        return one

    def log(self) -> str:
        return (forward.directory(self.environment) / "logs" / "forward.log").read_text(encoding="utf-8")


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    identity = str(uuid.uuid4())
    record = Record(identity, "box", "ssh", "toy", "venv", "/nowhere", 0.0)
    one = Laptop(Environment("box", tmp_path / "Zoë's stäte 50%" / "box", record))
    yield one
    left = one.end()
    assert all(row[2] == 0 for row in left.values()), left
    assert one.processes() == []
    assert not forward.directory(one.environment).exists()
    assert not runtime_directory(forward.identity(one.environment)).exists()


def read(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def test_a_page_of_the_host_has_a_url_here_on_loopback_only(laptop: Laptop, host: Host, page: str) -> None:
    (url,) = laptop.ensure(host.ssh(), page)
    assert read(url) == BODY
    assert url != page  # this host is this computer, so its own port was taken
    port = int(url.rpartition(":")[2])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    assert [line[1] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "0A"] == [
        f"0100007F:{port:04X}"
    ]
    tcp6 = [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    assert [line for line in tcp6 if line[1].endswith(f":{port:04X}") and line[3] == "0A"] == []
    assert laptop.state() == forward.State("up", "")
    assert forward.urls(laptop.environment, {"page": f"{page}/runs?id=1"}) == {"page": f"{url}/runs?id=1"}
    (note,) = laptop.events
    assert (note.type, f"port {page.rpartition(':')[2]} here is taken by pid {os.getpid()}" in note.message) == (
        "note",
        True,
    )


def test_what_stands_is_left_alone_and_another_wish_is_another_tunnel(
    laptop: Laptop, host: Host, cable: Cable, page: str
) -> None:
    (url,) = laptop.ensure(host.ssh(), page)
    before = laptop.ssh().pid
    assert laptop.ensure(host.ssh(), page) == [url]
    assert laptop.ssh().pid == before
    assert laptop.ensure(host.ssh(cable.port), page) == [url]
    assert laptop.ssh().pid != before
    assert read(url) == BODY


def test_two_pages_share_one_ssh_and_those_of_another_orchestrator_go(laptop: Laptop, host: Host, page: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        second = f"http://127.0.0.1:{server.server_address[1]}/"
        urls = laptop.ensure(host.ssh(), page, second)
        assert [read(url) for url in urls] == [BODY, BODY]
        before = laptop.ssh()
        assert laptop.ensure(host.ssh(), page) == urls[:1]  # the other one does not run just now
        assert laptop.ssh() == before
        third = f"http://localhost:{server.server_address[1]}"
        assert forward.urls(laptop.environment, {"third": third}) == {"third": urls[1].rstrip("/")}
        assert laptop.end()["local port"] == (2, 2, 0)
        (url,) = laptop.ensure(host.ssh(), page)
        (other,) = laptop.ensure(host.ssh(), second)
        assert (read(url), read(other)) == (b"", BODY)
        server.shutdown()


def test_a_connection_that_died_unnoticed_is_down_and_mended_by_whoever_asks(
    laptop: Laptop, host: Host, cable: Cable, page: str
) -> None:
    (url,) = laptop.ensure(host.ssh(cable.port), page)
    before = laptop.ssh()
    cable.is_whole.clear()
    assert laptop.state() == forward.State("down", "the tunnel to the host is down: no answer for 3 s")
    cable.close()  # what is on its way gets lost
    cable.mend()
    assert laptop.ensure(host.ssh(cable.port), page) == [url]
    assert laptop.ssh() != before


def test_the_agent_of_a_new_login_serves_the_tunnel_that_stands(
    laptop: Laptop, host: Host, cable: Cable, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with ssh_agent(tmp_path / "second", host.folder / "user") as second:
        with ssh_agent(tmp_path / "first", host.folder / "user") as first:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(first))
            (url,) = laptop.ensure(host.ssh(cable.port, key=""), page)
            before = laptop.ssh()
            monkeypatch.setenv("SSH_AUTH_SOCK", str(second))
            assert laptop.ensure(host.ssh(cable.port, key=""), page) == [url]
            assert laptop.ssh() == before
        cable.close()
        cable.mend()
        assert eventually(lambda: read(url) == BODY)
        assert laptop.ssh() != before


def test_cut_for_some_seconds_it_comes_back_by_itself_and_says_why_once(
    laptop: Laptop, host: Host, cable: Cable, page: str
) -> None:
    (url,) = laptop.ensure(host.ssh(cable.port), page)
    cable.close()
    assert eventually(lambda: not read(url))
    time.sleep(4)
    seen = laptop.state()
    assert (seen.health, "Connection refused" in seen.reason) == ("down", True), seen
    cable.mend()
    assert eventually(lambda: read(url) == BODY)
    assert laptop.state().health == "up"
    assert laptop.log().count("Connection refused") == 1


@pytest.mark.parametrize("victim", ["ssh -N", f"bash {SCRIPTS}/forward.sh", f"{PYTHON} {SCRIPTS}/group.py"])
def test_killed_it_comes_back_by_itself(laptop: Laptop, host: Host, page: str, victim: str) -> None:
    (url,) = laptop.ensure(host.ssh(), page)
    before = laptop.ssh()
    min(laptop.processes(victim), key=lambda process: process.create_time()).kill()
    assert eventually(lambda: before not in laptop.processes("ssh") and read(url) == BODY)
    assert laptop.ssh() != before


def test_after_a_kill_of_the_supervisor_there_is_one_tunnel_again(laptop: Laptop, host: Host, page: str) -> None:
    (url,) = laptop.ensure(host.ssh(), page)
    before = laptop.ssh()
    (daemon,) = laptop.processes(f"{PYTHON} -m supervisor.supervisord")
    daemon.kill()
    daemon.wait()
    assert laptop.state().health == "stopped"
    assert laptop.ensure(host.ssh(), page) == [url]
    assert laptop.ssh() != before
    assert read(url) == BODY
    (daemon,) = laptop.processes(f"{PYTHON} -m supervisor.supervisord")
    daemon.kill()
    daemon.wait()
    receipt = laptop.end()  # also then there is nothing that it does not find
    assert receipt["local process"][0] > 0
    assert receipt["local port"] == (1, 1, 0)


def test_a_port_that_another_program_took_meanwhile_is_left_to_it(laptop: Laptop, host: Host, page: str) -> None:
    (url,) = laptop.ensure(host.ssh(), page)
    port = int(url.rpartition(":")[2])
    assert forward.stop(LocalConnection(), laptop.environment)["left"] == 0
    with socket.create_server(("127.0.0.1", port)):
        (other,) = laptop.ensure(host.ssh(), page)
        assert other != url
        assert read(other) == BODY
    assert laptop.ensure(host.ssh(), page) == [other]  # kept, as long as it is free


def test_a_port_taken_while_the_tunnel_was_down_does_not_pass_for_the_page(
    laptop: Laptop, host: Host, cable: Cable, page: str
) -> None:
    (url,) = laptop.ensure(host.ssh(cable.port), page)
    cable.close()
    assert eventually(lambda: not read(url))
    with http.server.ThreadingHTTPServer(("127.0.0.1", int(url.rpartition(":")[2])), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cable.mend()
        assert laptop.state().health == "down"
        (other,) = laptop.ensure(host.ssh(cable.port), page)
        assert (other != url, read(other)) == (True, BODY)
        server.shutdown()


def test_ended_there_is_nothing_left_and_twice_is_fine(laptop: Laptop, host: Host, page: str) -> None:
    (url,) = laptop.ensure(host.ssh(), page)
    receipt = laptop.end()
    assert receipt["local port"] == (1, 1, 0)
    assert all(found == removed and left == 0 for found, removed, left in receipt.values())
    assert (read(url), laptop.processes()) == (b"", [])
    assert set(laptop.end().values()) == {(0, 0, 0)}
    assert laptop.state().health == "stopped"


@pytest.mark.parametrize(
    ("key", "known", "words", "cure"),
    [
        ("user", "unknown", "Host key verification failed", "--accept-new-host-key"),
        ("user", "changed", "Host key verification failed", "known_hosts"),
        ("wrong", "known", "Permission denied", "ssh-add"),
    ],
)
def test_what_waiting_does_not_change_is_told_at_once(
    laptop: Laptop, host: Host, page: str, key: str, known: str, words: str, cure: str
) -> None:
    began = time.monotonic()
    with pytest.raises(MlopsEnvError) as failed:
        laptop.ensure(host.ssh(key=key, known=known), page)
    assert time.monotonic() - began < 10
    assert (failed.value.code, words in failed.value.message, cure in failed.value.hint) == (
        "forward-failed",
        True,
        True,
    )
    assert laptop.processes("ssh") == laptop.processes("bash") == []  # it does not knock on
    assert words in laptop.state().reason
    (url,) = laptop.ensure(host.ssh(), page)
    assert read(url) == BODY


def test_a_page_that_the_host_does_not_serve_is_named(laptop: Laptop, host: Host) -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(MlopsEnvError, match=f"nothing answers at port {port} of the host"):
            laptop.ensure(host.ssh(), f"http://127.0.0.1:{port}")
    assert laptop.state().health == "up"  # the tunnel is


_CHILD = """
import pickle, sys
from mlops_env import forward
from mlops_env.connection import LocalConnection
environment, ssh, page = pickle.loads(sys.stdin.buffer.read())
forward.ensure(LocalConnection(), environment, ssh, {"page": page}, print)
print("ready", flush=True)
import time; time.sleep(60)
"""


def test_it_outlives_the_command_that_started_it_and_its_terminal(laptop: Laptop, host: Host, page: str) -> None:
    command = [sys.executable, "-c", _CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(pickle.dumps((laptop.environment, host.ssh(), page)))
        child.stdin.close()
        assert any(line == b"ready\n" for line in child.stdout)
        before = laptop.ssh().pid
        os.killpg(child.pid, signal.SIGINT)
        os.killpg(child.pid, signal.SIGHUP)
    assert laptop.ssh().pid == before
    assert laptop.ensure(host.ssh(), page) != [page]
    assert laptop.ssh().pid == before
