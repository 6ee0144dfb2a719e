"""Whatever is wrong with a host is either ridden out or named with its cure; the next `up` then does the rest."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from integration.harness import ask

from . import faults
from .harness import HOME, OWNER_ID, make_key
from .laptop import Laptop
from .tenant import Tenant, edited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integration.harness import Table

    from .harness import Host, Yard


@pytest.fixture(scope="module")
def box(yard: Yard) -> Iterator[Host]:
    """For first days: bare, but for packages that earlier ones needed."""
    host = yard.start()
    yield host
    yard.stop(host)


@pytest.fixture
def laptop(laptops: Callable[[Path], Laptop], toy_product: Path) -> Laptop:
    return laptops(toy_product)


@pytest.fixture
def newcomer(laptop: Laptop, box: Host) -> Iterator[Tenant]:
    """Somebody who has nothing on the box yet."""
    box.shell("if command -v git; then dpkg --purge git; fi")
    laptop.know(box)
    tenant = Tenant(laptop, box)
    yield tenant
    tenant.leaves()


def _standing(yard: Yard, folder: Path, product: Path, runtime: str) -> Iterator[Tenant]:
    laptop = Laptop(Path(tempfile.mkdtemp(dir=folder)) / "m", folder / "uv", product)
    laptop.take_key(yard.identity)
    host = yard.start()
    laptop.know(host)
    tenant = Tenant(laptop, host, runtime)
    tenant.up().wait().succeeded()
    yield tenant
    tenant.leaves()
    laptop.forget()
    yard.stop(host)


@pytest.fixture(scope="module")
def standing(yard: Yard, folder: Path, toy_product: Path) -> Iterator[Tenant]:
    """Somebody whose environment is up, as processes."""
    yield from _standing(yard, folder, toy_product, "venv")


@pytest.fixture(scope="module")
def docked(yard: Yard, folder: Path, toy_product: Path) -> Iterator[Tenant]:
    """Somebody whose environment is up, in containers, beside something else of theirs."""
    for tenant in _standing(yard, folder, toy_product, "compose"):
        tenant.host.root("docker", "volume", "create", "mine")
        yield tenant
        assert "mine" in tenant.host.root("docker", "volume", "ls", "--quiet").split()


def lacks_git(host: Host) -> None:
    """So that apt is needed."""
    host.shell("if command -v git; then dpkg --purge git; fi")


class TestTheWayThere:
    def test_an_unknown_host_key_is_shown_and_accepted_only_when_told(self, laptop: Laptop, box: Host) -> None:
        tenant = Tenant(laptop, box)
        error = tenant.fails("host-key-unknown")
        assert "SHA256:" in error["message"]
        assert "--accept-new-host-key" in error["hint"]
        laptop("down").succeeded()
        assert not laptop.state.exists()  # nothing has been begun
        shown = tenant.up("--accept-new-host-key", "--no-run").wait().succeeded().messages()
        assert error["message"].rpartition(" ")[2] in shown
        tenant.converges("--no-run")  # without a word about keys
        tenant.leaves()

    def test_a_changed_host_key(self, laptop: Laptop, box: Host, yard: Yard) -> None:
        laptop.know(box)
        box.key = yard.give_host_key(box)
        box.shell("systemctl restart ssh")
        box.wait()
        tenant = Tenant(laptop, box)
        error = tenant.fails("host-key-changed", "--accept-new-host-key")
        assert str(laptop.known_hosts) in error["message"]
        assert f"ssh-keygen -R '{box.address}'" in error["hint"]
        laptop.known_hosts.unlink()
        laptop.know(box)
        tenant.converges("--no-run")
        tenant.leaves()

    def test_a_wrong_key(self, newcomer: Tenant, yard: Yard, tmp_path: Path) -> None:
        key = newcomer.laptop.ssh_folder / "id_ed25519"
        key.unlink()
        make_key(tmp_path / "wrong")
        shutil.copy(tmp_path / "wrong", key)
        error = newcomer.fails("ssh-auth")
        assert str(key) in error["message"]
        assert "ssh-copy-id" in error["hint"]
        newcomer.fails("ssh-auth", "--identity", str(tmp_path / "wrong"))
        newcomer.laptop.take_key(yard.identity)
        newcomer.converges("--no-run")

    def test_a_host_that_is_off(self, newcomer: Tenant) -> None:
        newcomer.host.lose_power()
        newcomer.fails("ssh-unreachable")
        newcomer.host.power_on()
        newcomer.up("--no-run").wait().succeeded()


class TestTheFirstDay:
    def test_200_mb_free(self, newcomer: Tenant) -> None:
        with faults.small_disk(newcomer.host, "/home", 200):
            error = newcomer.fails("disk-full")
            assert HOME in error["message"]
            assert "200 MB" in error["message"]
        newcomer.converges("--no-run")

    def test_no_sudo(self, newcomer: Tenant) -> None:
        with faults.no_sudo(newcomer.host):
            error = newcomer.fails("no-sudo")
            assert "NOPASSWD" in error["hint"]
        newcomer.converges("--no-run")

    def test_no_package_registry(self, newcomer: Tenant) -> None:
        newcomer.host.shell("apt-get update -qq; apt-get install -qq -y --no-install-recommends git python3-venv")
        with faults.offline(newcomer.host):
            error = newcomer.fails("network")
            assert "uv" in error["message"]
        newcomer.converges("--no-run")

    def test_cloud_init_is_at_work(self, newcomer: Tenant) -> None:
        faults.slow_cloud_init(newcomer.host, 6)
        newcomer.host.reboot()
        ended = newcomer.up("--no-run").wait().succeeded()
        assert "waiting for cloud-init" in ended.messages()
        assert newcomer.host.succeeds(f"test -e {HOME}/cloud-init-was-here")
        newcomer.converges("--no-run")


class TestPackages:
    @pytest.mark.parametrize("program", ["apt-get", "unattended-upgr"])
    def test_apt_is_busy_for_a_while(self, standing: Tenant, program: str) -> None:
        lacks_git(standing.host)
        with faults.apt_busy(standing.host, program):
            running = standing.up().until(lambda event: "another apt" in event.get("message", ""))
        assert f"({program})" in running.events[-1]["message"]
        assert running.wait().succeeded().statuses("step")["base"] == "changed"
        standing.converges()

    def test_apt_is_busy_for_too_long(self, standing: Tenant, folder: Path, toy_product: Path) -> None:
        lacks_git(standing.host)
        impatient = {"APT_SECONDS:=600": "APT_SECONDS:=2"}
        patient = standing.laptop.product
        standing.laptop.product = edited(toy_product, folder / "impatient", "bootstrap/apt.sh", impatient)
        with faults.apt_busy(standing.host):
            error = standing.fails("apt-locked")
            assert "nothing was interrupted" in error["hint"]
            assert standing.host.succeeds("pgrep -f hold-apt")
        standing.laptop.product = patient
        standing.converges()

    @pytest.mark.parametrize("how", ["del", "blackhole"])
    def test_no_route_to_the_packages(self, standing: Tenant, how: str) -> None:
        lacks_git(standing.host)
        standing.host.shell("rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb")
        with faults.offline(standing.host, how):
            error = standing.fails("network")
            assert "/etc/apt" in error["hint"]
        standing.converges()

    def test_a_source_that_is_gone(self, standing: Tenant) -> None:
        lacks_git(standing.host)
        with faults.gone_source(standing.host):
            standing.fails("package-source")
        standing.converges()

    def test_dpkg_was_interrupted(self, standing: Tenant) -> None:
        lacks_git(standing.host)
        faults.interrupt_dpkg(standing.host)
        standing.converges()


class TestGitconfig:
    """Of the user on the host."""

    @pytest.fixture
    def config(self, standing: Tenant) -> Iterator[str]:
        path = f"{HOME}/.gitconfig"
        standing.host.shell(f"rm -rf {path}")
        yield path
        standing.host.shell(f"rm -rf {path}")
        standing.converges()

    def test_absent(self, standing: Tenant, config: str) -> None:
        assert standing.converges().statuses("step")["gitconfig"] == "changed"
        standing.host.owner("git config --global --list")
        assert standing.host.succeeds(f"test -f {config}")

    def test_a_real_file_is_left_alone(self, standing: Tenant, config: str) -> None:
        standing.host.write(config, "[user]\n\tname = Zoë\n", OWNER_ID, 0o600)
        assert standing.converges().statuses("step")["gitconfig"] == "ok"
        assert standing.host.read(config) == "[user]\n\tname = Zoë"

    def test_an_empty_directory_becomes_a_file(self, standing: Tenant, config: str) -> None:
        standing.host.owner(f"mkdir {config}")
        assert standing.converges().statuses("step")["gitconfig"] == "changed"
        standing.host.owner("git config --global user.name Zoe")

    def test_a_directory_with_files_is_the_users(self, standing: Tenant, config: str) -> None:
        standing.host.owner(f"mkdir {config}; touch {config}/mine")
        self._is_named(standing, config)
        assert standing.host.succeeds(f"test -e {config}/mine")

    def test_a_link_to_nowhere_is_the_users(self, standing: Tenant, config: str) -> None:
        standing.host.owner(f"ln -s nowhere {config}")
        self._is_named(standing, config)
        assert standing.host.succeeds(f"test -L {config}")

    @staticmethod
    def _is_named(standing: Tenant, config: str) -> None:
        assert config in standing.fails("step-gitconfig")["message"]


class TestPorts:
    @pytest.mark.parametrize("user", ["me", "root"])
    def test_a_taken_port(self, newcomer: Tenant, user: str) -> None:
        with faults.taken_port(newcomer.host, 7710, user):
            ended = newcomer.converges()
            assert f"port 7710 is taken by {'pid' if user == 'me' else 'a process of root'}" in ended.messages()
            services = newcomer.laptop("status").succeeded().result["environments"][0]["services"]
            assert {row["name"]: row["healthy"] for row in services} == {"toy": True, "mlflow": True}
            url = ended.result["urls"]["toy"]
            assert ask(f"{url}/health")["project"].startswith(f"{HOME}/mlops-env/default")
            assert self._ports(newcomer)["toy"] == 7711
        again = newcomer.up().wait().succeeded()  # where it is, it stays
        assert (again.result["urls"]["toy"], self._ports(newcomer)["toy"]) == (url, 7711)

    @staticmethod
    def _ports(tenant: Tenant) -> Table:
        listening = tenant.host.owner("ss -ltnH | awk '{print $4}'").split()
        ports: Table = {}
        for name, first in (("toy", 7710), ("mlflow", 7750)):
            ports[name] = max(p for p in (int(one.rpartition(":")[2]) for one in listening) if first <= p < first + 40)
        return ports


class TestDocker:
    def test_stopped_it_is_started(self, docked: Tenant) -> None:
        faults.stop_docker(docked.host)
        ended = docked.converges()
        assert "Docker is stopped; starting it" in ended.messages()
        assert ended.statuses("step")["daemon"] == "changed"

    def test_masked(self, docked: Tenant) -> None:
        faults.mask_docker(docked.host)
        assert "systemctl unmask docker" in docked.fails("docker-masked")["hint"]
        faults.unmask_docker(docked.host)
        docked.converges()

    def test_a_bad_daemon_json(self, docked: Tenant) -> None:
        with faults.bad_engine_settings(docked.host):
            error = docked.fails("docker-config")
            assert "/etc/docker/daemon.json" in error["message"]
        docked.converges()

    def test_it_hangs(self, docked: Tenant) -> None:
        with faults.hanging_docker(docked.host):
            docked.fails("docker-hangs")
        docked.converges()

    def test_a_user_who_is_not_in_its_group_joins(self, docked: Tenant) -> None:
        docked.host.shell("gpasswd --delete me docker")
        ended = docked.converges("-p", "rmse=2.5")
        assert ended.statuses("step")["daemon"] == "changed"
        assert ended.result["run"]["metrics"] == {"rmse": 2.5}
        assert "docker" in docked.host.owner("id -nG").split()

    def test_no_sudo_to_mend_it(self, docked: Tenant) -> None:
        faults.stop_docker(docked.host)
        with faults.no_sudo(docked.host):
            docked.fails("no-sudo")
        docked.converges()
