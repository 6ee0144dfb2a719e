"""One operation on a stack: up, preview, refresh or destroy."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

import grpc

from mlops_env.sandbox.engine_events import Events, say
from mlops_env.sandbox.engine_interrupts import TERMINATED, Interrupts
from mlops_env.sandbox.engine_monitor import Monitor, information, run_program
from mlops_env.sandbox.engine_providers import Providers, is_provider
from mlops_env.sandbox.engine_registration import Registrations
from mlops_env.sandbox.engine_secrets import Crypter
from mlops_env.sandbox.engine_snapshot import Snapshot
from mlops_env.sandbox.engine_state import EngineError, Stack
from mlops_env.sandbox.engine_steps import StepFailed, Steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlops_env.sandbox.engine_snapshot import State

_TITLES = {"update": "Updating", "preview": "Previewing update", "refresh": "Refreshing", "destroy": "Destroying"}


class Canceled(Exception):
    """The user does not want the rest."""


def operate(kind: str, stack: Stack, options: Mapping[str, str]) -> int:
    """Carry an operation out, and return the exit code."""
    planning = kind == "preview" or "--preview-only" in options
    with Interrupts() as interrupts, contextlib.nullcontext() if planning else stack.locked() as lock:
        snapshot = Snapshot(stack, Crypter.of(stack.read(), os.environ), planning=planning)
        operation = Operation(kind, stack, snapshot, options)
        interrupts.attend(operation.events.message, lambda: operation.terminate(lock))
        return operation.run(interrupts)


class Operation:
    """What happens from the first event to the last."""

    def __init__(self, kind: str, stack: Stack, snapshot: Snapshot, options: Mapping[str, str]) -> None:
        self._kind = kind
        self._stack = stack
        self._snapshot = snapshot
        self._options = options
        self._planning = kind == "preview" or "--preview-only" in options
        self.events = Events(options.get("--event-log", ""), planning=self._planning)
        self._steps = Steps(snapshot, self.events, planning=self._planning)
        self._providers = Providers(os.environ.get("PULUMI_DEBUG_PROVIDERS", ""))

    def run(self, interrupts: Interrupts) -> int:
        start = int(time.time())
        say(f"{_TITLES[self._kind]} ({self._stack.name}), embedded engine:")
        self.events.prelude()
        outcome = self._outcome(interrupts)
        self._snapshot.save()
        if outcome:
            self.events.diagnostic(f"{'preview' if self._planning else 'update'} {outcome}")
        if not self._planning:
            self._stack.record(
                {
                    "kind": self._kind,
                    "startTime": start,
                    "endTime": int(time.time()),
                    "message": self._options.get("--message", ""),
                    "environment": {},
                    "config": {},
                    "result": "failed" if outcome else "succeeded",
                    "resourceChanges": self.events.counts,
                }
            )
        self.events.finish(succeeded=not outcome)
        return 1 if outcome else 0

    def _outcome(self, interrupts: Interrupts) -> str:
        """How it ended, in a word; nothing if well."""
        try:
            self._work(interrupts)
        except StepFailed:
            return "failed"
        except Canceled:
            return "canceled"
        except (EngineError, grpc.RpcError) as error:
            self.events.diagnostic(str(error.details() if isinstance(error, grpc.RpcError) else error))
            return "failed"
        return ""

    def _work(self, interrupts: Interrupts) -> None:
        if "--clear-pending-creates" in self._options:
            self._snapshot.interrupted = []
        if self._kind == "refresh" or "--refresh" in self._options:
            self._refresh(interrupts)
        elif not self._planning:
            self._warn_of_interrupted()
        if self._kind in {"update", "preview"}:
            self._run_program(interrupts)
        if self._kind != "refresh":
            self._delete_rest(interrupts)

    def _warn_of_interrupted(self) -> None:
        if self._snapshot.interrupted:
            lines = [f"  * {o['resource']['urn']}, interrupted while {o['type']}" for o in self._snapshot.interrupted]
            self.events.diagnostic(_INTERRUPTED.format(count=len(lines), lines="\n".join(lines)), severity="warning")

    def _run_program(self, interrupts: Interrupts) -> None:
        if "--client" not in self._options:
            raise EngineError("the embedded engine has no language hosts: it runs programs that give --client only")
        info = information(self._stack.project, self._stack.name, planning=self._planning)
        names = self._stack.name, self._stack.project
        registrations = Registrations(names, self._snapshot, self._steps, self._providers)
        monitor = Monitor(registrations, self.events, info, lambda: interrupts.asked)
        went_well = run_program(monitor, self.events, self._options["--client"], info)
        if monitor.stack_outputs:
            root, outputs = monitor.stack_outputs
            root["outputs"] = outputs if went_well else root.get("outputs", {}) | outputs
            self.events.outputs(root)
        if monitor.failed:
            raise StepFailed
        _refuse_to_go_on(interrupts)
        if not went_well:
            raise StepFailed

    def _delete_rest(self, interrupts: Interrupts) -> None:
        """Whatever this run has not met, dependents first."""
        for state in reversed(self._snapshot.olds):
            _refuse_to_go_on(interrupts)
            if state.get("pendingReplacement") and not state.get("delete"):
                self._snapshot.forget(state)
            else:
                op = "delete-replaced" if state.get("delete") else "delete"
                self._steps.delete(state, self._provider_of(state), op=op)

    def _refresh(self, interrupts: Interrupts) -> None:
        for state in self._snapshot.olds:
            _refuse_to_go_on(interrupts)
            is_away = state.get("pendingReplacement")
            provider = None if is_away else self._provider_of(state)
            self._steps.refresh(state, provider, counted=self._kind == "refresh")
        self._mend()

    def _mend(self) -> None:
        """Nothing may depend on what turned out to be gone."""
        there = {state["urn"] for state in self._snapshot.olds}
        for state in self._snapshot.olds:
            state["dependencies"] = [urn for urn in state.get("dependencies", []) if urn in there]
            state["propertyDependencies"] = {
                key: [urn for urn in urns if urn in there]
                for key, urns in state.get("propertyDependencies", {}).items()
            }

    def _provider_of(self, state: State) -> Any:
        if not state["custom"] or is_provider(state):
            return None
        return self._providers.at(state["provider"], self._snapshot.resources)

    def terminate(self, lock: Path | None) -> None:
        """End at once; the state on disk says what was in flight."""
        self._snapshot.freeze()
        if lock:
            lock.unlink(missing_ok=True)
        self.events.finish(succeeded=False)
        os._exit(TERMINATED)


def _refuse_to_go_on(interrupts: Interrupts) -> None:
    if interrupts.asked:
        raise Canceled


_INTERRUPTED = """\
Attempting to deploy or update resources with {count} pending operations from previous deployment.
{lines}
These resources are in an unknown state because the Pulumi CLI was interrupted while waiting for changes to these \
resources to complete. You should confirm whether or not the operations listed completed successfully by checking the \
state of the appropriate provider. For example, if you are using AWS, you can confirm using the AWS Console.

Once you have confirmed the status of the interrupted operations, you can repair your stack using `pulumi refresh` \
which will refresh the state from the provider you are using and clear the pending operations if there are any.

Note that `pulumi refresh` will need to be run interactively to clear pending CREATE operations."""
