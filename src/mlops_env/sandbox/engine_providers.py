"""The providers of an operation: those that run already, and wait at a port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from mlops_env.sandbox.engine_state import EngineError
from mlops_env.sandbox.wire import encode

if TYPE_CHECKING:
    from mlops_env.sandbox.engine_snapshot import State

_PREFIX = "pulumi:providers:"


def is_provider(state: State) -> bool:
    return str(state["type"]).startswith(_PREFIX)


def reference(state: State) -> str:
    """By which resources name the provider that they belong to."""
    return f"{state['urn']}::{state['id']}"


class Providers:
    """Attaches to what `PULUMI_DEBUG_PROVIDERS` names: `aws:PORT`, more after commas."""

    def __init__(self, attachable: str) -> None:
        self._ports = dict(item.split(":", 1) for item in attachable.split(",") if item)
        self._stubs: dict[str, Any] = {}
        self._configured: dict[str, Any] = {}

    def of_type(self, type_: str) -> Any:
        """The stub of a provider that may not be configured yet."""
        package = type_.removeprefix(_PREFIX)
        if package not in self._stubs:
            if package not in self._ports:
                raise EngineError(
                    f"no resource plugin 'pulumi-resource-{package}' found: the embedded engine has no plugins, "
                    "only what PULUMI_DEBUG_PROVIDERS names"
                )
            stub = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{self._ports[package]}"))
            self._stubs[package] = stub
        return self._stubs[package]

    def configure(self, state: State) -> None:
        stub = self.of_type(state["type"])
        request = provider_pb2.ConfigureRequest(
            urn=state["urn"], id=state["id"], args=encode(state["inputs"]), acceptSecrets=True, sends_old_inputs=True
        )
        stub.Configure(request)
        self._configured[reference(state)] = stub

    def at(self, ref: str, known: list[State]) -> Any:
        """The stub that a reference names, configured as the state has it if this run has not met it."""
        if ref not in self._configured:
            state = next((state for state in known if is_provider(state) and reference(state) == ref), None)
            if state is None:
                raise EngineError(f"unknown provider '{ref}'")
            self.configure(state)
        return self._configured[ref]
