"""Which port a service gets."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

import ports
from host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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
def host(tmp_path: Path, identity: str) -> Callable[..., Host]:
    """An environment by name, with a tracking server and a worker that both want what is given."""

    def make(name: str, preferred: int, recorded: dict[str, int] | None = None) -> Host:
        tree = tmp_path / "tree"
        declared = {
            "mlflow": f'[[services]]\nname = "mlflow"\nport = {preferred}\n',
            "toy": f'[[services]]\nname = "toy"\nport = {preferred}\n[[services]]\nname = "worker"\n',
        }
        for owner, text in declared.items():
            (tree / "orchestrators" / owner).mkdir(parents=True, exist_ok=True)
            (tree / "orchestrators" / owner / "orchestrator.toml").write_text(text)
        directory = tmp_path / "records" / name / "host"
        directory.mkdir(parents=True)
        return Host(identity, name, "toy", directory, tmp_path, tree, "uv", recorded or {})

    return make


def test_the_preferred_one_where_it_is_free_and_no_two_the_same(host: Callable[..., Host], free_port: int) -> None:
    one = host("one", free_port)
    ports.choose(one, set())
    assert one.ports["mlflow"] == free_port
    assert free_port < one.ports["toy"] < free_port + 100
    assert one.ports.keys() == {"mlflow", "toy"}
    assert json.loads((one.directory / "ports.json").read_text()) == one.ports


def test_a_taken_one_is_named_with_who_has_it(
    host: Callable[..., Host], taken_port: int, said: Callable[[], list[dict[str, Any]]]
) -> None:
    one = host("one", taken_port)
    ports.choose(one, set())
    assert one.ports["mlflow"] > taken_port
    assert f"mlflow: port {taken_port} is taken by pid {os.getpid()} (" in said()[0]["message"]


def test_the_last_one_is_kept_while_it_is_free(host: Callable[..., Host], free_port: int, taken_port: int) -> None:
    one = host("one", taken_port, {"mlflow": free_port})
    ports.choose(one, set())
    assert one.ports["mlflow"] == free_port


def test_ports_of_other_environments_are_theirs_also_while_they_are_stopped(
    host: Callable[..., Host], free_port: int
) -> None:
    one, two = host("one", free_port), host("two", free_port)
    ports.choose(one, set())
    ports.choose(two, set())
    assert not set(one.ports.values()) & set(two.ports.values())


def test_a_half_written_record_of_ports_is_none(host: Callable[..., Host], free_port: int) -> None:
    one, two = host("one", free_port), host("two", free_port)
    (one.directory / "ports.json").write_text("{")
    ports.choose(two, set())
    assert two.ports["mlflow"] == free_port


def test_a_service_that_runs_keeps_its_own(host: Callable[..., Host], taken_port: int) -> None:
    one = host("one", taken_port, {"mlflow": taken_port})
    ports.choose(one, {"mlflow"})
    assert one.ports["mlflow"] == taken_port


def test_when_every_port_is_taken_it_says_which_were_tried(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[dict[str, Any]]]
) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _: False)
    with pytest.raises(ports.NoPortError, match="mlflow: no free port from 5000 to 5099"):
        ports.choose(host("one", 5000), set())
    assert said()
