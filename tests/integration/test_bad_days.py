"""Every bad day has an error that names cause and cure, and nothing half-made that the next command cannot handle."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import Machine, mlflow_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Bound, and so nobody else's, but nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def nothing_was_made(machine: Machine) -> bool:
    left = [path for path in machine.home.rglob("*") if path.is_file() and not path.name.startswith(".default.")]
    return not left and not machine.processes()


def test_two_at_once(standing: Machine) -> None:
    first = standing.start("up").until(lambda event: event["type"] == "step")
    second = standing("up").failed("environment-busy").result
    assert str(first.process.pid) in second["error"]["message"]
    assert "mlops-env up" in second["error"]["message"]
    standing("down").failed("environment-busy")
    first.kill()
    standing("up").succeeded()  # a dead holder holds nothing


def test_other_environments_are_left_alone(standing: Machine) -> None:
    one = standing("up").succeeded().result
    two = standing("up", "--name", "two").succeeded().result
    assert not set(one["urls"].values()) & set(two["urls"].values())
    standing("down", "--name", "two").succeeded()
    again = standing("up").succeeded()
    assert again.found_all_done()
    assert again.result["urls"] == one["urls"]


def test_a_failing_step(standing: Machine) -> None:
    ended = standing("up", "-p", "rmse=bad").failed("run-failed")
    error = ended.result["error"]
    assert error["message"] == "environment is up; the run failed in step train"
    assert "the model does not converge" in error["log"]
    assert "run" in error["hint"]
    assert ended.result["run"]["failed_step"] == "train"
    assert ended.statuses("run") == {"prepare": "completed", "train": "failed", "run": "failed"}
    run = mlflow_runs(ended.result["urls"]["mlflow"], "toy-pipeline")[0]
    assert (run["status"], run["tags"]["mlops_env.failed_step"]) == ("FAILED", "train")
    assert standing("run").succeeded().result["run"]["metrics"] == {"rmse": 1.5}


def test_a_service_that_cannot_start(standing: Machine) -> None:
    standing("up", "--no-run").succeeded()
    standing("stop").succeeded()
    database = standing.host() / "state" / "toy" / "runs.json"
    database.write_text("not what a toy writes")
    error = standing("up").failed("step-services").result["error"]
    assert "toy does not come up" in error["log"]
    assert "JSONDecodeError" in error["log"]
    assert standing("status").succeeded().result["environments"][0]["health"] == "degraded"
    database.unlink()
    standing("up", "--no-run").succeeded()


def test_a_command_that_is_not_there(toy: Machine) -> None:
    folder = toy.home / "mine"
    folder.mkdir()
    toy("init", "--run", "trayn --fast", cwd=folder).succeeded()
    error = toy("up", cwd=folder).failed("run-failed").result["error"]
    assert "no `trayn` in the pipeline's venv" in error["log"]
    assert "mlops-env.toml" in error["log"]


def test_mlflow_missing_in_the_middle_of_a_run(standing: Machine) -> None:
    standing("up", "--no-run").succeeded()
    gate = standing.home / "wait for me"
    gate.touch()
    running = standing.start("run", "-p", f"wait={gate}").until(lambda event: event.get("name") == "train")
    standing.service("mlflow").kill()
    gate.unlink()
    running.wait().succeeded()  # it is back before anybody's patience ends


def test_a_pipeline_file_with_many_faults(toy: Machine) -> None:
    folder = toy.home / "mine"
    folder.mkdir()
    pipeline = '[pipeline]\nname = "no good"\nsteps = [{name = "a", run = "\'"}, {name = "a"}]\n'
    text = f'[environment]\ncolour = "red"\n{pipeline}'
    (folder / "mlops-env.toml").write_text(text)
    message = toy("up", cwd=folder).failed("configuration", 2).result["error"]["message"]
    assert "colour" in message
    (folder / "mlops-env.toml").write_text(text.replace("colour", "name").replace("red", "default"))
    message = toy("up", cwd=folder).failed("pipeline-file", 2).result["error"]["message"]
    assert all(word in message for word in ("pipeline.name", "step 1", "step 2", "two steps are named `a`"))
    (folder / "mlops-env.toml").write_text("[pipeline\n")
    toy("up", cwd=folder).failed("configuration", 2)
    assert sorted(path.name for path in folder.iterdir()) == ["mlops-env.toml"]
    (folder / "mlops-env.toml").unlink()
    assert nothing_was_made(toy)


def test_an_unknown_orchestrator(toy: Machine) -> None:
    error = toy("up", "--orchestrator", "mgae").failed("configuration", 2).result["error"]
    assert "mgae" in error["message"]
    assert all(name in error["message"] for name in ("mage", "prefect", "toy"))
    assert nothing_was_made(toy)


def test_several_wrong_settings_are_told_at_once(toy: Machine) -> None:
    toy.settings["MLOPS_ENV_RUNTIME"] = "docker"
    message = toy("up", "--name", "Big Name", "-p", "x").failed("configuration", 2).result["error"]["message"]
    assert all(word in message for word in ("--name", "MLOPS_ENV_RUNTIME", "-p x"))
    del toy.settings["MLOPS_ENV_RUNTIME"]


def test_no_network_on_the_first_day(toy: Machine, closed_port: int) -> None:
    shared = toy.cache
    toy.cache = toy.folder / "empty cache"
    toy.settings |= {"UV_DEFAULT_INDEX": f"http://127.0.0.1:{closed_port}/simple", "UV_HTTP_RETRIES": "0"}
    toy.settings |= {"UV_FIND_LINKS": None, "UV_OFFLINE": None}
    error = toy("up").failed("network").result["error"]
    assert "network" in error["hint"]
    assert toy("down").succeeded().result["left"] == 0
    toy("up").failed("network")
    toy.settings.clear()
    toy.cache = shared
    toy("up").succeeded()


def test_no_fitting_python(toy: Machine, tmp_path: Path) -> None:
    """Only a Python that the lock was not made for, and no way to fetch another."""
    uv = Path(sys.executable).parent / "uv"
    listed = subprocess.run([uv, "python", "list", "--only-installed"], capture_output=True, text=True, check=True)
    assert listed.stdout
    tools = [shutil.which(name) for name in ("bash", "env", "sh", "git", "tar", "test", "mkdir", "rm", "mv")]
    for tool in filter(None, tools):
        (tmp_path / Path(tool).name).symlink_to(tool)
    toy.settings |= {"PATH": str(tmp_path), "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON_INSTALL_DIR": str(tmp_path)}
    error = toy("up").failed("python-missing").result["error"]
    assert ">=3.11,<3.13" in error["message"]
    assert "PATH" in error["hint"]
    assert nothing_was_made(toy)


def test_a_squatted_port(toy: Machine) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    product = toy.folder / "product"
    shutil.copytree(toy.product, product)
    declared = product / "orchestrators" / "toy" / "orchestrator.toml"
    declared.write_text(declared.read_text().replace("7710", str(port)))
    toy.product = product
    ended = toy("up").succeeded()
    url = ended.result["urls"]["toy"]
    assert url != f"http://127.0.0.1:{port}"
    assert f"port {port} is taken by pid {os.getpid()}" in ended.messages()
    server.shutdown()
    server.server_close()
    assert toy("up").succeeded().result["urls"]["toy"] == url  # where it is, it stays


class AnotherMlflow(http.server.BaseHTTPRequestHandler):
    """Of somebody else: healthy, and not the place for our runs."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"experiment": {"experiment_id": "0"}}')

    def log_message(self, *_: object) -> None:
        pass


def test_somebody_elses_service_on_our_port_is_not_ours(standing: Machine) -> None:
    before = standing("up", "--no-run").succeeded().result["urls"]["mlflow"]
    main = standing.service("mlflow")
    main.kill()
    main.wait()
    port = int(before.rpartition(":")[2])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), AnotherMlflow)  # before ours is back
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = standing("status").succeeded().result["environments"][0]
    assert environment["health"] == "degraded"
    assert not next(row for row in environment["services"] if row["name"] == "mlflow")["healthy"]
    ended = standing("up", "--no-run").succeeded()
    assert ended.result["urls"]["mlflow"] != before
    assert f"port {port} is taken by pid {os.getpid()}" in ended.messages()
    server.shutdown()
    server.server_close()


def test_an_upgrade_keeps_what_the_user_changed_and_brings_the_rest(toy: Machine) -> None:
    product = toy.folder / "product"
    shutil.copytree(toy.product, product)
    toy.product = product
    toy("up").succeeded()
    train, prepare = toy.workspace / "train.py", toy.workspace / "prepare.py"
    train.write_text(train.read_text() + "# mine\n")
    for name in ("train.py", "prepare.py"):
        path = product / "pipeline" / name
        path.write_text(path.read_text() + "# a new version\n")
    ended = toy("up").succeeded()
    assert ended.statuses("step")["workspace"] == "changed"
    assert prepare.read_text().endswith("# a new version\n")
    assert train.read_text().endswith("# mine\n")
    assert f"kept, as you changed it: {train}" in ended.messages()
    assert toy("up").succeeded().found_all_done()
    assert len(list((toy.host() / "tree").iterdir())) == 1


def test_an_edited_step_is_what_runs_next(toy: Machine) -> None:
    first = toy("up").succeeded().result["run"]
    train = toy.workspace / "train.py"
    train.write_text(train.read_text().replace("float(rmse)", "2 * float(rmse)"))
    second = toy("up").succeeded().result["run"]
    assert second["metrics"] == {"rmse": 3.0}
    assert second["key"] != first["key"]


def test_down_twice_and_the_workspace_kept_then_deleted(toy: Machine) -> None:
    toy("up").succeeded()
    history = toy.workspace / ".mlops-env" / "mlflow" / "toy.json"
    before = history.read_bytes()
    assert toy("down").succeeded().result["left"] == 0
    assert toy("down").succeeded().result["receipt"] == []
    assert history.read_bytes() == before
    result = toy("up").succeeded().result
    assert len(mlflow_runs(result["urls"]["mlflow"], "toy-pipeline")) == 2  # another environment, its history kept
    receipt = toy("down", "--delete-workspace", "--yes").succeeded().result["receipt"]
    assert {"kind": "workspace", "found": 1, "removed": 1, "left": 0} in receipt
    assert not toy.workspace.exists()
    assert nothing_was_made(toy)


def test_down_of_a_users_own_workspace_deletes_only_what_is_ours(toy: Machine) -> None:
    folder = toy.home / "mine"
    folder.mkdir()
    (folder / "train.py").write_text('print("trained")\n')
    toy("init", "--run", "python train.py", cwd=folder).succeeded()
    toy("up", cwd=folder).succeeded()
    toy("down", "--delete-workspace", "--yes", cwd=folder).succeeded()
    assert sorted(path.name for path in folder.iterdir()) == ["mlops-env.toml", "train.py"]


def test_a_folder_with_other_files_is_refused(toy: Machine) -> None:
    (toy.home / "thesis").mkdir()
    (toy.home / "thesis" / "chapter.tex").touch()
    toy("up", "--workspace", "thesis").failed("no-pipeline-file", 2)
    assert [path.name for path in (toy.home / "thesis").iterdir()] == ["chapter.tex"]


def test_another_workspace_is_another_environment(standing: Machine) -> None:
    standing("up", "--no-run").succeeded()
    (standing.home / "other").mkdir()
    error = standing("up", "--workspace", "other").failed("environment-differs", 2).result["error"]
    assert "--name" in error["hint"]
    assert "down" in error["hint"]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.symlink_to("nowhere"), "step-gitconfig"),
        (lambda path: (path.mkdir(), (path / "mine").touch()), "step-gitconfig"),
    ],
    ids=["dangling link", "directory with files"],
)
def test_a_gitconfig_that_git_cannot_read(toy: Machine, make: Callable[[Path], object], code: str) -> None:
    make(toy.home / ".gitconfig")
    assert ".gitconfig" in toy("up", "--no-run").failed(code).result["error"]["log"]


@pytest.mark.parametrize("content", [None, b"[user]\n\tname = Zoe\n"], ids=["empty directory", "a real file"])
def test_a_gitconfig_that_is_mended_or_left_alone(toy: Machine, content: bytes | None) -> None:
    config = toy.home / ".gitconfig"
    config.write_bytes(content) if content else config.mkdir()
    toy("up", "--no-run").succeeded()
    assert config.read_bytes() == (content or b"")
    toy("down").succeeded()
    assert config.exists() is (content is not None)
