"""The keys that hosts are known by, in ssh's own files: which line says so, and lines of ours."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class Known:
    """A line about a host: the kind of its key, the key, and where that is written."""

    kind: str
    key: bytes
    where: str
    is_revoked: bool = False


def fingerprint(key: bytes) -> str:
    """As ssh shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def known_keys(name: str, files: Iterable[Path]) -> list[Known]:
    """What the files say about a host, called `box` or `[box]:2222`, in their order. A missing file says nothing."""
    return [known for file in files for known in _of_file(name, file)]


def _of_file(name: str, file: Path) -> Iterator[Known]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for number, line in enumerate(lines, 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        # Certificates are not looked at: their hosts need a line of their own.
        if len(words) < 3 or words[0].startswith("#") or marker == "@cert-authority":  # noqa: PLR2004
            continue
        if _matches(name, words[0]):
            try:
                key = base64.b64decode(words[2], validate=True)
            except binascii.Error:
                continue
            yield Known(words[1], key, f"{file}:{number}", is_revoked=marker == "@revoked")


def _matches(name: str, patterns: str) -> bool:
    if patterns.startswith("|1|"):
        salt, _, digest = patterns.removeprefix("|1|").partition("|")
        try:
            made = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
            return hmac.compare_digest(made, base64.b64decode(digest))
        except binascii.Error:
            return False
    found = False
    for pattern in patterns.split(","):
        # A port's brackets are no character class.
        if fnmatch.fnmatchcase(name.lower(), pattern.lower().lstrip("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def remember(name: str, kind: str, key: bytes, file: Path) -> None:
    """Append a line."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{name} {kind} {base64.b64encode(key).decode()}\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(line.encode())
