# ruff: noqa: N802 - the names of the monitor's methods are the protocol's
"""Runs a Pulumi program in this process, against a monitor that makes nothing and remembers what was asked of it.

Not `pulumi.runtime.set_mocks`: that keeps the stack and the settings of the first run for every later one, and leaves
event loops open.
"""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pulumi
from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import mocks, settings
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.stack import run_in_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROJECT, STACK = "mlops-env", "tests"
_SIGNATURE = "4dabf18193072939515e22adb298388d"  # marks what the SDK wraps; the value says as what
_SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - as above
_COMPUTED = {"Instance": {"publicIp": "198.51.100.9", "availabilityZone": "eu-central-1c"}}


@dataclass(frozen=True)
class Registered:
    """One resource as the program asked for it; `inputs` as they go to the engine, secrets in their envelopes."""

    type: str
    urn: str
    inputs: dict[str, Any]
    request: Any

    @property
    def kind(self) -> str:
        return self.type.rpartition(":")[2]


@dataclass
class Run:
    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def all(self, kind: str) -> list[Registered]:
        return [resource for resource in self.resources if resource.kind == kind]

    def one(self, kind: str) -> Registered:
        (resource,) = self.all(kind)
        return resource

    @property
    def of_aws(self) -> list[Registered]:
        return [resource for resource in self.resources if resource.type.startswith("aws:")]


def run(program: Callable[[], None], config: Mapping[str, str] | None = None) -> Run:
    """What the program registers and exports; raises what it raises. `config` has whole keys, namespace included."""
    monitor = _Monitor()

    def go() -> None:
        settings.ROOT.set(None)
        settings.configure(
            settings.Settings(
                project=PROJECT,
                stack=STACK,
                monitor=monitor,
                engine=mocks.MockEngine(None),
                organization="organization",
            )
        )
        pulumi.runtime.set_all_config(dict(config or {}))
        with asyncio.Runner() as runner:
            runner.get_loop().set_default_executor(ThreadPoolExecutor(8))
            runner.run(run_in_stack(program))

    contextvars.copy_context().run(go)  # every setting of the SDK is a context variable
    return monitor.run


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_SIGNATURE) == _SECRET


def in_clear(value: Any) -> Any:
    """The same value without what is in an envelope, which the engine encrypts."""
    if is_secret(value):
        return None
    if isinstance(value, dict):
        return {key: in_clear(item) for key, item in value.items()}
    return [in_clear(item) for item in value] if isinstance(value, list) else value


class _Monitor:
    """Everything is made as asked, and its id tells its name."""

    def __init__(self) -> None:
        self.run = Run()

    def RegisterResource(self, request: Any) -> resource_pb2.RegisterResourceResponse:
        parent = request.parent.split("::")[2] + "$" if request.parent else ""
        urn = f"urn:pulumi:{STACK}::{PROJECT}::{parent}{request.type}::{request.name}"
        if request.type == "pulumi:pulumi:Stack":
            return resource_pb2.RegisterResourceResponse(urn=urn)
        resource = Registered(request.type, urn, MessageToDict(request.object), request)
        self.run.resources.append(resource)
        outputs = struct_pb2.Struct()
        outputs.update({**resource.inputs, **_COMPUTED.get(resource.kind, {})})
        return resource_pb2.RegisterResourceResponse(urn=urn, id=f"{request.name}-id", object=outputs)

    def RegisterResourceOutputs(self, request: Any) -> empty_pb2.Empty:
        if "::pulumi:pulumi:Stack::" in request.urn:
            self.run.outputs = MessageToDict(request.outputs)
        return empty_pb2.Empty()

    def GetDeploymentInfo(self, _request: Any) -> resource_pb2.DeploymentInfo:
        return resource_pb2.DeploymentInfo(supportedFeatures=[resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS])

    def SignalAndWaitForShutdown(self, _request: Any) -> empty_pb2.Empty:
        return empty_pb2.Empty()
