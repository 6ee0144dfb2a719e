"""The tunnel to a host: its command, its ports, how it is kept, and what the command line makes of its words."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import tunnel
from conftest import ROOT
from fakes import Answer, FakeConnection
from forwards import Forward, ForwardError, choose
from mlops_env import forward
from mlops_env.bundle import bundled
from mlops_env.environment import Environment, Record
from mlops_env.errors import CommandFailed, MlopsEnvError
from mlops_env.receipt import Row
from places import runtime_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlops_env.events import Event

SSH = ["ssh", "-F", "/a b/config", "--", "me@box"]
URLS = {"toy": "http://127.0.0.1:6789", "mlflow": "http://127.0.0.1:5000/#/runs"}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


@pytest.fixture
def one(records: Path, identity: str) -> Forward:
    directory = records / "one" / "forward"
    directory.mkdir(parents=True)
    return Forward(identity, directory, ROOT)


@pytest.fixture
def environment(records: Path, identity: str) -> Environment:
    return Environment("box", records / "box", Record(identity, "box", "ssh", "toy", "venv", "/w", 0.0))


def record(directory: Path, ports: dict[int, int]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ports.json").write_text(json.dumps(ports))


def test_one_ssh_asks_nothing_shares_nothing_and_listens_on_loopback() -> None:
    words = tunnel.command(SSH, {6789: 6789, 5000: 5001})
    assert words[0] == "ssh"
    assert words[-4:] == SSH[1:]
    pages = [words[i + 1] for i, word in enumerate(words) if word == "-L"]
    assert pages == ["127.0.0.1:6789:127.0.0.1:6789", "127.0.0.1:5001:127.0.0.1:5000"]
    options = {words[i + 1] for i, word in enumerate(words) if word == "-o"}
    assert options >= {
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ExitOnForwardFailure=yes",
        "ServerAliveInterval=10",
        "ServerAliveCountMax=3",
        "ConnectTimeout=10",
        "ControlMaster=no",
        "ControlPath=none",
    }


def test_the_same_number_as_on_the_host_where_it_is_free(one: Forward, free_port: int) -> None:
    assert choose(one, [free_port]) == {free_port: free_port}


def test_else_the_next_free_one_with_a_word_about_who_has_it(
    one: Forward, taken_port: int, said: Callable[[], list[dict[str, Any]]]
) -> None:
    chosen = choose(one, [taken_port])[taken_port]
    assert taken_port < chosen < taken_port + 100
    (note,) = said()
    assert f"port {taken_port} here is taken by pid {os.getpid()}" in note["message"]
    assert note["message"].endswith(f"{chosen} instead")


def test_a_page_keeps_its_port_while_it_is_free(one: Forward, free_port: int, taken_port: int) -> None:
    record(one.directory, {4242: free_port})
    assert choose(one, [4242]) == {4242: free_port}
    record(one.directory, {4242: taken_port})
    assert choose(one, [4242])[4242] != taken_port


@pytest.mark.parametrize("kind", ["host", "forward"])
def test_ports_of_other_environments_are_theirs(one: Forward, records: Path, free_port: int, kind: str) -> None:
    record(records / "two" / kind, {4242: free_port})
    assert choose(one, [free_port])[free_port] != free_port


def test_no_page_takes_the_port_that_another_one_had(one: Forward, free_port: int) -> None:
    record(one.directory, {4242: free_port})
    chosen = choose(one, [free_port, 4242])
    assert chosen[4242] == free_port
    assert chosen[free_port] != free_port


def test_no_free_port_at_all_is_named(one: Forward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ports.is_free", lambda _: False)
    with pytest.raises(ForwardError, match="no free port here from 65500 to 65599"):
        choose(one, [65500])


def test_last_words_are_those_since_we_began(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tunnel.last_words(log) == ""
    log.write_text("2025-01-01 10:00:00 ssh ended after 0 s: box: not known\nforward ended with 137\n")
    assert tunnel.last_words(log) == "box: not known"
    assert tunnel.last_words(log, log.stat().st_size) == ""


_SLEEP = """#!/bin/sh
echo "$1" >>"{folder}/slept"
[ "$(wc -l <"{folder}/slept")" -lt {times} ] || kill -9 "$PPID"
"""


@pytest.mark.parametrize(
    ("ssh", "slept", "said_times"),
    [
        ("echo 'no route to host' >&2; exit 255", ["1", "2", "3", "4", "5", "5", "5"], 1),
        ("echo 'me@box: Permission denied (publickey).' >&2; exit 255", ["60", "60", "60"], 1),
        ('echo >>"$0.n"; n=$(wc -l <"$0.n"); echo "reason $(((n - 1) / 2))"', ["1", "2", "3", "4"], 2),
        ("kill -9 $$", ["1", "2"], 1),
    ],
)
def test_it_tries_for_ever_and_says_each_reason_once(
    tmp_path: Path, ssh: str, slept: list[str], said_times: int
) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in {"ssh": f"#!/bin/sh\n{ssh}\n", "sleep": _SLEEP.format(folder=tmp_path, times=len(slept))}.items():
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "orchestrators" / "forward.sh"), "ssh", "-N", "me@box"],
        env={**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (tmp_path / "slept").read_text().split() == slept
    assert len(done.stdout.splitlines()) == said_times, done.stdout
    assert all(" ssh ended after 0 s: " in line for line in done.stdout.splitlines())


def ensure(connection: FakeConnection, environment: Environment) -> tuple[dict[str, str], list[Event]]:
    events: list[Event] = []
    return forward.ensure(connection, environment, SSH, URLS, events.append), events


APPLY = f"*python* {bundled('orchestrators')}/forwards.py apply"


def test_urls_are_those_of_this_computer_and_notes_are_passed_on(environment: Environment) -> None:
    stdout = '{"type":"note","name":"forward","message":"port 5000 here"}\n{"ports":{"5000":5001,"6789":6789}}\n'
    connection = FakeConnection({APPLY: Answer(stdout)}, {})
    urls, events = ensure(connection, environment)
    assert urls == {"toy": "http://127.0.0.1:6789", "mlflow": "http://127.0.0.1:5001/#/runs"}
    assert [(event.type, event.message) for event in events] == [("note", "port 5000 here")]
    (settings,) = connection.settings
    assert settings["MLOPS_ENV_HOST_DIR"] == str(environment.directory / "forward")
    assert connection.transcript[0].endswith("< stdin")


def test_without_pages_nothing_is_run(environment: Environment) -> None:
    assert forward.ensure(FakeConnection({}, {}), environment, SSH, {}, lambda _: None) == {}


def test_a_cause_is_the_error(environment: Environment) -> None:
    cause = {"type": "cause", "name": "forward", "code": "forward-failed", "message": "no tunnel: so", "hint": "do"}
    with pytest.raises(MlopsEnvError, match="no tunnel: so") as failed:
        ensure(FakeConnection({APPLY: Answer(json.dumps(cause), exited=1)}, {}), environment)
    assert (failed.value.code, failed.value.hint) == ("forward-failed", "do")


def test_a_script_that_dies_is_an_error_too(environment: Environment) -> None:
    with pytest.raises(CommandFailed) as failed:
        ensure(FakeConnection({APPLY: Answer(stderr="Traceback …", exited=1)}, {}), environment)
    assert (failed.value.code, failed.value.result.tail()) == ("forward-failed", "Traceback …")


def test_recorded_urls_need_no_tunnel(environment: Environment) -> None:
    assert forward.urls(environment, URLS) == {}
    record(forward.directory(environment), {5000: 5001})
    assert forward.urls(environment, URLS) == {"mlflow": "http://127.0.0.1:5001/#/runs"}


def test_its_receipt_stands_beside_that_of_the_host(environment: Environment) -> None:
    kinds = ["process", "port", "file", "venv", "log", "directory"]
    rows = "".join(json.dumps({"kind": kind, "found": 2, "removed": 1, "left": 1}) + "\n" for kind in kinds)
    connection = FakeConnection({f"*python* {bundled('orchestrators')}/sweep.py": Answer(rows)}, {})
    assert forward.end(connection, environment) == (
        Row("local process", 2, 1, 1),
        Row("local port", 2, 1, 1),
        Row("local file", 8, 4, 4),
    )


def test_its_supervisor_is_another_one_than_that_of_a_host_on_this_computer(environment: Environment) -> None:
    own, of_host = forward.identity(environment), environment.record.id
    assert own == forward.identity(environment)
    assert runtime_directory(own) != runtime_directory(of_host)
