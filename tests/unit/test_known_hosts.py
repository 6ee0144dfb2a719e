"""Lines of known_hosts files: whose they are, and ours among them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from mlops_env.known_hosts import fingerprint, known_keys, remember

if TYPE_CHECKING:
    from pathlib import Path

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIEmQqFvQAqcyTYUkUR9HHMpRdWy5XbhKVbpJq7a5KZ4g"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


@pytest.mark.parametrize(
    ("names", "name", "is_meant"),
    [
        ("box", "box", True),
        ("box,10.0.0.1", "10.0.0.1", True),
        ("box", "[box]:2222", False),
        ("[box]:2222", "[box]:2222", True),
        ("[box]:2222", "b", False),
        ("BOX", "box", True),
        ("*.lab", "a.lab", True),
        ("*.lab,!b.lab", "b.lab", False),
        ("!b.lab,*.lab", "b.lab", False),
        ("b?x", "box", True),
        ("[*]:2222", "[box]:2222", True),
        ("|1|not base64|at all", "box", False),
        ("#box", "box", False),
    ],
)
def test_whose_line_it_is(file: Path, names: str, name: str, is_meant: bool) -> None:
    file.write_text(f"{names} ssh-ed25519 {KEY} a comment\n")
    assert bool(known_keys(name, [file])) is is_meant


def test_hashed_names_are_found(file: Path) -> None:
    file.write_text(f"[box]:2222 ssh-ed25519 {KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(file)], check=True, capture_output=True)
    assert file.read_text().startswith("|1|")
    assert [known.where for known in known_keys("[box]:2222", [file])] == [f"{file}:1"]
    assert known_keys("box", [file]) == []


def test_where_and_what_kind_of_line_is_told(file: Path, tmp_path: Path) -> None:
    file.write_text(f"\n# note\n@revoked * ssh-ed25519 {KEY}\n@cert-authority * ssh-ed25519 {KEY}\nbox x\nbox a b\n")
    other = tmp_path / "other"
    other.write_text(f"box ssh-ed25519 {KEY}")
    known = known_keys("box", [file, tmp_path / "missing", other])
    assert [(one.where, one.is_revoked) for one in known] == [(f"{file}:3", True), (f"{other}:1", False)]


def test_what_is_remembered_is_known_and_for_the_user_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "known_hosts"
    for name in ("box", "[box]:2222"):
        remember(name, "ssh-ed25519", b"key", file)
    assert [(one.kind, one.key, one.where) for one in known_keys("[box]:2222", [file])] == [
        ("ssh-ed25519", b"key", f"{file}:2")
    ]
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_fingerprint_is_as_ssh_shows_it(file: Path) -> None:
    file.write_text(f"box ssh-ed25519 {KEY}\n")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(file)], check=True, capture_output=True, text=True).stdout
    assert fingerprint(known_keys("box", [file])[0].key) == shown.split()[1]
