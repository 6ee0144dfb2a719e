"""The taxi pipeline on the real services, from an empty HOME: one story, told in order.

Mage and MLflow come up, train, are looked at, edited, killed; Prefect takes Mage's place; all goes.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from mage.api import Mage

from .harness import Ended, Machine, Witness, ask, listening_addresses, mlflow_runs, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

STEPS = ["ingest", "transform", "features", "train", "evaluate"]
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture(scope="module")
def witness() -> Iterator[Witness]:
    with Witness() as looking:
        yield looking


@pytest.fixture(scope="module")
def up(machine: Machine, witness: Witness) -> Ended:
    """The first `up`."""
    del witness  # only to be there
    return machine("up").succeeded()


@pytest.fixture(scope="module")
def mage(machine: Machine, up: Ended) -> Mage:
    client = Mage(up.result["urls"]["mage"])
    client.log_in("admin@localhost", (machine.host() / "secrets" / "mage-password").read_text())
    return client


@pytest.fixture
def runs(up: Ended) -> list[dict[str, Any]]:
    return mlflow_runs(up.result["urls"]["mlflow"], "nyc-taxi")


def test_up_trains(up: Ended) -> None:
    result = up.result
    assert result["run"]["state"] == "completed"
    assert result["run"]["metrics"]["train_rmse"] == pytest.approx(7.0399374, abs=1e-6)
    assert result["run"]["metrics"]["validation_rmse"] == pytest.approx(7.3561704, abs=1e-6)
    assert set(result["urls"]) == {"mage", "mlflow"}
    assert up.statuses("run") == dict.fromkeys(["run", *STEPS], "completed")
    assert up.events[0] == {"type": "version", "version": "1.0"}


def test_the_run_shows_in_mage(up: Ended, mage: Mage) -> None:
    (run,) = mage.runs("nyc_taxi")
    assert run["status"] == "completed"
    blocks = {block["block_uuid"]: block["status"] for block in mage.run(run["id"])["block_runs"]}
    assert blocks == dict.fromkeys(STEPS, "completed")
    assert up.result["run"]["page"].endswith(f"/pipelines/nyc_taxi/runs/{run['id']}")


def test_the_run_shows_in_mlflow(up: Ended, runs: list[dict[str, Any]], machine: Machine, tmp_path: Path) -> None:
    (run,) = runs
    assert (run["run_id"], run["status"]) == (up.result["run"]["mlflow_run_id"], "FINISHED")
    assert run["params"].items() >= {"train": "2023-01", "validate": "2023-02", "model": "linear"}.items()
    assert run["metrics"]["validation_rmse"] == pytest.approx(7.3561704, abs=1e-6)
    assert run["tags"].keys() >= {f"data.{role}.sha256" for role in ("train", "validate")}
    assert (run["tags"]["data.train.rows_kept"], run["tags"]["data.validate.rows_kept"]) == ("65946", "62574")
    assert any(name.startswith("version.polars") for name in run["tags"])
    assert len(run["inputs"]["dataset_inputs"]) == 2
    model = run["outputs"]["model_outputs"][0]["model_id"]
    code = (
        "import sys, pandas, mlflow.pyfunc\n"
        "model = mlflow.pyfunc.load_model(f'models:/{sys.argv[1]}')\n"
        "assert model.metadata.signature.inputs\n"
        "print(model.predict(pandas.DataFrame({'PULocationID': [236], 'DOLocationID': [239]})))\n"
    )
    python = machine.host() / "venvs" / "pipeline" / "bin" / "python"
    variables = machine.variables() | {
        "MLFLOW_TRACKING_URI": up.result["urls"]["mlflow"],
        "TMPDIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [python, "-W", "ignore", "-c", code, model], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_listen_on_loopback_alone(up: Ended, machine: Machine) -> None:
    addresses = listening_addresses(machine.processes())
    assert addresses
    assert addresses <= LOOPBACK
    assert all(url.startswith("http://127.0.0.1:") for url in up.result["urls"].values())


def test_secrets_are_nowhere_but_in_their_files(up: Ended, machine: Machine, witness: Witness) -> None:
    directory = machine.host() / "secrets"
    files = list(directory.iterdir())
    assert {path.name for path in files} == {"mage-password", "mage-jwt-secret"}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    secrets = [path.read_text() for path in files]
    assert all(len(secret) == 32 for secret in secrets)
    logs = {path: path.read_text(errors="replace") for path in (machine.host() / "logs").iterdir()}
    assert any(logs.values())
    specifications = {path: path.read_text() for path in (machine.host() / "programs").iterdir()}
    assert any("serve.py" in words for words in witness.seen)
    for secret in secrets:
        assert not [words for words in witness.seen if secret in words]
        assert not [path for path, text in (logs | specifications).items() if secret in text]
        assert secret not in up.explain()
        assert secret not in machine.scripts().environment.directory.joinpath("environment.json").read_text()


def test_credentials_and_logs(machine: Machine, up: Ended) -> None:
    del up
    login = machine("credentials").succeeded().result
    assert login["user"] == "admin@localhost"
    assert login["password"] == Path(login["file"]).read_text()
    assert machine("logs", "mage").succeeded().messages()
    (row,) = machine("list").succeeded().result["environments"]
    assert row["orchestrator"] == "mage"
    assert machine("doctor").succeeded().result["checks"]


def test_a_second_up_finds_all_done(machine: Machine, up: Ended, mage: Mage) -> None:
    before = sorted(process.pid for process in machine.processes())
    again = machine("up").succeeded()
    assert again.found_all_done()
    assert again.statuses("service") == {}
    assert again.statuses("run") == {"run": "ok"}
    assert again.result["run"] == up.result["run"]
    assert sorted(process.pid for process in machine.processes()) == before
    assert len(list(mage.runs("nyc_taxi"))) == 1


@pytest.fixture(scope="module")
def block(machine: Machine, mage: Mage) -> Path:
    """The file of a block after it was changed and saved in Mage's editor."""
    path = machine.workspace / ".mlops-env" / "projects" / "mage" / "custom" / "train.py"
    edited = path.read_text().replace('task["run"]', 'print("edited in the browser")\n    task["run"]')
    pipeline = mage._call("GET", "/api/pipelines/nyc_taxi?includes_content=true")["pipeline"]
    for one in pipeline["blocks"]:
        if one["uuid"] == "train":
            one["content"] = edited
    mage._call("PUT", "/api/pipelines/nyc_taxi?update_content=true", {"pipeline": pipeline})
    assert path.read_text() == edited
    return path


@pytest.fixture(scope="module")
def second(machine: Machine, block: Path) -> dict[str, Any]:
    """Another run, of the edited block and with other months."""
    del block
    run: dict[str, Any] = machine("run", "-p", "train=2023-02", "-p", "validate=2023-01").succeeded().result["run"]
    return run


def test_another_run_with_other_months(
    up: Ended, second: dict[str, Any], mage: Mage, runs: list[dict[str, Any]]
) -> None:
    first = up.result["run"]
    assert second["state"] == "completed"
    assert second["key"] != first["key"]
    assert second["metrics"]["train_rmse"] != pytest.approx(first["metrics"]["train_rmse"], abs=1e-3)
    assert len(list(mage.runs("nyc_taxi"))) == 2
    assert [run["run_id"] for run in runs] == [second["mlflow_run_id"], first["mlflow_run_id"]]
    assert runs[0]["params"].items() >= {"train": "2023-02", "validate": "2023-01"}.items()


def test_a_block_saved_in_mages_editor_is_what_runs_and_stays(
    machine: Machine, block: Path, second: dict[str, Any], mage: Mage
) -> None:
    logs = mage._call("GET", f"/api/pipelines/nyc_taxi/logs?pipeline_run_id[]={second['id']}&_limit=100")
    assert "edited in the browser" in json.dumps(logs)
    edited = block.read_text()
    assert machine("up").succeeded().found_all_done()
    assert block.read_text() == edited
    assert "edited in the browser" in edited


def test_the_workspace_is_what_mages_file_browser_shows_and_saves(machine: Machine, mage: Mage) -> None:
    def paths(files: list[dict[str, Any]], above: str = "") -> Iterator[str]:
        for one in files:
            path = f"{above}/{one['name']}"
            yield path
            yield from paths(one.get("children") or [], path)

    shown = set(paths(mage._call("GET", "/api/files")["files"]))
    assert any(path.endswith("/workspace/src/nyc_taxi/train.py") for path in shown), sorted(shown)
    file = machine.workspace / "README.md"
    text = file.read_text() + "\nSaved in the browser.\n"
    where = quote("workspace/README.md", safe="")
    mage._call("PUT", f"/api/file_contents/{where}", {"file_content": {"path": "workspace/README.md", "content": text}})
    assert file.read_text() == text
    machine("up", "--no-run").succeeded()
    assert file.read_text() == text


def test_a_killed_mage_comes_back_with_one_scheduler(machine: Machine, up: Ended, mage: Mage) -> None:
    def processes() -> list[str]:
        """Of Mage, without what it ran meanwhile."""
        found = [p for p in machine.processes() if p.environ().get("MLOPS_ENV_SERVICE") == "mage"]
        return sorted(" ".join(p.cmdline()) for p in found)

    def healthy() -> bool:
        return bool(machine("status").result["environments"][0]["health"] == "up")

    before, main = processes(), machine.service("mage")
    assert len(before) > 2
    main.kill()
    wait_until(lambda: not main.is_running())
    wait_until(lambda: not healthy(), 10)
    wait_until(healthy, 120)
    wait_until(lambda: len(processes()) == len(before))
    mine = machine.service("mage")
    descendants = {mine.pid, *(child.pid for child in mine.children(recursive=True))}
    of_mage = {p.pid for p in machine.processes() if p.environ().get("MLOPS_ENV_SERVICE") == "mage"}
    assert of_mage == descendants
    assert mage.status()["scheduler_status"] == "running"
    assert machine("up").succeeded().result["urls"] == up.result["urls"]


def test_prefect_takes_mages_place(machine: Machine, up: Ended) -> None:
    before = mlflow_runs(up.result["urls"]["mlflow"], "nyc-taxi")
    ended = machine("up", "--orchestrator", "prefect").succeeded()
    result = ended.result
    assert set(result["urls"]) == {"prefect", "mlflow"}
    assert result["urls"]["mlflow"] == up.result["urls"]["mlflow"]
    assert result["run"]["metrics"] == pytest.approx(up.result["run"]["metrics"], rel=1e-12)
    after = mlflow_runs(result["urls"]["mlflow"], "nyc-taxi")
    assert [run["run_id"] for run in after[1:]] == [run["run_id"] for run in before]
    assert after[0]["tags"]["mlops_env.orchestrator"] == "prefect"
    assert not machine.processes("venvs/mage")
    password = (machine.host() / "secrets" / "prefect-password").read_text()
    login = {"Authorization": f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}"}
    api = f"{result['urls']['prefect']}/api"
    assert ask(f"{api}/flow_runs/{result['run']['id']}", headers=login)["state_type"] == "COMPLETED"
    body = {"flow_runs": {"id": {"any_": [result["run"]["id"]]}}}
    tasks = ask(f"{api}/task_runs/filter", body, headers=login)
    assert {task["name"]: task["state_type"] for task in tasks} == dict.fromkeys(STEPS, "COMPLETED")
    addresses = listening_addresses(machine.processes())
    assert addresses <= LOOPBACK


def test_stop_and_start(machine: Machine, up: Ended) -> None:
    del up
    assert machine("stop").succeeded().result["left"] == 0
    assert machine.processes() == []
    assert machine("status").succeeded().result["environments"][0]["health"] == "stopped"
    assert machine("stop").succeeded().result["stopped"] == 0
    machine("start").succeeded()
    assert machine("status").succeeded().result["environments"][0]["health"] == "up"


def test_after_a_power_cut(machine: Machine, up: Ended) -> None:
    del up
    machine.kill_everything()
    again = machine("up").succeeded()
    assert again.statuses("step")["services"] == "changed"
    assert again.statuses("run") == {"run": "ok"}


def test_a_history_that_mlflow_cannot_read(machine: Machine, up: Ended) -> None:
    """Its start takes so long that for the supervisor it has run: yet `up` does not wait for ever."""
    del up
    machine("stop").succeeded()
    database = machine.workspace / ".mlops-env" / "mlflow" / "mlflow.db"
    history = database.read_bytes()
    database.write_bytes(b"not a database")
    log = machine("up").failed("step-services").result["error"]["log"]
    assert "mlflow does not come up" in log
    assert "put a backup in its place" in log
    database.write_bytes(history)
    assert machine("up").succeeded().statuses("run") == {"run": "ok"}


def test_down_after_the_supervisor_was_killed(machine: Machine, up: Ended) -> None:
    del up
    machine.supervisor().kill()
    receipt = machine("down").succeeded().result
    assert receipt["left"] == 0
    assert machine.leftovers() == []
    assert machine("down").succeeded().result["left"] == 0
    assert (machine.workspace / ".mlops-env" / "mlflow" / "mlflow.db").is_file()
    assert (machine.workspace / "README.md").read_text().endswith("Saved in the browser.\n")
    files = (Path(folder) / name for folder, _, names in os.walk(machine.home) for name in names)
    elsewhere = [path for path in files if not path.is_relative_to(machine.workspace)]
    assert elsewhere == []
    empty = {".local", ".local/state", ".local/state/mlops-env", "mlops-env"}  # made on the way, as any program does
    folders = {path for path in machine.home.rglob("*") if not path.is_relative_to(machine.workspace)}
    assert {str(path.relative_to(machine.home)) for path in folders} <= empty
