"""Whole commands for a host elsewhere: what runs there, what here, and in which order."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fakes import Answer, FakeConnection
from mlops_env import bundle, environment
from mlops_env.commands import connecting
from mlops_env.connection import Result
from mlops_env.errors import ConnectionLost, MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Done
    from mlops_env.environment import Environment

HOST = "/home/me/.local/state/mlops-env/default/host"
TREE = bundle.tree()
CONVERGED = """\
{"type":"step","name":"docker","status":"changed"}
{"type":"page","name":"mage","url":"http://127.0.0.1:6789"}
{"type":"step","name":"services","status":"ok"}
"""
RECORDED = {"run_key": "k", "status": "FINISHED", "pipeline": "p", "mlflow_run_id": "a", "experiment_id": "1"}


class There(FakeConnection):
    """A host on which everything goes well, with our files put on it when it is first converged."""

    def __init__(self) -> None:
        self.has_tree = False
        names = {
            f"{HOST}/venvs/tools/bin/python": "TOOLS-PYTHON",
            f"{HOST}/tree/{TREE.digest}": "TREE",
            HOST: "HOST",
        }
        answers = {
            "facts": Answer("/home/me\nme\n"),
            "put TREE": Answer(does=self.put),
            "bash TREE/bootstrap/run.sh *": Answer(CONVERGED),
            "find HOST/tree *": Answer(),
            "test -x TOOLS-PYTHON": Answer(),
            "* exec runs.py find*": Answer("null"),
            "* exec trigger.py run *": Answer('{"id": "7", "state": "completed", "page": ""}'),
            "* exec runs.py show *": Answer(json.dumps(RECORDED)),
        }
        super().__init__(answers, names)

    def put(self) -> None:
        self.has_tree = True

    def run(self, argv: Any, **options: Any) -> Result:
        line = self._line(argv)
        if line == "test -d TREE" or (line.startswith("bash TREE/") and not self.has_tree):
            self.transcript.append(line)
            return Result(tuple(argv), 0 if self.has_tree else 111, "", "", 0.0)
        return super().run(argv, **options)

    def _line(self, argv: Any) -> str:
        line = super()._line(argv)
        if "id -un" in line:
            return "facts"
        return line[line.index("put ") :] if " put " in line else line.partition(" sh TREE ")[2] or line


class Here(FakeConnection):
    """This machine: the readers of git and of mlops-env.toml, and the tunnel."""

    def __init__(self) -> None:
        answers = {
            "git config --global user.name": Answer("Ada\n"),
            "git config --global user.email": Answer("ada@example.org\n"),
            "PYTHON */workspace.py *": Answer(),
            "PYTHON */forwards.py apply": Answer('{"ports": {"6789": 6790}}\n'),
            "PYTHON */forwards.py stop": Answer('{"stopped": 2, "left": 0}\n'),
            "PYTHON */sweep.py": Answer('{"kind": "process", "found": 2, "removed": 2, "left": 0}\n'),
        }
        super().__init__(answers, {sys.executable: "PYTHON", str(bundle.bundled("orchestrators")): "SHIPPED"})


@pytest.fixture(autouse=True)
def _one_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops_env.bootstrap.tree", lambda: TREE)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> There:
    connection = There()
    monkeypatch.setattr(connecting, "connect", lambda *_, **__: connection)
    return connection


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    connection = Here()
    for module in ("connection", "preflight", "commands.connecting"):
        monkeypatch.setattr(f"mlops_env.{module}.LocalConnection", lambda: connection)
    return connection


@pytest.mark.usefixtures("here")
class TestUp:
    def test_first_it_meets_the_host_then_records_then_brings_it_up_and_logs_in_anew(
        self, there: There, mlops_env: Callable[..., Done]
    ) -> None:
        def put_after_the_record() -> None:
            assert environment.need("default")
            there.put()

        there.declare("put TREE", Answer(does=put_after_the_record))
        done = mlops_env("up", "--host", "me@box", "--no-run", "--json")
        assert done.code == 0, done.result
        assert there.transcript == [
            "facts",
            "bash TREE/bootstrap/run.sh apply",
            "test -d TREE",
            "put TREE < stdin",
            "bash TREE/bootstrap/run.sh apply",
            f"find HOST/tree -mindepth 1 -maxdepth 1 '!' -name {TREE.digest} -exec rm -rf '{{}}' +",
            "(a new login)",
        ]
        assert environment.need("default").record.host == {
            "destination": "me@box",
            "identity": None,
            "home": "/home/me",
            "user": "me",
            "git_name": "Ada",
            "git_email": "ada@example.org",
        }

    def test_its_pages_are_where_the_tunnel_has_them(self, there: There, mlops_env: Callable[..., Done]) -> None:
        assert there
        result = mlops_env("up", "--host", "me@box", "--json").result
        assert (result["urls"], result["host"]) == ({"mage": "http://127.0.0.1:6790"}, "me@box")
        assert (result["target"], result["runtime"], result["run"]["state"]) == ("ssh", "compose", "completed")

    def test_a_converged_host_is_recognised_by_one_command(self, there: There, mlops_env: Callable[..., Done]) -> None:
        mlops_env("up", "--host", "me@box", "--no-run")
        there.transcript.clear()
        there.declare("bash TREE/bootstrap/run.sh *", Answer(CONVERGED.replace("changed", "ok")))
        mlops_env("up", "--no-run")
        assert there.transcript == ["bash TREE/bootstrap/run.sh apply"]

    def test_every_script_is_told_that_the_host_is_to_be_equipped(
        self, there: There, mlops_env: Callable[..., Done]
    ) -> None:
        mlops_env("up", "--host", "me@box")
        settings = there.settings[-1]
        assert settings["MLOPS_ENV_SYSTEM"] == "1"
        assert settings["MLOPS_ENV_RUNTIME"] == "compose"
        assert settings["MLOPS_ENV_WORKSPACE"] == "/home/me/mlops-env/default"
        assert settings["GIT_AUTHOR_NAME"] == "Ada"
        assert not {"MLOPS_ENV_PYTHON", "MLOPS_ENV_UV"} & settings.keys()

    def test_a_step_that_knows_why_it_fails_is_quoted(self, there: There, mlops_env: Callable[..., Done]) -> None:
        cause = {"type": "cause", "code": "docker-masked", "message": "docker.service is masked", "hint": "unmask"}
        states = [{"type": "step", "name": "daemon", "status": status} for status in ("started", "failed")]
        said = "\n".join(map(json.dumps, [states[0], cause, states[1]]))
        there.declare("bash TREE/bootstrap/run.sh *", Answer(said, "noise", exited=1))
        done = mlops_env("up", "--host", "me@box", "--json")
        assert done.code == 1
        assert done.result["error"] == {
            "code": "docker-masked",
            "message": "step daemon failed: docker.service is masked",
            "hint": "unmask",
            "log": "noise",
        }

    def test_a_lost_connection_names_the_step_it_was_in(self, there: There, mlops_env: Callable[..., Done]) -> None:
        def lose() -> None:
            raise ConnectionLost("the connection to me@box broke", code="connection-lost", hint="again")

        there.put()
        there.declare("bash TREE/bootstrap/run.sh *", Answer(does=lose))
        error = mlops_env("up", "--host", "me@box", "--json").result["error"]
        assert error["code"] == "connection-lost"

    def test_a_host_that_lets_nobody_in_leaves_no_record(
        self, monkeypatch: pytest.MonkeyPatch, mlops_env: Callable[..., Done], records: Path
    ) -> None:
        def refuse(env: Environment, *_: object, **__: object) -> None:
            env.directory.mkdir(parents=True)
            env.known_hosts.touch()
            raise MlopsEnvError("nobody knows the key of box", code="host-key-unknown", hint="--accept-new-host-key")

        monkeypatch.setattr(connecting, "connect", refuse)
        for verb in ("up", "preview"):
            done = mlops_env(verb, "--host", "me@box", "--json")
            assert (done.code, done.result["error"]["code"]) == (1, "host-key-unknown")
            assert not (records / "default").exists()


class TestOtherVerbs:
    @pytest.fixture(autouse=True)
    def _up(self, there: There, here: Here, mlops_env: Callable[..., Done]) -> None:
        mlops_env("up", "--host", "me@box", "--no-run")
        there.transcript.clear()
        here.transcript.clear()

    def test_stop_ends_the_tunnel_too(self, there: There, here: Here, mlops_env: Callable[..., Done]) -> None:
        there.declare("*/services.py stop", Answer('{"stopped": 3, "left": 0}'))
        assert mlops_env("stop").code == 0
        assert here.transcript == ["PYTHON SHIPPED/forwards.py stop"]

    def test_down_sweeps_there_ends_the_tunnel_here_and_keeps_the_workspace(
        self, there: There, mlops_env: Callable[..., Done], records: Path
    ) -> None:
        there.declare(
            "bash TREE/bootstrap/down.sh", Answer('{"kind": "container", "found": 3, "removed": 3, "left": 0}')
        )
        there.declare("rm -f /home/me/mlops-env/default/.mlops-env/environment.json", Answer())
        there.declare("test -e /home/me/mlops-env/default", Answer())
        done = mlops_env("down", "--json")
        assert (done.code, done.result["kept"]) == (0, "me@box:/home/me/mlops-env/default")
        kinds = {row["kind"] for row in done.result["receipt"]}
        assert {"container", "local process", "record"} <= kinds
        assert not records.exists()

    def test_down_of_a_host_that_is_no_more_needs_to_be_told_so(
        self, there: There, here: Here, mlops_env: Callable[..., Done], records: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise MlopsEnvError("box does not answer", code="ssh-unreachable", hint="--forget-host")

        monkeypatch.setattr(connecting, "connect", refuse)
        assert mlops_env("down", "--json").result["error"]["code"] == "ssh-unreachable"
        assert records.exists()
        assert mlops_env("status", "--json").result["environments"][0]["health"] == "unreachable"
        assert mlops_env("down", "--forget-host").code == 0
        assert (there.transcript, here.transcript) == ([], ["PYTHON SHIPPED/sweep.py"])
        assert not records.exists()

    def test_preview_of_another_host_leaves_nothing_there(self, there: There, mlops_env: Callable[..., Done]) -> None:
        there.declare("test -d /home/me/.local/state/mlops-env/other/host", Answer(exited=1))
        there.declare("test -d /tmp/mlops-env-preview-*", Answer(exited=1))
        there.declare("put /tmp/mlops-env-preview-*", Answer())
        there.declare("*/bootstrap/run.sh check", Answer('{"type":"step","name":"base","status":"pending"}', exited=10))
        there.declare("rm -rf /tmp/mlops-env-preview-*", Answer())
        done = mlops_env("preview", "--name", "other", "--host", "me@new", "--json")
        assert done.result["steps"] == {"base": "pending"}
        assert there.transcript[-1].startswith("rm -rf /tmp/mlops-env-preview-")
        assert environment.find("other") is None

    def test_the_host_is_remembered(self, mlops_env: Callable[..., Done]) -> None:
        done = mlops_env("up", "--host", "me@other", "--json")
        assert (done.code, done.result["error"]["code"]) == (2, "environment-differs")
