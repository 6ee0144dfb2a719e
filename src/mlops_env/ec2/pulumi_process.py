"""The Pulumi CLI as a process that finishes what it has begun, whatever becomes of us."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any

from pulumi.automation import CommandResult, PulumiCommand
from pulumi.automation.errors import create_command_error
from semver import VersionInfo

from mlops_env.ec2.pulumi_cli import MINIMUM
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import FrameType

    from mlops_env.events import Emit

_SLICE_SECONDS = 0.05


class PulumiProcess(PulumiCommand):
    """A CLI with a session of its own and files for its output: a Ctrl-C, a hangup and our death pass it by.

    The first Ctrl-C or SIGTERM that we get is sent on to it, once: the engine then ends what is in flight, writes that
    down and frees its lock. A second one kills it. Only when it has ended is the signal ours.
    """

    def __init__(self, executable: Path, environ: Mapping[str, str], emit: Emit, on_wait: Callable[[], None]) -> None:
        # Not the SDK's, which starts the CLI to ask for its version: it has at least this one, `pulumi_cli` saw to it.
        self.command = str(executable)
        self.version = VersionInfo(*MINIMUM)
        self._environ = environ
        self._emit = emit
        self._on_wait = on_wait

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,  # noqa: ARG002 - events tell it better
        on_error: Callable[[str], Any] | None = None,  # noqa: ARG002 - as above
    ) -> CommandResult:
        """As the SDK's, which raises `CommandError`s; an engine that was killed raises `engine-killed`."""
        environ = {**self._environ, **additional_env, "PULUMI_AUTOMATION_API": "true"}
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            with _held_back() as signals:
                child = self._start([self.command, "--non-interactive", *args], cwd, environ, stdout, stderr)
                self._wait_for(child, signals)
            result = CommandResult(stdout=_text(stdout), stderr=_text(stderr), code=child.returncode)
        if result.code < 0:
            raise MlopsEnvError(
                f"the Pulumi engine was ended by {signal.Signals(-result.code).name}",
                code="engine-killed",
                hint="run the same again: it finds what was under way; or `mlops-env down`",
            )
        if result.code:
            raise create_command_error(result)
        return result

    def _start(
        self, argv: list[str], cwd: str, environ: Mapping[str, str], stdout: IO[bytes], stderr: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                argv,
                cwd=cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise MlopsEnvError(
                f"{self.command} does not start: {error.strerror}",
                code="engine-broken",
                hint="install Pulumi anew, or take it off PATH: then mlops-env fetches its own",
            ) from error

    def _wait_for(self, child: subprocess.Popen[bytes], signals: list[int]) -> None:
        waiting = threading.Thread(target=child.wait, daemon=True)
        waiting.start()
        sent = 0
        try:
            while waiting.is_alive():
                waiting.join(_SLICE_SECONDS)
                self._on_wait()
                if len(signals) > sent:
                    sent += 1
                    self._send_on(child, sent)
        except BaseException:
            # Whatever fails here, nobody listens to the engine any more.
            child.send_signal(signal.SIGINT)
            waiting.join()
            raise

    def _send_on(self, child: subprocess.Popen[bytes], count: int) -> None:
        if count == 1:
            child.send_signal(signal.SIGINT)
            message = "interrupted: waiting for Pulumi to end what it has begun (Ctrl-C again kills it)"
            self._emit(Event("warning", message=message))
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # its plugins with it


@contextlib.contextmanager
def _held_back() -> Iterator[list[int]]:
    """The Ctrl-Cs and SIGTERMs that come meanwhile; in the end the first of them goes to whoever handles it."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():  # no other gets signals, or may ask for them
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace").rstrip("\n")
