"""Full and read-only disks: mounted for one command alone, in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from .harness import CLI, Ended, Machine

UNSHARE = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]


@pytest.fixture(autouse=True)
def namespaces() -> None:
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], check=False).returncode:
        told = "mount namespaces cannot be made here"
        pytest.fail(told) if os.environ.get("MLOPS_ENV_TIERS") == "all" else pytest.skip(told)


def story(machine: Machine, *lines: str) -> list[Ended]:
    """Shell lines in one namespace; those that begin with `up` or `down` are ours and give a result."""
    script, outputs = ["exec 2>&1"], list[Path]()
    for line in lines:
        if line.startswith(("up", "down")):
            outputs.append(machine.folder / f"{len(outputs)}.out")
            said = shlex.quote(str(outputs[-1]))
            script.append(f"{shlex.join(CLI)} {line} --json > {said}; echo $? >> {said}")
        else:
            script.append(f"{line} || exit 99")
    command = [*UNSHARE, "bash", "-c", "\n".join(script)]
    done = subprocess.run(
        command, env=machine.variables(), cwd="/", capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout
    return [read(path) for path in outputs]


def read(path: Path) -> Ended:
    *events, code = path.read_text(encoding="utf-8").splitlines()
    return Ended(int(code), [json.loads(line) for line in events], "")


def small_disk_passes_preflight(machine: Machine) -> None:
    product = machine.folder / "product"
    shutil.copytree(machine.product, product)
    machine.product = product
    for name in ("toy", "mlflow"):
        declared = product / "orchestrators" / name / "orchestrator.toml"
        declared.write_text(declared.read_text().replace("disk_mb = 5", "disk_mb = 0"))


def test_too_small_a_disk_is_told_before_anything_is_made(toy: Machine) -> None:
    up, _ = story(
        toy, 'mount -t tmpfs -o size=4M tmpfs "$HOME"', "up", '[ -z "$(find "$HOME" -type f -size +0)" ]', "down"
    )
    assert "MB free" in up.failed("disk-full").result["error"]["message"]


@pytest.mark.parametrize("size", ["300k", "700k", "2M", "3M"])
def test_a_disk_that_gets_full(toy: Machine, size: str) -> None:
    """After that `down` leaves nothing; and with more space `up` goes on."""
    small_disk_passes_preflight(toy)
    up, down, again, more, _ = story(
        toy,
        f'mount -t tmpfs -o size={size} tmpfs "$HOME"',
        "up",
        "down",
        "up",
        'mount -o remount,size=200M "$HOME"',
        "up",
        "down",
    )
    for ended in (up, again):
        assert "space" in ended.failed("disk-full").result["error"]["hint"]
    assert down.succeeded().result["left"] == 0
    assert more.succeeded().result["run"]["state"] == "completed"


def test_a_read_only_home(toy: Machine) -> None:
    (up,) = story(toy, 'mount --bind "$HOME" "$HOME"', 'mount -o remount,ro,bind "$HOME"', "up")
    error = up.failed("state-not-writable").result["error"]
    assert str(toy.state) in error["message"]
    assert "MLOPS_ENV_HOME" in error["hint"]


def test_a_read_only_workspace(toy: Machine) -> None:
    toy.workspace.mkdir(parents=True)
    folder = '"$HOME/mlops-env"'
    up, down = story(toy, f"mount --bind {folder} {folder}", f"mount -o remount,ro,bind {folder}", "up", "down")
    assert str(toy.workspace) in up.failed("permission").result["error"]["log"]
    assert down.succeeded().result["left"] == 0
