"""The record of an environment: what it keeps, what contradicts it, and what is done with a bad one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_env import environment
from mlops_env.config import FILE, Config, Local, Ssh
from mlops_env.errors import MlopsEnvError, UsageError
from mlops_env.intent import settle

if TYPE_CHECKING:
    from mlops_env.environment import Environment

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def asked(
    workspace: Path | None = None, *, name: str = "default", orchestrator: str | None = None, runtime: str | None = None
) -> Config:
    return Config(name, Local(), workspace, orchestrator, runtime)


def made(name: str = "default", workspace: Path | None = None, **more: Any) -> Environment:
    wish = settle(asked(workspace, name=name), None)
    return environment.imagine(name, {**wish, **more}, None).save()


def lay_out(env: Environment) -> None:
    """As bootstrap does: the pipeline file, the manifest, the owner."""
    ours = env.workspace / ".mlops-env"
    ours.mkdir(parents=True)
    (env.workspace / FILE).touch()
    (ours / "manifest.json").write_text(json.dumps({"pipeline": {FILE: "digest"}}), encoding="utf-8")
    owner = {"id": env.record.id, "name": env.record.name}
    (ours / "environment.json").write_text(json.dumps(owner), encoding="utf-8")


class TestRecord:
    @given(
        values=st.fixed_dictionaries(
            {"orchestrator": texts, "workspace": texts, "stopped": st.booleans(), "run": st.dictionaries(texts, texts)}
        )
    )
    def test_comes_back_as_it_was_saved(self, values: dict[str, Any]) -> None:
        saved = made().save(**values)
        assert environment.find("default") == saved

    def test_is_only_its_owners_to_read(self, records: Path) -> None:
        made()
        assert (records / "default").stat().st_mode & 0o777 == 0o700

    def test_has_an_identity_of_its_own(self) -> None:
        assert made("a").record.id != made("b").record.id

    def test_a_setting_of_a_later_version_is_ignored(self, records: Path) -> None:
        env = made()
        path = records / "default" / "environment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}), encoding="utf-8")
        assert environment.find("default") == env

    def test_a_newer_schema_is_a_usage_error(self, records: Path) -> None:
        made()
        path = records / "default" / "environment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}), encoding="utf-8")
        with pytest.raises(UsageError, match="made by a newer mlops-env") as error:
            environment.find("default")
        assert error.value.code == "record-newer"

    @pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema": "x"}', "{}", '{"schema": 1, "id": "x"}'])
    def test_an_unreadable_one_is_named_and_kept(self, records: Path, content: str) -> None:
        made()
        path = records / "default" / "environment.json"
        path.write_text(content, encoding="utf-8")
        with pytest.raises(MlopsEnvError, match="cannot be read") as error:
            environment.find("default")
        assert error.value.code == "record-unreadable"
        assert str(path) in str(error.value)
        assert path.read_text(encoding="utf-8") == content

    def test_a_killed_save_leaves_the_old_one(self, records: Path) -> None:
        env = made()
        (records / "default" / "environment.json.part").write_text("{half", encoding="utf-8")
        assert environment.find("default") == env
        assert environment.find_all() == [env]

    def test_none_is_none(self) -> None:
        assert environment.find("default") is None
        assert environment.find_all() == []

    def test_needing_one_that_is_not_there_names_the_others(self) -> None:
        made("a")
        made("b")
        with pytest.raises(UsageError, match="there is no environment 'c'; there are: a, b"):
            environment.need("c")


class TestSettle:
    def test_a_first_up_takes_the_defaults(self, home: Path) -> None:
        assert settle(asked(), None) == {
            "target": "local",
            "host": {},
            "cloud": {},
            "orchestrator": "mage",
            "runtime": "venv",
            "workspace": str(home / "mlops-env" / "default"),
            "own_workspace": False,
        }

    def test_a_host_has_docker_by_default_and_its_own_directory(self, home: Path) -> None:
        wish = settle(replace(asked(), target=Ssh("me@box")), None)
        assert (wish["target"], wish["runtime"]) == ("ssh", "compose")
        env = environment.imagine("default", wish, None).changed(host={**wish["host"], "home": "/home/me"})
        assert str(env.host) == "/home/me/.local/state/mlops-env/default/host"
        assert str(env.host_workspace) == "/home/me/mlops-env/default"
        assert env.workspace == home / "mlops-env" / "default"

    def test_another_host_contradicts_the_record_and_another_key_does_not(self) -> None:
        first = settle(replace(asked(), target=Ssh("me@box", Path("/old"))), None)
        env = environment.imagine("default", first, None).changed(host={**first["host"], "home": "/home/me"}).save()
        for target in (Ssh("me@other"), Local()):
            with pytest.raises(UsageError, match="is on ssh me@box, not") as error:
                settle(replace(asked(), target=target), env)
            assert error.value.code == "environment-differs"
        again = settle(replace(asked(), target=Ssh("me@box", Path("/new"))), env)
        assert again["host"] == {"destination": "me@box", "identity": "/new", "home": "/home/me"}
        assert settle(replace(asked(), target=None), env)["host"] == env.record.host

    def test_a_later_up_needs_no_words(self) -> None:
        env = made(orchestrator="prefect", run={"key": "k"}, stopped=True)
        wish = settle(asked(), env)
        assert (wish["orchestrator"], wish["run"], wish["stopped"]) == ("prefect", {"key": "k"}, False)

    def test_a_swap_of_orchestrator_forgets_the_run_and_keeps_the_rest(self) -> None:
        env = made(run={"key": "k"})
        wish = settle(asked(orchestrator="prefect"), env)
        assert (wish["orchestrator"], wish["run"]) == ("prefect", {})
        assert wish["workspace"] == env.record.workspace

    def test_another_workspace_contradicts_the_record(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="has its workspace in") as error:
            settle(asked(tmp_path / "other"), made())
        assert error.value.code == "environment-differs"
        assert "down --name default" in error.value.hint
        assert "--name OTHER" in error.value.hint

    def test_the_same_workspace_by_another_path_does_not(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        (tmp_path / "link").symlink_to(folder)
        env = made(workspace=folder)
        assert settle(asked(tmp_path / "link"), env)["workspace"] == str(folder)

    def test_a_folder_with_other_files_gets_no_pipeline(self, tmp_path: Path) -> None:
        folder = tmp_path / "thesis"
        folder.mkdir()
        (folder / "chapter.tex").touch()
        with pytest.raises(UsageError, match=f"has files, but no {FILE}") as error:
            settle(asked(folder), None)
        assert error.value.code == "no-pipeline-file"
        assert "init" in error.value.hint
        assert [path.name for path in folder.iterdir()] == ["chapter.tex"]

    def test_a_folder_with_a_pipeline_file_is_the_users_own(self, tmp_path: Path) -> None:
        (tmp_path / FILE).touch()
        assert settle(asked(tmp_path), None)["own_workspace"] is True

    def test_a_workspace_of_another_environment_is_refused(self) -> None:
        env = made("first")
        lay_out(env)
        with pytest.raises(UsageError, match="is the workspace of environment 'first' already") as error:
            settle(asked(env.workspace, name="second"), None)
        assert error.value.code == "workspace-in-use"

    def test_a_workspace_whose_environment_is_gone_is_free(self, records: Path) -> None:
        env = made("first")
        lay_out(env)
        (records / "first" / "environment.json").unlink()
        assert settle(asked(env.workspace, name="second"), None)["workspace"] == str(env.workspace)

    def test_our_own_copy_is_still_ours_after_down(self) -> None:
        env = made()
        lay_out(env)
        (env.workspace / ".mlops-env" / "environment.json").unlink()
        (env.directory / "environment.json").unlink()
        assert settle(asked(), None)["own_workspace"] is False

    def test_what_is_imagined_is_not_on_disk(self, records: Path) -> None:
        environment.imagine("default", settle(asked(), None), None)
        assert not records.exists()


class TestNoPlaceToWrite:
    def test_a_state_root_below_a_file_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("MLOPS_ENV_HOME", str(tmp_path / "file" / "records"))
        assert environment.find("default") is None
        with (
            pytest.raises(MlopsEnvError, match=r"cannot write .*: Not a directory") as error,
            environment.locked("default", "mlops-env up"),
        ):
            pass
        assert error.value.code == "state-not-writable"
        assert "MLOPS_ENV_HOME" in error.value.hint

    def test_a_full_disk_is_named_and_the_old_record_stays(self, records: Path) -> None:
        env = made()
        (records / "default" / "environment.json.part").symlink_to("/dev/full")
        with pytest.raises(MlopsEnvError, match=r"cannot write .*: No space left on device") as error:
            env.save(stopped=True)
        assert error.value.code == "state-not-writable"
        assert environment.find("default") == env

    def test_a_full_disk_lets_no_lock_behind(self, records: Path) -> None:
        records.mkdir()
        (records / ".default.holder").symlink_to("/dev/full")
        with (
            pytest.raises(MlopsEnvError, match=r"cannot write .*: No space left on device"),
            environment.locked("default", "mlops-env up"),
        ):
            pass
        assert not records.exists()
