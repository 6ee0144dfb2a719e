"""A host over ssh: ours against `ssh host true`, against one hand-written script, against pyinfra and Ansible.

Each gets test hosts of its own, made and removed here: containers on this machine's Docker Engine. What the others are
told to do is in bench/peers; it is checked that all end with the same packages and the same things that work. Where
order could matter it alternates, and the first host of all, which is not in these figures, has made the ways to the
package sources warm for everybody.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hosts import images
from hosts.harness import OWNER, Yard

from mlops_env import bootstrap, environment
from mlops_env.commands import connecting
from mlops_env.ssh_config import Host, config_text, ssh_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hosts import harness

    from mlops_env.environment import Environment
    from mlops_env.events import Event

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PEERS = ROOT / "bench" / "peers"
PEERS_BIN = ROOT / "build" / "peers" / "bin"
LOCKS = [ROOT / "bootstrap" / name for name in ("uv-requirements.lock", "tools.lock")]
PAIRS, ROUNDS, REPEATS = 25, 3, 2
NAME, MAIL = "Ada", "ada@example.com"

_TRIXIE = """apt-get update -qq && apt-get indextargets --format 'deb $(REPO_URI) trixie main' 'Created-By: Packages' \
  'Origin: Debian' 'Codename: bookworm' 'Component: main' | sort -u; rm -rf /var/lib/apt/lists/*"""
_BOOTED = "cloud-init status --wait && systemctl is-system-running --wait"
_EQUIPPED = """docker version && docker compose version && docker buildx version && git config --global user.email &&
  "$(find ~ -path '*/tools/bin/python' -print -quit)" -c 'import psutil, supervisor'"""
_ANSIBLES_OWN = {"python3-apt", "python-apt-common", "distro-info-data"}
_PACKAGES = "dpkg-query -W -f '${Package}\\n'"

Row = dict[str, Any]


def rows() -> list[Row]:
    images.build_all()
    _install_peers()
    with _yard() as yard:
        return [*_converge(yard), *_against_peers(yard)]


def _row(name: str, ratio: float, bar: float, detail: str) -> Row:
    return {"name": name, "ratio": round(ratio, 3), "bar": f"<= {bar}", "met": ratio <= bar, "detail": detail}


@contextmanager
def _yard() -> Iterator[Yard]:
    """With a HOME that has a key, which opens every host, and a name for git."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or nothing here would be removed
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlops-env-bench-")))
        foreign = [key for key in os.environ if key.startswith(("MLOPS_ENV_", "SSH_A", "ANSIBLE_", "XDG_"))]
        stack.enter_context(patch.dict(os.environ, {"HOME": str(home)}))
        for key in foreign:
            os.environ.pop(key)
        ssh = home / ".ssh"
        ssh.mkdir(mode=0o700)
        yard = Yard(ssh)
        stack.callback(yard.clear)
        for key, value in (("user.name", NAME), ("user.email", MAIL)):
            subprocess.run(["git", "config", "--global", key, value], check=True)  # noqa: S607 - git, wherever it is
        yield yard


def _install_peers() -> None:
    """In a venv of their own, from a lock of their own."""
    uv, venv = BIN / "uv", PEERS_BIN.parent
    subprocess.run([uv, "venv", "--quiet", "--clear", "--no-project", "--python", "3.11", venv], check=True)
    sync = ("pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", "--python", PEERS_BIN / "python")
    subprocess.run([uv, *sync, PEERS / "requirements.lock"], check=True)


@dataclass(frozen=True)
class Place:
    """A host that is up and bare, and whose key is known; `folder` is for what is kept about it."""

    host: harness.Host
    folder: Path
    trixie: str

    @property
    def way(self) -> Host:
        return Host(self.host.destination, self.folder / "known_hosts")


def _place(yard: Yard) -> Place:
    made = yard.start("debian12")
    made.shell("echo MLOPS_ENV_DOCKER_SOURCE=distro >>/etc/environment")
    made.shell(_BOOTED)
    place = Place(made, Path(tempfile.mkdtemp(dir=yard.folder.parent)), made.shell(_TRIXIE))
    place.way.config.write_text(config_text(place.way), encoding="utf-8")
    with (yard.folder / "known_hosts").open("a", encoding="ascii") as file:
        file.write(f"{made.address} {made.key}\n")
    return place


def _timed(command: Sequence[str], *, stdin: bytes = b"") -> float:
    start = time.perf_counter()
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=PEERS)  # noqa: PLW1510
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command[0]} exited {done.returncode}\n{done.stdout.decode(errors='replace')[-4000:]}")
    return seconds


# -- A host in its desired state ------------------------------------------------------------------------------------


def _converge(yard: Yard) -> list[Row]:
    """The default environment of a host, running; then nothing to do, in one process, beside a bare `ssh host true`."""
    place = _place(yard)
    cli = str(BIN / "mlops-env")
    try:
        _timed([cli, "up", "--host", place.host.destination, "--no-run"])
        env = environment.need("default")
        pairs = [_pair(env, place, ours_first=number % 2 == 0) for number in range(PAIRS + 1)][1:]  # the first imports
    finally:
        subprocess.run([cli, "down", "--delete-workspace", "--yes"], check=False, capture_output=True)
    yard.stop(place.host)
    ours, theirs = (statistics.median(times) * 1000 for times in zip(*pairs, strict=True))
    ratio = statistics.median(our / their for our, their in pairs)
    how = f"{ours:.0f} ms ÷ {theirs:.0f} ms, medians of {PAIRS} pairs"
    return [_row("no-op converge of a host ÷ ssh host true", ratio, 2.0, how)]


def _pair(env: Environment, place: Place, *, ours_first: bool) -> tuple[float, float]:
    ours = _no_op(env) if ours_first else 0.0
    theirs = _timed(ssh_command(place.way, remote=["true"]))
    return ours or _no_op(env), theirs


def _no_op(env: Environment) -> float:
    events: list[Event] = []
    start = time.perf_counter()
    with connecting.connect(env, events.append) as connection:
        _, converged = bootstrap.bring(connection, env, events.append)
    seconds = time.perf_counter() - start
    if set(converged.steps.values()) != {"ok"}:
        sys.exit(f"the host is not in its desired state: {converged.steps}")
    return seconds


# -- A bare host, and that one again --------------------------------------------------------------------------------


def _ours(place: Place) -> float:
    return _timed([sys.executable, str(ROOT / "bench" / "equip.py"), str(place.folder), place.host.destination])


def _by_hand(place: Place) -> float:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in (PEERS / "by_hand.sh", *LOCKS):
            archive.add(path, path.name)
    script = f'cd "$(mktemp -d)" && tar -x && bash by_hand.sh {NAME} {MAIL}'
    return _timed(ssh_command(place.way, remote=[script]), stdin=buffer.getvalue())


def _pyinfra(place: Place) -> float:
    told = {**_told(place), "ssh_strict_host_key_checking": "yes"}
    data = [word for key, value in told.items() for word in ("--data", f"{key}={value}")]
    command = [str(PEERS_BIN / "pyinfra"), "--yes", "--user", OWNER, *data, place.host.address, "deploy.py"]
    return _timed(command)


def _ansible(place: Place) -> float:
    """As its handbook has it fast: pipelining, no facts, one connection, which here does not outlive the command."""
    sockets = place.folder / "s"
    told = {
        **_told(place),
        "ansible_user": OWNER,
        "ansible_ssh_common_args": f"-F {place.way.config}",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    data = [word for key, value in told.items() for word in ("--extra-vars", f"{key}='{value}'")]
    settings = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets)}
    command = [str(PEERS_BIN / "ansible-playbook"), "--inventory", f"{place.host.address},", *data, "playbook.yaml"]
    try:
        with patch.dict(os.environ, settings):
            return _timed(command)
    finally:
        for socket in sockets.glob("*"):
            end = ssh_command(place.way, "-O", "exit", "-o", f"ControlPath={socket}")
            subprocess.run(end, check=False, capture_output=True)


def _told(place: Place) -> dict[str, Any]:
    return {"trixie": place.trixie, "locks": ROOT / "bootstrap", "git_name": NAME, "git_email": MAIL}


WAYS: dict[str, Callable[[Place], float]] = {
    "ours": _ours,
    "by hand": _by_hand,
    "pyinfra": _pyinfra,
    "Ansible": _ansible,
}


def _against_peers(yard: Yard) -> list[Row]:
    bare: dict[str, list[float]] = {name: [] for name in WAYS}
    again: dict[str, list[float]] = {name: [] for name in WAYS if name != "by hand"}
    for number in range(ROUNDS):
        packages = {}
        for name in list(WAYS)[:: -1 if number % 2 else 1]:
            place = _place(yard)
            bare[name].append(WAYS[name](place))
            place.host.owner(_EQUIPPED)
            packages[name] = set(place.host.shell(_PACKAGES).split())
            if name in again:
                again[name] += [WAYS[name](place) for _ in range(REPEATS)]
            yard.stop(place.host)
            shutil.rmtree(place.folder)
        _compare(packages)
    # Bare, nearly all of it is apt's and pip's time, which is the same for everybody.
    return [*_ratios("bare bootstrap of a host", bare, 1.1), *_ratios("the same again, nothing to do", again, 1.0)]


def _ratios(what: str, times: dict[str, list[float]], bar: float) -> list[Row]:
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    ours = medians.pop("ours")
    return [
        _row(f"{what} ÷ {name}", ours / theirs, bar, f"{ours:.2f} s ÷ {theirs:.2f} s")
        for name, theirs in medians.items()
    ]


def _compare(packages: dict[str, set[str]]) -> None:
    """Ansible installs the Python bindings of apt for itself; that apart, all did the same work."""
    ours = packages["ours"]
    for name, theirs in packages.items():
        surplus = theirs - ours - (_ANSIBLES_OWN if name == "Ansible" else set())
        if surplus or ours - theirs:
            sys.exit(f"{name} did other work: {sorted(surplus)} more, {sorted(ours - theirs)} less")
