"""The sandbox's background process from outside: started when it is needed, asked, ended without a trace."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import filelock
import psutil

from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event
from mlops_env.receipt import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mlops_env.events import Emit

BY_CONTROL = "MLOPS_ENV_SANDBOX_BY_CONTROL"
"""In the environment of a process that is started here: others count as started by hand."""

_HAD_HOSTS = "hosts"
_START_SECONDS = 30
_END_SECONDS = 10
_CALL_SECONDS = 120
_SHOWN = 10


@dataclass(frozen=True)
class Running:
    """A sandbox that answers."""

    endpoint: str
    pid: int
    directory: Path
    started_by_hand: bool
    token: str

    @property
    def address_url(self) -> str:
        """Answers with the address that its caller has to instances."""
        return f"{self.endpoint}/checkip"

    def variables(self) -> dict[str, str]:
        """For whoever is to take this for AWS."""
        return variables(self.endpoint, self.directory)

    def provider_variables(self, identity: str) -> dict[str, str]:
        """As well, for an engine that is to provision this environment."""
        return {"PULUMI_DEBUG_PROVIDERS": f"aws:{self.provider(identity)}"}

    def provider(self, identity: str) -> int:
        """The port of the environment's provider, which lives as long as the sandbox."""
        return int(self.call("PUT", "/sandbox/provider", {"identity": identity})["port"])

    def without_host(self, identity: str) -> None:
        """Provisioning alone: instances of this environment get no container."""
        self.call("DELETE", "/sandbox/hosts", {"identity": identity})

    def break_(self, faults: Sequence[str]) -> None:
        """From here on these faults (`faults.NAMES`), and rules of whoever made some, but no other faults."""
        self.call("PUT", "/sandbox/faults", {"names": list(faults)})

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One of the paths of administration.py. Raises `sandbox-failed`, or with the code that the answer has."""
        status, answer = self._exchange(method, path, json.dumps(body or {}))
        if status != 200:  # noqa: PLR2004
            raise MlopsEnvError(
                f"the sandbox cannot {method} {path}: {answer.get('error', '')}",
                code=answer.get("code") or "sandbox-failed",
                hint=answer.get("hint") or f"its log: {_log(self.directory)}",
            )
        return answer

    def _exchange(self, method: str, path: str, body: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.endpoint.removeprefix("http://"), timeout=_CALL_SECONDS)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _failed(self.directory, f"the sandbox does not answer: {error}") from error
        finally:
            connection.close()


def variables(endpoint: str, directory: Path) -> dict[str, str]:
    """For whoever is to take this for AWS, and none of the user's own settings; the keys are made up."""
    nothing = str(directory / "no-such-file")
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "sandbox",
        "AWS_SECRET_ACCESS_KEY": "sandbox",
        "AWS_SESSION_TOKEN": "sandbox",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }


def ensure(directory: Path, emit: Emit, *, with_hosts: bool, by_hand: bool = False) -> Running:
    """The sandbox of this directory, started if it does not run; with hosts also all that containers need.

    `by_hand` is for a user who wants it to stay when its last environment goes.
    """
    _need_extra()
    image = _image(emit) if with_hosts else ""
    with _locked(directory):
        found = running(directory) or _start(directory, emit)
        if by_hand:
            found = _kept(found)
    if image:
        (directory / _HAD_HOSTS).touch()
        found.call("PUT", "/sandbox/hosts", {"image": image})
    return found


def running(directory: Path) -> Running | None:
    """The process of this directory; not one that has only its number."""
    try:
        record = json.loads((directory / "cloud.json").read_text(encoding="utf-8"))
        process = psutil.Process(record["pid"])
        is_it = process.create_time() == record["started"] and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, psutil.Error):
        return None
    endpoint = f"http://127.0.0.1:{record['port']}"
    return Running(endpoint, process.pid, directory, record["by_hand"], record["token"]) if is_it else None


def status(directory: Path) -> dict[str, Any]:
    """Whether it runs, and if so what is in it; the token stays here."""
    found = running(directory)
    if found is None:
        return {"running": False, "directory": str(directory)}
    facts = {"endpoint": found.endpoint, "pid": found.pid, "log": str(_log(directory))}
    return {"running": True, "directory": str(directory), **facts, **found.call("GET", "/sandbox/status")}


def as_text(status: Mapping[str, Any]) -> str:
    """What `status` found, for people."""
    if not status["running"]:
        return "The sandbox does not run. `mlops-env up --target ec2 --sandbox` starts it."
    lines = [
        f"The sandbox answers at {status['endpoint']}, pid {status['pid']}.",
        f"  machines        {status['hosts']}",
        f"  environments    {len(status['environments'])}, which have {status['things']} things on AWS",
        f"  faults          {', '.join(status['faults']) or 'none'}",
        f"  log             {status['log']}",
    ]
    return "\n".join(lines)


def stop(directory: Path, emit: Emit, *, images: bool = False) -> tuple[Row, ...]:
    """End the process, remove its containers, volumes, network and directory: what was found, removed and left.

    `images` removes those that were built for instances as well. Raises where Docker had something of it and cannot be
    asked.
    """
    emit(Event("sandbox", "started", name="sandbox", message="ending it"))
    with _locked(directory):
        rows = [_end(directory)]
        if images or (directory / _HAD_HOSTS).exists():
            rows += _sweep(directory, images=images)
        rows.append(_remove(directory))
    emit(Event("sandbox", "changed" if any(row.found for row in rows) else "ok", name="sandbox", message="ended"))
    return tuple(rows)


def _need_extra() -> None:
    missing = [name for name in ("moto", "flask", "boto3") if importlib.util.find_spec(name) is None]
    if missing:
        raise MlopsEnvError(
            f"the sandbox needs {', '.join(missing)}, which mlops-env is installed without",
            code="extra-missing",
            hint="install the extras: `uv tool install 'mlops-env[ec2,sandbox]'`, or the same with `pip install`",
        )


def _image(emit: Emit) -> str:
    from mlops_env.sandbox import host_image, traces  # noqa: PLC0415 - Docker's SDK, for who wants hosts

    with contextlib.closing(traces.docker()) as client:
        return host_image.ensure(client, emit)


def _start(directory: Path, emit: Emit) -> Running:
    start = time.monotonic()
    emit(Event("sandbox", "started", name="sandbox", message="starting an AWS on this machine"))
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _log(directory).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_env.sandbox.cloud", str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={**_without_the_users_aws(), BY_CONTROL: "1"},
            start_new_session=True,
        )
    found = _answering(process, directory)
    process.returncode = 0  # it outlives us: nobody is to wait for it, nor to be warned that nobody does
    took = round(time.monotonic() - start, 1)
    emit(Event("sandbox", "changed", name="sandbox", message=f"answers at {found.endpoint}", fields={"seconds": took}))
    return found


def _without_the_users_aws() -> dict[str, str]:
    """Not even in a process that would not use them."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


def _kept(found: Running) -> Running:
    record = found.directory / "cloud.json"
    values = {**json.loads(record.read_text(encoding="utf-8")), "by_hand": True}
    part = record.with_name("cloud.json.part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(values), encoding="utf-8")
    part.replace(record)
    return replace(found, started_by_hand=True)


def _answering(process: subprocess.Popen[bytes], directory: Path) -> Running:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        found = running(directory)
        if found and found.pid == process.pid:
            return found
        time.sleep(0.05)
    if process.poll() is None:
        process.kill()
        process.wait()
        raise _failed(directory, f"the sandbox does not answer within {_START_SECONDS} s")
    raise _failed(directory, f"the sandbox ended when it started, with exit code {process.returncode}")


def _failed(directory: Path, message: str) -> MlopsEnvError:
    try:
        lines = _log(directory).read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN:]
    except OSError:
        lines = []
    return MlopsEnvError(
        "\n".join([message, *lines]),
        code="sandbox-failed",
        hint=f"its log: {_log(directory)}; `mlops-env sandbox stop` ends what is left, the next `up` starts it anew",
    )


def _log(directory: Path) -> Path:
    return directory / "cloud.log"


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One command at a time starts or ends it; the kernel frees the lock of a dead one."""
    path = directory.with_name(f"{directory.name}.lock")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=_CALL_SECONDS)
    try:
        with lock:
            yield
            if not directory.exists():
                path.unlink(missing_ok=True)
    except filelock.Timeout:
        raise MlopsEnvError(
            f"another command has been starting or ending the sandbox for {_CALL_SECONDS} s",
            code="sandbox-busy",
            hint="wait for it to end, then run this again",
        ) from None


def _end(directory: Path) -> Row:
    found = running(directory)
    if found is None:
        return Row("process", 0, 0, 0)
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(found.pid)
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_END_SECONDS)
    left = int(running(directory) is not None)
    return Row("process", 1, 1 - left, left)


def _sweep(directory: Path, *, images: bool) -> list[Row]:
    from mlops_env.sandbox import host_image, traces  # noqa: PLC0415 - as above

    with contextlib.closing(traces.docker()) as client:
        rows = [*traces.sweep(client, directory)]
        return [*rows, traces.remove_images(client, host_image.LABEL)] if images else rows


def _remove(directory: Path) -> Row:
    found = sum(1 for path in directory.rglob("*") if not path.is_dir())
    shutil.rmtree(directory, ignore_errors=True)
    left = sum(1 for path in directory.rglob("*") if not path.is_dir())
    return Row("file", found, found - left, left)
