"""Which logs are shown, and by which command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import logs
from failures import Failure
from workspace import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr("os.execvp", lambda _, argv: commands.append(argv))
    return commands


def test_of_files_all_or_one_are_followed_by_name(tmp_path: Path, became: list[list[str]]) -> None:
    for name in ("mage.log", "mlflow.log", "mage.log.1"):
        (tmp_path / name).touch()
    logs.of_files(tmp_path, [])
    logs.of_files(tmp_path, ["--lines", "3", "--follow", "mage"])
    assert became == [
        ["tail", "-n", "50", f"{tmp_path}/mage.log", f"{tmp_path}/mlflow.log"],
        ["tail", "-n", "3", "-F", f"{tmp_path}/mage.log"],
    ]


def test_of_containers_compose_tells_them_apart(became: list[list[str]]) -> None:
    logs.of_containers("p", {"mlflow", "mage"}, ["--follow"])
    logs.of_containers("p", {"mlflow", "mage"}, ["mage"])
    head = ["docker", "compose", "--project-name", "p", "logs", "--no-color"]
    assert became == [
        [*head, "--follow", "--tail", "50", "mage", "mlflow"],
        [*head, "--no-log-prefix", "--tail", "50", "mage"],
    ]


def test_what_is_not_there_is_named(tmp_path: Path, became: list[list[str]]) -> None:
    with pytest.raises(Failure, match="no service has started") as failure:
        logs.of_files(tmp_path, [])
    assert failure.value.code == "no-logs"
    with pytest.raises(UsageError, match="there are: mage, mlflow"):
        logs.of_containers("p", ["mlflow", "mage"], ["cron"])
    assert became == []
