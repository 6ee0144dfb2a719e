"""What a program wants, resource by resource, against what is: which steps that takes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
from pulumi.runtime.proto import provider_pb2

from mlops_env.sandbox.engine_providers import Providers, is_provider
from mlops_env.sandbox.engine_state import EngineError
from mlops_env.sandbox.engine_steps import StepFailed, Steps, diff_of, has_changed
from mlops_env.sandbox.wire import UNKNOWN, decode, encode

if TYPE_CHECKING:
    from mlops_env.sandbox.engine_events import Events
    from mlops_env.sandbox.engine_snapshot import Snapshot, State

ROOT = "pulumi:pulumi:Stack"

_PROTECTED = (
    'unable to replace resource "{urn}"\nas it is currently marked for protection. To unprotect the resource, '
    "remove the `protect` flag from the resource in your Pulumi program and run `pulumi up`"
)

_LACKS = {
    "importId": "imports",
    "remote": "remote components",
    "customTimeouts": "custom timeouts",
    "replaceOnChanges": "replace_on_changes",
    "replacement_trigger": "replacement triggers",
    "replace_with": "replace_with",
    "retainOnDelete": "retain_on_delete",
    "deletedWith": "deleted_with",
    "transforms": "transforms",
    "hooks": "hooks",
    "envVarMappings": "environment variables of providers",
}
"""Options of a resource that change what happens to it, and that are refused rather than overlooked."""


class Registrations:
    """Takes the resources of a program in the order of their registration."""

    def __init__(self, names: tuple[str, str], snapshot: Snapshot, steps: Steps, providers: Providers) -> None:
        self._stack, self._project = names
        self._snapshot = snapshot
        self._steps = steps
        self._providers = providers
        self._condemned: set[str] = set()
        """Deleted in this run since something they depend on had to go: they come again."""
        self._seen: dict[str, State] = {}

    def register(self, request: Any, events: Events) -> State:
        """Do what it takes. Raises `StepFailed` with the cause told."""
        new = self._goal(request)
        try:
            self._refuse(request, new)
            old = self._snapshot.find(new["urn"])
            self._seen[new["urn"]] = new
            if not request.custom:
                self._component(old, new)
            elif is_provider(new):
                self._provider(old, new)
            else:
                self._resource(old, new, request)
        except (EngineError, grpc.RpcError) as error:
            told = error.details() if isinstance(error, grpc.RpcError) else str(error)
            events.diagnostic(str(told), urn=new["urn"])
            raise StepFailed from error
        return new

    def _goal(self, request: Any) -> State:
        parent = request.parent.split("::")[2] if request.parent else ROOT
        qualified = request.type if parent == ROOT else f"{parent}${request.type}"
        return {
            "urn": f"urn:pulumi:{self._stack}::{self._project}::{qualified}::{request.name}",
            "custom": request.custom,
            "type": request.type,
            "inputs": decode(request.object),
            "parent": request.parent,
            "protect": request.protect,
            "dependencies": list(request.dependencies),
            "provider": request.provider,
            "propertyDependencies": {key: list(item.urns) for key, item in request.propertyDependencies.items()},
            "additionalSecretOutputs": list(request.additionalSecretOutputs),
            "ignoreChanges": list(request.ignoreChanges),
        }

    def _refuse(self, request: Any, new: State) -> None:
        lacking = [what for name, what in _LACKS.items() if _is_given(request, name)]
        if any(alias.urn or alias.spec.name or alias.spec.parentUrn for alias in request.aliases):
            lacking.append("aliases")
        if any(set(path) & set(".[*") for path in request.ignoreChanges):
            lacking.append("ignore_changes of parts of a property")
        if lacking:
            raise EngineError(f"the embedded engine has no {', no '.join(lacking)}: install Pulumi for that")
        if new["urn"] in self._seen:
            raise EngineError(f"Duplicate resource URN '{new['urn']}'; try giving it a unique name")

    def _component(self, old: State | None, new: State) -> None:
        if old is None:
            self._steps.create(new)
        elif old.get("inputs", {}) == new["inputs"]:
            self._steps.same(old, new)
        else:
            new["outputs"] = old.get("outputs", {})
            self._steps.update(old, new)

    def _provider(self, old: State | None, new: State) -> None:
        stub = self._providers.of_type(new["type"])
        check = provider_pb2.CheckRequest(urn=new["urn"], news=encode(new["inputs"]))
        self._accept(new, stub.CheckConfig(check))
        new["outputs"] = new["inputs"]
        if old is None:
            new["id"] = str(uuid.uuid4())
            self._steps.create(new)
        else:
            self._change_provider(old, new, stub)
        self._providers.configure(new)

    def _change_provider(self, old: State, new: State, stub: Any) -> None:
        request = provider_pb2.DiffRequest(
            id=old["id"], urn=old["urn"], old_inputs=encode(old.get("inputs", {})), news=encode(new["inputs"])
        )
        diff = stub.DiffConfig(request)
        if diff.replaces:
            new["id"] = str(uuid.uuid4())
            self._steps.create(new, op="create-replacement", old=old, diff=diff)
            self._steps.replaced(old, new, diff)
        elif has_changed(diff):
            self._steps.update(old, new, diff=diff)
        else:
            self._steps.same(old, new)

    def _resource(self, old: State | None, new: State, request: Any) -> None:
        if not request.provider:
            raise EngineError("the embedded engine has no default providers: give the resource one")
        provider = self._providers.at(request.provider, self._snapshot.resources)
        if old:
            before = old.get("inputs", {})
            kept = {key: before[key] for key in new["ignoreChanges"] if key in before}
            new["inputs"] = {k: v for k, v in new["inputs"].items() if k not in new["ignoreChanges"]} | kept
        check = provider_pb2.CheckRequest(
            urn=new["urn"], type=new["type"], olds=encode((old or {}).get("inputs", {})), news=encode(new["inputs"])
        )
        self._accept(new, provider.Check(check))
        if old is None:
            self._steps.create(new, provider)
        elif old["urn"] in self._condemned:
            self._come_again(old, new, provider)
        else:
            self._change(old, new, provider, request)

    def _change(self, old: State, new: State, provider: Any, request: Any) -> None:
        diff = diff_of(provider, old, new)
        if diff.replaces or old.get("pendingReplacement") or old["provider"] != new["provider"]:
            delete_first = diff.deleteBeforeReplace
            if request.deleteBeforeReplaceDefined:
                delete_first = request.deleteBeforeReplace
            self._replace(old, new, provider, diff, delete_first=delete_first)
        elif has_changed(diff) or old.get("initErrors"):
            self._steps.update(old, new, provider, diff)
        else:
            self._steps.same(old, new)

    def _replace(self, old: State, new: State, provider: Any, diff: Any, *, delete_first: bool) -> None:
        if old.get("protect") and new["protect"]:
            self._steps.refuse(old, _PROTECTED.format(urn=old["urn"]))
        if not delete_first and not old.get("pendingReplacement"):
            self._steps.create(new, provider, op="create-replacement", old=old, diff=diff)
            self._steps.replaced(old, new, diff)
            return
        if not old.get("pendingReplacement"):
            dependents = self._dependents(old)
            for state in dependents:
                if state.get("protect"):
                    self._steps.refuse(old, _PROTECTED.format(urn=state["urn"]))
            for state in reversed([old, *dependents]):
                stub = self._providers.at(state["provider"], self._snapshot.resources)
                self._steps.delete(state, stub, op="delete-replaced", keep=True)
                self._condemned.add(state["urn"])
        self._come_again(old, new, provider, diff)

    def _come_again(self, old: State, new: State, provider: Any, diff: Any = None) -> None:
        self._steps.replaced(old, new, diff)
        self._steps.create(new, provider, op="create-replacement", old=old, diff=diff)

    def _dependents(self, root: State) -> list[State]:
        """What cannot outlive `root`: those that would have to be replaced if properties taken from it changed."""
        doomed, found = {root["urn"]}, []
        for state in self._snapshot.olds:
            taken = [key for key, urns in state.get("propertyDependencies", {}).items() if doomed & set(urns)]
            if not taken or not state["custom"] or state.get("delete") or state.get("pendingReplacement"):
                continue
            stub = self._providers.at(state["provider"], self._snapshot.resources)
            unknown = {**state, "inputs": {**state.get("inputs", {}), **dict.fromkeys(taken, UNKNOWN)}}
            if diff_of(stub, state, unknown).replaces:
                doomed.add(state["urn"])
                found.append(state)
        return found

    def _accept(self, new: State, checked: Any) -> None:
        """Take the inputs as the provider wants them."""
        name = new["urn"].rpartition("::")[2]
        reasons = [f"{failure.property}: {failure.reason}" for failure in checked.failures]
        if reasons:
            raise EngineError(f"{new['type']} resource '{name}' has a problem: " + "; ".join(reasons))
        new["inputs"] = decode(checked.inputs)

    def registered(self, urn: str) -> State:
        return self._seen[urn]


def _is_given(request: Any, name: str) -> bool:
    value = getattr(request, name)
    return request.HasField(name) and bool(value.ByteSize()) if hasattr(value, "ByteSize") else bool(value)
