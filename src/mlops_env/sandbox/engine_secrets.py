"""Secrets of a state: encrypted with a key from the passphrase, and never on disk in clear."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mlops_env.sandbox.engine_state import EngineError
from mlops_env.sandbox.wire import SECRET, SIGNATURE, is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VERSION = "e1:"
"""Before the salt: the real engine's is "v1:"."""

_CHECK = "pulumi"
"""Encrypted beside the salt: whoever can read it has the right passphrase."""


class Crypter:
    """AES-256-GCM under a key that scrypt makes of the passphrase and a salt.

    The real engine stretches with a million rounds of PBKDF2. The passphrase of a sandbox is made by machine, 256
    bits of it: a cost of 40 ms is only there for those that people think of.
    """

    def __init__(self, passphrase: str, salt: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - most commands need no secret

        key = hashlib.scrypt(passphrase.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
        self._cipher = AESGCM(key)
        self._salt = salt

    @classmethod
    def new(cls, variables: Mapping[str, str]) -> Self:
        return cls(_passphrase(variables), os.urandom(16))

    @classmethod
    def of(cls, deployment: Mapping[str, Any], variables: Mapping[str, str]) -> Self:
        """The one that a state was written with. Raises `EngineError` where the passphrase is another."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        state = deployment.get("secrets_providers", {}).get("state", {}).get("salt", "")
        if not state.startswith(_VERSION):
            raise EngineError("this state was made by another engine: the embedded one cannot read its secrets")
        salt, check = state.removeprefix(_VERSION).split(":")
        crypter = cls(_passphrase(variables), base64.b64decode(salt))
        try:
            crypter._decrypt(check)
        except InvalidTag:
            raise EngineError("incorrect passphrase") from None
        return crypter

    def provider(self) -> dict[str, Any]:
        """What the state says about its secrets."""
        salt = base64.b64encode(self._salt).decode()
        return {"type": "passphrase", "state": {"salt": f"{_VERSION}{salt}:{self._encrypt(_CHECK)}"}}

    def closed(self, value: Any) -> Any:
        """The same with every secret encrypted."""
        return _mapped(value, lambda mark: {"ciphertext": self._encrypt(json.dumps(mark["value"]))})

    def opened(self, value: Any) -> Any:
        """The same with every secret in clear, as the protocol carries it."""
        return _mapped(value, lambda mark: {"value": json.loads(self._clear(mark))})

    def shown(self, value: Any) -> Any:
        """The same with every secret in clear, as an exported state has it."""
        return _mapped(value, lambda mark: {"plaintext": self._clear(mark)})

    def _clear(self, mark: Mapping[str, str]) -> str:
        return mark["plaintext"] if "plaintext" in mark else self._decrypt(mark["ciphertext"])

    def _encrypt(self, text: str) -> str:
        nonce = os.urandom(12)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), None)).decode()

    def _decrypt(self, text: str) -> str:
        raw = base64.b64decode(text)
        return self._cipher.decrypt(raw[:12], raw[12:], None).decode()


def blinded(value: Any) -> Any:
    """The same with "[secret]" for every secret: for people, and for events."""
    if is_secret(value):
        return "[secret]"
    if isinstance(value, dict):
        return {key: blinded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [blinded(item) for item in value]
    return value


def _mapped(value: Any, change: Callable[[Any], dict[str, Any]]) -> Any:
    if is_secret(value):
        return {SIGNATURE: SECRET, **change(value)}
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value


def _passphrase(variables: Mapping[str, str]) -> str:
    if "PULUMI_CONFIG_PASSPHRASE" in variables:
        return variables["PULUMI_CONFIG_PASSPHRASE"]
    if file := variables.get("PULUMI_CONFIG_PASSPHRASE_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise EngineError(f"unable to read PULUMI_CONFIG_PASSPHRASE_FILE: {error}") from error
    raise EngineError(
        "passphrase must be set with PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables"
    )
