"""Commands for a host as they are built, what is made of what they say, and what a failure is called."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import Answer, FakeConnection
from mlops_env import bootstrap
from mlops_env.bootstrap import HostScripts
from mlops_env.bundle import tree
from mlops_env.environment import Environment, Record
from mlops_env.errors import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_env.events import Event

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)

BUILDERS: list[Callable[[HostScripts], list[str]]] = [
    lambda scripts: scripts.converge("check"),
    lambda scripts: scripts.services("exec", "trigger.py", "run", "--param", "a=b c"),
    lambda scripts: scripts.sweep(),
]


def scripts(workspace: str = "/w s/ö%", directory: Path = Path("/state dir/default")) -> HostScripts:
    record = Record("an-id", "default", "local", "toy", "venv", workspace, 0.0)
    environment = Environment("default", directory, record)
    return HostScripts(environment, environment.host / "tree" / "abc")


class TestBuilders:
    @pytest.mark.parametrize("build", BUILDERS)
    def test_paths_stay_one_word_each(self, build: Callable[[HostScripts], list[str]]) -> None:
        argv = build(scripts())
        assert argv[0] == "env"
        assert "MLOPS_ENV_WORKSPACE=/w s/ö%" in argv
        assert "MLOPS_ENV_HOST_DIR=/state dir/default/host" in argv
        assert any(word.startswith("/state dir/default/host/tree/abc/") for word in argv)
        assert not [word for word in argv if word != bootstrap._IN_TREE and ("'" in word or '"' in word)]

    @pytest.mark.parametrize("build", BUILDERS)
    def test_building_does_nothing_and_says_the_same_twice(
        self, build: Callable[[HostScripts], list[str]], tmp_path: Path
    ) -> None:
        there = scripts(directory=tmp_path / "default")
        assert build(there) == build(there)
        assert not (tmp_path / "default").exists()

    def test_our_own_code_runs_with_our_python_and_services_with_theirs(self) -> None:
        host = "/state dir/default/host"
        assert scripts().converge("apply")[-3:] == ["bash", f"{host}/tree/abc/bootstrap/run.sh", "apply"]
        assert scripts().services("status")[-3:] == [
            f"{host}/venvs/tools/bin/python",
            f"{host}/tree/abc/orchestrators/services.py",
            "status",
        ]

    def test_a_workspace_of_the_users_is_told_so(self) -> None:
        assert "MLOPS_ENV_OWN_WORKSPACE=" in scripts().settings()


class TestEvents:
    def test_a_step_is_read(self) -> None:
        event = bootstrap.parse_event('{"type":"service","name":"toy","status":"changed","seconds":1.5}')
        assert event
        assert (event.type, event.name, event.status, event.fields) == ("service", "toy", "changed", {"seconds": 1.5})

    @pytest.mark.parametrize(
        "line", ["", "null", "[]", "3", '"x"', "{}", '{"name": "x"}', "warning: {", "\x00", "{" * 50]
    )
    def test_what_is_none_is_none(self, line: str) -> None:
        assert bootstrap.parse_event(line) is None

    @given(st.text())
    def test_garbage_never_breaks_it(self, line: str) -> None:
        bootstrap.parse_event(line)


def uv_said(*lines: str) -> str:
    """As uv 0.13 words an error and its causes."""
    return "\n  cause: ".join(lines)


CAUSES = [
    (
        "network",
        uv_said(
            "error: Failed to fetch: http://registry.invalid/simple/iniconfig/",
            "error sending request for url (http://registry.invalid/simple/iniconfig/)",
            "client error (Connect)",
            "dns error",
            "failed to lookup address information: Name or service not known",
        ),
    ),
    (
        "network",
        uv_said(
            "error: Request failed after 3 retries", "client error (Connect)", "tcp connect error", "Connection refused"
        ),
    ),
    (
        "network",
        uv_said(
            "error: No solution found when resolving dependencies",
            "Because iniconfig was not found in the cache and you require iniconfig==2.0.0, we can conclude that your "
            "requirements are unsatisfiable.\n\nhint: Packages were unavailable because the network was disabled. When "
            "the network is disabled, registry packages may only be read from the cache.",
        ),
    ),
    (
        "disk-full",
        uv_said(
            "error: Failed to install: iniconfig-2.3.1-py3-none-any.whl (iniconfig==2.3.1)",
            "failed to copy file from /cache/x to /venv/x: No space left on device (os error 28)",
        ),
    ),
    # A download that fails because the disk is full: the disk is the cause.
    (
        "disk-full",
        uv_said("error: Failed to fetch: `http://registry/polars.whl`", "No space left on device (os error 28)"),
    ),
    ("python-missing", "error: No interpreter found for Python >=3.11, <3.13 in managed installations or search path"),
    (
        "permission",
        uv_said(
            "error: Failed to create virtual environment",
            "failed to create directory `v`: Read-only file system (os error 30)",
        ),
    ),
    ("permission", "error: failed to create directory `/venvs/tools`: Permission denied (os error 13)"),
    ("step-tools", "tools: something nobody has seen before"),
]


class TestConverge:
    def converge(self, answer: Answer, mode: str = "apply") -> tuple[bootstrap.Converged, list[Event]]:
        events: list[Event] = []
        connection = FakeConnection({"sh -c * bash *run.sh* *": answer}, {})
        return bootstrap.converge(connection, scripts(), events.append, mode=mode), events

    def test_steps_and_pages_are_told_by_name(self) -> None:
        said = [
            '{"type":"step","name":"tools","status":"ok"}',
            '{"type":"step","name":"services","status":"started"}',
            "not an event",
            '{"type":"page","name":"toy","url":"http://127.0.0.1:7000"}',
            '{"type":"step","name":"services","status":"changed"}',
        ]
        converged, events = self.converge(Answer(stdout="\n".join(said), stderr="Resolved 7 packages"))
        assert converged.steps == {"tools": "ok", "services": "changed"}
        assert converged.urls == {"toy": "http://127.0.0.1:7000"}
        assert [(event.type, event.name) for event in events] == [
            ("step", "tools"),
            ("step", "services"),
            ("page", "toy"),
            ("step", "services"),
            ("log", "services"),
        ]

    def test_pending_is_no_failure_of_a_check(self) -> None:
        pending = Answer(stdout='{"type":"step","name":"tools","status":"pending"}', exited=10)
        assert self.converge(pending, "check")[0].steps == {"tools": "pending"}
        with pytest.raises(CommandFailed):
            self.converge(pending, "apply")

    @pytest.mark.parametrize(("code", "stderr"), CAUSES)
    def test_a_failure_is_named_by_its_cause(self, code: str, stderr: str) -> None:
        failed = Answer(stdout='{"type":"step","name":"tools","status":"failed"}', stderr=stderr, exited=1)
        with pytest.raises(CommandFailed, match="step tools failed") as error:
            self.converge(failed)
        assert error.value.code == code
        assert error.value.hint
        assert error.value.result.stderr == stderr

    def test_without_any_event_the_bootstrap_itself_is_named(self) -> None:
        with pytest.raises(CommandFailed, match="bootstrap did not start") as error:
            self.converge(Answer(stderr="bash: syntax error", exited=2))
        assert error.value.code == "bootstrap"


class TestUpload:
    files = tree()

    def upload(self, **answers: Answer) -> list[str]:
        connection = FakeConnection({f"{name} *": answer for name, answer in answers.items()}, {})
        bootstrap.upload(connection, self.files, Path("/there"))
        return connection.transcript

    def test_a_tree_that_is_there_is_not_sent_again(self) -> None:
        assert self.upload(test=Answer()) == ["test -d /there"]

    def test_a_missing_one_is(self) -> None:
        transcript = self.upload(test=Answer(exited=1), sh=Answer())
        assert transcript[1].endswith(" put /there < stdin")

    def test_a_full_disk_is_named(self) -> None:
        full = Answer(exited=2, stderr="tar: x: Cannot write: No space left on device")
        with pytest.raises(CommandFailed, match="cannot unpack") as error:
            self.upload(test=Answer(exited=1), sh=full)
        assert error.value.code == "disk-full"


def test_uv_is_the_one_that_came_with_us() -> None:
    assert os.access(bootstrap.uv(), os.X_OK)
