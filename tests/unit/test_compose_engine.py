"""What the Docker Engine says, asked at its socket; a fake one answers."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import fake_engine
from engine import Container, Engine, EngineError
from failures import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path() -> Iterator[Path]:
    """A socket's path may have no more than 100 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder, "docker.sock")


def test_the_list_of_containers_is_asked_by_label_and_read(path: Path) -> None:
    asked = []

    def answer(method: str, target: str, query: dict[str, str]) -> tuple[int, Any]:
        asked.append((method, target, query))
        return 200, [fake_engine.container("mage", digest="abc")]

    with fake_engine.serving(path, answer):
        found = Engine(path).containers("an-id")
    assert asked == [("GET", "/containers/json", {"filters": '{"label": ["mlops-env.id=an-id"]}', "all": "1"})]
    assert found == [Container("id-of-mage", "mage", "running", "healthy", "abc", is_job=False)]


@pytest.mark.parametrize(
    ("state", "status", "health", "is_healthy"),
    [
        ("running", "Up 2 minutes (healthy)", "healthy", True),
        ("running", "Up 2 minutes (unhealthy)", "unhealthy", False),
        ("running", "Up 2 seconds (health: starting)", "starting", False),
        ("running", "Up 2 minutes", "", False),
        ("exited", "Exited (0) 2 hours ago", "", False),
        ("restarting", "Restarting (1) 3 seconds ago", "", False),
    ],
)
def test_health_is_read_from_the_status(state: str, status: str, health: str, is_healthy: bool) -> None:
    found = Container.of(fake_engine.container("mage", state=state, status=status))
    assert (found.health, found.is_healthy) == (health, is_healthy)


def test_a_refusal_has_the_words_of_the_engine(path: Path) -> None:
    with (
        fake_engine.serving(path, lambda *_: (409, {"message": "it is in use"})),
        pytest.raises(EngineError, match="it is in use") as refused,
    ):
        Engine(path).get("/anything")
    assert refused.value.status == 409


def test_what_is_gone_already_is_removed_and_what_is_in_use_is_not(path: Path) -> None:
    with fake_engine.serving(path, lambda _, target, __: (404 if target == "/networks/gone" else 409, {})):
        assert Engine(path).remove("/networks/gone")
        assert not Engine(path).remove("/networks/used")


def test_an_image_or_a_volume_that_is_not_there_is_none(path: Path) -> None:
    with fake_engine.serving(path, lambda *_: (404, {"message": "no such thing"})):
        assert Engine(path).image("x:1") is None
        assert Engine(path).volume("x") is None


class TestUnreachable:
    def test_without_a_socket(self, path: Path) -> None:
        with pytest.raises(Failure) as failure:
            Engine(path).containers("x")
        assert failure.value.code == "docker-no-daemon"

    def test_nobody_listens(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with pytest.raises(Failure) as failure:
            Engine(path).containers("x")
        assert failure.value.code == "docker-stopped"

    def test_it_does_not_answer(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
            deaf.listen()
            with pytest.raises(Failure) as failure:
                Engine(path).call("GET", "/version", seconds=0.1)
        assert failure.value.code == "docker-hangs"

    def test_not_for_this_user(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        with pytest.raises(Failure) as failure:
            Engine(path).containers("x")
        assert failure.value.code == "docker-permission"

    def test_it_goes_away_in_the_middle(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as short:
            short.bind(str(path))
            short.listen()

            def hang_up() -> None:
                short.accept()[0].close()

            threading.Thread(target=hang_up).start()
            with pytest.raises(Failure) as failure:
                Engine(path).containers("x")
        assert failure.value.code == "docker-stopped"


class TestWhichEngine:
    @pytest.fixture(autouse=True)
    def _no_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
            monkeypatch.delenv(name, raising=False)

    def context(self, home: Path, name: str, address: str) -> None:
        folder = home / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"Endpoints": {"docker": {"Host": address}}}))
        (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))

    def test_the_usual_one(self) -> None:
        assert Engine.here().socket == Path("/var/run/docker.sock")

    def test_the_context_s(self, home: Path) -> None:
        self.context(home, "mine", "unix:///run/user/7/docker.sock")
        assert Engine.here().socket == Path("/run/user/7/docker.sock")

    def test_a_variable_counts_more(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.context(home, "mine", "unix:///run/user/7/docker.sock")
        monkeypatch.setenv("DOCKER_HOST", "unix:///elsewhere.sock")
        assert Engine.here().socket == Path("/elsewhere.sock")

    def test_one_on_another_machine_is_named(self, home: Path) -> None:
        self.context(home, "far", "ssh://me@box")
        with pytest.raises(Failure, match="ssh://me@box") as failure:
            Engine.here()
        assert failure.value.code == "docker-context"

    def test_one_of_an_ordinary_user_is_rootless(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
        assert Engine(path).is_rootless == (os.getuid() != 0)
        if os.getuid() == 0:
            os.chown(path, 1000, 1000)
            assert Engine(path).is_rootless
