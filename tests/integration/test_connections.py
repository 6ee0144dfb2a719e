"""What holds for every connection: the same commands come to the same results here and over a real ssh."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlops_env.connection import LocalConnection, put, quoted
from mlops_env.ssh import SSHConnection
from mlops_env.ssh_config import Host

from .sshd import make_key, sshd

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_env.connection import Connection

WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=6)


@pytest.fixture(scope="module", params=["local", "ssh"])
def connection(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    if request.param == "local":
        yield LocalConnection()
        return
    folder = tmp_path_factory.mktemp("contract")
    with pytest.MonkeyPatch.context() as patch, sshd(folder / "sshd") as daemon:
        patch.setenv("HOME", str(folder))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        key = make_key(folder / "key")
        daemon.allow(key)
        known_hosts = folder / "known_hosts"
        known_hosts.write_text(daemon.known_line)
        with SSHConnection(Host(daemon.destination, known_hosts, daemon.port, key), print) as opened:
            yield opened


def has_ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_failing_command_is_a_result(connection: Connection) -> None:
    result = connection.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (result.exited, result.ok, result.stdout, result.stderr) == (3, False, "out\n", "err\n")


def test_a_command_that_is_not_there_is_one_too(connection: Connection) -> None:
    result = connection.run(["no-such-command-of-ours", "x"])
    assert result.exited == 127
    assert "no-such-command-of-ours" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_one_has_the_signal(connection: Connection, number: signal.Signals) -> None:
    assert connection.run(["sh", "-c", f"kill -{int(number)} $$"]).exited == -number


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS)
def test_words_arrive_as_they_are(connection: Connection, words: list[str]) -> None:
    into = io.BytesIO()
    connection.run(["printf", r"%s\0", *words, "end"], into=into)
    assert into.getvalue().decode() == "".join(f"{word}\0" for word in [*words, "end"])


SHELLS = [path for name in ("sh", "bash", "dash", "zsh", "fish") if (path := shutil.which(name))]


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=60, deadline=None)
@given(words=WORDS)
@example(words=["=ls", "~", "{a,b}", "\\", "\\'", "'", "$HOME", "!!", "a\nb", "*", "%self", "-n", ""])
def test_every_login_shell_takes_a_line_apart_into_its_words(shell: str, words: list[str]) -> None:
    line = "exec " + quoted(["printf", r"%s\0", *words, "end"])
    said = subprocess.run([shell, "-c", line], capture_output=True, check=True).stdout
    assert said.decode() == "".join(f"{word}\0" for word in [*words, "end"])


def test_an_argument_that_is_no_text_arrives_too(connection: Connection) -> None:
    into = io.BytesIO()
    connection.run(["printf", "%s", os.fsdecode(b"\xff\xfe")], into=into)
    assert into.getvalue() == b"\xff\xfe"


def test_without_stdin_there_is_none(connection: Connection) -> None:
    assert connection.run(["cat"]).stdout == ""


def test_stdin_of_many_megabytes_goes_in_while_as_much_comes_out(connection: Connection) -> None:
    into, sent = io.BytesIO(), os.urandom(20_000_000)
    assert connection.run(["cat"], stdin=sent, into=into).ok
    assert into.getvalue() == sent


def test_a_command_that_reads_nothing_does_not_break_it(connection: Connection) -> None:
    assert connection.run(["true"], stdin=b"x" * 20_000_000).ok


def test_lines_come_as_they_are_said(connection: Connection) -> None:
    """The command waits for a file that is made when its first line is here."""
    lines: list[tuple[str, str]] = []
    marker = connection.run(["mktemp", "-u"]).stdout.strip()

    def on_line(stream: str, line: str) -> None:
        lines.append((stream, line))
        if line == "one":
            connection.run(["touch", marker])

    script = r'printf "one\r\n"; until [ -e "$1" ]; do sleep 0.05; done; rm "$1"; printf "tw\303\266\nbad \377\nlast"'
    result = connection.run(["sh", "-c", script, "sh", marker], on_line=on_line)
    assert lines == [("stdout", line) for line in ("one", "twö", "bad �", "last")]
    assert result.last_line() == "last"


def test_on_line_is_never_called_twice_at_once(connection: Connection) -> None:
    inside, most, calls = 0, 0, 0

    def on_line(*_: str) -> None:
        nonlocal inside, most, calls
        inside, calls = inside + 1, calls + 1
        most = max(most, inside)
        time.sleep(0.0005)
        inside -= 1

    connection.run(["sh", "-c", "seq 200 & seq 200 >&2; wait"], on_line=on_line)
    assert (most, calls) == (1, 400)


def test_into_takes_the_bytes_and_stderr_stays(connection: Connection) -> None:
    into, lines = io.BytesIO(), list[str]()
    script = r"printf 'a\377\r\n\0b'; echo err >&2"
    result = connection.run(["sh", "-c", script], into=into, on_line=lambda _, line: lines.append(line))
    assert (into.getvalue(), result.stdout, result.stderr, lines) == (b"a\xff\r\n\0b", "", "err\n", ["err"])


def test_commands_may_run_side_by_side(connection: Connection) -> None:
    ended: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: ended.append(connection.run(["sh", "-c", f"exit {n}"]).exited))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == list(range(8))


def test_interrupted_it_ends_the_command_with_its_children(connection: Connection) -> None:
    started: list[int] = []

    def on_line(_: str, line: str) -> None:
        started.extend(map(int, line.split()))
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        connection.run(["sh", "-c", "sleep 60 & sleep 60 & echo $! $$; wait"], on_line=on_line)
    assert len(started) == 2
    assert not [pid for pid in started if psutil.pid_exists(pid) and not has_ended(pid)]
    assert connection.run(["true"]).ok


def test_interrupted_it_ends_one_that_does_not_want_to(connection: Connection) -> None:
    started: list[int] = []

    def on_line(_: str, line: str) -> None:
        started.append(int(line))
        os.kill(os.getpid(), signal.SIGINT)

    script = "trap '' TERM; echo $$; while :; do sleep 0.1; done"
    with pytest.raises(KeyboardInterrupt):
        connection.run(["sh", "-c", script], on_line=on_line)
    assert has_ended(started[0])


def test_what_goes_wrong_with_a_line_ends_the_command_and_is_raised(connection: Connection) -> None:
    started: list[int] = []

    def on_line(_: str, line: str) -> None:
        started.append(int(line))
        raise LookupError(line)

    with pytest.raises(LookupError):
        connection.run(["sh", "-c", "echo $$; exec sleep 60"], on_line=on_line)
    assert has_ended(started[0])


def test_a_full_disk_under_into_ends_the_command_and_is_raised(connection: Connection) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        connection.run(["yes"], into=Full())
    assert connection.run(["true"]).ok


def test_a_renewed_one_goes_on(connection: Connection) -> None:
    connection.renew()
    assert connection.run(["true"]).ok


def test_a_tree_appears_whole(connection: Connection, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("one")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"1"))
    target = tmp_path / "a b" / "trée"
    assert not put(connection, buffer.getvalue()[:300], str(target)).ok
    assert not target.exists()
    assert put(connection, buffer.getvalue(), str(target)).ok
    assert (target / "one").read_text() == "1"
