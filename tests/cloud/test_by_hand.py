"""Plain `pulumi` on the checkout, without our command line; runs where a real one is on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from mlops_env.sandbox import provider

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NEEDED = ("pulumi", "pulumi-language-python")

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)), reason=f"{' and '.join(NEEDED)} are not both on PATH"
)


@dataclass(frozen=True)
class Checkout:
    """What `pulumi` needs of one, in a directory of its own, and a stack in it."""

    directory: Path
    environment: dict[str, str]

    def pulumi(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["pulumi", *words, "--non-interactive"]
        return subprocess.run(
            command,
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )

    def configure(self, **values: str) -> None:
        settings = [word for key, value in values.items() for word in ("--plaintext", f"{key}={value}")]
        done = self.pulumi("config", "set-all", *settings)
        assert done.returncode == 0, done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    directory, state = tmp_path / "checkout", tmp_path / "state"
    state.mkdir()
    shutil.copytree(ROOT / "infra", directory / "infra")
    shutil.copy(ROOT / "Pulumi.yaml", directory)
    (directory / ".venv").symlink_to(sys.prefix)
    server, port = provider.serve({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})  # nobody listens: a preview asks nothing
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PULUMI_BACKEND_URL": state.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "for the tests",
        "PULUMI_DEBUG_PROVIDERS": f"aws:{port}",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    try:
        made = Checkout(directory, environment)
        done = made.pulumi("stack", "init", "dev")
        assert done.returncode == 0, done.stdout
        yield made
    finally:
        server.stop(None).wait()
        _end_what_is_left_of(str(tmp_path))


def _end_what_is_left_of(home: str) -> None:
    """A CLI that refuses its configuration leaves its language host running."""
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("HOME") == home:
            process.kill()


def configured(checkout: Checkout, **changes: str) -> None:
    values = {
        "identity": str(uuid.uuid4()),
        "owner": "me@laptop",
        "region": "eu-central-1",
        "ami": "ami-0123456789abcdef0",
        "publicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0iYxwHn1Ci4Zf2e3Wm6zH7zHxPz1bM0l0xK1mE3b0S me@laptop",
        "allowedCidr": "203.0.113.7/32",
    }
    checkout.configure(**values | changes)


def test_everything_that_is_still_to_be_set_is_named_at_once(checkout: Checkout) -> None:
    done = checkout.pulumi("preview")
    assert done.returncode != 0
    names = "'allowedCidr', 'ami', 'identity', 'owner', 'publicKey' and 'region'"
    assert f"missing configuration values {names}" in done.stdout


def test_a_preview_shows_what_would_be_made(checkout: Checkout) -> None:
    configured(checkout)
    done = checkout.pulumi("preview")
    assert done.returncode == 0, done.stdout
    assert "14 to create" in done.stdout  # the stack, the provider, the host, and its 11 resources


def test_a_wrong_value_is_one_sentence_and_no_traceback(checkout: Checkout) -> None:
    configured(checkout, allowedCidr="0.0.0.0/0")
    done = checkout.pulumi("preview")
    assert done.returncode != 0
    assert "allowed_cidr is '0.0.0.0/0', not one IPv4 address" in done.stdout
    assert "Traceback" not in done.stdout
