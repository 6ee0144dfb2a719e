"""Target ec2 on the sandbox, with machines: the whole story of one environment, told in order, and its bad days."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from integration.harness import mlflow_runs, wait_until

from .account import HOME, HOST_DIRECTORY, opened
from .test_hosts import BOOTSTRAP, is_done, is_found_done, opens

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from integration.harness import Ended

    from .account import Account
    from .harness import Yard

DEADLINE = "/var/lib/mlops-env/deadline"


@pytest.fixture(scope="module")
def account(yard: Yard, product: Path) -> Iterator[Account]:
    with opened(yard, product) as made:
        yield made


@pytest.fixture(scope="module")
def up(account: Account) -> Ended:
    return account.up().succeeded()


def look(account: Account) -> dict[str, object]:
    (found,) = account.laptop("status").succeeded().result["environments"]
    return dict(found)


def test_from_nothing_to_a_trained_model(account: Account, up: Ended) -> None:
    is_done(up)
    assert set(BOOTSTRAP) <= set(up.statuses("step"))
    assert set(up.result["urls"]) == {"mage", "mlflow"}
    assert {thing["kind"] for thing in account.things()} >= {"instance", "volume", "key-pair", "security-group"}
    assert up.result["deadline"] == int(account.host().read(DEADLINE))


def test_the_host_has_a_key_that_no_user_data_ever_said(account: Account, up: Ended) -> None:
    del up
    folder = account.laptop.state / "default"
    now = account.host().read("/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert now not in (folder / "host_key.pub").read_text()
    assert [line.split()[2] for line in (folder / "known_hosts").read_text().splitlines()] == [now]


def test_a_second_up_finds_all_done_and_starts_no_engine(account: Account, up: Ended) -> None:
    account.sandbox.call("DELETE", "/sandbox/calls")
    again = account.up().succeeded()
    is_found_done(again)
    assert again.result["run"] == up.result["run"]
    assert account.sandbox.call("GET", "/sandbox/calls") == []


def test_status_tells_what_it_costs_and_how_long_it_runs(account: Account, up: Ended) -> None:
    found = look(account)
    assert found["health"] == "up"
    assert found["instance"] == up.result["instance"]
    assert 0 < float(str(found["accrued"])) < float(str(found["cost_per_hour"]))
    assert 7 * 3600 < int(str(found["time_left"])) <= 8 * 3600


def test_extend_moves_the_deadline_on_the_host(account: Account, up: Ended) -> None:
    del up
    before = int(account.host().read(DEADLINE))
    account.laptop("extend", "4h").succeeded()
    assert int(account.host().read(DEADLINE)) == before + 4 * 3600
    assert account.laptop.record()["cloud"]["deadline"] == before + 4 * 3600


def test_who_moves_finds_the_door_open_again(account: Account, up: Ended) -> None:
    """The one from elsewhere is not let in; that is who we are for a while, and then ourselves again."""
    del up
    account.cause({"action": "CheckIp", "message": "198.51.100.7"})
    seen = look(account)
    assert seen["health"] == "unreachable"
    assert account.laptop.record()["cloud"]["allowed_cidr"] == "198.51.100.7/32"
    account.cause()
    assert look(account)["health"] == "up"


def test_stop_and_start_change_the_address_and_nothing_else(account: Account, up: Ended) -> None:
    before = account.host()
    account.laptop("stop").succeeded()
    assert account.containers()
    assert not before.succeeds("true")
    assert look(account)["health"] == "stopped"
    started = account.laptop("start").succeeded()
    urls = started.result["urls"]  # as before, unless somebody took a port meanwhile
    assert urls.keys() == up.result["urls"].keys()
    assert account.host().address != before.address
    assert all(opens(url) for url in urls.values())
    assert mlflow_runs(urls["mlflow"], "nyc-taxi")
    assert look(account)["health"] == "up"


def test_it_stops_itself_at_its_deadline_whoever_is_gone_and_loses_nothing(account: Account, up: Ended) -> None:
    for process in account.laptop.processes():  # our side, which is the tunnel
        if process.pid != account.sandbox.pid:
            process.kill()
    host = account.host()
    host.write(f"{HOME}/mlops-env/default/thesis.tex", "of years", 1000)
    host.shell(f"/usr/local/sbin/mlops-env-deadline set {int(time.time()) + 1}")
    wait_until(lambda: look(account)["health"] == "stopped", 90)
    started = account.laptop("start").succeeded().result
    assert started["deadline"] > time.time() + 7 * 3600
    assert account.host().read(f"{HOME}/mlops-env/default/thesis.tex") == "of years"
    (run,) = mlflow_runs(started["urls"]["mlflow"], "nyc-taxi")
    assert run["run_id"] == up.result["run"]["mlflow_run_id"]


def test_down_saves_what_is_only_there_and_leaves_nothing(account: Account, up: Ended) -> None:
    secrets = account.host().shell(f"cat {HOST_DIRECTORY}/secrets/* | fold --width 32").split()
    done = account.laptop("down").succeeded()
    assert done.result["left"] == 0
    assert "run" in done.result["saved"]
    rows = {row["kind"]: row["removed"] for row in done.result["receipt"]}
    assert rows["instance"] == rows["volume"] == rows["key-pair"] == rows["security-group"] == 1
    assert account.things() == account.containers() == account.volumes() == []
    workspace = account.laptop.workspace
    assert (workspace / "thesis.tex").read_text() == "of years"
    assert (workspace / ".mlops-env" / "mlflow" / "mlflow.db").is_file()
    assert list(workspace.glob(".mlops-env/runs/*/report.html"))
    assert not [secret for secret in secrets if secret in json.dumps(up.events)]
    ours = [one for one in account.laptop.leftovers() if not one.startswith(f"process {account.sandbox.pid}:")]
    assert ours == []
    assert account.laptop("down").succeeded().result["left"] == 0


def test_the_next_host_knows_what_the_last_one_made(account: Account, up: Ended) -> None:
    """And after it everything comes here again, without a conflict."""
    again = account.up("--runtime", "venv").succeeded()
    assert again.result["instance"] != up.result["instance"]
    known = [run["run_id"] for run in mlflow_runs(again.result["urls"]["mlflow"], "nyc-taxi")]
    # The thesis that came from the last host is a file of the pipeline now, so that one trained anew.
    assert known == [again.result["run"]["mlflow_run_id"], up.result["run"]["mlflow_run_id"]]
    more = account.laptop("run").succeeded()
    assert account.laptop("down").succeeded().result["left"] == 0
    assert (account.laptop.workspace / ".mlops-env" / "runs" / more.result["run"]["key"]).is_dir()
