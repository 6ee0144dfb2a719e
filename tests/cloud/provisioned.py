"""What provision is about, in a sandbox: an environment's stack, in this process or in one that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import psutil

from mlops_env.ec2 import inventory, provision, pulumi_cli
from mlops_env.ec2.aws import Aws
from mlops_env.ec2.surroundings import Surroundings
from mlops_env.errors import MlopsEnvError
from mlops_env.events import Event
from mlops_env.sandbox import control
from mlops_env.sandbox import engine as embedded
from mlops_env_infra import tags
from mlops_env_infra.args import Ec2HostArgs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlops_env.ec2.provision import Outputs, Place

TESTS = Path(__file__).resolve().parents[1]
SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"  # noqa: S105 - what a host's key looks like
ZONES = ("us-east-1a", "us-east-1b")
IMAGE = "/aws/service/debian/release/12/latest/amd64"

ENGINES = ("embedded", "real") if pulumi_cli.installed() else ("embedded",)


@contextlib.contextmanager
def environment(sandbox: control.Running, directory: Path, engine: str) -> Iterator[Provisioned]:
    """A fresh one, of which nothing runs any more in the end. `engine` is one of ENGINES."""
    directory.mkdir()
    root = pulumi_cli.installed() if engine == "real" else None
    if root is None:
        root = directory / "engine"
        embedded.shim(root)
    one = Provisioned(directory / "pulumi", sandbox.directory, root, str(uuid.uuid4()))
    yield one
    for apart in one.started:
        apart.process.kill()
        apart.process.wait()
    sandbox.call("DELETE", "/sandbox/held")
    for lock in one.locks():
        with contextlib.suppress(psutil.NoSuchProcess):
            holder = psutil.Process(json.loads(lock.read_text(encoding="utf-8"))["pid"])
            if holder.cwd() == str(one.directory):  # an engine, and not what a test says to be one
                holder.kill()


def until(happened: Callable[[], Any], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{what}: it did not happen"
        time.sleep(0.03)


@dataclass(frozen=True)
class Provisioned:
    """An environment with a VPC of its own: 11 resources of AWS."""

    directory: Path
    sandbox: Path
    engine: Path
    identity: str
    zones: tuple[str, ...] = ZONES
    events: list[Event] = field(default_factory=list)
    started: list[Apart] = field(default_factory=list)

    @property
    def running(self) -> control.Running:
        running = control.running(self.sandbox)
        assert running is not None
        return running

    @property
    def aws(self) -> Aws:
        return Aws("us-east-1", "", self.running.variables())

    @property
    def place(self) -> Place:
        variables = {**self.running.variables(), **self.running.provider_variables(self.identity)}
        around = Surroundings(variables, self.running.address_url, self.engine, self.engine.name)
        return provision.Place(self.directory, around, f"test-{self.identity[:8]}")

    def candidates(self, **changes: Any) -> list[Ec2HostArgs]:
        image = self.aws.client("ssm").get_parameter(Name=IMAGE)["Parameter"]["Value"]
        first = Ec2HostArgs(
            environment="test",
            identity=self.identity,
            owner="me@here",
            region="us-east-1",
            zone="",
            instance_type="t3.large",
            ami=image,
            public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGQ6bWxvcHMtZW52LXRlc3RzLW9ubHktbm90LWEta2V5 me@here",
            allowed_cidr="203.0.113.1/32",
            user_data=f"#cloud-config\n{json.dumps({'ssh_keys': {'ed25519_private': SECRET}})}\n",
        )
        zones = enumerate(self.zones)
        return [replace(first, zone=zone, subnet_index=index, **changes) for index, zone in zones]

    @property
    def find(self) -> Callable[[str], list[str]]:
        return partial(inventory.identify, self.aws, self.identity)

    def up(self, *, refresh: bool = False, **changes: Any) -> Outputs:
        self.events.clear()
        return provision.up(self.place, self.candidates(**changes), self.find, self.events.append, refresh=refresh)[0]

    def down(self) -> None:
        self.events.clear()
        provision.down(self.place, self.find, self.events.append)

    def sweep(self) -> int:
        """As the command does after `down`; how many strays there were."""
        strays = len(self.things())
        if strays:
            name = tags.physical_name("test", self.identity)
            with mock.patch.object(inventory, "_PAUSE", 0.05):
                inventory.sweep(self.aws, self.identity, name, frozenset(), self.events.append)
        return strays

    def things(self) -> list[str]:
        """The kinds of all that bears the environment's tag, sorted."""
        things = self.running.call("GET", "/sandbox/things")
        return sorted(thing["kind"] for thing in things if thing["identity"] == self.identity)

    def instances(self) -> list[str]:
        return self.find("aws:ec2/instance:Instance")

    def told(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.type == kind]

    def state(self) -> dict[str, Any]:
        """As it is on the disk."""
        assert self.place.state
        latest: dict[str, Any] = json.loads(self.place.state.read_text(encoding="utf-8"))["checkpoint"]["latest"]
        return latest

    def locks(self) -> list[Path]:
        return sorted(self.directory.glob(".pulumi/locks/**/*.json"))

    def begin(self, verb: str) -> Apart:
        """`up` or `down` in a process of its own."""
        paths = {name: str(getattr(self, name)) for name in ("directory", "sandbox", "engine", "identity")}
        said = self.directory.with_name(f"said {len(self.started)}")
        with said.open("wb") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "cloud.provisioned", verb, json.dumps({**paths, "zones": self.zones})],
                env={**os.environ, "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"},
                stdout=stdout,
                start_new_session=True,
            )
        self.started.append(Apart(self, process, said))
        return self.started[-1]


@dataclass(frozen=True)
class Apart:
    """A command in a process of its own, at which one can shoot."""

    of: Provisioned
    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> list[dict[str, Any]]:
        """Its events so far, and last what it came to: `code` of its error, or `interrupted`."""
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """As a Ctrl-C does, until it says that it saw that: two of them at once are one to the kernel."""
        self.process.send_signal(number)
        until(lambda: any("interrupted" in line.get("message", "") for line in self.said()), "the signal is seen")

    def wait_for_hold(self) -> dict[str, Any]:
        """Until a call of it is held; which."""
        until(lambda: self.of.running.call("GET", "/sandbox/held") or self.process.poll() is not None, "a call is held")
        held: list[dict[str, Any]] = self.of.running.call("GET", "/sandbox/held")
        assert held, f"it ended: {self.said()}"
        return held[0]

    def release(self) -> None:
        self.of.running.call("DELETE", "/sandbox/held")

    def engine(self) -> int:
        """The engine's process: it is the one that has the lock."""
        until(self.of.locks, "the engine locks the state")
        return int(json.loads(self.of.locks()[0].read_text(encoding="utf-8"))["pid"])

    def kill(self, *, us: bool = True, engine: bool = True) -> None:
        victim = self.engine() if engine else 0
        if us:
            self.process.kill()
            self.process.wait()
        if engine:
            os.kill(victim, signal.SIGKILL)

    def end(self) -> dict[str, Any]:
        """What it came to."""
        self.process.wait(timeout=60)
        return self.said()[-1]


def main(verb: str, text: str) -> None:
    """The process apart. Signals are as the command line's are: they raise."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    spec: Mapping[str, Any] = json.loads(text)
    directory, sandbox, engine = (Path(spec[name]) for name in ("directory", "sandbox", "engine"))
    one = Provisioned(directory, sandbox, engine, spec["identity"], tuple(spec["zones"]), Said())
    outcome: dict[str, Any] = {"code": "", "interrupted": False}
    try:
        one.up() if verb == "up" else one.down()
    except MlopsEnvError as error:
        outcome["code"] = error.code
    except KeyboardInterrupt:
        outcome["interrupted"] = True
    print(json.dumps(outcome))


class Said(list[Event]):
    """Events on stdout, a line each."""

    def append(self, event: Event) -> None:
        print(json.dumps(asdict(event)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
