"""Rules of the architecture that import-linter cannot say (`make lint` runs import-linter's own)."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from conftest import ROOT
from mlops_env import config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = ROOT / "src" / "mlops_env"
SANDBOX = SOURCE / "sandbox"
"""Programs of their own: what is said here of the command line does not hold for them, but for `control`, its part."""

MODULES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SANDBOX or path.stem == "control")
SCRIPTS = [*MODULES, *(path for path in ROOT.joinpath("orchestrators").rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SCRIPTS}

ORCHESTRATORS = re.compile(r"\b(mage|prefect|airflow|kubeflow)\b", re.IGNORECASE)
ITS_DEFAULT = {
    "src/mlops_env/config.py": '_DEFAULT_ORCHESTRATOR = "mage"',
    "bootstrap/environment.sh": ': "${MLOPS_ENV_ORCHESTRATOR:=mage}"',  # for those who run the steps by hand
}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def uses(path: Path) -> Iterator[str]:
    """Every name and dotted name that a module uses or imports from another."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Attribute | ast.Name):
            yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def users(pattern: str) -> set[str]:
    return {name_of(path) for path in MODULES if any(re.fullmatch(pattern, use) for use in uses(path))}


def test_only_the_sinks_write_to_the_terminal() -> None:
    assert users(r"print|sys\.(__)?(stdout|stderr)(__)?(\..*)?|(sys|io)\.stdout") == {"src/mlops_env/events.py"}


def test_only_the_connection_starts_processes() -> None:
    starts = r"subprocess(\..*)?|os\.(exec|spawn|posix_spawn|fork|popen|system).*|asyncio\.create_subprocess.*|pty\..*"
    # An engine outlives us, and a sandbox all of our commands: these two are started otherwise.
    others = {"src/mlops_env/ec2/pulumi_process.py", "src/mlops_env/sandbox/control.py"}
    assert users(starts) == {"src/mlops_env/connection.py", *others}


def test_no_command_ever_goes_through_a_shell_by_way_of_python() -> None:
    found = [
        f"{name_of(path)}:{node.value.lineno}"
        for path in SCRIPTS
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.keyword) and node.arg == "shell"
    ]
    assert found == []


def test_one_function_quotes() -> None:
    callers = {
        (name_of(path), function.name)
        for path in MODULES
        for function in ast.walk(TREES[path])
        if isinstance(function, ast.FunctionDef)
        and any(ast.unparse(node) in {"shlex.join", "shlex.quote"} for node in ast.walk(function))
    }
    assert callers <= {("src/mlops_env/connection.py", "quoted")}


def test_only_commands_decide_exit_codes() -> None:
    deciders = users(r"typer\.(Exit|Abort)|sys\.exit|SystemExit|os\._exit|exit|quit")
    assert [name for name in deciders if "/commands/" not in name and not name.endswith("/cli.py")] == []


@pytest.mark.parametrize("folder", ["src", "bootstrap"])
def test_nothing_outside_orchestrators_names_one(folder: str) -> None:
    named = [
        (name_of(path), line.strip())
        for path in sorted(ROOT.joinpath(folder).rglob("*"))
        if path.suffix in {".py", ".sh", ".in"}
        for line in path.read_text(encoding="utf-8").splitlines()
        if ORCHESTRATORS.search(line)
    ]
    assert [(name, line) for name, line in named if not line.startswith(ITS_DEFAULT.get(name, "\0"))] == []


def test_the_default_is_the_same_with_and_without_us() -> None:
    assert (
        f"MLOPS_ENV_ORCHESTRATOR:={config.default_orchestrator()}}}" in (ROOT / "bootstrap/environment.sh").read_text()
    )
    assert config.default_orchestrator() in config.orchestrator_names()


def test_host_scripts_need_nothing_but_the_standard_library_and_their_own_venv() -> None:
    """A step's task runs in an orchestrator's Python: what it imports must be there too."""
    tools_only = {"psutil", "supervisor"}
    allowed = {"processes.py", "ports.py", "supervision.py", "group.py"}
    importers = {
        path.name
        for path in ROOT.joinpath("orchestrators").glob("*.py")
        if any(use.partition(".")[0] in tools_only for use in uses(path))
    }
    assert importers <= allowed


def test_few_doors_lead_into_the_sandbox() -> None:
    doors = {
        "src/mlops_env/ec2/surroundings.py",
        "src/mlops_env/ec2/ending.py",
        "src/mlops_env/commands/sandbox.py",
        "src/mlops_env/commands/renting.py",  # the names of the faults
    }
    outside = {name for name in users(r"mlops_env\.sandbox(\..*)?") if not name.startswith("src/mlops_env/sandbox/")}
    assert outside == doors


def test_only_their_owners_know_pulumi_and_boto3() -> None:
    owners = ("provision", "session", "recovery", "progress", "failures", "pulumi_process")
    assert users(r"pulumi\.automation(\..*)?") <= {f"src/mlops_env/ec2/{name}.py" for name in owners}
    assert users(r"(boto3|botocore)(\..*)?") == {"src/mlops_env/ec2/aws.py"}
