"""Run the tiers of tests that this machine can run, and say why the others cannot: `python tests/run.py [TIER …]`.

With MLOPS_ENV_TIERS=all (what CI sets) a tier that cannot run is a failure, never a skip, except for e2e, which costs
money.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def _always() -> str:
    return ""


def _registry() -> str:
    """Whether packages can be had: asked of uv, which knows the user's registry and proxy."""
    with tempfile.TemporaryDirectory() as target:
        probe = [str(BIN / "uv"), "pip", "install", "--dry-run", "--refresh", "--target", target, "iniconfig"]
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no package registry can be reached: {done.stderr.strip()[-200:]}"


def _missing(programs: str, packages: str) -> str:
    missing = [
        program for program in programs.split() if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    return f"{' and '.join(missing)} not on PATH (Debian: apt-get install {packages})" if missing else ""


def _ssh() -> str:
    return _missing("ssh ssh-keygen", "openssh-client")


def _bash() -> str:
    return _missing("bats", "bats")


def _browser() -> str:
    return _missing("chromium chromedriver", "chromium-driver") or _registry()


def _sshd() -> str:
    return _missing("ssh sshd", "openssh-server") or _registry()


def _e2e() -> str:
    return "" if os.environ.get("E2E") == "1" else "it rents a host on AWS: E2E=1, and credentials, have it run"


def _hosts() -> str:
    """A host is a container with systemd in it, made from the distribution's packages by whoever may do that."""
    missing = _missing("docker ssh mmdebstrap", "docker.io openssh-client mmdebstrap")
    if missing or os.getuid():
        return missing or "making the hosts' images takes root"
    done = subprocess.run([shutil.which("docker") or "", "info"], capture_output=True, text=True, check=False)
    return f"docker info: {done.stderr.strip()[-200:]}" if done.returncode else _registry()


Command = tuple[str, ...]


@dataclass(frozen=True)
class Tier:
    """`obstacle` says why it cannot run here, or nothing. The commands of one round run at the same time."""

    name: str
    rounds: tuple[tuple[Command, ...], ...]
    obstacle: Callable[[], str]


def _python(*words: str) -> Command:
    return (str(BIN / "python"), *words)


def _pytest(*words: str) -> Command:
    return _python("-m", "pytest", "-q", *words)


def _one(command: Command) -> tuple[tuple[Command, ...], ...]:
    return ((command,),)


def _at_once(folder: str, *parts: tuple[str, ...]) -> tuple[Command, ...]:
    """The tests of a folder, which wait more than they compute: each of the parts, and the rest, in its own process."""
    named = [[f"{folder}/{name}" for name in part] for part in parts]
    rest = [folder, *(f"--ignore={path}" for part in named for path in part)]
    return tuple(_pytest(*part, "--timeout=1500") for part in (*named, rest))


_ON_THE_SANDBOX = (
    _at_once(
        "tests/cloud",
        ("test_bad_days.py", "test_commands.py"),
        ("test_kills.py", "test_provision.py", "test_recovery.py"),
    ),
)
_ON_HOSTS = (
    (_python("tests/hosts/images.py"),),
    _at_once(
        "tests/hosts",
        ("test_hosts.py", "test_sandbox.py"),
        ("test_bad_days.py", "test_sandbox_bad_days.py"),
    ),
)

TIERS = (
    Tier("unit", _one(_pytest("tests/unit")), _ssh),
    Tier("bash", _one(("bats", "tests/bash")), _bash),
    Tier("pipeline", _one(_pytest("-c", "pipeline/pyproject.toml", "pipeline/tests")), _always),
    Tier("cloud", _ON_THE_SANDBOX, _ssh),
    Tier("wheel", _one(_pytest("tests/test_wheel.py")), _registry),
    Tier("browser", _one(_pytest("tests/browser", "--timeout=300")), _browser),
    Tier("integration", _one(_pytest("tests/integration", "--timeout=900")), _sshd),
    Tier("hosts", _ON_HOSTS, _hosts),
    Tier("e2e", _one(_pytest("tests/e2e", "-s", "--timeout=3600")), _e2e),
)
COSTS_MONEY = "e2e"


def _run(commands: tuple[Command, ...]) -> bool:
    """Run them at the same time; where there are several, each one's output is shown whole when it has ended."""
    if len(commands) == 1:
        return subprocess.run(commands[0], cwd=ROOT, check=False).returncode == 0
    with contextlib.ExitStack() as files:
        outputs = [files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in commands]
        started = [
            subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
            for command, output in zip(commands, outputs, strict=True)
        ]
        codes = []
        for process, output in zip(started, outputs, strict=True):
            codes.append(process.wait())
            output.seek(0)
            print(output.read(), flush=True)
    return not any(codes)


def main() -> int:
    wanted = sys.argv[1:] or [tier.name for tier in TIERS]
    unknown = set(wanted) - {tier.name for tier in TIERS}
    if unknown:
        sys.exit(f"no tier {', '.join(sorted(unknown))}; there are: {', '.join(tier.name for tier in TIERS)}")
    # A shell that runs us in the background has us ignore Ctrl-C, and so would all that the tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    strict = os.environ.get("MLOPS_ENV_TIERS") == "all"
    report, code = [], 0
    for tier in TIERS:
        if tier.name not in wanted:
            continue
        obstacle = tier.obstacle()
        if obstacle:
            report.append(f"{tier.name}: not run, {obstacle}")
            code = 1 if strict and tier.name != COSTS_MONEY else code
            continue
        start = time.monotonic()
        passed = all(_run(commands) for commands in tier.rounds)
        code = code if passed else 1
        report.append(f"{tier.name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - start:.0f} s")
    print("\n".join(["", "Tiers", *(f"  {line}" for line in report)]), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
