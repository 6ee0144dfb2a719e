"""Logging in by ssh, and losing the connection: against a real sshd, and every bad day by its name."""

from __future__ import annotations

import getpass
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from mlops_env import ssh
from mlops_env.errors import ConnectionLost, MlopsEnvError
from mlops_env.ssh import SSHConnection
from mlops_env.ssh_config import Host, ssh_command

from .sshd import KEYGEN, Sshd, Wire, free_port, make_key, public, ssh_agent, sshd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlops_env.events import Event


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the user, with blanks and a quote in its name."""
    path = tmp_path / "Zoë's h%me"
    path.joinpath(".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `right` key that both daemons let in, `wrong` ones, and one with a passphrase."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("right", "wrong", "wrong2", "wrong3"):
        make_key(folder / name)
    make_key(folder / "secret", locked_with="open sesame")
    return folder


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("ssh d") / "box", "MaxAuthTries 3") as daemon:
        daemon.allow(keys / "right")
        daemon.allow(keys / "secret")
        yield daemon


@pytest.fixture(scope="module")
def jump(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("ssh d") / "jump") as daemon:
        daemon.allow(keys / "right")
        yield daemon


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def host(box: Sshd, keys: Path, tmp_path: Path) -> Callable[..., Host]:
    """A host of an environment; unless said otherwise the box is known, and the right key is named."""

    def make(
        destination: str = box.destination, *, known: str = box.known_line, port: int | None = box.port, key: str = ""
    ) -> Host:
        # Without a blank: what ssh runs for a ProxyJump does not quote the name of its configuration.
        known_hosts = tmp_path / "environment" / "known_hosts"
        known_hosts.parent.mkdir(exist_ok=True)
        known_hosts.write_text(known, encoding="utf-8")
        return Host(destination, known_hosts, port, keys / (key or "right"))

    return make


def unnamed(host: Host) -> Host:
    """Without a key: whichever ssh would take."""
    return Host(host.destination, host.known_hosts, host.port)


def says(host: Host, events: list[Event] | None = None, *, accept_new: bool = False) -> str:
    """Log in and have the host say something."""
    with SSHConnection(host, (events if events is not None else []).append, accept_new=accept_new) as connection:
        return connection.run(["echo", "hello"]).stdout.strip()


def fails(host: Host, *, accept_new: bool = False) -> MlopsEnvError:
    with pytest.raises(MlopsEnvError) as caught:
        says(host, accept_new=accept_new)
    assert caught.value.hint
    return caught.value


def configure(home: Path, text: str) -> None:
    (home / ".ssh" / "config").write_text(text, encoding="utf-8")


class TestHostKey:
    def test_an_unknown_one_is_shown_and_refused(self, host: Callable[..., Host], box: Sshd) -> None:
        one = host(known="")
        error = fails(one)
        assert error.code == "host-key-unknown"
        assert f"ssh-ed25519 {box.fingerprint}" in error.message
        assert "--accept-new-host-key" in error.hint
        assert one.known_hosts.read_text() == ""

    def test_accepted_it_is_shown_and_known_from_then_on(
        self, host: Callable[..., Host], box: Sshd, events: list[Event]
    ) -> None:
        one = host(known="")
        one.known_hosts.unlink()
        assert says(one, events, accept_new=True) == "hello"
        assert [event.type for event in events] == ["note"]
        assert box.fingerprint in events[0].message
        assert one.known_hosts.read_text().split()[:3] == box.known_line.split()[:3]
        assert one.known_hosts.stat().st_mode & 0o777 == 0o600
        assert says(one) == "hello"

    def test_a_changed_one_is_never_accepted(
        self, host: Callable[..., Host], box: Sshd, keys: Path, tmp_path: Path
    ) -> None:
        one = host(known=f"# a comment\n[127.0.0.1]:{box.port} {public(keys / 'wrong')}")
        error = fails(one, accept_new=True)
        assert error.code == "host-key-changed"
        shown = subprocess.run([KEYGEN, "-lf", keys / "wrong"], check=True, capture_output=True, text=True)
        assert box.fingerprint in error.message
        assert f"{shown.stdout.split()[1]} ({one.known_hosts}:2)" in error.message
        assert f"ssh-keygen -R '[127.0.0.1]:{box.port}' -f '{one.known_hosts}'" in error.hint
        assert str(tmp_path) in error.hint

    def test_a_revoked_one_is_refused(self, host: Callable[..., Host], box: Sshd) -> None:
        error = fails(host(known=f"{box.known_line}@revoked * {public(box.host_key)}"), accept_new=True)
        assert error.code == "host-key-changed"
        assert "revoked" in error.message

    def test_the_users_own_file_counts_hashed_or_not(self, host: Callable[..., Host], box: Sshd, home: Path) -> None:
        users = home / ".ssh" / "known_hosts"
        users.write_text(box.known_line)
        assert says(host(known="")) == "hello"
        subprocess.run([KEYGEN, "-q", "-H", "-f", str(users)], check=True, capture_output=True)
        assert "127.0.0.1" not in users.read_text()
        assert says(host(known="")) == "hello"


class TestOurKey:
    def test_a_wrong_one_is_named(self, host: Callable[..., Host], keys: Path) -> None:
        error = fails(host(key="wrong"))
        assert error.code == "ssh-auth"
        assert str(keys / "wrong") in error.message
        assert "--identity" in error.hint

    def test_having_none_is_said(self, host: Callable[..., Host]) -> None:
        error = fails(unnamed(host()))
        assert (error.code, "there is no key" in error.message) == ("ssh-auth", True)
        assert "ssh-copy-id" in error.hint

    def test_one_that_is_not_there_is_named(self, host: Callable[..., Host], keys: Path) -> None:
        error = fails(host(key="missing"))
        assert error.code == "ssh-auth"
        assert f"{keys / 'missing'}: No such file" in error.message

    def test_one_that_is_none_is_named(self, host: Callable[..., Host], keys: Path) -> None:
        (keys / "text").write_text("hello")
        (keys / "text").chmod(0o600)
        error = fails(host(key="text"))
        assert error.code == "ssh-auth"
        assert f"{keys / 'text'} is not a private key" in error.message

    def test_one_that_others_may_read_is_not_used(self, host: Callable[..., Host], keys: Path) -> None:
        make_key(keys / "loose").chmod(0o644)
        error = fails(host(key="loose"))
        assert error.code == "ssh-auth"
        assert f"chmod 600 '{keys / 'loose'}'" in error.message

    def test_one_with_a_passphrase_needs_the_agent(self, host: Callable[..., Host], keys: Path) -> None:
        error = fails(host(key="secret"))
        assert error.code == "ssh-auth"
        assert f"ssh-add '{keys / 'secret'}'" in error.message

    def test_the_agents_is_enough(
        self, host: Callable[..., Host], keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ssh_agent(tmp_path, keys / "right") as agent:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
            assert says(unnamed(host())) == "hello"
            assert says(host(key="secret")) == "hello"

    def test_an_agent_of_the_users_configuration_is_asked(
        self, host: Callable[..., Host], keys: Path, tmp_path: Path, home: Path
    ) -> None:
        with ssh_agent(tmp_path, keys / "right") as agent:
            configure(home, f'Host *\n  IdentityAgent "{agent}"\n')
            assert says(unnamed(host())) == "hello"

    def test_the_named_one_is_offered_before_an_agents_many(
        self, host: Callable[..., Host], keys: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with ssh_agent(tmp_path, *(keys / name for name in ("wrong", "wrong2", "wrong3"))) as agent:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
            assert says(host()) == "hello"
            error = fails(unnamed(host()))
            assert error.code == "ssh-auth"
            assert "closed the connection" in error.message
            configure(home, f'IdentitiesOnly yes\nIdentityFile "{keys / "right"}"\n')
            assert says(unnamed(host())) == "hello"

    def test_the_default_ones_are_found_at_home(self, host: Callable[..., Host], keys: Path, home: Path) -> None:
        (home / ".ssh" / "id_ed25519").symlink_to(keys / "right")
        assert says(unnamed(host())) == "hello"

    @pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
    def test_others_than_ed25519_are_fine(self, host: Callable[..., Host], box: Sshd, keys: Path, kind: str) -> None:
        key = keys / kind
        subprocess.run([KEYGEN, "-q", "-t", kind, "-N", "", "-f", str(key)], check=True)
        box.allow(key)
        assert says(host(key=kind)) == "hello"


class TestReach:
    def test_nobody_listens(self, host: Callable[..., Host]) -> None:
        error = fails(host(port=free_port()))
        assert error.code == "ssh-unreachable"
        assert "Connection refused" in error.message

    def test_there_is_no_such_name(self, host: Callable[..., Host]) -> None:
        error = fails(host("me@no-such-host.invalid"))
        assert error.code == "ssh-unreachable"
        assert "me@no-such-host.invalid" in error.message
        assert "no host of this name" in error.message

    def test_it_says_nothing(self, host: Callable[..., Host], home: Path) -> None:
        configure(home, "ConnectTimeout 1\n")
        with socket.create_server(("127.0.0.1", 0)) as silent:
            start = time.monotonic()
            error = fails(host(port=silent.getsockname()[1]))
        assert time.monotonic() - start < 5
        assert error.code == "ssh-unreachable"

    @pytest.mark.parametrize("word", ["-oProxyCommand=touch /tmp/x", "a b"])
    def test_a_name_is_not_taken_for_an_option(self, host: Callable[..., Host], word: str) -> None:
        assert fails(host(word)).code == "ssh-config"

    def test_a_mistake_in_the_users_configuration_is_named(self, host: Callable[..., Host], home: Path) -> None:
        configure(home, "Hots box\n")
        error = fails(host())
        assert error.code == "ssh-config"
        assert "hots" in error.message.lower()

    def test_without_ssh_on_path_that_is_said(
        self, host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        assert fails(host()).code == "ssh-missing"

    def test_an_alias_is_what_the_users_configuration_says(
        self, host: Callable[..., Host], box: Sshd, keys: Path, home: Path
    ) -> None:
        (home / ".ssh" / "more").write_text(f'Host box\n  Port {box.port}\n  IdentityFile "{keys / "right"}"\n')
        configure(
            home,
            f'Include "{home / ".ssh" / "more"}"\nHost box\n  HostName 127.0.0.1\n  User {getpass.getuser()}\n',
        )
        assert says(unnamed(host("box", port=None))) == "hello"

    def test_a_known_name_of_its_own_counts(self, host: Callable[..., Host], box: Sshd, home: Path) -> None:
        configure(home, "HostKeyAlias the-box\n")
        assert fails(host()).code == "host-key-unknown"
        assert says(host(known=f"the-box {public(box.host_key)}")) == "hello"

    def test_through_a_proxy_command(self, host: Callable[..., Host], home: Path, tmp_path: Path) -> None:
        relay = tmp_path / "relay.py"
        relay.write_text(RELAY)
        configure(home, f"ProxyCommand {sys.executable} {relay} %h %p\n")
        assert says(host()) == "hello"
        ours = [p for p in psutil.process_iter(["cmdline"]) if str(relay) in (p.info["cmdline"] or [])]
        assert psutil.wait_procs(ours, timeout=5)[1] == []

    def test_a_proxy_commands_last_words_are_the_reason(self, host: Callable[..., Host], home: Path) -> None:
        configure(home, "ProxyCommand sh -c 'echo the tunnel is shut >&2; exit 1'\n")
        error = fails(host())
        assert error.code == "ssh-unreachable"
        assert "the tunnel is shut" in error.message


RELAY = """
import os, socket, sys, threading
way = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while data := way.recv(65536):
        os.write(1, data)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    way.sendall(data)
"""


class TestJump:
    @pytest.fixture
    def through(self, box: Sshd, jump: Sshd, keys: Path, home: Path) -> Callable[..., None]:
        def make(*, key: str = "right", port: int = box.port) -> None:
            configure(
                home,
                f"""
                Host box
                  HostName 127.0.0.1
                  User {getpass.getuser()}
                  Port {port}
                  ProxyJump gate
                Host gate
                  HostName 127.0.0.1
                  User {getpass.getuser()}
                  Port {jump.port}
                  IdentityFile "{keys / key}"
                """,
            )

        return make

    @pytest.fixture
    def both(self, box: Sshd, jump: Sshd) -> str:
        return box.known_line + jump.known_line

    def test_the_box_is_reached_through_it(
        self, host: Callable[..., Host], through: Callable[..., None], both: str, jump: Sshd
    ) -> None:
        through()
        with SSHConnection(host("box", known=both, port=None), print) as connection:
            assert len(jump.sessions()) == 1
            assert connection.run(["echo", "hello"]).stdout == "hello\n"
        assert connection_count_falls_to(jump, 0)

    def test_two_of_them(
        self, host: Callable[..., Host], through: Callable[..., None], both: str, home: Path, jump: Sshd
    ) -> None:
        through()
        text = (home / ".ssh" / "config").read_text()
        configure(home, text.replace("ProxyJump gate", f"ProxyJump gate,{getpass.getuser()}@gate:{jump.port}"))
        assert says(host("box", known=both, port=None)) == "hello"

    def test_both_keys_are_shown_and_kept_and_plain_ssh_knows_them_then(
        self, host: Callable[..., Host], through: Callable[..., None], events: list[Event], box: Sshd, jump: Sshd
    ) -> None:
        through()
        one = host("box", known="", port=None)
        assert jump.fingerprint in fails(one).message
        assert says(one, events, accept_new=True) == "hello"
        assert [event.fields["fingerprint"] for event in events] == [jump.fingerprint, box.fingerprint]
        done = subprocess.run(
            ssh_command(one, "-o", "BatchMode=yes", remote=["echo", "hello"]),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "hello\n", done.stderr

    def test_its_changed_key_stops_us(
        self, host: Callable[..., Host], through: Callable[..., None], jump: Sshd, keys: Path, box: Sshd
    ) -> None:
        through()
        changed = f"[127.0.0.1]:{jump.port} {public(keys / 'wrong')}"
        error = fails(host("box", known=box.known_line + changed, port=None))
        assert (error.code, jump.fingerprint in error.message) == ("host-key-changed", True)

    def test_it_does_not_let_us_in(self, host: Callable[..., Host], through: Callable[..., None], both: str) -> None:
        through(key="wrong")
        error = fails(host("box", known=both, port=None))
        assert error.code == "ssh-auth"
        assert "wrong" in error.message

    def test_it_cannot_reach_the_box(self, host: Callable[..., Host], through: Callable[..., None], both: str) -> None:
        through(port=free_port())
        error = fails(host("box", known=both, port=None))
        assert error.code == "ssh-unreachable"
        assert "the jump host says: " in error.message

    def test_a_way_in_circles_ends(self, host: Callable[..., Host], home: Path) -> None:
        configure(home, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
        error = fails(host("a", port=None))
        assert error.code == "ssh-unreachable"
        assert "ProxyJump" in error.hint


class TestSession:
    @pytest.fixture
    def connection(self, host: Callable[..., Host]) -> Iterator[SSHConnection]:
        with SSHConnection(host(), print) as opened:
            yield opened

    def test_many_commands_are_one_login(self, connection: SSHConnection, box: Sshd) -> None:
        before = [session.pid for session in box.sessions()]
        for _ in range(20):
            assert connection.run(["true"]).ok
        assert [session.pid for session in box.sessions()] == before

    def test_renewed_it_is_another_login(self, connection: SSHConnection, box: Sshd) -> None:
        before = {session.pid for session in box.sessions()}
        connection.renew()
        assert connection.run(["true"]).ok
        assert {session.pid for session in box.sessions()} - before

    def test_what_start_up_files_say_is_not_the_commands(self, connection: SSHConnection, box: Sshd) -> None:
        noise = box.home / ".bashrc"
        noise.write_text("echo welcome; echo 'you have mail' >&2; printf half-a-line-\n")
        try:
            result = connection.run(["sh", "-c", "echo out; echo err >&2"])
        finally:
            noise.unlink()
        assert (result.stdout, result.stderr) == ("out\n", "err\n")

    def test_whoever_starts_no_commands_is_heard(self, keys: Path, tmp_path: Path) -> None:
        with sshd(tmp_path / "shut", "ForceCommand echo 'this account is closed'; exit 7") as daemon:
            daemon.allow(keys / "right")
            known_hosts = tmp_path / "known_hosts"
            known_hosts.write_text(daemon.known_line)
            with SSHConnection(Host(daemon.destination, known_hosts, daemon.port, keys / "right"), print) as opened:
                result = opened.run(["true"])
        assert (result.exited, result.stdout) == (7, "this account is closed\n")

    def test_a_killed_session_is_a_lost_connection_and_a_new_one_helps(
        self, connection: SSHConnection, box: Sshd
    ) -> None:
        def on_line(*_: str) -> None:
            for session in box.sessions():
                session.kill()

        start = time.monotonic()
        with pytest.raises(ConnectionLost) as caught:
            connection.run(["sh", "-c", "echo $$; exec sleep 3"], on_line=on_line)
        assert time.monotonic() - start < 2
        assert (caught.value.code, bool(caught.value.hint)) == ("connection-lost", True)
        with pytest.raises(ConnectionLost):
            connection.run(["true"])
        connection.renew()
        assert connection.run(["true"]).ok

    def test_a_reboot_that_answers_before_it_hangs_up_has_an_answer(self, connection: SSHConnection, box: Sshd) -> None:
        session = [one.pid for one in box.sessions()][-1]
        result = connection.run(["sh", "-c", f"(sleep 0.3; kill {session}) >/dev/null 2>&1 & echo bye"])
        assert result.stdout == "bye\n"
        time.sleep(0.6)
        with pytest.raises(ConnectionLost):
            connection.run(["true"])

    def test_a_cut_of_ten_seconds_is_ridden_out(self, host: Callable[..., Host], box: Sshd) -> None:
        wire = Wire(box.port)
        known = f"[127.0.0.1]:{wire.port} {public(box.host_key)}"
        try:
            with SSHConnection(host(port=wire.port, known=known), print) as connection:
                wire.is_whole.clear()
                mended = _later(10, wire.is_whole.set)
                start = time.monotonic()
                assert connection.run(["cat"], stdin=b"x" * 3_000_000).stdout == "x" * 3_000_000 + "\n"
                assert time.monotonic() - start > 9
                mended.join()
        finally:
            wire.close()

    def test_no_sign_of_life_is_a_lost_connection(
        self, host: Callable[..., Host], box: Sshd, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert ssh.ALIVE_SECONDS + ssh.DEAD_SECONDS <= 60
        monkeypatch.setattr(ssh, "ALIVE_SECONDS", 0.2)
        monkeypatch.setattr(ssh, "DEAD_SECONDS", 0.5)
        wire = Wire(box.port)
        known = f"[127.0.0.1]:{wire.port} {public(box.host_key)}"
        try:
            with SSHConnection(host(port=wire.port, known=known), print) as connection:
                assert connection.run(["sleep", "1"]).ok  # while there is one, it may take its time
                wire.is_whole.clear()
                with pytest.raises(ConnectionLost, match="no sign of life"):
                    connection.run(["cat"], stdin=b"x" * 30_000_000)
        finally:
            wire.close()

    def test_what_is_left_of_it_is_nothing(self, host: Callable[..., Host], box: Sshd) -> None:
        assert says(host()) == "hello"
        assert connection_count_falls_to(box, 0)


def connection_count_falls_to(daemon: Sshd, number: int) -> bool:
    deadline = time.monotonic() + 5
    while len(daemon.sessions()) > number and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(daemon.sessions()) == number


def _later(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer
