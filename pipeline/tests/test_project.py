"""The project's files agree with each other."""

import re
import tomllib
from pathlib import Path

from nyc_taxi.cli import COMMANDS
from nyc_taxi.settings import DEFAULTS
from nyc_taxi.steps import COMMANDS as STEPS

PROJECT = Path(__file__).parents[1]


def test_requirements_are_the_packages_dependencies() -> None:
    lines = (PROJECT / "requirements.in").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [line.partition("#")[0].strip() for line in lines] == project["dependencies"]


def test_locks_name_no_host_and_agree() -> None:
    pins = {}
    for name in ("requirements.lock", "requirements-test.lock"):
        text = (PROJECT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text
        pins[name] = set(re.findall(r"^([a-z0-9.-]+==[^ ]+)", text, re.MULTILINE))
    assert pins["requirements.lock"] <= pins["requirements-test.lock"]


def test_the_pipeline_names_our_commands_and_parameters() -> None:
    pipeline = tomllib.loads((PROJECT / "mlops-env.toml").read_text(encoding="utf-8"))["pipeline"]
    assert [step["run"] for step in pipeline["steps"]] == [f"nyc-taxi {step['name']}" for step in pipeline["steps"]]
    assert [step["name"] for step in pipeline["steps"]] + ["run"] == list(STEPS) == list(COMMANDS)
    assert pipeline["params"].items() <= DEFAULTS.items()
