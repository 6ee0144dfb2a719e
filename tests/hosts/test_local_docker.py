"""Target local with runtime compose, where somebody works on a machine with Docker: it comes up, or it is said why not.

The command line is installed on a host and typed there.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from integration.harness import ROOT, Ended

from . import faults
from .engine import DOCKER
from .harness import HOME, OWNER, OWNER_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .harness import Host, Yard

_EQUIP = ("10-base", "20-docker", "25-daemon")
# As one who logs in now, or as one who did before anybody put him into a group.
_LOGIN = ("su", "--login", OWNER, "--command")
_OLD_LOGIN = (
    "setpriv",
    f"--reuid={OWNER_ID}",
    f"--regid={OWNER_ID}",
    "--clear-groups",
    "env",
    f"USER={OWNER}",
    "bash",
    "-c",
)


@dataclass(frozen=True)
class Resident:
    """The owner of a host, who works on it."""

    host: Host

    def __call__(self, *words: str, variables: str = "", login: tuple[str, ...] = _LOGIN) -> Ended:
        command = shlex.join(["cli/bin/python", "-m", "mlops_env", *words, "--json"])
        script = f"cd {HOME}; HOME={HOME} PYTHONPATH={HOME}/product/src {variables} {command}"
        argv = [DOCKER, "exec", self.host.container, *login, script]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
        return Ended(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)


@pytest.fixture(scope="module")
def resident(yard: Yard, toy_product: Path) -> Iterator[Resident]:
    host = yard.start()
    packed = subprocess.run(["tar", "-C", toy_product, "-c", "."], capture_output=True, check=True)  # noqa: S607
    host.owner("mkdir product")
    host.root("tar", "-C", f"{HOME}/product", "-x", "--no-same-owner", stdin=packed.stdout)
    for step in _EQUIP:
        host.owner(f"sudo bash product/bootstrap/steps/{step}.sh apply", timeout=600)
    host.write(f"{HOME}/requirements.lock", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    host.owner("python3 -m venv cli && cli/bin/pip install --quiet --require-hashes -r requirements.lock", timeout=600)
    yield Resident(host)
    yard.stop(host)


@pytest.fixture(scope="module")
def up(resident: Resident) -> Ended:
    return resident("up", "--runtime", "compose").succeeded()


def test_it_comes_up_in_containers(resident: Resident, up: Ended) -> None:
    assert (up.result["target"], up.result["runtime"]) == ("local", "compose")
    assert up.result["run"]["state"] == "completed"
    assert len(resident.host.shell("docker ps --quiet --filter health=healthy").split()) == 2
    again = resident("up").succeeded()
    others = {"base", "docker", "reboot"}  # nobody but the user equips the user's machine
    steps = again.statuses("step")
    assert {name for name, status in steps.items() if status != "ok"} == others, again.explain()
    assert again.statuses("run") == {"run": "ok"}
    checks = {check["name"]: check["status"] for check in resident("doctor").succeeded().result["checks"]}
    assert checks["docker"] == "ok"


@contextmanager
def _stopped(host: Host) -> Iterator[None]:
    faults.stop_docker(host)
    try:
        yield
    finally:
        host.shell("systemctl reset-failed docker.service docker.socket || :; systemctl start docker.service")


@contextmanager
def _no_socket(host: Host) -> Iterator[None]:
    with _stopped(host):
        host.shell("rm -f /run/docker.sock")
        yield


@contextmanager
def _no_engine(host: Host) -> Iterator[None]:
    with _no_socket(host), _gone(host, "/usr/sbin/dockerd"):
        yield


@contextmanager
def _gone(host: Host, *paths: str) -> Iterator[None]:
    for path in paths:
        host.shell(f"mv {path} {path}.gone")
    try:
        yield
    finally:
        for path in paths:
            host.shell(f"mv {path}.gone {path}")


def _no_command(host: Host) -> AbstractContextManager[None]:
    return _gone(host, host.shell("command -v docker"))


@contextmanager
def _no_plugin(host: Host) -> Iterator[None]:
    """Also without the command of that name, which is the plugin itself in Debian's package."""
    found = host.shell("ls /usr/bin/docker-compose /usr/lib*/docker/cli-plugins/docker-compose || :").split()
    with _gone(host, *found):
        yield


@contextmanager
def _old_compose(host: Host) -> Iterator[None]:
    with _no_plugin(host):
        host.shell("ln -s /bin/true /usr/local/bin/docker-compose")
        try:
            yield
        finally:
            host.shell("rm /usr/local/bin/docker-compose")


@contextmanager
def _elsewhere(host: Host) -> Iterator[None]:
    host.owner("docker context create away --docker host=tcp://192.0.2.1:2375; docker context use away")
    try:
        yield
    finally:
        host.owner("docker context use default; docker context rm away")


@contextmanager
def _not_in_the_group(host: Host) -> Iterator[None]:
    host.shell(f"gpasswd --delete {OWNER} docker")
    try:
        yield
    finally:
        host.shell(f"usermod -aG docker {OWNER}")


@pytest.mark.usefixtures("up")
@pytest.mark.parametrize(
    ("state", "code", "cure"),
    [
        (_stopped, "docker-stopped", "systemctl start docker"),
        (_no_socket, "docker-stopped", "systemctl start docker"),
        (_no_engine, "docker-no-daemon", "install Docker Engine"),
        (_no_command, "docker-missing", "install Docker Engine"),
        (_no_plugin, "docker-missing", "plugin"),
        (_old_compose, "docker-compose-v1", "plugin"),
        (_elsewhere, "docker-context", "docker context use default"),
        (_not_in_the_group, "docker-permission", "usermod -aG docker me"),
        (faults.hanging_docker, "docker-hangs", "systemctl restart docker"),
    ],
)
def test_docker_that_cannot_be_used_is_named_with_its_cure(
    resident: Resident, state: Callable[[Host], AbstractContextManager[None]], code: str, cure: str
) -> None:
    with state(resident.host):
        is_named(resident("up", "--name", "other", "--runtime", "compose"), code, cure)
        checks = resident("doctor", "--name", "other").succeeded().result["checks"]  # runtime venv does without
    (docker,) = [check for check in checks if check["name"] == "docker"]
    assert (docker["status"], docker["code"]) == ("warning", code)
    assert not resident.host.succeeds(f"test -e {HOME}/.local/state/mlops-env/other")


def is_named(ended: Ended, code: str, cure: str) -> None:
    error = ended.failed(code).result["error"]
    assert cure in error["hint"]
    assert "Cannot connect to the Docker daemon" not in ended.explain()


@pytest.mark.usefixtures("up")
def test_a_variable_that_points_elsewhere(resident: Resident) -> None:
    ended = resident("up", "--name", "other", "--runtime", "compose", variables="DOCKER_HOST=ssh://away.example")
    is_named(ended, "docker-context", "DOCKER_HOST")


@pytest.mark.usefixtures("up")
def test_a_login_older_than_the_membership(resident: Resident) -> None:
    ended = resident("up", "--name", "other", "--runtime", "compose", login=_OLD_LOGIN)
    is_named(ended, "docker-permission", "newgrp docker")


@pytest.mark.usefixtures("up")
def test_the_day_after(resident: Resident) -> None:
    """Docker was away and is back: so is all that ran, and `down` takes it."""
    resident("up").succeeded()
    receipt = resident("down").succeeded().result
    assert receipt["left"] == 0
    assert {row["kind"] for row in receipt["receipt"] if row["removed"]} >= {"container", "volume", "network", "image"}
    assert not resident.host.shell("docker ps --all --quiet; docker volume ls --quiet")
