"""Containers as they should be: what a check compares, and what Compose is told."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import by_compose
import composing
import fake_engine
import images
import native
import places
import recipes
import services
import sweep
import sweep_docker
from conftest import ROOT
from engine import Engine
from failures import Failure
from host import Host
from places import pulled_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOY = ROOT / "tests" / "toy"
DOCKERFILES = [*ROOT.glob("orchestrators/*/Dockerfile"), *TOY.glob("*/Dockerfile")]
COMPOSE_FILES = [*ROOT.glob("orchestrators/*/compose.yaml"), *TOY.glob("*/compose.yaml")]
VOLUME = {"CreatedAt": "2026-01-01T00:00:00Z"}


def copy_tree(tree: Path) -> Path:
    """Our host-side scripts with the toys."""
    unwanted = shutil.ignore_patterns("__pycache__", "mage", "prefect", "mlflow")
    shutil.copytree(ROOT / "orchestrators", tree / "orchestrators", ignore=unwanted)
    for name in ("mlflow", "toy"):
        shutil.copytree(TOY / name, tree / "orchestrators" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "bootstrap").mkdir()
    (tree / "bootstrap" / "uv-requirements.lock").write_text("uv==1\n")
    return tree


@pytest.fixture
def host(tmp_path: Path, identity: str, monkeypatch: pytest.MonkeyPatch) -> Host:
    """An environment with the toys, its ports chosen and its project generated."""
    workspace = tmp_path / "wörk $pace's"
    shutil.copytree(TOY / "pipeline", workspace)
    variables = {
        "ID": identity,
        "NAME": "default",
        "ORCHESTRATOR": "toy",
        "RUNTIME": "compose",
        "HOST_DIR": str(tmp_path / "host"),
        "WORKSPACE": str(workspace),
        "TREE": str(copy_tree(tmp_path / "tree")),
        "UV": "uv",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"MLOPS_ENV_{name}", value)
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "ports.json").write_text('{"toy": 7710, "mlflow": 7750}')
    host = Host.read()
    services.make_secrets(host)
    assert native.begin(host).wait() == 0
    return host


class Docker:
    """What the fake engine has; a test changes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: list[Any] = []
        self.details: dict[str, Any] = {}
        self.volume: dict[str, Any] | None = VOLUME
        self.images: list[Any] = []
        self.cache: list[Any] = []
        self.asked: list[str] = []
        self.stays: set[str] = set()

    def answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if method == "DELETE":
            return self._delete(path)
        if path == "/build/prune":
            pattern = json.loads(query["filters"])["id"][0].strip('"')
            self.cache = [one for one in self.cache if not re.match(pattern, one["ID"])]
            return 200, {}
        if path.startswith("/containers/") and path != "/containers/json":
            return 200, self.details[path.split("/")[2]]
        if path.startswith("/volumes/"):
            return (200, self.volume) if self.volume else (404, {"message": "no such volume"})
        if path.startswith("/images/") and path != "/images/json":
            name = path.removeprefix("/images/").removesuffix("/json")
            found = [one for one in self.images if name in one["RepoTags"]]
            return (200, found[0]) if found else (404, {})
        lists = {
            "/containers/json": self.containers,
            "/networks": [],
            "/volumes": {"Volumes": None},
            "/images/json": [one for one in self.images if one["ours"]],
            "/system/df": {"BuildCache": self.cache},
        }
        return 200, lists[path]

    def _delete(self, path: str) -> tuple[int, Any]:
        name = path.rpartition("/")[2]
        if name in self.stays:
            return 409, {"message": "in use"}
        self.containers = [one for one in self.containers if one["Id"] != name]
        self.images = [one for one in self.images if one["Id"] != name and name not in one["RepoTags"]]
        return 204, None


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Docker]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a socket's path may have no more than 100 bytes
        found = Docker(Path(folder, "docker.sock"))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{found.path}")
        with fake_engine.serving(found.path, found.answer):
            yield found


@pytest.fixture
def up(host: Host, docker: Docker) -> Host:
    """An environment that is up."""
    found = recipes.values(host)
    places.compose_settings(host.directory).write_text(recipes.env_file(found))
    docker.containers = [
        fake_engine.container(name, digest=recipes.service_digest(name, found)) for name in ("mlflow", "toy")
    ]
    by_compose.stamp_pipeline_venv(host, Engine.here())
    return host


class TestCheck:
    def test_all_is_well_and_says_where_the_pages_are(self, up: Host, said: Callable[[], list[dict[str, Any]]]) -> None:
        assert by_compose.check(up)
        assert [(one["name"], one["url"]) for one in said()] == [
            ("mlflow", "http://127.0.0.1:7750"),
            ("toy", "http://127.0.0.1:7710"),
        ]

    def test_it_asks_the_engine_twice(self, up: Host, docker: Docker) -> None:
        docker.asked.clear()
        by_compose.check(up)
        assert docker.asked == ["GET /containers/json", f"GET /volumes/{recipes.project(up)}_pipeline"]

    @pytest.mark.parametrize(
        "container",
        [
            {"digest": "an older one"},
            {"state": "exited", "status": "Exited (0)"},
            {"status": "Up 2 minutes (unhealthy)"},
        ],
    )
    def test_a_container_is_not_as_it_should_be(self, up: Host, docker: Docker, container: dict[str, str]) -> None:
        right = {"digest": recipes.service_digest("toy", recipes.values(up))}
        docker.containers[1] = fake_engine.container("toy", **{**right, **container})
        assert not by_compose.check(up)

    def test_a_container_is_missing_or_one_too_many(self, up: Host, docker: Docker) -> None:
        toy = docker.containers.pop()
        assert not by_compose.check(up)
        docker.containers += [toy, fake_engine.container("another-orchestrator")]
        assert not by_compose.check(up)

    @pytest.mark.parametrize("volume", [None, {"CreatedAt": "2026-02-02T00:00:00Z"}])
    def test_the_pipeline_s_volume_is_gone_or_was_made_anew(
        self, up: Host, docker: Docker, volume: dict[str, Any] | None
    ) -> None:
        docker.volume = volume
        assert not by_compose.check(up)

    def test_the_pipeline_needs_something_else(self, up: Host) -> None:
        (up.workspace / "requirements.txt").write_text("iniconfig==2.1.0\n")
        assert not by_compose.check(Host.read())

    def test_a_step_more(self, up: Host) -> None:
        toml = up.workspace / "mlops-env.toml"
        toml.write_text(toml.read_text().replace('{name = "train"', '{name = "more", run = "true"}, {name = "train"'))
        assert not by_compose.check(up)

    def test_nothing_was_ever_made(self, host: Host, docker: Docker) -> None:
        assert not by_compose.check(host)
        assert docker.asked == []


class TestDigests:
    def test_a_changed_script_changes_the_image_of_who_runs_it_only(self, host: Host) -> None:
        before = recipes.values(host)
        host.script("step.py").write_text("# another\n")
        after = recipes.values(host)
        assert recipes.image("toy", before) != recipes.image("toy", after)
        assert recipes.service_digest("toy", before) != recipes.service_digest("toy", after)
        assert recipes.image("mlflow", before) == recipes.image("mlflow", after)
        assert recipes.service_digest("mlflow", before) == recipes.service_digest("mlflow", after)

    def test_what_no_container_runs_changes_nothing(self, host: Host) -> None:
        before = recipes.values(host)
        host.script("services.py").write_text("# another\n")
        assert recipes.values(host) == before

    def test_nor_does_another_place_of_the_tree(
        self, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = recipes.values(host)
        shutil.copytree(host.tree, tmp_path / "moved")
        monkeypatch.setenv("MLOPS_ENV_TREE", str(tmp_path / "moved"))
        assert recipes.values(Host.read()) == before

    def test_a_changed_port_changes_who_uses_it(self, host: Host) -> None:
        before = recipes.values(host)
        host.ports["toy"] = 7711
        after = recipes.values(host)
        assert recipes.service_digest("toy", before) != recipes.service_digest("toy", after)
        assert recipes.service_digest("mlflow", before) == recipes.service_digest("mlflow", after)

    def test_an_image_belongs_to_one_environment(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        before = recipes.image("mlflow", recipes.values(host))
        monkeypatch.setenv("MLOPS_ENV_ID", "another")
        assert recipes.image("mlflow", recipes.values(Host.read())) != before


class TestFiles:
    def test_the_values_hold_no_secret(self, host: Host) -> None:
        text = recipes.env_file(recipes.values(host))
        for path in (host.directory / "secrets").iterdir():
            assert path.read_text() not in text

    @pytest.mark.parametrize(
        ("value", "line"),
        [("/a b", "'/a b'"), ("$HOME #1", "'$HOME #1'"), ("it's $5 \"x\\", '"it\'s \\$5 \\"x\\\\"')],
    )
    def test_values_are_taken_as_they_are(self, value: str, line: str) -> None:
        assert recipes.env_file({"A": value}).splitlines()[1] == f"A={line}"

    @pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.parent.name)
    def test_every_value_is_one_that_we_write(self, path: Path, host: Host) -> None:
        owner = path.parent.name.upper()
        known = set(recipes.values(host)) | {f"MLOPS_ENV_{owner}_{what}" for what in ("IMAGE", "DIGEST", "PORT")}
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"\$\{(\w+)", text)) <= known
        assert re.findall(r"\$\{\w+[^:}]*\}|\$\w+", text) == []  # each one must be there

    @pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.parent.name)
    def test_pages_are_published_on_loopback_only_and_nothing_of_the_home_is_mounted(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        published = re.findall(r"ports: \[(.+)\]", text)
        assert published
        assert all(one.startswith('"127.0.0.1:') for one in published)
        assert re.findall(r"source: (.+)", text) == ["${MLOPS_ENV_WORKSPACE:?}"] * text.count("type: bind")
        assert "privileged" not in text

    @pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
    def test_an_image_has_every_script_that_its_scripts_import(self, path: Path, tmp_path: Path) -> None:
        tree = copy_tree(tmp_path / "tree") if TOY in path.parents else ROOT
        copied = {file.relative_to(tree).as_posix() for file in recipes.copied(tree, path.read_text(encoding="utf-8"))}
        ours = {file.stem for file in (ROOT / "orchestrators").glob("*.py")}
        for name in (name for name in copied if name.endswith(".py")):
            for imported in imports((tree / name).read_text(encoding="utf-8")) & ours:
                assert f"orchestrators/{imported}.py" in copied, f"{name} imports {imported}"

    @pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
    def test_images_begin_alike_and_ask_no_registry_for_more(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        first = DOCKERFILES[0].read_text(encoding="utf-8")
        beginning = first[first.index("FROM") : first.index("uv-requirements.lock\n\n")]
        assert beginning in text
        assert re.findall(r"^FROM (.+)$", text, re.MULTILINE) == ["python:3.11-slim-bookworm"]
        assert "syntax=" not in text
        assert "--mount" not in text


def imports(source: str) -> set[str]:
    """What a script imports when it runs."""
    tree = ast.parse(source)
    checked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    nodes = [node for node in ast.walk(tree) if id(node) not in checked]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return names | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


class TestStatus:
    def test_says_of_each_how_it_is(self, up: Host, docker: Docker) -> None:
        docker.containers[1] = fake_engine.container("toy", status="Up 2 seconds (health: starting)")
        state = {"State": {"Health": {"Log": [{"Output": '{"healthy": false, "reason": "not yet"}\n'}]}}}
        docker.details = {"id-of-toy": state}
        rows = by_compose.status(up)["services"]
        assert [(row["name"], row["state"], row["healthy"], row["reason"]) for row in rows] == [
            ("mlflow", "running", True, ""),
            ("toy", "running", False, "not yet"),
        ]

    def test_without_containers_all_are_stopped(self, host: Host, docker: Docker) -> None:
        rows = by_compose.status(host)["services"]
        assert [(row["state"], row["reason"], row["pid"]) for row in rows] == [("stopped", "stopped", None)] * 2
        assert docker.asked == ["GET /containers/json"]

    def test_a_script_cannot_run_where_nothing_does(self, host: Host, docker: Docker) -> None:
        with pytest.raises(Failure, match="toy does not run"):
            by_compose.execute(host, "trigger.py", ["health"])
        assert docker.asked == ["GET /containers/json"]


class TestFailures:
    @pytest.mark.parametrize(
        ("words", "code"),
        [
            ("write /layer: no space left on device", "disk-full"),
            ("toomanyrequests: You have reached your pull rate limit", "image-pull"),
            ("Get https://registry: dial tcp: lookup registry: no such host", "image-pull"),
        ],
    )
    def test_a_pull_that_fails_is_named(self, monkeypatch: pytest.MonkeyPatch, words: str, code: str) -> None:
        done = subprocess.CompletedProcess([], 1, "", words)
        monkeypatch.setattr("images.subprocess.run", lambda *_, **__: done)
        with pytest.raises(Failure, match=re.escape(words)) as failure:
            images._pull("python:3")
        assert (failure.value.code, bool(failure.value.hint)) == (code, True)

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            ("ERROR: No space left on device", "disk-full"),
            ("did not complete successfully: exit code: 132", "no-avx"),
            ("error: Failed to fetch", "compose-build"),
        ],
    )
    def test_a_build_that_fails_is_named(self, tmp_path: Path, words: str, code: str) -> None:
        (tmp_path / "log").write_text(words)
        failure = images._not_built("an-image:1", tmp_path / "log")
        assert failure.code == code
        assert words in str(failure)

    def test_a_base_image_that_is_pulled_is_written_down_before(
        self, host: Host, docker: Docker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pulled_images(host.directory).parent.mkdir()
        written = []
        monkeypatch.setattr(images, "_pull", lambda _: written.append(pulled_images(host.directory).read_text()))
        docker.images = [{"Id": "1", "RepoTags": ["here:1"], "ours": False}]
        for name in ("here:1", "away:1"):
            images.pull(host, Engine.here(), name)
        assert written == ["away:1\n"]

    def test_old_images_go_and_another_orchestrator_s_stay(self, host: Host, docker: Docker) -> None:
        found = recipes.values(host)
        tags = [recipes.image("toy", found), "mlops-env-toy:old", "mlops-env-other:1"]
        docker.images = [{"Id": tag, "RepoTags": [tag], "ours": True} for tag in tags]
        docker.images.append({"Id": "untagged", "RepoTags": None, "ours": True})
        docker.images[-1]["RepoTags"] = []
        images.forget_old(host, Engine.here(), found)
        assert [one["Id"] for one in docker.images] == [tags[0], tags[2]]

    def test_a_port_that_somebody_took_meanwhile(
        self, host: Host, docker: Docker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert docker.path.exists()
        words = "Bind for 127.0.0.1:7710 failed: port is already allocated"
        done = subprocess.CompletedProcess([], 1, "", words)
        monkeypatch.setattr("composing.subprocess.run", lambda *_, **__: done)
        with pytest.raises(Failure, match=words) as failure:
            composing.Composing(host)._compose("up")
        assert failure.value.code == "port-taken"


class TestSweep:
    def rows(self, host: Host, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[int, int]]:
        assert sweep.main() == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["kind"] for row in rows][-1] == "directory"
        assert host
        return {row["kind"]: (row["found"], row["left"]) for row in rows}

    def test_all_that_docker_has(self, up: Host, docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
        pulled_images(up.directory).parent.mkdir()
        pulled_images(up.directory).write_text("base:1\nused:1\nnever-came:1\n")
        docker.images = [
            {"Id": "ours", "RepoTags": ["mlops-env-toy:1"], "ours": True},
            {"Id": "base", "RepoTags": ["base:1"], "ours": False},
            {"Id": "used", "RepoTags": ["used:1"], "ours": False},
        ]
        docker.stays = {"used:1"}
        docker.cache = [
            {"ID": "base", "Parent": "", "Description": "pulled from base:1"},
            {"ID": "apt", "Parent": "base", "Description": "mount / from exec apt-get"},
            {"ID": "uv", "Parent": "apt", "Description": "mount / from exec python -m venv /opt/mlops-env/uv"},
            {"ID": "copied", "Parent": "uv", "Description": "fileop target"},
            {"ID": "other", "Parent": "base", "Description": "mount / from exec somebody else's"},
        ]
        found = self.rows(up, capsys)
        assert found["container"] == (2, 0)
        assert found["image"] == (2, 0)
        assert found["build-cache"] == (3, 0)
        assert [one["ID"] for one in docker.cache] == ["base", "other"]
        assert [one["Id"] for one in docker.images] == ["used"]
        assert not up.directory.exists()

    def test_what_stays_is_told_and_can_be_found_again(
        self, up: Host, docker: Docker, capsys: pytest.CaptureFixture[str]
    ) -> None:
        docker.stays = {"id-of-toy"}
        assert self.rows(up, capsys)["container"] == (2, 1)
        docker.stays = set()
        assert self.rows(up, capsys)["container"] == (1, 0)

    def test_docker_that_does_not_answer_leaves_something(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
        pulled_images(host.directory).parent.mkdir()
        pulled_images(host.directory).touch()
        assert self.rows(host, capsys)["container"] == (1, 1)
        assert pulled_images(host.directory).exists()

    def test_where_nothing_was_ever_made_in_docker_there_are_no_rows(self, host: Host, docker: Docker) -> None:
        assert sweep_docker.sweep(host.identity, host.directory) == {}
        assert docker.asked

    def test_a_cache_that_another_environment_shares_stays(self, host: Host, docker: Docker) -> None:
        pulled_images(host.directory).parent.mkdir()
        pulled_images(host.directory).touch()
        docker.images = [{"Id": "theirs", "RepoTags": ["mlops-env-toy:2"], "ours": True}]
        docker.stays = {"theirs"}
        docker.cache = [{"ID": "uv", "Parent": "", "Description": "mlops-env"}]
        assert sweep_docker.sweep(host.identity, host.directory)["build-cache"] == (0, 0)
