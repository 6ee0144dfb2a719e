"""What an operation tells: events for the Automation API, and lines on stdout for people."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from mlops_env.sandbox.engine_secrets import blinded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_env.sandbox.engine_snapshot import State

_KINDS = ("add", "add-replace", "delete", "delete-replace", "update", "update-replace")
"""Of differences, by their number in the protocol."""


class Events:
    """Sends to the address of `--event-log`, if there is one."""

    def __init__(self, address: str, *, planning: bool) -> None:
        self.counts: dict[str, int] = {}
        self._ops: dict[str, str] = {}
        self._planning = planning
        self._start = time.monotonic()
        self._sequence = 0
        self._one_at_a_time = threading.RLock()  # a signal's handler may come in between
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, args=(address,), daemon=True)
        if address:
            self._sender.start()

    def _send(self, address: str) -> None:
        import grpc  # noqa: PLC0415 - whoever wants no events needs none of this
        from pulumi.runtime.proto import events_pb2, events_pb2_grpc  # noqa: PLC0415

        def requests() -> Iterator[Any]:
            while (text := self._queue.get()) is not None:
                yield events_pb2.EventRequest(event=text)

        # A listener that is gone is no reason to leave the work half done.
        with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(address.removeprefix("tcp://")) as channel:
            events_pb2_grpc.EventsStub(channel).StreamEvents(requests())

    def _emit(self, name: str, payload: dict[str, Any]) -> None:
        with self._one_at_a_time:
            self._sequence += 1
            event = {"sequence": self._sequence, "timestamp": int(time.time()), name: payload}
            self._queue.put(json.dumps(event))

    def prelude(self) -> None:
        self._emit("preludeEvent", {"config": {}})

    def message(self, text: str) -> None:
        say(text)
        self._emit("stdoutEvent", {"message": text, "color": "never"})

    def diagnostic(self, message: str, *, urn: str = "", severity: str = "error") -> None:
        prefix = "" if severity == "info" else f"{severity}: "
        where = f"{urn.rpartition('::')[2]}: " if urn else ""
        say(f"{where}{prefix}{message}")
        payload = {"urn": urn, "prefix": prefix, "message": message, "color": "never", "severity": severity}
        self._emit("diagnosticEvent", payload)

    def begun(self, metadata: dict[str, Any]) -> None:
        self._ops[metadata["urn"]] = metadata["op"]
        if metadata["op"] not in {"same", "refresh"}:
            say(f" {metadata['op']:18} {metadata['type']} {metadata['urn'].rpartition('::')[2]}")
        self._emit("resourcePreEvent", {"metadata": metadata, "planning": self._planning})

    def counted(self, op: str) -> None:
        self.counts[op] = self.counts.get(op, 0) + 1

    def done(self, metadata: dict[str, Any]) -> None:
        self._emit("resOutputsEvent", {"metadata": metadata, "planning": self._planning})

    def outputs(self, state: State) -> None:
        """A component, whose outputs the program gives last."""
        self.done(metadata(self._ops[state["urn"]], None, state))

    def failed(self, metadata: dict[str, Any], message: str) -> None:
        self.diagnostic(message, urn=metadata["urn"])
        self._emit("resOpFailedEvent", {"metadata": metadata, "status": 0, "steps": sum(self.counts.values())})

    def finish(self, *, succeeded: bool) -> None:
        seconds = int(time.monotonic() - self._start) + 1
        say(f"Resources: {json.dumps(self.counts)}\nDuration: {seconds}s")
        summary = {
            "maybeCorrupt": False,
            "durationSeconds": seconds,
            "resourceChanges": self.counts,
            "PolicyPacks": {},
            "isPreview": self._planning,
            "result": "succeeded" if succeeded else "failed",
        }
        self._emit("summaryEvent", summary)
        self._emit("cancelEvent", {})
        self._queue.put(None)
        if self._sender.is_alive():
            self._sender.join(5)


def say(text: str) -> None:
    """A line on stdout, if anybody still reads it. Unbuffered: signals' handlers speak as well."""
    left = f"{text}\n".encode()
    with contextlib.suppress(BrokenPipeError):
        while left:
            left = left[os.write(1, left) :]


def metadata(op: str, old: State | None, new: State | None, diff: Any = None) -> dict[str, Any]:
    """Of a step: what it does to which resource, and why."""
    state = new or old
    if state is None:
        raise ValueError("a step is about a resource")
    return {
        "op": op,
        "urn": state["urn"],
        "type": state["type"],
        "provider": state.get("provider", ""),
        "old": old and _seen(old),
        "new": new and _seen(new),
        "keys": list(diff.replaces) if diff else [],
        "diffs": list(diff.diffs) if diff else [],
        "detailedDiff": {
            key: {"diffKind": _KINDS[difference.kind], "inputDiff": difference.inputDiff}
            for key, difference in (diff.detailedDiff.items() if diff else ())
        },
        "logical": op not in {"create-replacement", "delete-replaced", "refresh"},
    }


def _seen(state: State) -> dict[str, Any]:
    names = ("type", "urn", "id", "parent", "provider", "custom", "delete", "protect", "initErrors")
    seen = {name: state[name] for name in names if name in state}
    return seen | {name: blinded(state.get(name, {})) for name in ("inputs", "outputs")}
