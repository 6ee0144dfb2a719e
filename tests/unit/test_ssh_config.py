"""How a host is to be reached, as ssh itself reads the user's configuration, and the commands built for it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mlops_env.errors import MlopsEnvError
from mlops_env.ssh_config import Host, Settings, config_text, read_settings, ssh_command


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host("me@box", tmp_path / "an environment" / "known_hosts")


def read(host: Host, text: str = "") -> Settings:
    config = Path.home() / ".ssh" / "config"
    config.parent.mkdir(exist_ok=True)
    config.write_text(text)
    return read_settings(host, host.destination, *host.options())


def test_the_command_is_strict_and_leaves_the_rest_to_the_caller(tmp_path: Path) -> None:
    host = Host("me@box", tmp_path / "known_hosts", 2222, Path("/keys/one"))
    assert ssh_command(host, "-N", remote=["true"]) == [
        *("ssh", "-F", str(tmp_path / "ssh_config"), "-p", "2222", "-i", "/keys/one"),
        *("-N", "--", "me@box", "true"),
    ]
    assert ssh_command(Host("box", tmp_path / "known_hosts")) == [
        "ssh",
        "-F",
        str(tmp_path / "ssh_config"),
        "--",
        "box",
    ]


def test_without_a_configuration_there_are_defaults(host: Host, home: Path) -> None:
    settings = read(host)
    assert (settings.hostname, settings.port, settings.user) == ("box", 22, "me")
    assert (settings.known_as, settings.jump, settings.proxy_command, settings.agent) == ("box", "", "", "")
    assert settings.known_hosts[:2] == (host.known_hosts, home / ".ssh" / "known_hosts")
    assert home / ".ssh" / "id_ed25519" in settings.identities
    assert (settings.identities_only, settings.timeout) == (False, 15)
    assert str(settings) == "me@box"


def test_all_that_the_user_configured_counts(host: Host, home: Path) -> None:
    settings = read(
        Host("alias", host.known_hosts),
        f"""
        Include "{home / ".ssh" / "more"}"
        Host alias
          HostName Box.example
          Port 2222
          User you
          IdentityFile "~/keys/the %r of %h"
          IdentitiesOnly yes
          IdentityAgent "~/the agent"
          UserKnownHostsFile "/a b/known" /c
          ProxyJump gate,you@other:23
          ConnectTimeout 3
        """,
    )
    assert (settings.hostname, settings.port, settings.user) == ("box.example", 2222, "you")
    assert settings.known_as == "[box.example]:2222"
    assert home / "keys" / "the you of box.example" in settings.identities
    assert settings.known_hosts[1:3] == (Path("/a b/known"), Path("/c"))
    assert settings.agent.endswith("/the agent")
    assert (settings.identities_only, settings.jump, settings.timeout) == (True, "gate,you@other:23", 3)
    assert str(settings) == "you@box.example port 2222"


def test_a_proxy_command_gets_its_words(host: Host) -> None:
    settings = read(host, "ProxyCommand relay %h %p %r 100%%\nHostKeyAlias the-box\n")
    assert settings.proxy_command == "relay box 22 me 100%"
    assert settings.known_as == "the-box"


@pytest.mark.parametrize("text", ["ProxyJump none\n", "ProxyCommand none\n"])
def test_none_is_none(host: Host, text: str) -> None:
    settings = read(host, text)
    assert (settings.jump, settings.proxy_command) == ("", "")


def test_the_agent_is_that_of_this_shell_unless_the_user_wants_none(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    assert read(host).agent == "/run/agent"
    assert read(host, "IdentityAgent none\n").agent == ""


def test_what_the_user_has_at_home_is_where_ssh_looks_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", pwd.getpwuid(os.getuid()).pw_dir)
    assert "IdentityFile" not in config_text(host)  # then the defaults of ssh hold, and only they


def test_strictness_is_not_the_users_to_give_up(host: Host) -> None:
    read(host, "StrictHostKeyChecking no\n")
    first = host.config.read_text().splitlines()[:3]
    assert first[1] == "StrictHostKeyChecking yes"  # what ssh meets first counts
    assert first[2].startswith("Include ")


def test_a_mistake_is_told_in_the_words_of_ssh(host: Host) -> None:
    with pytest.raises(MlopsEnvError, match=r"(?i)hots") as caught:
        read(host, "Hots box\n")
    assert (caught.value.code, bool(caught.value.hint)) == ("ssh-config", True)
