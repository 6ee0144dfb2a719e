"""The calls that change something, numbered as they come, and those that are held."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_env.sandbox.call import Call
    from mlops_env.sandbox.faults import Rule


@dataclass
class Entry:
    """`status` is that of the answer, 0 while there is none."""

    number: int
    service: str
    action: str
    status: int = 0


class Calls:
    """Numbered from 1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._held: dict[threading.Event, dict[str, Any]] = {}

    def clear(self) -> None:
        self.release()
        with self._lock:
            self._entries.clear()

    def note(self, call: Call) -> Entry:
        """One that only reads has number 0 and is not kept."""
        with self._lock:
            entry = Entry(len(self._entries) + 1 if call.is_mutating else 0, call.service, call.action)
            if call.is_mutating:
                self._entries.append(entry)
        return entry

    def all(self) -> list[Entry]:
        with self._lock:
            return list(self._entries)

    def hold(self, entry: Entry, rule: Rule) -> None:
        """Until it is released, or for as long as the rule says."""
        released = threading.Event()
        with self._lock:
            self._held[released] = {"number": entry.number, "action": entry.action, "when": rule.hold}
        released.wait(rule.hold_seconds)
        with self._lock:
            self._held.pop(released, None)

    def held(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._held.values())

    def release(self) -> int:
        """Let all go on; how many that are."""
        with self._lock:
            events = list(self._held)
        for event in events:
            event.set()
        return len(events)
