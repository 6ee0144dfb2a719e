"""The command line as a person and as the step runner meet it, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nyc_taxi import cli

COMMAND = [sys.executable, "-m", "nyc_taxi"]


def nyc_taxi(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=os.environ | environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_steps_as_the_runner_starts_them(tmp_path: Path) -> None:
    folder = tmp_path / "läufe & more" / "run [1]*?"
    environ = {"MLOPS_ENV_RUN_DIR": str(folder), "PARAM_FEATURES": "pair", "PARAM_MODEL": "linear", "PARAM_KIND": ""}
    for step in ("ingest", "transform", "features", "train"):
        done = nyc_taxi(step, **environ)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "MLFLOW_TRACKING_URI is not set: nothing is logged" in done.stderr
    done = nyc_taxi("evaluate", **environ)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["rows"] == {"train": 65_946, "validation": 62_574}
    assert result["metrics"]["feature_count"] == 5702
    assert (folder / "report.html").is_file()


def test_run_speaks_json_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "nyc-taxi-run" / "report.html").is_file()
    assert cli.main(["run", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["metrics"]) >= {"train_rmse", "validation_rmse"}


@pytest.mark.parametrize("step", ["transform", "features", "train", "evaluate"])
def test_a_step_out_of_turn_says_which_comes_first(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([step]) == 2
    assert "with this run folder first" in capsys.readouterr().err


def test_usage() -> None:
    assert nyc_taxi("fly").returncode == 2
    assert nyc_taxi().returncode == 2
    assert "examples:" in nyc_taxi("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "unwanted"), [(["--help"], ["polars", "numpy", "mlflow"]), (["ingest"], ["mlflow", "pandas"])]
)
def test_what_is_not_needed_is_not_imported(arguments: list[str], unwanted: list[str]) -> None:
    check = f"import atexit, sys; atexit.register(lambda: print([m for m in {unwanted} if m in sys.modules]));"
    program = f"{check} from nyc_taxi.cli import main; main({arguments})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


@pytest.mark.parametrize("step", ["transform", "features"])
def test_a_full_disk(tmp_path: Path, step: str) -> None:
    """A limit on the size of files fails as a full disk does: in the midst of writing, by an error of the system."""
    for before in ("ingest", "transform")[: 1 if step == "transform" else 2]:
        assert cli.main([before]) == 0
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); \
        import sys; from nyc_taxi.cli import main; sys.exit(main([{step!r}]))"
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"error: cannot write {tmp_path}/nyc-taxi-run/" in done.stderr
    assert "File too large" in done.stderr
    assert "\n  cure: free space" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "nyc-taxi-run").glob("*.part"))


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = nyc_taxi("run", "--run-dir", str(tmp_path / "file"))
    assert done.returncode == 1
    assert f"error: cannot write {tmp_path}/file/ingest.json: File exists" in done.stderr


def test_interrupt(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/trips.parquet"
        process = subprocess.Popen([*COMMAND, "ingest", "--train", url], stderr=subprocess.PIPE, text=True)
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error == "interrupted\n"
    assert not list((tmp_path / "cache").rglob("*.part"))
