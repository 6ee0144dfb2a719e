"""What the services are told by their own scripts, in containers and without: here a Python that only repeats it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., dict[str, str]]

_REPEAT = f"""\
#!{sys.executable}
import json, os
print(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a service's script; what it told its Python."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(_REPEAT)
    python.chmod(0o755)
    (tmp_path / "secrets").mkdir()
    for name in ("mage-password", "mage-jwt-secret", "prefect-password", "postgres-password"):
        (tmp_path / "secrets" / name).write_text(f"the-{name}")
    (tmp_path / ".mlops-env" / "projects" / "prefect").mkdir(parents=True)

    def run(script: str, **more: str) -> dict[str, str]:
        variables = {
            "PATH": "/usr/bin:/bin",
            "MLOPS_ENV_WORKSPACE": str(tmp_path),
            "MLOPS_ENV_STATE": str(tmp_path / "state"),
            "MLOPS_ENV_SECRETS": str(tmp_path / "secrets"),
            "MLOPS_ENV_VENV": str(tmp_path / "venv"),
            "MLOPS_ENV_URL": "http://127.0.0.1:7000",
            "MLOPS_ENV_PORT": "7000",
            **more,
        }
        command = ["bash", str(ROOT / "orchestrators" / script)]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        told: dict[str, str] = json.loads(done.stdout)
        return told

    return run


@pytest.mark.parametrize(
    ("script", "name", "url"),
    [
        ("mage/services/mage.sh", "MAGE_DATABASE_CONNECTION_URL", "postgresql+psycopg2://mage:{}@postgres/mage"),
        (
            "prefect/services/prefect.sh",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL",
            "postgresql+asyncpg://prefect:{}@postgres/prefect",
        ),
    ],
)
def test_the_database_is_a_file_or_where_there_is_one_postgres(start: Start, script: str, name: str, url: str) -> None:
    assert start(script)[name].startswith("sqlite")
    assert start(script, MLOPS_ENV_DATABASE="postgres")[name] == url.format("the-postgres-password")


def test_prefect_listens_on_loopback_unless_told_otherwise(start: Start) -> None:
    script, name = "prefect/services/prefect.sh", "PREFECT_SERVER_API_HOST"
    assert start(script)[name] == "127.0.0.1"
    assert start(script, MLOPS_ENV_BIND="0.0.0.0")[name] == "0.0.0.0"  # noqa: S104 - in a container


def test_mlflow_answers_to_this_machine_s_names_and_its_own_and_to_no_page_from_elsewhere(start: Start) -> None:
    told = start(
        "mlflow/services/mlflow.sh",
        MLFLOW_SERVER_CORS_ALLOWED_ORIGINS="*",
        MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE="true",
    )
    hosts = told["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert hosts == ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "mlflow:7000"]
    assert told.keys().isdisjoint({"MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"})
