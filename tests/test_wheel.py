"""The wheel as somebody gets it: what is in it, and that it works with nothing of the checkout around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
BUNDLE = "mlops_env/_bundle"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without isolation: the backend is in the development venv."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean venv with the wheel and exactly the dependencies of our lock, none of whose files can be executed."""
    venv = tmp_path_factory.mktemp("in stalled") / "vénv"
    into = ["--quiet", "--python", str(venv / "bin" / "python")]
    for words in (
        ["venv", "--quiet", "--no-project", "--python", sys.executable, str(venv)],
        ["pip", "install", *into, "--require-hashes", "-r", str(ROOT / "requirements.lock")],
        ["pip", "install", *into, "--no-deps", str(wheel)],
    ):
        done = subprocess.run([UV, *words], capture_output=True, text=True, check=False, cwd=venv.parent)
        assert done.returncode == 0, done.stderr
    for path in venv.glob("lib/python*/site-packages/mlops_env/**/*"):
        if path.is_file():
            path.chmod(0o644)
    return venv


def run(installed: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    keep = {key: value for key, value in os.environ.items() if not key.startswith(("MLOPS_ENV_", "PYTHON", "VIRTUAL_"))}
    variables = {**keep, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
    command = [str(installed / "bin" / "mlops-env"), *words]
    return subprocess.run(command, env=variables, cwd=home, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "hôme of me"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "bootstrap/run.sh",
        "bootstrap/lib.sh",
        "bootstrap/tools.lock",
        "bootstrap/steps/30-gitconfig.sh",
        "orchestrators/services.py",
        "orchestrators/step.py",
        "orchestrators/mlflow/services/mlflow.sh",
        "orchestrators/mage/requirements.lock",
        "orchestrators/prefect/project.py",
        "pipeline/mlops-env.toml",
        "pipeline/requirements.lock",
        "pipeline/src/nyc_taxi/train.py",
        "pipeline/src/nyc_taxi/data/green_tripdata_2023-01.parquet",
        "pipeline/src/nyc_taxi/data/green_tripdata_2023-02.parquet",
    ],
)
def test_what_a_host_needs_is_in_it(names: list[str], name: str) -> None:
    assert f"{BUNDLE}/{name}" in names


def test_what_the_modules_read_beside_them_is_in_it(names: list[str]) -> None:
    beside = ("mlops_env/ec2/prices.toml", "mlops_env_infra/deadline.sh")
    sandboxes = {name.rpartition("/")[2] for name in names if name.startswith("mlops_env/sandbox/")}
    assert set(beside) <= set(names)
    assert {"Dockerfile", "90-sandbox.cfg", "apt-lock.service", "images.json"} <= sandboxes


def test_nothing_else_is(names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mlops_env", "mlops_env_infra"}
    rubbish = {
        "__pycache__",
        ".venv",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
        ".mlops-env",
        "tests",
    }
    assert [name for name in names if rubbish & set(name.split("/")) or name.endswith((".pyc", ".part"))] == []


def test_no_path_of_the_machine_that_built_it_is_in_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = [
            info.filename
            for info in archive.infolist()
            if not info.filename.endswith(".parquet") and str(ROOT).encode() in archive.read(info)
        ]
    assert found == []


def test_it_says_its_version_and_helps(installed: Path, home: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert run(installed, home, "--version").stdout == f"{version}\n"
    helped = run(installed, home, "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "preview" in helped.stdout


def test_preview_in_an_empty_home_says_what_up_would_do_and_does_nothing(installed: Path, home: Path) -> None:
    done = run(installed, home, "preview", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0] == {"type": "version", "version": "1.0"}
    assert lines[-1]["status"] == "ok"
    assert lines[-1]["orchestrator"] == "mage"
    steps = lines[-1]["steps"]
    pending = {"gitconfig", "tools", "workspace", "services"}
    assert {name for name, status in steps.items() if status == "pending"} == pending
    assert {status for name, status in steps.items() if name not in pending} == {"ok", "skipped"}  # uv came with us
    assert list(home.iterdir()) == []


def test_its_tree_is_the_same_as_the_checkouts(installed: Path, home: Path) -> None:
    script = "from mlops_env.bundle import tree; print(tree().digest, len(tree().files))"
    digests = {
        subprocess.run([python, "-c", script], cwd=home, capture_output=True, text=True, check=True).stdout
        for python in (sys.executable, str(installed / "bin" / "python"))
    }
    assert len(digests) == 1
