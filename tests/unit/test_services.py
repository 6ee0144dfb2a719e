"""The services of an environment as far as they can be told without starting any; and its secrets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import services
from conftest import ROOT
from host import Host

if TYPE_CHECKING:
    from pathlib import Path

TOY = """\
secrets = ["toy-password", "toy-key"]
python = ">=3.11"
[[services]]
name = "toy"
port = 7000
[[services]]
name = "worker"
"""


@pytest.fixture
def host(tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """An environment with a toy orchestrator, nothing of which is installed or runs."""
    scripts = tmp_path / "trée 1" / "orchestrators"
    for owner, text in (("mlflow", 'python = ">=3.11"\n[[services]]\nname = "mlflow"\nport = 5000\n'), ("toy", TOY)):
        (scripts / owner / "services").mkdir(parents=True)
        (scripts / owner / "orchestrator.toml").write_text(text)
        (scripts / owner / "requirements.lock").touch()
    for path in (ROOT / "orchestrators").glob("*.py"):
        shutil.copy(path, scripts)
    workspace = tmp_path / "wörk space"
    workspace.mkdir()
    (workspace / "mlops-env.toml").write_text('[pipeline]\nname = "p"\nsteps = [{name = "a", run = "true"}]\n')
    variables = {
        "ID": identity,
        "NAME": "default",
        "ORCHESTRATOR": "toy",
        "HOST_DIR": str(tmp_path / "a host"),
        "WORKSPACE": str(workspace),
        "TREE": str(scripts.parent),
        "UV": "uv",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"MLOPS_ENV_{name}", value)
    return Host.read()


def run(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    script = host.script("services.py")
    return subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)


class TestSecrets:
    def test_are_made_once_and_only_their_owner_can_read_them(self, host: Host) -> None:
        services.make_secrets(host)
        folder = host.directory / "secrets"
        first = {path.name: path.read_text() for path in folder.iterdir()}
        assert first.keys() == {"toy-password", "toy-key"}
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert all(len(value) >= 32 and value == value.strip() for value in first.values())
        assert len(set(first.values())) == 2
        services.make_secrets(host)
        assert {path.name: path.read_text() for path in folder.iterdir()} == first

    def test_one_that_a_kill_left_half_made_is_made_anew(self, host: Host) -> None:
        folder = host.directory / "secrets"
        folder.mkdir(parents=True)
        (folder / ".toy-password").write_text("half")
        services.make_secrets(host)
        assert sorted(path.name for path in folder.iterdir()) == ["toy-key", "toy-password"]
        assert (folder / "toy-password").read_text() != "half"

    def test_they_are_not_told_to_scripts(self, host: Host) -> None:
        services.make_secrets(host)
        secret = (host.directory / "secrets" / "toy-password").read_text()
        assert secret not in json.dumps([host.specification(service) for service in host.services])


class TestHost:
    def test_a_script_is_told_where_everything_is(self, host: Host) -> None:
        host.ports.update(toy=7000, mlflow=5000)
        toy = host.settings("toy")
        assert (toy["MLOPS_ENV_URL"], toy["MLFLOW_TRACKING_URI"]) == ("http://127.0.0.1:7000", "http://127.0.0.1:5000")
        assert toy["MLOPS_ENV_SECRETS"] == str(host.directory / "secrets")

    def test_a_swap_does_not_change_the_tracking_server(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        (tracking,) = host.services_of("mlflow")
        before = host.specification(tracking)
        shutil.copytree(host.script("toy"), host.script("other"))
        monkeypatch.setenv("MLOPS_ENV_ORCHESTRATOR", "other")
        assert Host.read().specification(tracking) == before

    def test_a_worker_needs_no_port(self, host: Host) -> None:
        worker = next(service for service in host.services if service.name == "worker")
        assert host.specification(worker)["settings"]["MLOPS_ENV_PORT"] == ""

    def test_a_tracking_server_alone_is_an_environment_too(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        assert [service.name for service in host.services] == ["mlflow", "toy", "worker"]
        monkeypatch.setenv("MLOPS_ENV_ORCHESTRATOR", "mlflow")
        assert [service.name for service in Host.read().services] == ["mlflow"]


class TestWithNothingStarted:
    def test_status_says_stopped_of_each(self, host: Host) -> None:
        done = run(host, "status")
        rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])["services"]
        assert [(row["name"], row["state"], row["healthy"], row["url"]) for row in rows] == [
            ("mlflow", "stopped", False, ""),
            ("toy", "stopped", False, ""),
            ("worker", "stopped", False, ""),
        ]

    def test_stop_finds_nothing(self, host: Host) -> None:
        assert json.loads(run(host, "stop").stdout) == {"stopped": 0, "left": 0}

    def test_check_says_that_there_is_something_to_do_and_changes_nothing(self, host: Host) -> None:
        done = run(host, "check")
        assert (done.returncode, done.stderr) == (1, "")
        assert not host.directory.exists()

    def test_a_broken_pipeline_file_is_named(self, host: Host) -> None:
        (host.workspace / "mlops-env.toml").write_text("[pipeline")
        done = run(host, "apply")
        assert done.returncode == 2
        assert str(host.workspace / "mlops-env.toml") in done.stderr
        assert "Traceback" not in done.stderr
