"""Finding the Pulumi CLI, and fetching it: up to the wire, from a server that lies, stalls and hangs up."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from mlops_env.ec2 import pulumi_cli, pulumi_download
from mlops_env.errors import MlopsEnvError

from . import releases as published
from .releases import VERSION, Releases, engine, tar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mlops_env.events import Event

ARCHIVE = f"pulumi-v{VERSION}-linux-x64.tar.gz"
SIZE = len(engine())


@pytest.fixture
def releases(monkeypatch: pytest.MonkeyPatch) -> Iterator[Releases]:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("NO_PROXY", "*")
    with published.serve() as server:
        server.publish(ARCHIVE, tar({"pulumi/pulumi": engine(), "pulumi/pulumi-language-python": b"x"}))
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data" / f"v{VERSION}"


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def fetch(releases: Releases, root: Path, events: list[Event]) -> Callable[[], Path]:
    return lambda: pulumi_download.fetch(VERSION, root, events.append, releases=releases.url)


def says(root: Path) -> str:
    return subprocess.run(
        [root / "bin" / "pulumi", "version"], capture_output=True, text=True, check=True
    ).stdout.strip()


def kept(root: Path) -> set[str]:
    """All that is beside the root, but for the lock."""
    return {path.name for path in root.parent.iterdir()} - {".lock"}


def put(directory: Path, text: str, name: str = "pulumi") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / name
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return program


def test_what_is_fetched_runs_and_nothing_else_is_kept(
    fetch: Callable[[], Path], root: Path, events: list[Event]
) -> None:
    assert fetch() == root
    assert says(root) == f"v{VERSION}"
    assert [path.name for path in root.rglob("*")] == ["bin", "pulumi"]
    assert kept(root) == {root.name}
    assert [event.status for event in events] == ["started", "started", "changed"]
    assert "0 of 1 MB" in events[0].message


def test_it_is_fetched_once(fetch: Callable[[], Path], releases: Releases) -> None:
    fetch()
    fetch()
    assert len(releases.asked(ARCHIVE)) == 1


def test_two_environments_that_come_up_at_once_fetch_it_once(fetch: Callable[[], Path], releases: Releases) -> None:
    both = [threading.Thread(target=fetch) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert len(releases.asked(ARCHIVE)) == 1


def test_a_download_that_was_cut_goes_on_where_it_stopped(
    fetch: Callable[[], Path], releases: Releases, root: Path
) -> None:
    releases.cut_after = SIZE // 2
    with pytest.raises(MlopsEnvError, match="could not be downloaded") as failed:
        fetch()
    assert failed.value.code == "pulumi-download-failed"
    assert "goes on where it stopped" in failed.value.hint
    fetch()
    assert releases.asked(ARCHIVE) == ["", f"bytes={SIZE // 2}-"]
    assert says(root) == f"v{VERSION}"


def test_a_server_that_cannot_go_on_sends_the_whole_again(
    fetch: Callable[[], Path], releases: Releases, root: Path
) -> None:
    releases.cut_after, releases.can_continue = SIZE // 2, False
    with pytest.raises(MlopsEnvError):
        fetch()
    fetch()
    assert says(root) == f"v{VERSION}"


def test_a_download_that_was_complete_before_a_kill_is_used(
    fetch: Callable[[], Path], releases: Releases, root: Path
) -> None:
    root.parent.mkdir()
    (root.parent / f"{ARCHIVE}.part").write_bytes(releases.files[f"/v{VERSION}/{ARCHIVE}"])
    put(root.with_name(f"{root.name}.part") / "bin", "half unpacked")
    fetch()
    assert says(root) == f"v{VERSION}"
    assert kept(root) == {root.name}


def test_of_what_was_not_published_nothing_is_kept(fetch: Callable[[], Path], releases: Releases, root: Path) -> None:
    path = f"/v{VERSION}/{ARCHIVE}"
    genuine, releases.files[path] = releases.files[path], tar({"pulumi/pulumi": b"#!/bin/sh\necho owned\n"})
    with pytest.raises(MlopsEnvError, match="not what was published") as failed:
        fetch()
    assert failed.value.code == "pulumi-checksum"
    assert kept(root) == set()
    releases.files[path] = genuine
    assert says(fetch()) == f"v{VERSION}"


def test_a_part_of_another_download_is_not_mistaken_for_its_beginning(
    fetch: Callable[[], Path], releases: Releases, root: Path
) -> None:
    root.parent.mkdir()
    (root.parent / f"{ARCHIVE}.part").write_bytes(b"something else")
    with pytest.raises(MlopsEnvError) as failed:
        fetch()
    assert failed.value.code == "pulumi-checksum"
    fetch()
    assert releases.asked(ARCHIVE) == ["bytes=14-", ""]


def test_an_archive_cannot_write_where_it_wants(fetch: Callable[[], Path], releases: Releases, root: Path) -> None:
    releases.publish(ARCHIVE, tar({"../../evil": b"x", "/tmp/evil": b"x", "pulumi/pulumi": engine()}))  # noqa: S108
    fetch()
    assert [path.name for path in root.parents[1].rglob("*") if path.name == "evil"] == []
    assert says(root) == f"v{VERSION}"


def test_on_windows_it_is_a_zip(
    fetch: Callable[[], Path], releases: Releases, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")
    archive = published.packed({"pulumi/bin/pulumi.exe": b"MZ", "pulumi/bin/pulumi-language-go.exe": b"MZ"})
    releases.publish(f"pulumi-v{VERSION}-windows-x64.zip", archive)
    fetch()
    assert [path.name for path in root.rglob("*.*")] == ["pulumi.exe"]


@pytest.mark.parametrize(("system", "machine"), [("Linux", "riscv64"), ("FreeBSD", "x86_64")])
def test_where_pulumi_is_not_published_that_is_said_at_once(
    fetch: Callable[[], Path], releases: Releases, monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(MlopsEnvError, match=f"{system} on {machine}") as failed:
        fetch()
    assert failed.value.code == "pulumi-unsupported"
    assert releases.requests == []


def test_an_archive_that_the_checksums_do_not_list_is_not_downloaded(
    fetch: Callable[[], Path], releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(MlopsEnvError, match=r"does not list pulumi-v3.999.0-linux-arm64.tar.gz"):
        fetch()
    assert releases.asked(".tar.gz") == []


def test_a_version_that_is_not_there_names_its_address(fetch: Callable[[], Path], releases: Releases) -> None:
    releases.files.clear()
    with pytest.raises(MlopsEnvError, match=f"from {releases.url}/v{VERSION}: HTTP Error 404"):
        fetch()


def test_a_network_that_is_down_names_the_cure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(MlopsEnvError, match="Connection refused") as failed:
        pulumi_download.fetch(VERSION, root, lambda _: None, releases=f"http://127.0.0.1:{port}")
    assert failed.value.code == "pulumi-download-failed"
    assert "HTTPS_PROXY" in failed.value.hint


def test_a_server_that_says_nothing_is_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(pulumi_download, "_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(MlopsEnvError, match="timed out"):
            pulumi_download.fetch(VERSION, root, lambda _: None, releases=address)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110 - before any test
def test_a_full_disk_gets_its_room_back(fetch: Callable[[], Path], root: Path) -> None:
    root.parent.mkdir()
    part = root.parent / f"{ARCHIVE}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(MlopsEnvError, match="No space left") as failed:
        fetch()
    assert failed.value.code == "disk-full"
    assert kept(root) == set()
    assert says(fetch()) == f"v{VERSION}"


def test_a_directory_that_cannot_be_written_is_named(fetch: Callable[[], Path], root: Path) -> None:
    root.parent.touch()
    with pytest.raises(MlopsEnvError, match=f"could not be written to {root.parent}"):
        fetch()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where programs of the user's are."""
    directory = tmp_path / "usr" / "bin"
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return directory


def test_the_one_on_path_is_used(path: Path, events: list[Event]) -> None:
    put(path, "#!/bin/sh\necho v3.260.0-dev.1\n")
    assert pulumi_cli.find(events.append) == path.parent
    assert pulumi_cli.title(path.parent) == "Pulumi v3.260.0"
    assert events == []


def test_a_link_on_path_leads_to_it(path: Path, tmp_path: Path) -> None:
    put(tmp_path / "opt" / "pulumi" / "bin", "#!/bin/sh\necho v3.300.1\n")
    path.mkdir(parents=True)
    (path / "pulumi").symlink_to(tmp_path / "opt" / "pulumi" / "bin" / "pulumi")
    assert pulumi_cli.installed() == tmp_path / "opt" / "pulumi"


@pytest.mark.parametrize(
    "program",
    ["#!/bin/sh\necho v3.205.0\n", "#!/bin/sh\necho v4.0.0\n", "#!/bin/sh\nexit 1\n", "#!/no/such/interpreter\n"],
    ids=["too old", "another major version", "broken", "does not start"],
)
@pytest.mark.usefixtures("releases")
def test_instead_of_one_that_does_not_do_ours_is_fetched_and_that_is_said(
    path: Path, tmp_path: Path, releases: Releases, events: list[Event], program: str
) -> None:
    version = importlib.metadata.version("pulumi")
    releases.publish(f"pulumi-v{version}-linux-x64.tar.gz", tar({"pulumi/pulumi": engine(version)}), version)
    put(path, program)
    root = pulumi_cli.find(events.append, releases=releases.url)
    assert root == tmp_path / "data" / "mlops-env" / "pulumi" / f"v{version}"
    assert "3.206.0 or a later 3.x" in events[0].message
    assert pulumi_cli.title(root) == f"Pulumi v{version}"
    releases.files.clear()
    assert pulumi_cli.find(events.append, releases=releases.url) == root


def test_a_version_managers_shim_is_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(path.parent / "shims", "#!/bin/sh\necho v3.260.0\n")
    monkeypatch.setenv("PATH", f"{path.parent / 'shims'}:/usr/bin:/bin")
    assert pulumi_cli.installed() is None


def test_it_is_found_without_importing_pulumi() -> None:
    code = "import sys, mlops_env.ec2.pulumi_cli, mlops_env.ec2.provision; sys.exit('pulumi' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
