"""A step is a process of the pipeline's venv, recorded in MLflow, and ended with all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import command
import fake_mlflow
import step
from runs import code_digest
from workspace import Environment, Pipeline, Step, UsageError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fake_mlflow import FakeMlflow

SCRIPT = Path(step.__file__)


class Bench:
    """A workspace with a pipeline of scripts, and step.py run on it as an orchestrator would."""

    def __init__(self, folder: Path, mlflow: FakeMlflow) -> None:
        self.mlflow = mlflow
        self.workspace = folder / "wörk space"
        self.venvs = folder / "vénvs of mine"
        (self.venvs / "pipeline" / "bin").mkdir(parents=True)
        (self.venvs / "pipeline" / "bin" / "python").symlink_to(sys.executable)
        self.workspace.mkdir()
        self.variables = {
            **{name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}},
            **{
                f"MLOPS_ENV_{name}": name.lower()
                for name in ("NAME", "ORCHESTRATOR", "TREE", "STATE", "SECRETS", "URL")
            },
            "MLOPS_ENV_ID": "an-id",
            "MLOPS_ENV_VENVS": str(self.venvs),
            "MLOPS_ENV_WORKSPACE": str(self.workspace),
            "MLFLOW_TRACKING_URI": mlflow.url,
        }

    def pipeline(self, *, params: str = "{}", **steps: str) -> None:
        """Steps by name, each a Python program."""
        lines = []
        for name, program in steps.items():
            (self.workspace / f"{name}.py").write_text(program, encoding="utf-8")
            lines.append(f'{{name = "{name}", run = "python {name}.py"}}')
        self.toml(f"[{', '.join(lines)}]", params)

    def toml(self, steps: str, params: str = "{}") -> None:
        text = f'[pipeline]\nname = "toy"\nsteps = {steps}\nparams = {params}\n'
        (self.workspace / "mlops-env.toml").write_text(text, encoding="utf-8")

    def start(self, *words: str, key: str = "k") -> subprocess.Popen[str]:
        command = [sys.executable, str(SCRIPT), *words, "--run-key", key]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.variables, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")

    def run(self, *words: str, key: str = "k") -> tuple[int, str, str]:
        with self.start(*words, key=key) as process:
            out, err = process.communicate(timeout=60)
            return process.returncode, out, err

    @property
    def only_run(self) -> dict[str, Any]:
        (run,) = self.mlflow.runs
        return run

    @property
    def status(self) -> str:
        return str(self.only_run["info"]["status"])

    @property
    def tags(self) -> dict[str, str]:
        return self.mlflow.tags(self.only_run)

    @property
    def metrics(self) -> dict[str, Any]:
        return {metric["key"]: metric["value"] for metric in self.only_run["data"]["metrics"]}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with fake_mlflow.serving() as mlflow:
        yield Bench(tmp_path, mlflow)


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_steps_are_one_run(bench: Bench) -> None:
    bench.pipeline(
        params='{month = "2023-01", learning-rate = 0.5}',
        prepare='import os, pathlib; pathlib.Path(os.environ["MLOPS_ENV_RUN_DIR"], "x").write_text("4")',
        train=(
            "import json, os, pathlib, sys\n"
            'print("é", os.environ["PARAM_MONTH"], os.environ["PARAM_LEARNING_RATE"])\n'
            'x = int(pathlib.Path(os.environ["MLOPS_ENV_RUN_DIR"], "x").read_text())\n'
            'print(json.dumps({"metrics": {"x": x, "nan": float("nan"), "no": "text", "flag": True}}))\n'
            'print("a warning", file=sys.stderr)\n'
        ),
    )
    assert bench.run("prepare", "--param", "month=2023-02")[0] == 0
    assert bench.status == "RUNNING"
    code, out, err = bench.run("train", "--param", "month=2023-02")
    assert code == 0
    assert "é 2023-02 0.5" in out
    assert "a warning" in err
    assert "not logged, as no number: flag, no" in err
    assert bench.status == "FINISHED"
    assert bench.metrics == {"x": 4.0, "nan": "NaN"}
    params = {param["key"]: param["value"] for param in bench.only_run["data"]["params"]}
    assert params == {"month": "2023-02", "learning-rate": "0.5"}
    assert bench.tags["run_key"] == "k"
    assert bench.tags["mlops_env.completed"] == "true"
    assert bench.tags["mlops_env.orchestrator"] == "orchestrator"


def test_a_failed_step_keeps_its_code_and_last_lines_and_can_be_retried(bench: Bench) -> None:
    bench.pipeline(
        prepare="pass",
        train='print("\\n".join(map(str, range(50)))); raise SystemExit(7)',
    )
    bench.run("prepare")
    code, out, err = bench.run("train")
    assert code == 7
    assert out.splitlines() == [str(number) for number in range(50)]
    assert "step train: exit code 7" in err
    assert bench.status == "FAILED"
    assert bench.tags["mlops_env.failed_step"] == "train"
    assert bench.tags["mlops_env.error"].splitlines() == [str(number) for number in range(40, 50)]
    bench.pipeline(prepare="pass", train="pass")
    assert bench.run("train")[0] == 0
    assert bench.status == "FINISHED"
    assert not {"mlops_env.failed_step", "mlops_env.error"} & bench.tags.keys()


def test_another_environment_with_the_same_run_key_is_another_run(bench: Bench) -> None:
    bench.pipeline(train="pass")
    bench.run("train")
    bench.variables["MLOPS_ENV_ID"] = "another"
    bench.run("train")
    assert len(bench.mlflow.runs) == 2


def test_parallel_branches_open_one_run(bench: Bench) -> None:
    bench.pipeline(a="pass", b="pass", c="pass", last="pass")
    processes = [bench.start(name) for name in ("a", "b", "c")]
    for process in processes:
        with process:
            process.communicate(timeout=60)
            assert process.returncode == 0
    assert bench.status == "RUNNING"


def test_what_a_step_is_told_and_what_not(bench: Bench) -> None:
    bench.pipeline(train="import json, os; print(json.dumps(dict(os.environ)))")
    secret = {
        "MLOPS_ENV_SECRETS": "/s",
        "MAGE_API_KEY": "s",
        "PREFECT_API_AUTH_STRING": "s",
        "JWT_SECRET": "s",
        "DEFAULT_OWNER_PASSWORD": "s",
        "SUPERVISOR_SERVER_URL": "s",
        "PYTHONPATH": "/orchestrator",
        "MLFLOW_EXPERIMENT_NAME": "mine",
        "MLFLOW_REGISTRY_URI": "http://elsewhere",
    }
    bench.variables |= secret
    bench.variables |= {"AWS_PROFILE": "mine", "http_proxy": "http://proxy:1", "MLOPS_ENV_SERVICE": "worker"}
    bench.variables["PATH"] = f"{bench.venvs}/mage/bin:{bench.variables['PATH']}"
    told = json.loads(bench.run("train")[1].splitlines()[-1])
    assert not secret.keys() & told.keys()
    assert told["PATH"].split(":")[0] == f"{bench.venvs}/pipeline/bin"
    assert f"{bench.venvs}/mage/bin" not in told["PATH"].split(":")
    assert told["VIRTUAL_ENV"] == f"{bench.venvs}/pipeline"
    assert told["MLFLOW_TRACKING_URI"] == bench.mlflow.url
    assert told["MLFLOW_RUN_ID"] == "run1"
    assert told["MLOPS_ENV_RUN_DIR"] == f"{bench.workspace}/.mlops-env/runs/k"
    assert "127.0.0.1" in told["NO_PROXY"].split(",")
    # The user's own, and those by which `mlops-env` finds its processes.
    assert told["AWS_PROFILE"] == "mine"
    assert told["MLOPS_ENV_ID"] == "an-id"
    assert told["MLOPS_ENV_SERVICE"] == "worker"


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("nyc-taxi ingest", "no `nyc-taxi` in the pipeline's venv"),
        ("./train.sh", "no `./train.sh` in"),
        ("./broken.sh", "names an interpreter in its first line that is not there"),
    ],
)
def test_a_command_that_is_not_there(bench: Bench, run: str, words: str) -> None:
    broken = bench.workspace / "broken.sh"
    broken.write_text("#!/nowhere/python\n", encoding="utf-8")
    broken.chmod(0o755)
    bench.toml(f'[{{name = "train", run = "{run}"}}]')
    code, _, err = bench.run("train")
    assert code == 127
    assert words in err
    assert bench.status == "FAILED"
    assert words in bench.tags["mlops_env.error"]


def test_arguments_go_to_no_shell(bench: Bench) -> None:
    bench.pipeline(train="import sys; print(sys.argv[1:])")
    bench.toml("""[{name = "train", run = "python train.py 'a b' $HOME ;ls"}]""")
    assert bench.run("train")[1].splitlines()[-1] == "['a b', '$HOME', ';ls']"


LONG = (
    "import os, signal, subprocess, sys, time\n"
    'child = subprocess.Popen(["sleep", "300"])\n'
    "open(os.environ['MLOPS_ENV_RUN_DIR'] + '/pids', 'w').write(f'{os.getpid()} {child.pid} ')\n"
    "time.sleep(300)\n"
)


@contextlib.contextmanager
def long_step(bench: Bench, program: str = LONG) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    bench.pipeline(train=program)
    path = bench.workspace / ".mlops-env" / "runs" / "k" / "pids"
    with bench.start("train") as process:
        wait_until(lambda: path.is_file() and path.read_text(encoding="utf-8").endswith(" "))
        pids = [int(pid) for pid in path.read_text(encoding="utf-8").split()]
        try:
            yield process, pids
        finally:
            for pid in (process.pid, *pids):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_whole_group(bench: Bench, signum: int, code: int) -> None:
    with long_step(bench) as (process, pids):
        process.send_signal(signum)
        process.communicate(timeout=30)
        assert process.returncode == code
        wait_until(lambda: gone(pids))
    assert bench.status == "KILLED"


def test_a_step_that_ignores_term_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_GRACE", 0.2)
    pid = tmp_path / "pid"
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(pid)!r}, 'w').write(str(os.getpid()) + ' ')\n"
        "time.sleep(300)\n"
    )

    def interrupt() -> None:
        wait_until(lambda: pid.is_file() and pid.read_text(encoding="utf-8").endswith(" "))
        os.kill(os.getpid(), signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(command.Interrupted, match="SIGTERM"):
            command.run([sys.executable, "-c", program], tmp_path, os.environ, command.Interruptions())
    finally:
        thread.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert gone([int(pid.read_text(encoding="utf-8"))])


def test_the_group_does_not_outlive_a_killed_runner(bench: Bench) -> None:
    with long_step(bench) as (process, pids):
        process.kill()
        process.communicate(timeout=30)
        wait_until(lambda: gone(pids))


def test_the_group_does_not_outlive_the_task_that_started_it(bench: Bench) -> None:
    bench.pipeline(train=LONG)
    starter = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(300)"
    command = [sys.executable, "-c", starter, sys.executable, str(SCRIPT), "train", "--run-key", "k"]
    path = bench.workspace / ".mlops-env" / "runs" / "k" / "pids"
    with subprocess.Popen(command, env=bench.variables) as task:
        wait_until(lambda: path.is_file() and path.read_text(encoding="utf-8").endswith(" "))
        task.kill()
    pids = [int(pid) for pid in path.read_text(encoding="utf-8").split()]
    wait_until(lambda: gone(pids))
    wait_until(lambda: bench.status == "KILLED")


def test_what_a_step_leaves_running_ends_with_it(bench: Bench) -> None:
    bench.pipeline(
        train='import subprocess; print(subprocess.Popen(["sleep", "300"]).pid, flush=True)'  # holds our pipe, too
    )
    code, out, _ = bench.run("train")
    assert code == 0
    wait_until(lambda: gone([int(out)]))


def test_output_comes_while_the_step_runs(bench: Bench) -> None:
    bench.pipeline(train='print("first"); input() if False else __import__("time").sleep(300)')
    with bench.start("train") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        process.terminate()
        process.communicate(timeout=30)


def test_what_a_run_writes_into_the_workspace_is_not_other_code(bench: Bench) -> None:
    bench.pipeline(train='open("model.pkl", "w").write("x")')
    bench.run("train")
    assert bench.tags["mlops_env.code"] == code_digest(bench.workspace)
    bench.pipeline(train='open("other.py", "w").write("x")')
    bench.run("train", key="k2")
    assert bench.mlflow.tags(bench.mlflow.runs[1])["mlops_env.code"] != code_digest(bench.workspace)


def test_an_mlflow_that_stays_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.pipeline(train="pass")
    for name, value in bench.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(step, "_PATIENCE", 0.1)
    monkeypatch.setattr(step, "Interruptions", lambda: None)
    assert step.main(["train", "--run-key", "k"]) == 1
    assert "step train: no answer from MLflow at http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nope", "--run-key", "k"], "no step `nope` in mlops-env.toml; it has: train"),
        (["train", "--run-key", "../k"], "run key `../k`"),
        (["train", "--run-key", "k", "--param", "x=1"], "no parameter x"),
    ],
)
def test_usage_errors(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    bench.pipeline(train="pass")
    for name, value in bench.variables.items():
        monkeypatch.setenv(name, value)
    assert step.main(words) == 2
    assert message in capsys.readouterr().err
    assert not bench.mlflow.runs


@pytest.mark.parametrize(
    ("line", "metrics"),
    [
        ('{"metrics": {"a": 1, "b": -2.5}, "rows": 3}', {"a": 1.0, "b": -2.5}),
        ('{"metrics": {}}', {}),
        ('{"metrics": [1]}', {}),
        ('{"other": 1}', {}),
        ("[1]", {}),
        ("7", {}),
        ("done", {}),
        ("", {}),
    ],
)
def test_reported_metrics(line: str, metrics: dict[str, float]) -> None:
    assert step.reported_metrics(line) == metrics


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["there is no [pipeline] table"]),
        ("[pipeline", ["mlops-env.toml: "]),
        ("[pipeline]", ["pipeline.name", "pipeline.steps"]),
        (
            '[pipeline]\nname = "a"\nparams = {x = "\\u0000"}\nsteps = [{name = "x", run = "a\\u0000"}]',
            ["pipeline.params: no process", "run: no process"],
        ),
        (
            '[pipeline]\nname = "a/b"\nparams = 1\nsteps = [{name = "x", run = "a \'"}, {name = "x"}, 3]',
            [
                "pipeline.name",
                "pipeline.params",
                "step 1: run: No closing quotation",
                "step 2: run",
                "step 3",
                "named `x`",
            ],
        ),
    ],
)
def test_every_problem_of_a_pipeline_is_named_at_once(tmp_path: Path, text: str, problems: list[str]) -> None:
    (tmp_path / "mlops-env.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as raised:
        load(tmp_path)
    assert all(problem in str(raised.value) for problem in problems)


def test_parameters_of_any_type_become_text(tmp_path: Path) -> None:
    params = '{d = 2023-01-02, f = 0.5, b = true, s = "é"}'
    text = f'[pipeline]\nname = "a"\nsteps = [{{name = "x", run = "true"}}]\nparams = {params}'
    (tmp_path / "mlops-env.toml").write_text(text, encoding="utf-8")
    assert load(tmp_path) == Pipeline("a", (Step("x", "true"),), {"d": "2023-01-02", "f": "0.5", "b": "true", "s": "é"})


def test_a_missing_pipeline_names_the_cure(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`mlops-env init` writes one"):
        load(tmp_path)


def test_missing_variables_are_named_at_once() -> None:
    with pytest.raises(UsageError, match="MLOPS_ENV_NAME, MLOPS_ENV_ORCHESTRATOR"):
        Environment.read({"MLOPS_ENV_ID": "x"})
