"""What the engine ended with, as errors of ours: AWS's causes, and Pulumi's own ways to fail."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mlops_env.connection import quoted
from mlops_env.ec2 import causes
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pulumi.automation import CommandError

_AGAIN = "run the same again: it goes on from what is there"
_EMPTY = re.compile(r"(update|preview|refresh|destroy) failed")


class _Meaning(NamedTuple):
    """A row of the table; `{said}` are the engine's own words, `{mend}` is how to put the last state back."""

    said: re.Pattern[str]
    code: str
    message: str
    hint: str


_MEANINGS = (
    _Meaning(
        re.compile(r"incorrect passphrase|passphrase must be set|unable to read PULUMI_CONFIG_PASSPHRASE_FILE"),
        "state-sealed",
        "the passphrase that sealed this environment's state is not the one that is there now",
        "put its file `passphrase` back; or `mlops-env down`, which finds by tag what the state lists",
    ),
    _Meaning(
        re.compile(r"failed to load checkpoint|snapshot integrity failure|could not deserialize"),
        "state-corrupt",
        "the state of this environment is damaged: {said}",
        "{mend}`mlops-env down` finds by tag what the state lists, and removes it",
    ),
    _Meaning(
        re.compile(r"currently locked by"),
        "provision-locked",
        "another command works on this environment: {said}",
        "wait for it to end, then run the same again",
    ),
    _Meaning(re.compile(r"update canceled"), "provision-incomplete", "somebody interrupted the engine", _AGAIN),
    _Meaning(
        re.compile(r"no resource plugin '[\w-]+' found|could not load plugin|failed to download plugin"),
        "plugin-missing",
        "Pulumi could not download its plugin for AWS: {said}",
        f"check the network, and HTTPS_PROXY if you need a proxy, then {_AGAIN}",
    ),
    _Meaning(re.compile(""), "provision-failed", "{said}", f"{_AGAIN}; or `mlops-env down`"),
)


def of(error: CommandError, errors: Sequence[str], state: Path | None, doing: str, **facts: str) -> MlopsEnvError:
    """The error to raise for that of the CLI; `errors` are what it told of resources, facts as for `causes.of`."""
    for words in errors:
        cause = causes.read(words, **facts)
        if cause:
            return MlopsEnvError(f"{doing}: {cause.message}", code=cause.code, hint=cause.hint)
    said = errors[0] if errors else _named_by_cli(error)
    meaning = next(meaning for meaning in _MEANINGS if meaning.said.search(said))
    message, hint = meaning.message.format(said=said), meaning.hint.format(mend=_mend(state))
    return MlopsEnvError(f"{doing}: {message}", code=meaning.code, hint=hint)


def _mend(state: Path | None) -> str:
    copy = state.with_name(f"{state.name}.bak") if state else None
    if not copy or not copy.exists():
        return ""
    return f"put the copy of it back: `{quoted(['cp', str(copy), str(state)])}`; or "


def incomplete(message: str) -> MlopsEnvError:
    """The engine ended in order, before all was done."""
    return MlopsEnvError(message, code="provision-incomplete", hint=_AGAIN)


def _named_by_cli(error: CommandError) -> str:
    """The first error that the CLI named and that says something; else all that it said."""
    named = [line for line in re.findall(r"error: (.+)", str(error)) if not _EMPTY.fullmatch(line)]
    return named[0] if named else str(error).strip()
