"""Bare machines brought up over ssh by the real services: a long story on Debian 12, told in order, and short ones."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest
from integration.harness import Ended, Witness, ask, mlflow_runs, wait_until

from mage.api import Mage

from .harness import HOME
from .laptop import borrowed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .harness import Host, Yard
    from .laptop import Laptop

BOOTSTRAP = ["base", "docker", "daemon", "gitconfig", "uv", "tools", "workspace", "services", "reboot"]
RUN = ["run", "ingest", "transform", "features", "train", "evaluate"]
METRICS = {"train_rmse": 7.0399374, "validation_rmse": 7.3561704}
HOST_DIRECTORY = f"{HOME}/.local/state/mlops-env/default/host"
BLOCK = ".mlops-env/projects/mage/custom/train.py"


@pytest.fixture(scope="module")
def box(yard: Yard) -> Iterator[Host]:
    host = yard.start()
    yield host
    yard.stop(host)


@pytest.fixture(scope="module")
def laptop(yard: Yard, product: Path, box: Host) -> Iterator[Laptop]:
    with borrowed(yard, product, box) as made:
        yield made


@pytest.fixture(scope="module")
def before(box: Host) -> list[str]:
    """What was in the owner's home before we came."""
    assert not box.succeeds("command -v docker")
    return in_home(box)


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    with Witness() as looking:
        yield looking


@pytest.fixture(scope="module")
def up(laptop: Laptop, box: Host, before: list[str], witness: Witness) -> Ended:
    """The first `up`."""
    del before, witness  # only to be there
    return laptop("up", "--host", box.destination).succeeded()


@pytest.fixture(scope="module")
def identity(laptop: Laptop, up: Ended) -> str:
    del up
    return str(laptop.record()["id"])


def in_home(host: Host) -> list[str]:
    """All of the owner's files, but for the workspace, in which he works."""
    return host.owner("find . -type f ! -path './mlops-env/default/*' | sort").splitlines()


def containers(host: Host, identity: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        host.shell(f"docker inspect $(docker ps --all --quiet --filter label=mlops-env.id={identity})")
    )
    return found


def answer(url: str, origin: str) -> int:
    """What MLflow says to a page of this origin that asks for something by POST, as its own pages do."""
    try:
        ask(f"{url}/api/2.0/mlflow/experiments/search", {"max_results": 9}, {"Origin": origin})
    except HTTPError as error:
        return error.code
    return 200


def opens(url: str) -> bool:
    """Whether there is a page for a browser."""
    with build_opener(ProxyHandler({})).open(url, timeout=20) as reply:
        return b"<html" in reply.read()


def health(laptop: Laptop) -> str:
    return str(laptop("status").succeeded().result["environments"][0]["health"])


def is_done(ended: Ended) -> None:
    """`up` has trained, to the published figures, and told MLflow, which says so here."""
    assert set(ended.statuses("step").values()) <= {"ok", "changed", "skipped"}
    assert ended.statuses("run") == dict.fromkeys(RUN, "completed")
    run = ended.result["run"]
    assert {name: run["metrics"][name] for name in METRICS} == pytest.approx(METRICS, abs=1e-6)
    urls = ended.result["urls"]
    assert all(opens(url) for url in urls.values())
    found = mlflow_runs(urls["mlflow"], "nyc-taxi")[0]
    assert (found["run_id"], found["status"], found["metrics"]) == (run["mlflow_run_id"], "FINISHED", run["metrics"])


def is_found_done(ended: Ended) -> None:
    """`up` had nothing to do, and left out only what is about Docker where nothing needs that."""
    steps = ended.statuses("step")
    skipped = {"docker", "daemon"} if ended.result["runtime"] == "venv" else set()
    assert steps.keys() - {"push"} == set(BOOTSTRAP)
    assert {name for name, status in steps.items() if status != "ok"} == skipped
    assert (ended.statuses("service"), ended.statuses("run")) == ({}, {"run": "ok"})


def reboots(host: Host, laptop: Laptop) -> None:
    """All comes back without us; then the laptop, which meanwhile did nothing, has its pages again."""
    urls = laptop("up").succeeded().result["urls"]
    ports = json.loads(host.read(f"{HOST_DIRECTORY}/ports.json")).values()
    host.reboot()
    for port in ports:
        wait_until(partial(host.serves, f"http://127.0.0.1:{port}/"), 240)
    wait_until(lambda: health(laptop) == "up", 120)
    assert all(opens(url) for url in urls.values())
    assert mlflow_runs(urls["mlflow"], "nyc-taxi")
    is_found_done(laptop("up").succeeded())


def leaves(host: Host, laptop: Laptop, before: list[str], *options: str) -> None:
    """`down` says that nothing is left, and nothing is; the workspace stays."""
    identity = laptop.record()["id"]
    receipt = laptop("down", *options).succeeded().result
    assert receipt["left"] == 0
    assert {row["kind"] for row in receipt["receipt"] if row["removed"]} >= {"secret", "tree", "venv", "local process"}
    assert host.docker_left(identity) == []
    assert owners_processes(host) <= {"sshd", "sshd-session", "systemd", "(sd-pam)", "su", "bash", "ps"}
    assert in_home(host) == before
    assert host.succeeds(f"test -f {HOME}/mlops-env/default/.mlops-env/mlflow/mlflow.db")
    assert not host.succeeds("ls /etc/systemd/system/mlops-env* /etc/systemd/system/*/mlops-env* /tmp/mlops-env*")
    assert laptop.leftovers() == []
    assert laptop("down").succeeded().result["left"] == 0


def has_no_docker(host: Host) -> None:
    """Neither packages nor what was done so that they could be had and used."""
    assert not host.succeeds("command -v docker || command -v dockerd || command -v containerd")
    assert not host.shell("dpkg --list | grep -E 'docker|containerd|runc|buildx' || :")
    assert host.owner("id -nG") == "me"
    assert host.succeeds("apt-get check")


def owners_processes(host: Host) -> set[str]:
    return set(host.owner("ps -U me -o comm=").split())


def test_a_bare_machine_trains(up: Ended) -> None:
    assert list(up.statuses("step")) == BOOTSTRAP
    assert set(up.result["urls"]) == {"mage", "mlflow"}
    is_done(up)


def test_browsers_may_use_the_pages_and_other_sites_may_not(up: Ended) -> None:
    url = up.result["urls"]["mlflow"]
    assert answer(url, url) == 200
    assert answer(url, url.replace("127.0.0.1", "localhost")) == 200
    assert answer(url, "http://elsewhere.example") == 403


def test_pages_are_on_the_hosts_loopback_alone(box: Host, identity: str) -> None:
    pages = {str(port) for port in json.loads(box.read(f"{HOST_DIRECTORY}/ports.json")).values()}
    addresses = [line.split()[3].rpartition(":") for line in box.shell("ss -Hltn").splitlines()]
    assert {(address, port) for address, _, port in addresses if port in pages} == {("127.0.0.1", p) for p in pages}
    assert {port for address, _, port in addresses if not address.startswith("127.0.0.1")} == {"22"}
    networks = [one["NetworkSettings"]["Ports"].values() for one in containers(box, identity)]
    published = [binding for ports in networks for bindings in ports for binding in bindings or []]
    assert {(one["HostIp"], one["HostPort"]) for one in published} == {("127.0.0.1", page) for page in pages}


def test_mages_state_is_in_postgres(box: Host, identity: str) -> None:
    (postgres,) = [one["Id"] for one in containers(box, identity) if "postgres" in one["Name"]]
    count = "select count(*) from pipeline_run where status = 'COMPLETED'"
    assert box.root("docker", "exec", postgres, "psql", "-U", "mage", "-d", "mage", "-Atc", count) == "1"


def test_secrets_are_nowhere_but_in_their_files(
    box: Host, laptop: Laptop, identity: str, up: Ended, witness: Witness
) -> None:
    names = box.shell(f"cd {HOST_DIRECTORY}/secrets; stat --format '%a %U %n' *").splitlines()
    assert names == [f"600 me {name}" for name in ("mage-jwt-secret", "mage-password", "postgres-password")]
    secrets = box.shell(f"cat {HOST_DIRECTORY}/secrets/* | fold --width 32").split()
    assert [len(secret) for secret in secrets] == [32] * 3
    assert any("docker compose" in words.replace("\0", " ") for words in witness.seen)
    inspected = json.dumps(containers(box, identity))
    logs = box.shell(f"cat {HOST_DIRECTORY}/logs/* {HOST_DIRECTORY}/compose.env")
    logs += box.shell(
        f"for one in $(docker ps --quiet --filter label=mlops-env.id={identity}); do docker logs $one 2>&1; done"
    )
    kept = (laptop.state / "default" / "environment.json").read_text(encoding="utf-8")
    for secret in secrets:
        assert not [words for words in witness.seen if secret in words]
        assert secret not in inspected
        assert secret not in logs
        assert secret not in up.explain() + kept


def test_a_second_up_finds_all_done(box: Host, laptop: Laptop, identity: str, up: Ended) -> None:
    running = {one["Id"] for one in containers(box, identity)}
    again = laptop("up").succeeded()
    is_found_done(again)
    assert again.result["run"] == up.result["run"]
    assert {one["Id"] for one in containers(box, identity)} == running


def test_what_mages_editor_saves_is_in_the_workspace_and_comes_here(box: Host, laptop: Laptop, up: Ended) -> None:
    login = laptop("credentials").succeeded().result
    mage = Mage(up.result["urls"]["mage"])
    mage.log_in(login["user"], login["password"])
    pipeline = mage._call("GET", "/api/pipelines/nyc_taxi?includes_content=true")["pipeline"]
    (block,) = [one for one in pipeline["blocks"] if one["uuid"] == "train"]
    block["content"] += "\n# Saved in the browser.\n"
    mage._call("PUT", "/api/pipelines/nyc_taxi?update_content=true", {"pipeline": pipeline})
    saved = box.owner(f"cat mlops-env/default/{BLOCK}")
    assert saved.endswith("# Saved in the browser.")
    laptop("pull").succeeded()
    assert (laptop.workspace / BLOCK).read_text(encoding="utf-8").strip() == saved
    assert (laptop.workspace / ".mlops-env" / "mlflow" / "mlflow.db").is_file()
    assert list(laptop.workspace.glob(".mlops-env/runs/*/report.html"))
    assert (laptop.workspace / "mlops-env.toml").is_file()
    is_found_done(laptop("up").succeeded())


def test_verbs_that_look(box: Host, laptop: Laptop, up: Ended) -> None:
    (look,) = laptop("status").succeeded().result["environments"]
    assert (look["health"], look["host"], look["runtime"]) == ("up", box.destination, "compose")
    assert {row["name"] for row in look["services"] if row["healthy"]} == {"mage", "mlflow", "postgres"}
    assert {row["url"] for row in look["services"] if row["url"]} == set(up.result["urls"].values())
    login = laptop("credentials").succeeded().result
    assert (login["user"], login["password"]) == ("admin@localhost", box.read(login["file"]))
    for service in ("mage", "mlflow", "postgres"):
        assert laptop("logs", service).succeeded().messages()
    checks = laptop("doctor").succeeded().result["checks"]
    assert {check["status"] for check in checks} == {"ok"}
    assert {check["name"] for check in checks} >= {*BOOTSTRAP, "mage", "mlflow"}
    there = laptop.types("ssh", "--", "sh", "-c", 'pwd; id -un; echo "$0 two  words"; exit 7', "it's")
    assert (there.returncode, there.stdout) == (7, f"{HOME}/mlops-env/default\nme\nit's two  words\n"), there.stderr


def test_stop_and_start(box: Host, laptop: Laptop, identity: str, up: Ended) -> None:
    assert laptop("stop").succeeded().result["left"] == 0
    assert not box.shell(f"docker ps --quiet --filter label=mlops-env.id={identity}")
    assert laptop.processes() == []
    assert health(laptop) == "stopped"
    assert laptop("start").succeeded().result["urls"] == up.result["urls"]
    assert health(laptop) == "up"


def test_all_is_back_after_a_reboot(box: Host, laptop: Laptop, identity: str) -> None:
    reboots(box, laptop)
    assert {one["State"]["Health"]["Status"] for one in containers(box, identity)} == {"healthy"}


def test_prefect_takes_mages_place(laptop: Laptop, up: Ended) -> None:
    before = mlflow_runs(up.result["urls"]["mlflow"], "nyc-taxi")
    ended = laptop("up", "--orchestrator", "prefect").succeeded()
    is_done(ended)
    assert set(ended.result["urls"]) == {"prefect", "mlflow"}
    after = mlflow_runs(ended.result["urls"]["mlflow"], "nyc-taxi")
    assert [run["run_id"] for run in after[1:]] == [run["run_id"] for run in before]


def test_down_leaves_the_workspace_alone(box: Host, laptop: Laptop, before: list[str], up: Ended) -> None:
    del up
    leaves(box, laptop, before)
    assert box.succeeds("systemctl is-active docker")


def test_debian_13_with_prefect(yard: Yard, product: Path) -> None:
    host = yard.start("debian13")
    before = in_home(host)
    with borrowed(yard, product, host) as laptop:
        is_done(laptop("up", "--host", host.destination, "--orchestrator", "prefect").succeeded())
        is_found_done(laptop("up").succeeded())
        reboots(host, laptop)
        leaves(host, laptop, before, "--purge")
    has_no_docker(host)
    yard.stop(host)


def test_without_docker(yard: Yard, product: Path) -> None:
    """Runtime venv: processes, which a unit of systemd starts after a reboot."""
    host = yard.start()
    before = in_home(host)
    with borrowed(yard, product, host) as laptop:
        is_done(laptop("up", "--host", host.destination, "--runtime", "venv").succeeded())
        assert not host.succeeds("command -v docker")
        is_found_done(laptop("up").succeeded())
        reboots(host, laptop)
        leaves(host, laptop, before)
    yard.stop(host)


def test_by_hand(host: Host, toy_product: Path) -> None:
    """Without `mlops-env`: the files, sudo and two scripts."""
    packed = subprocess.run(
        ["tar", "-C", toy_product, "-c", "bootstrap", "orchestrators", "pipeline"],  # noqa: S607
        capture_output=True,
        check=True,
    )
    host.owner("mkdir tree")
    host.root("tar", "-C", f"{HOME}/tree", "-x", stdin=packed.stdout)
    sudo = "sudo MLOPS_ENV_ORCHESTRATOR=toy bash tree/bootstrap"
    for status in ("changed", "ok"):
        events = [json.loads(line) for line in host.owner(f"{sudo}/run.sh", timeout=600).splitlines()]
        steps = {event["name"]: event["status"] for event in events if event["type"] == "step"}
        assert steps == {**dict.fromkeys(BOOTSTRAP, status), "reboot": "ok"}
        pages = {event["name"]: event["url"] for event in events if event["type"] == "page"}
        assert set(pages) == {"toy", "mlflow"}
        assert host.serves(f"{pages['toy']}/health")
        assert len(host.shell("docker ps --quiet --filter health=healthy").split()) == 2
    rows = [json.loads(line) for line in host.owner(f"{sudo}/down.sh --purge").splitlines()]
    assert {row["kind"] for row in rows if row["removed"]} >= {"container", "volume", "network", "image", "secret"}
    assert sum(row["left"] for row in rows) == 0
    assert host.docker_left("default") == []
    assert not host.succeeds(f"test -e {HOST_DIRECTORY}")
    has_no_docker(host)
