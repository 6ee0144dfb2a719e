"""Bad days of rented machines: named or ridden out, the next command works, and `down` leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import boto3
import pytest
from integration.harness import wait_until

from .account import OWNER, opened
from .tenant import edited

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from integration.harness import Ended

    from .account import Account
    from .harness import Yard

TOY = ("--orchestrator", "toy", "--runtime", "venv")
DEADLINE = "/var/lib/mlops-env/deadline"
THESIS = f"/home/{OWNER}/mlops-env/default/thesis.tex"


@pytest.fixture(scope="module")
def account(yard: Yard, toy_product: Path, folder: Path) -> Iterator[Account]:
    impatient = edited(toy_product, folder / "impatient of sshd", "src/mlops_env/ec2/arrival.py", {"240.0": "30.0"})
    with opened(yard, impatient) as made:
        yield made


@pytest.fixture(autouse=True)
def _afterwards(account: Account) -> Iterator[None]:
    """After each of them `down` ends with nothing left, whatever happened."""
    yield
    account.cause()
    if (account.laptop.state / "default").exists():
        done = account.laptop("down", "--discard", "--delete-workspace", "--yes").succeeded()
        assert done.result["left"] == 0
    assert account.things() == account.containers() == account.volumes() == []


def up(account: Account, *words: str) -> Ended:
    return account.up(*TOY, *words)


def ec2(account: Account) -> boto3.client:
    variables = account.sandbox.variables()
    return boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )


def cured(ended: Ended, code: str) -> str:
    """It failed for this cause, which it names with a cure; returns the message."""
    error = ended.failed(code).result["error"]
    assert error["hint"]
    return str(error["message"])


def test_a_host_that_never_answers_is_made_anew(account: Account) -> None:
    message = cured(up(account, "--fault", "ssh-lost"), "ssh-never")
    lost = account.laptop.record()["cloud"]["outputs"]["instance_id"]
    assert lost in message
    cured(up(account), "ssh-never")  # as it is the same host
    again = up(account, "--replace-host").succeeded()
    assert again.result["instance"] != lost
    assert len(account.containers()) == 1


def test_a_first_boot_that_fails_leaves_no_host_that_runs_for_ever(account: Account) -> None:
    done = up(account, "--fault", "user-data").succeeded()
    assert done.result["deadline"] == int(account.host().read(DEADLINE))
    assert account.host().succeeds("systemctl is-active mlops-env-deadline.timer")


def test_apts_lock_is_waited_for(account: Account) -> None:
    up(account, "--fault", "apt-lock").succeeded()


def test_a_host_that_somebody_terminated_is_told_and_made_again(account: Account) -> None:
    first = up(account).succeeded()
    account.laptop("pull").succeeded()
    ec2(account).terminate_instances(InstanceIds=[first.result["instance"]])
    wait_until(lambda: not account.containers(), 60)
    (seen,) = account.laptop("status").succeeded().result["environments"]
    assert seen["health"] == "gone"
    cured(account.laptop("run"), "host-gone")
    again = up(account).succeeded()
    assert again.result["instance"] != first.result["instance"]
    assert again.result["run"]["mlflow_run_id"] == first.result["run"]["mlflow_run_id"]  # which came back with us
    known = (account.laptop.state / "default" / "known_hosts").read_text().split()
    assert known[2] in account.host().read("/etc/ssh/ssh_host_ed25519_key.pub")


def test_down_destroys_nothing_that_could_not_be_saved(account: Account) -> None:
    up(account).succeeded()
    host = account.host()
    host.write(THESIS, "of years", 1000)
    host.shell("systemctl stop ssh.service; pkill -x sshd || :")
    message = cured(account.laptop("down"), "ssh-unreachable")
    assert message.startswith("nothing was destroyed")
    assert account.containers()
    host.shell("systemctl start ssh.service")
    saved = account.laptop("down").succeeded()
    assert saved.result["left"] == 0
    assert (account.laptop.workspace / "thesis.tex").read_text() == "of years"


def test_down_starts_a_stopped_host_to_save_what_is_on_it(account: Account) -> None:
    up(account).succeeded()
    account.host().write(THESIS, "of years", 1000)
    account.laptop("stop").succeeded()
    assert account.laptop("down").succeeded().result["left"] == 0
    assert (account.laptop.workspace / "thesis.tex").read_text() == "of years"


def test_whoever_is_killed_while_aws_starts_the_host_finds_it_again(account: Account) -> None:
    account.cause({"action": "RunInstances", "hold": "after", "hold_seconds": 10})
    running = account.laptop.start("up", "--target", "ec2", "--sandbox", "--yes", *TOY)
    wait_until(lambda: bool(account.sandbox.call("GET", "/sandbox/held")), 60)
    running.kill()
    account.sandbox.call("DELETE", "/sandbox/held")
    again = up(account).succeeded()
    assert len(account.containers()) == 1
    assert again.statuses("run")["run"] == "completed"
