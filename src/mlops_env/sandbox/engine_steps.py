"""The steps of an operation, one at a time: each changes one resource, tells it, and leaves the state true."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import grpc
from pulumi.runtime.proto import provider_pb2, status_pb2

from mlops_env.sandbox.engine_events import Events, metadata
from mlops_env.sandbox.engine_state import now
from mlops_env.sandbox.wire import decode, encode, is_secret, secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_env.sandbox.engine_snapshot import Snapshot, State


class StepFailed(Exception):
    """What went wrong has been told already."""


class Steps:
    """In a plan the same steps happen in memory only, and providers are told that it is one."""

    def __init__(self, snapshot: Snapshot, events: Events, *, planning: bool) -> None:
        self._snapshot = snapshot
        self._events = events
        self._planning = planning

    def same(self, old: State, new: State) -> None:
        with self._step("same", old, new):
            new.update({key: old[key] for key in ("id", "outputs", "created", "modified") if key in old})
            self._snapshot.replace(old, new)

    def create(
        self, new: State, provider: Any = None, *, op: str = "create", old: State | None = None, diff: Any = None
    ) -> None:
        """Without a provider, as components and providers are, it only becomes part of the state."""
        with self._step(op, old, new, diff), self._under_way("creating", new, provider):
            new |= {"created": now(), "modified": now()}
            if provider:
                new |= self._created(old, new, provider)
            self._add(old, new)

    def _add(self, old: State | None, new: State) -> None:
        """A replaced one that is still there goes at the end, after whatever depends on it has moved to the new one."""
        if old and old.get("pendingReplacement"):
            self._snapshot.forget(old)
        elif old:
            old["delete"] = True
        self._snapshot.replace(None, new)

    def _created(self, old: State | None, new: State, provider: Any) -> State:
        request = provider_pb2.CreateRequest(
            urn=new["urn"], type=new["type"], properties=encode(new["inputs"]), preview=self._planning
        )
        try:
            response = provider.Create(request)
        except grpc.RpcError as error:
            if half_made := _half_made(error):
                self._add(old, new | half_made)
            raise
        return {"id": response.id, "outputs": _with_secrets(new, decode(response.properties))}

    def update(self, old: State, new: State, provider: Any = None, diff: Any = None) -> None:
        new.update({key: old[key] for key in ("id", "created") if key in old})
        with self._step("update", old, new, diff), self._under_way("updating", new, provider):
            if provider:
                request = provider_pb2.UpdateRequest(
                    id=old["id"],
                    urn=old["urn"],
                    type=old["type"],
                    olds=encode(old.get("outputs", {})),
                    old_inputs=encode(old.get("inputs", {})),
                    news=encode(new["inputs"]),
                    ignoreChanges=new.get("ignoreChanges", []),
                    preview=self._planning,
                )
                new["outputs"] = _with_secrets(new, decode(provider.Update(request).properties))
            new["modified"] = now()
            self._snapshot.replace(old, new)

    def replaced(self, old: State, new: State, diff: Any = None) -> None:
        """The step that counts among those of a replacement."""
        with self._step("replace", old, new, diff):
            pass

    def delete(self, old: State, provider: Any = None, *, op: str = "delete", keep: bool = False) -> None:
        """With `keep` the state remembers that it is to come again."""
        if old.get("protect") and op == "delete":
            self.refuse(old, _PROTECTED.format(urn=old["urn"]))
        with self._step(op, old, None), self._under_way("deleting", old, provider):
            if provider and not self._planning:
                request = provider_pb2.DeleteRequest(
                    id=old["id"],
                    urn=old["urn"],
                    type=old["type"],
                    properties=encode(old.get("outputs", {})),
                    old_inputs=encode(old.get("inputs", {})),
                )
                provider.Delete(request)
            if keep:
                old["pendingReplacement"] = True
            else:
                self._snapshot.forget(old)

    def refresh(self, state: State, provider: Any = None, *, counted: bool) -> None:
        """See what became of a resource. `counted` where that is all the operation does."""
        before = dict(state)
        self._events.begun(metadata("refresh", before, state))
        try:
            result = self._read(state, provider) if provider else "same"
        except grpc.RpcError as error:
            self._events.failed(metadata("refresh", before, state), _told(error))
            raise StepFailed from error
        if counted:
            self._events.counted(result)
        self._events.done(metadata(result if counted else "refresh", before, None if result == "delete" else state))

    def _read(self, state: State, provider: Any) -> str:
        response = provider.Read(
            provider_pb2.ReadRequest(
                id=state["id"],
                urn=state["urn"],
                type=state["type"],
                properties=encode(state.get("outputs", {})),
                inputs=encode(state.get("inputs", {})),
            )
        )
        if not response.id:
            self._snapshot.forget(state)
            return "delete"
        seen = {"id": response.id, "inputs": decode(response.inputs)}
        seen["outputs"] = _with_secrets(state | seen, decode(response.properties))
        is_other = has_changed(diff_of(provider, state | seen, state))
        state |= seen
        state.pop("initErrors", None)
        return "update" if is_other else "same"

    def refuse(self, state: State, message: str) -> None:
        self._events.diagnostic(message, urn=state["urn"])
        raise StepFailed

    @contextlib.contextmanager
    def _step(self, op: str, old: State | None, new: State | None, diff: Any = None) -> Iterator[None]:
        self._events.begun(metadata(op, old, new, diff))
        try:
            yield
        except grpc.RpcError as error:
            self._events.failed(metadata(op, old, new, diff), _told(error))
            raise StepFailed from error
        facts = metadata(op, old, new, diff)
        if facts["logical"]:
            self._events.counted(op)
        if (new or old or {})["custom"] or op == "delete":
            self._events.done(facts)

    def _under_way(self, kind: str, state: State, provider: Any) -> contextlib.AbstractContextManager[None]:
        return self._snapshot.during(kind, state) if provider else contextlib.nullcontext()


_PROTECTED = (
    'resource "{urn}" cannot be deleted\nbecause it is protected. To unprotect the resource, '
    "remove the `protect` flag from the resource in your Pulumi program and run `pulumi up`"
)


def diff_of(provider: Any, old: State, new: State) -> Any:
    """The provider's opinion on what is to be done with `old` to get the inputs of `new`."""
    return provider.Diff(
        provider_pb2.DiffRequest(
            id=old["id"],
            urn=old["urn"],
            type=old["type"],
            olds=encode(old.get("outputs", {})),
            old_inputs=encode(old.get("inputs", {})),
            news=encode(new.get("inputs", {})),
            ignoreChanges=new.get("ignoreChanges", []),
        )
    )


def has_changed(diff: Any) -> bool:
    return bool(diff.changes == provider_pb2.DiffResponse.DIFF_SOME)


def _with_secrets(state: State, outputs: State) -> State:
    """What the program calls secret, and every output that shows a secret input."""
    hidden = set(state.get("additionalSecretOutputs", []))
    hidden |= {key for key, value in state["inputs"].items() if is_secret(value)}
    return {key: secret(value) if key in hidden else value for key, value in outputs.items()}


def _half_made(error: grpc.RpcError) -> State | None:
    """What a provider says it made although it failed then."""
    trailers: Any = error.trailing_metadata()
    status = status_pb2.Status.FromString(dict(trailers or ()).get("grpc-status-details-bin", b""))
    for detail in status.details:
        failed = provider_pb2.ErrorResourceInitFailed()
        if detail.Unpack(failed):
            return {"id": failed.id, "outputs": decode(failed.properties), "initErrors": list(failed.reasons)}
    return None


def _told(error: grpc.RpcError) -> str:
    return str(error.details())
