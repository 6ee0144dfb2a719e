"""Fetching the Pulumi CLI as Pulumi publishes it, verified."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import platform
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from http import HTTPStatus
from typing import IO, TYPE_CHECKING

from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlops_env.events import Emit

RELEASES = "https://github.com/pulumi/pulumi/releases/download"

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 20
_SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "windows"}
_MACHINES = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64", "arm64": "arm64"}
_BY_HAND = "install Pulumi yourself, and have it on PATH: https://www.pulumi.com/docs/install"


def fetch(version: str, root: Path, emit: Emit, *, releases: str = RELEASES) -> Path:
    """Download this version's CLI, verify it against its published checksums, and have it as `root`.

    An interrupted download goes on where it stopped; `root` appears whole or not at all.
    """
    import filelock  # noqa: PLC0415 - needed only where no Pulumi is installed

    name = f"pulumi-v{version}-{_platform()}.{'zip' if platform.system() == 'Windows' else 'tar.gz'}"
    archive, staging = root.parent / f"{name}.part", root.with_name(f"{root.name}.part")
    release = f"{releases}/v{version}"
    with _named(release, archive, staging):
        root.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root.parent / ".lock"):  # of two environments that come up at once, one downloads
            if root.is_dir():
                return root
            checksum = _checksum(f"{release}/pulumi-{version}-checksums.txt", name)
            _download(f"{release}/{name}", archive, emit)
            _verify(archive, checksum, f"{release}/{name}")
            _unpack(archive, staging)
            staging.rename(root)
            archive.unlink()
    emit(Event("step", "changed", "pulumi", f"Pulumi {version} downloaded and verified"))
    return root


def _platform() -> str:
    system, machine = platform.system(), platform.machine()
    if system not in _SYSTEMS or machine not in _MACHINES:
        raise MlopsEnvError(
            f"Pulumi is not published for {system} on {machine}",
            code="pulumi-unsupported",
            hint="run mlops-env on Linux, macOS or Windows, x64 or arm64; or " + _BY_HAND,
        )
    return f"{_SYSTEMS[system]}-{_MACHINES[machine]}"


@contextlib.contextmanager
def _named(release: str, archive: Path, staging: Path) -> Iterator[None]:
    try:
        yield
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise MlopsEnvError(
            f"Pulumi could not be downloaded from {release}: {error}",
            code="pulumi-download-failed",
            hint=f"check the network, and HTTPS_PROXY if you need a proxy, then run the same again: it goes on where "
            f"it stopped; or {_BY_HAND}",
        ) from error
    except OSError as error:
        raise _unwritable(error, archive, staging) from error


def _unwritable(error: OSError, archive: Path, staging: Path) -> MlopsEnvError:
    message = f"Pulumi could not be written to {archive.parent}: {error.strerror}"
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        return MlopsEnvError(message, code="pulumi-download-failed", hint=f"make it writable; or {_BY_HAND}")
    archive.unlink(missing_ok=True)  # others want the room, too
    shutil.rmtree(staging, ignore_errors=True)
    return MlopsEnvError(message, code="disk-full", hint="free about 300 MB there, then run the same again")


def _checksum(url: str, name: str) -> str:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - https, or a test's own server
        lines = response.read().decode().splitlines()
    for line in lines:
        checksum, _, file = line.partition("  ")
        if file == name:
            return str(checksum)
    raise MlopsEnvError(f"{url} does not list {name}", code="pulumi-unsupported", hint=_BY_HAND)


def _download(url: str, archive: Path, emit: Emit) -> None:
    """Continue the download if a part of it is there; a server that cannot continue sends the whole."""
    there = archive.stat().st_size if archive.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})  # noqa: S310 - as above
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # all of it is there
            error.close()
            return
        raise
    with response, archive.open("ab" if response.status == HTTPStatus.PARTIAL_CONTENT else "wb") as file:
        size = file.tell() + int(response.headers["Content-Length"])
        for chunk in _shown(iter(lambda: response.read(_CHUNK), b""), file.tell(), size, emit):
            file.write(chunk)
        if file.tell() < size:
            raise http.client.IncompleteRead(b"", size - file.tell())


def _shown(chunks: Iterator[bytes], done: int, size: int, emit: Emit) -> Iterator[bytes]:
    """The same chunks, with an event at every tenth of the whole."""
    told = -1
    for chunk in chunks:
        if done * 10 // size > told:
            told = done * 10 // size
            message = f"downloading the CLI: {done / 1e6:.0f} of {size / 1e6:.0f} MB"
            emit(Event("step", "started", "pulumi", message))
        yield chunk
        done += len(chunk)


def _verify(archive: Path, checksum: str, url: str) -> None:
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checksum:
        archive.unlink()
        raise MlopsEnvError(
            f"what {url} sent is not what was published: its SHA-256 is {found}, not {checksum}",
            code="pulumi-checksum",
            hint=f"nothing of it was kept; run the same again; or {_BY_HAND}",
        )


def _unpack(archive: Path, staging: Path) -> None:
    """Only the engine: a program that runs in our process needs none of the language hosts beside it."""
    shutil.rmtree(staging, ignore_errors=True)
    (staging / "bin").mkdir(parents=True)
    windows = platform.system() == "Windows"
    executable = staging / "bin" / ("pulumi.exe" if windows else "pulumi")
    with _zipped(archive) if windows else _tarred(archive) as source, executable.open("wb") as file:
        shutil.copyfileobj(source, file)
    executable.chmod(0o755)


@contextlib.contextmanager
def _tarred(archive: Path) -> Iterator[IO[bytes]]:
    with tarfile.open(archive) as tar:
        source = tar.extractfile("pulumi/pulumi")
        assert source  # noqa: S101 - the archive is verified: it is a file
        yield source


@contextlib.contextmanager
def _zipped(archive: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(archive) as packed, packed.open("pulumi/bin/pulumi.exe") as source:
        yield source
