"""Where a setting comes from, and what is said of those that cannot be used."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_env import config
from mlops_env.errors import UsageError

CHOICES = {
    "name": st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True),
    "target": st.just("local"),
    "orchestrator": st.sampled_from(config.orchestrator_names()),
    "runtime": st.sampled_from(config.RUNTIMES),
}
DEFAULTS = {"name": "default"}
"""None: what the record says, else the default; `intent.settle` decides."""

sources = st.fixed_dictionaries({}, optional=CHOICES)


def write_file(folder: Path, table: dict[str, str]) -> None:
    lines = ["[environment]", *(f'{key} = "{value}"' for key, value in table.items())]
    (folder / config.FILE).write_text("\n".join(lines), encoding="utf-8")


def problems(error: pytest.ExceptionInfo[UsageError]) -> list[str]:
    return str(error.value).splitlines()


class TestPrecedence:
    @settings(max_examples=30)
    @given(flags=sources, variables=sources, table=sources)
    def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(
        self, flags: dict[str, str], variables: dict[str, str], table: dict[str, str]
    ) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name).resolve()
            write_file(folder, table)
            environ = {f"MLOPS_ENV_{key.upper()}": value for key, value in variables.items()}
            asked = config.resolve(flags, [], environ, folder)
        expected = {**DEFAULTS, **table, **variables, **flags}
        assert asked == config.Config(
            name=str(expected["name"]),
            target=config.Local() if "target" in expected else None,
            workspace=folder,
            orchestrator=expected.get("orchestrator"),
            runtime=expected.get("runtime"),
        )

    def test_an_empty_variable_is_as_good_as_none(self, tmp_path: Path) -> None:
        assert config.resolve({}, [], {"MLOPS_ENV_NAME": ""}, tmp_path).name == "default"

    def test_a_command_with_only_a_name_uses_the_same_sources(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLOPS_ENV_NAME", "february")
        assert (config.called(None), config.called("march")) == ("february", "march")


class TestWorkspace:
    def test_is_found_from_a_folder_below_it(self, tmp_path: Path) -> None:
        write_file(tmp_path, {"name": "mine"})
        below = tmp_path / "src" / "päckchen one"
        below.mkdir(parents=True)
        asked = config.resolve({}, [], {}, below)
        assert (asked.workspace, asked.name) == (tmp_path, "mine")

    def test_is_the_nearest_of_several(self, tmp_path: Path) -> None:
        inner = tmp_path / "inner"
        inner.mkdir()
        write_file(tmp_path, {})
        write_file(inner, {})
        assert config.resolve({}, [], {}, inner).workspace == inner

    def test_is_none_where_there_is_no_file(self, tmp_path: Path) -> None:
        assert config.resolve({}, [], {}, tmp_path).workspace is None

    def test_a_named_one_is_taken_from_here_and_its_file_is_read(self, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        write_file(other, {"name": "theirs"})
        asked = config.resolve({"workspace": "other"}, [], {"MLOPS_ENV_WORKSPACE": "elsewhere"}, tmp_path)
        assert (asked.workspace, asked.name) == (other, "theirs")

    def test_a_tilde_is_the_home(self, home: Path, tmp_path: Path) -> None:
        assert config.resolve({}, [], {"MLOPS_ENV_WORKSPACE": "~/w"}, tmp_path).workspace == home / "w"


class TestHost:
    def test_one_alone_means_ssh_and_its_key_is_taken_from_here(self, tmp_path: Path) -> None:
        asked = config.resolve({"host": "me@box", "identity": "key"}, [], {}, tmp_path)
        assert asked.target == config.Ssh("me@box", tmp_path / "key")

    def test_a_local_target_asked_for_beats_a_host_of_the_file(self, tmp_path: Path) -> None:
        write_file(tmp_path, {"host": "me@box"})
        assert config.resolve({}, [], {}, tmp_path).target == config.Ssh("me@box")
        assert config.resolve({"target": "local"}, [], {}, tmp_path).target == config.Local()

    @pytest.mark.parametrize(
        ("flags", "reason"),
        [
            ({"target": "ssh"}, "needs a host"),
            ({"target": "local", "host": "me@box"}, "means nothing"),
            ({"host": "-oProxyCommand=x"}, "is no host"),
            ({"host": "me@box rm"}, "is no host"),
        ],
    )
    def test_what_cannot_be_one_is_refused(self, tmp_path: Path, flags: dict[str, str], reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            config.resolve(flags, [], {}, tmp_path)


class TestProblems:
    def test_all_are_listed_at_once_each_with_its_source(self, tmp_path: Path) -> None:
        (tmp_path / config.FILE).write_text('[environment]\nruntime = 3\ncolour = "red"\n', encoding="utf-8")
        with pytest.raises(UsageError) as error:
            config.resolve(
                {"target": "moon", "name": "Not A Name", "orchestrator": None},
                ["month", "1st=2"],
                {"MLOPS_ENV_ORCHESTRATOR": "cron"},
                tmp_path,
            )
        there_are = ", ".join(config.orchestrator_names())
        assert error.value.code == "configuration"
        assert problems(error) == [
            f"{tmp_path / config.FILE}: environment.colour: unknown setting",
            "--name: 'Not A Name' is no name: lower-case letters, digits and dashes, at most 40",
            "--target: target 'moon' is unknown; there are: local, ssh, ec2",
            f"MLOPS_ENV_ORCHESTRATOR: orchestrator 'cron' is unknown; there are: {there_are}",
            "mlops-env.toml: environment.runtime: must be text, not 3",
            "-p month: must be KEY=VALUE",
            "-p 1st=2: must be KEY=VALUE",
        ]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"[environment", "Expected ']'"), (b"\xff\xfe", "codec can't decode"), (b"environment = 3", "table")],
    )
    def test_a_file_that_cannot_be_read_is_named(self, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / config.FILE).write_bytes(content)
        with pytest.raises(UsageError, match=reason) as error:
            config.resolve({}, [], {}, tmp_path)
        assert problems(error)[0].startswith(f"{tmp_path / config.FILE}: ")

    @pytest.mark.parametrize("name", ["-a", "a-", "A", "a_b", "a" * 41, "../x", "a/b", "é"])
    def test_what_is_no_name_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match="is no name"):
            config.resolve({"name": name}, [], {}, tmp_path)


class TestParameters:
    def test_everything_after_the_first_equals_sign_is_the_value(self) -> None:
        assert config.parameters(["a=b=c", "empty=", "text=two words é"]) == {
            "a": "b=c",
            "empty": "",
            "text": "two words é",
        }

    def test_the_last_of_several_counts(self) -> None:
        assert config.parameters(["a=1", "a=2"]) == {"a": "2"}

    @pytest.mark.parametrize("item", ["", "=", "=1", "a b=1", "a-b=1", "novalue"])
    def test_others_are_refused(self, item: str) -> None:
        with pytest.raises(UsageError, match="must be KEY=VALUE"):
            config.parameters([item])
