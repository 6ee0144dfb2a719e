"""The engine for one command, through Pulumi's Automation API: the only module that knows that, with pulumi_process."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
import os
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pulumi.automation import CommandError, LocalWorkspace, OutputValue, Stack, StackNotFoundError, UpdateSummary
from pulumi.automation._stack import StackInitMode  # which is how a class of one's own is made; not exported

from mlops_env.ec2 import failures, recovery
from mlops_env.ec2.host_key import write_secret
from mlops_env.ec2.progress import Progress
from mlops_env.ec2.pulumi_process import PulumiProcess
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pulumi.automation import OutputMap

    from mlops_env.ec2.provision import Place
    from mlops_env.ec2.recovery import Find
    from mlops_env.events import Emit
    from mlops_env_infra.args import Ec2HostArgs

_PROGRAM = "mlops_env_infra.ec2"
_SETTINGS = "name: mlops-env\nruntime: python\n"


class _Stack(Stack):
    """As the SDK's, which after each operation starts the CLI two times more, for what nobody here reads."""

    def info(self, show_secrets: bool = True) -> UpdateSummary:  # noqa: ARG002 - the SDK's
        """No more than the SDK needs to go on."""
        return UpdateSummary("", datetime.now(tz=UTC), "", {}, {}, "")

    def outputs(self) -> OutputMap:
        """None of ours is secret, so there is no need to ask which are."""
        args = ["stack", "output", "--json", "--stack", self.name]
        told = self.workspace.pulumi_command.run(args, self.workspace.work_dir, {})
        return {name: OutputValue(value, secret=False) for name, value in json.loads(told.stdout).items()}


class Session:
    """A workspace in `place`, and what the engine told so far."""

    def __init__(self, place: Place, emit: Emit) -> None:
        # The engine calls our program back over the loopback device, which gRPC would look for behind a proxy.
        os.environ.setdefault("no_grpc_proxy", "127.0.0.1")
        self._emit = emit
        self._place = place
        self._progress = Progress(emit)
        _lay_out(place.directory)
        executable = place.surroundings.pulumi / "bin" / "pulumi"
        self._workspace = LocalWorkspace(
            work_dir=str(place.directory),
            secrets_provider="passphrase",
            pulumi_command=PulumiProcess(executable, place.environ, emit, self._progress.show),
        )

    @contextlib.contextmanager
    def failures(self, doing: str, args: Ec2HostArgs | None = None) -> Iterator[None]:
        """What the engine ends with in the body becomes an error of ours; `doing` begins its message."""
        facts = {name: getattr(args, name) for name in ("region", "zone", "instance_type", "profile")} if args else {}
        self._progress.errors.clear()
        try:
            try:
                yield
            finally:
                self._progress.show()
        except CommandError as error:
            raise failures.of(error, self._progress.errors, self._place.state, doing, **facts) from error

    def preview(self, args: Ec2HostArgs) -> Mapping[str, int]:
        self._prepare_program()
        told = self._stack.preview(program=_program(args), on_event=self._progress.hear)
        return told.change_summary  # type: ignore[return-value]  # the SDK has it as it came, with words for keys

    def up(self, args: Ec2HostArgs, find: Find, *, refresh: bool) -> dict[str, str]:
        self._prepare_program()
        is_new = not self._may_exist
        if is_new:
            recovery.refuse_lost(find)
        stack = self._stack

        def operation() -> OutputMap:
            settled = recovery.settle(stack, find, self._emit, patient=True)
            if not settled.resources and not is_new:
                recovery.refuse_lost(find)
            again = refresh or settled.pending > 0
            return stack.up(program=_program(args), on_event=self._progress.hear, refresh=again).outputs

        return _values(recovery.when_free(stack, operation, self._emit))

    def refresh(self, find: Find) -> None:
        stack = self._stack

        def operation() -> None:
            recovery.settle(stack, find, self._emit, patient=True)
            stack.refresh(on_event=self._progress.hear)

        recovery.when_free(stack, operation, self._emit)

    def destroy(self, find: Find) -> None:
        stack = self._stack

        def operation() -> None:
            recovery.settle(stack, find, self._emit, patient=False)
            stack.destroy(on_event=self._progress.hear)

        recovery.when_free(stack, operation, self._emit)
        # An engine that somebody interrupted while it destroys calls that a success.
        left = recovery.resources(stack)
        if left:
            raise failures.incomplete(f"the engine ended early: {left} resources are left")
        self._workspace.remove_stack(stack.name)

    def outputs(self) -> dict[str, str]:
        return _values(self._stack.outputs())

    def _prepare_program(self) -> None:
        """Import it, which takes 0.9 s, while the CLI starts; and fetch its plugin, for which the engine is silent."""
        threading.Thread(target=importlib.import_module, args=(_PROGRAM,), daemon=True).start()
        version = importlib.metadata.version("pulumi-aws")
        home = Path(self._place.environ.get("PULUMI_HOME", "~/.pulumi")).expanduser()
        if self._place.surroundings.variables or (home / "plugins" / f"resource-aws-v{version}").is_dir():
            return
        self._emit(Event("step", "started", "plugin", f"fetching Pulumi's plugin for AWS, {version}; it is large"))
        self._workspace.install_plugin("aws", f"v{version}")
        self._emit(Event("step", "changed", "plugin", f"Pulumi's plugin for AWS, {version}, is there"))

    @property
    def _may_exist(self) -> bool:
        return self._place.state is None or self._place.state.exists()

    @functools.cached_property
    def _stack(self) -> Stack:
        """The stack, made if there is none."""
        if self._may_exist:
            with contextlib.suppress(StackNotFoundError):
                return _Stack(self._place.stack, self._workspace, StackInitMode.SELECT)
        return _Stack(self._place.stack, self._workspace, StackInitMode.CREATE)


def _program(args: Ec2HostArgs) -> Callable[[], None]:
    def program() -> None:
        importlib.import_module(_PROGRAM).program(args)

    return program


def _values(outputs: OutputMap) -> dict[str, str]:
    return {name: output.value for name, output in outputs.items()}


def _lay_out(directory: Path) -> None:
    """Settings and passphrase, where absent; each appears whole or not at all."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (("Pulumi.yaml", _SETTINGS), ("passphrase", secrets.token_urlsafe(32))):
        if not (directory / name).exists():
            write_secret(directory / name, content.encode())
