"""A stack's resources as they were and as they become, on disk after every step."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from typing import TYPE_CHECKING, Any

from mlops_env.sandbox.engine_state import VERSION, Stack, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_env.sandbox.engine_secrets import Crypter

State = dict[str, Any]
"""A resource as the state's JSON has it, but with its secrets in clear."""


class Snapshot:
    """Both lists have what others depend on first; `news` come before `olds`, which this run has not met yet."""

    def __init__(self, stack: Stack, crypter: Crypter, *, planning: bool) -> None:
        deployment = crypter.opened(stack.read())
        self.olds: list[State] = deployment.get("resources", [])
        self.news: list[State] = []
        self.interrupted: list[State] = deployment.get("pending_operations", [])
        """What earlier runs had begun when they died."""
        self._stack = stack
        self._crypter = crypter
        self._secrets = deployment["secrets_providers"]
        self._in_flight: State | None = None
        self._is_final = planning
        self._one_at_a_time = threading.RLock()

    @property
    def resources(self) -> list[State]:
        return self.news + self.olds

    def find(self, urn: str) -> State | None:
        """As it was, unless all that is left of it is to be deleted."""
        return next((state for state in self.olds if state["urn"] == urn and not state.get("delete")), None)

    def replace(self, old: State | None, new: State) -> None:
        if old is not None:
            self.forget(old)
        self.news.append(new)

    def forget(self, old: State) -> None:
        # By identity: several resources may have one URN.
        self.olds = [state for state in self.olds if state is not old]
        self.news = [state for state in self.news if state is not old]

    @contextlib.contextmanager
    def during(self, kind: str, state: State) -> Iterator[None]:
        """Note in the state on disk that something is under way, and at the end, at once, what came of it.

        Of whoever dies in between the note is left; what was made then is nobody's.
        """
        self._in_flight = {"resource": state, "type": kind}
        self.save()
        try:
            yield
        finally:
            self._in_flight = None
            self.save()

    def save(self) -> None:
        with self._one_at_a_time:
            if not self._is_final:
                self._stack.write(self._crypter.closed(self._deployment()))

    def freeze(self) -> None:
        """From here on the state on disk stays as it is."""
        with self._one_at_a_time:
            self._is_final = True

    def _deployment(self) -> dict[str, Any]:
        # Only people can tell what became of a creation; of anything else the next step will.
        operations = [operation for operation in self.interrupted if operation["type"] == "creating"]
        operations += [self._in_flight] if self._in_flight else []
        return {
            **empty(self._secrets),
            "resources": [_lean(state) for state in self.resources],
            **({"pending_operations": operations} if operations else {}),
        }


def empty(secrets_provider: dict[str, Any]) -> dict[str, Any]:
    """A deployment without resources."""
    magic = hashlib.sha256(VERSION.encode()).hexdigest()
    manifest = {"time": now(), "magic": magic, "version": VERSION}
    return {"manifest": manifest, "secrets_providers": secrets_provider, "metadata": {}}


def _lean(state: State) -> State:
    return {key: value for key, value in state.items() if value or key in {"urn", "custom", "type"}}
