# ruff: noqa: N802 - the names of the methods are the protocol's
"""The side of the engine that a running program talks to."""

from __future__ import annotations

import threading
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    language_pb2,
    language_pb2_grpc,
    resource_pb2,
    resource_pb2_grpc,
)

from mlops_env.sandbox.engine_registration import ROOT, Registrations
from mlops_env.sandbox.engine_steps import StepFailed
from mlops_env.sandbox.wire import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlops_env.sandbox.engine_events import Events
    from mlops_env.sandbox.engine_snapshot import State

_THREADS = 64
"""A program may wait for as many resources at once; they are made one by one all the same."""

_SEVERITIES = {engine_pb2.INFO: "info", engine_pb2.WARNING: "warning", engine_pb2.ERROR: "error"}


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """Registers one resource at a time. Stopped, it is unavailable, which SDKs understand as the end of the run."""

    def __init__(self, registrations: Registrations, events: Events, info: Any, is_stopped: Callable[[], bool]) -> None:
        self.failed = False
        self.stack_outputs: tuple[State, dict[str, Any]] | None = None
        """The root and what the program exports: an output that is missing is only gone if all went well."""
        self._registrations = registrations
        self._events = events
        self._info = info
        self._is_stopped = is_stopped
        self._is_closed = False
        self._one_at_a_time = threading.Lock()

    @property
    def is_over(self) -> bool:
        return self.failed or self._is_closed or self._is_stopped()

    def close(self) -> None:
        """Let what is in flight finish, even if the program that asked for it is gone; take nothing more."""
        with self._one_at_a_time:
            self._is_closed = True

    def GetDeploymentInfo(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return self._info

    def RegisterResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._one_at_a_time:
            if self.is_over:
                _abort_over(context)
            try:
                state = self._registrations.register(request, self._events)
            except StepFailed:
                self.failed = True
                _abort_over(context)
        known = state.get("outputs", {}) if request.custom else state["inputs"]
        return resource_pb2.RegisterResourceResponse(urn=state["urn"], id=state.get("id", ""), object=encode(known))

    def RegisterResourceOutputs(self, request: Any, _context: grpc.ServicerContext) -> Any:
        values = decode(request.outputs)
        with self._one_at_a_time:
            state = self._registrations.registered(request.urn)
            if state["type"] == ROOT:
                self.stack_outputs = state, values
            else:
                state["outputs"] = values
                self._events.outputs(state)
        return empty_pb2.Empty()

    def SignalAndWaitForShutdown(self, _request: Any, _context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        _abort_lacking(context, f"invokes ({request.tok})")

    def ReadResource(self, request: Any, context: grpc.ServicerContext) -> Any:
        _abort_lacking(context, f"resources of others ({request.name})")


class Engine(engine_pb2_grpc.EngineServicer):
    """Takes what programs log."""

    def __init__(self, monitor: Monitor, events: Events) -> None:
        self._monitor = monitor
        self._events = events

    def Log(self, request: Any, _context: grpc.ServicerContext) -> Any:
        # Once the run is over, programs only complain that it is.
        if request.severity in _SEVERITIES and not self._monitor.is_over:
            self._events.diagnostic(request.message, urn=request.urn, severity=_SEVERITIES[request.severity])
        return empty_pb2.Empty()


def _abort_over(context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNAVAILABLE, "resource monitor shut down")
    raise AssertionError  # `abort` never returns


def _abort_lacking(context: grpc.ServicerContext, what: str) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the embedded engine has no {what}: install Pulumi for that")
    raise AssertionError  # `abort` never returns


def information(project: str, stack: str, *, planning: bool) -> Any:
    features = [
        resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
        resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    ]
    return resource_pb2.DeploymentInfo(
        project=project, stack=stack, organization="organization", dryRun=planning, supportedFeatures=features
    )


def run_program(monitor: Monitor, events: Events, client: str, info: Any) -> bool:
    """Have the language host at `client` run its program; whether that ended well."""
    server = grpc.server(futures.ThreadPoolExecutor(_THREADS))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(Engine(monitor, events), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    request = language_pb2.RunRequest(
        project=info.project,
        stack=info.stack,
        organization=info.organization,
        pwd=str(Path.cwd()),
        args=[address],
        monitor_address=address,
        dryRun=info.dryRun,
        parallel=_THREADS // 4,  # the SDK takes four times as many threads
    )
    try:
        with grpc.insecure_channel(client) as channel:
            result = language_pb2_grpc.LanguageRuntimeStub(channel).Run(request)
            return not result.error and not monitor.is_over
    except grpc.RpcError:
        if monitor.is_over:  # some SDKs fail by themselves then
            return False
        raise
    finally:
        monitor.close()
        server.stop(grace=1).wait()
