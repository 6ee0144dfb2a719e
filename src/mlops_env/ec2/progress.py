"""What the engine tells while it works, as events of ours."""

from __future__ import annotations

import queue
import re
import time
from typing import TYPE_CHECKING

from mlops_env.events import Event

if TYPE_CHECKING:
    from pulumi.automation.events import DiagnosticEvent, EngineEvent, StepEventMetadata

    from mlops_env.events import Emit

_WORDS = {
    "create": ("creating", "created"),
    "update": ("changing", "changed"),
    "delete": ("deleting", "deleted"),
    "create-replacement": ("creating anew", "created anew"),
    "delete-replaced": ("deleting the old one", "deleted the old one"),
}
_NAMES = {
    "RouteTableAssociation": "association",
    "SecurityGroupIngressRule": "ingress-rule",
    "SecurityGroupEgressRule": "egress-rule",
}


class Progress:
    """Listens to the engine: a line when a resource is begun, one when it is done.

    `hear` is called on the SDK's own threads, which swallow exceptions: it only queues. `show` does the rest, on ours.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._heard: queue.SimpleQueue[tuple[float, EngineEvent]] = queue.SimpleQueue()
        self._begun: dict[str, float] = {}
        self.errors: list[str] = []
        """What went wrong with resources, in the engine's words."""

    def hear(self, event: EngineEvent) -> None:
        self._heard.put((time.monotonic(), event))

    def show(self) -> None:
        """Emit what was heard since the last time."""
        while not self._heard.empty():
            at, event = self._heard.get()
            if event.diagnostic_event:
                self._diagnose(event.diagnostic_event)
            elif event.resource_pre_event and not event.resource_pre_event.planning:
                self._begin(event.resource_pre_event.metadata, at)
            elif event.res_outputs_event and not event.res_outputs_event.planning:
                self._finish(event.res_outputs_event.metadata, at)
            elif event.res_op_failed_event:
                self._tell(event.res_op_failed_event.metadata, "failed", "failed", at)

    def _begin(self, step: StepEventMetadata, at: float) -> None:
        self._begun[step.urn] = at
        if step.op in _WORDS and step.type.startswith("aws:"):
            self._emit(Event("resource", "started", kind(step.type), _WORDS[step.op][0]))

    def _finish(self, step: StepEventMetadata, at: float) -> None:
        if step.op == "refresh" and not step.new:
            self._tell(step, "changed", "is gone: it was ended or deleted outside of mlops-env", at)
        elif step.op == "same":
            self._tell(step, "ok", "", at)
        elif step.op in _WORDS:
            self._tell(step, "changed", _WORDS[step.op][1], at)

    def _tell(self, step: StepEventMetadata, status: str, message: str, at: float) -> None:
        if not step.type.startswith("aws:"):
            return
        fields: dict[str, object] = {"seconds": round(at - self._begun.get(step.urn, at), 2)}
        state = step.new or step.old
        if state and state.id:
            fields["id"] = state.id
        self._emit(Event("resource", status, kind(step.type), message, fields=fields))

    def _diagnose(self, diagnostic: DiagnosticEvent) -> None:
        words = diagnostic.message.strip()
        if diagnostic.severity == "error" and diagnostic.urn:  # without one it says no more than "update failed"
            self.errors.append(words)
        elif diagnostic.severity in {"warning", "error", "info"}:
            self._emit(Event("log", message=words))


def kind(pulumi_type: str) -> str:
    """What people call a resource of this type: `aws:ec2/internetGateway:InternetGateway` is an internet-gateway."""
    last = pulumi_type.rpartition(":")[2]
    return _NAMES.get(last) or re.sub(r"(?<!^)(?=[A-Z])", "-", last).lower()
