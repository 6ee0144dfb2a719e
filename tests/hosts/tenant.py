"""Somebody with a laptop, and a host that is theirs: what they do there, and that nothing of theirs is lost."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .harness import HOME, OWNER_ID

if TYPE_CHECKING:
    from pathlib import Path

    from integration.harness import Ended, Running, Table

    from .harness import Host
    from .laptop import Laptop

_THESIS = f"{HOME}/thesis.tex"


@dataclass
class Tenant:
    """`host` as `laptop` sees it; `destination` is the way there, if not the host's own address."""

    laptop: Laptop
    host: Host
    runtime: str = "venv"
    destination: str = ""

    def __post_init__(self) -> None:
        self.host.write(_THESIS, "of years", OWNER_ID)

    def up(self, *words: str) -> Running:
        return self.laptop.start("up", "--host", self.destination or self.host.destination, *self._runtime(), *words)

    def fails(self, code: str, *words: str) -> Table:
        """`up` ends with this cause, which names a cure; returns the error."""
        return self.named(self.up(*words).wait(), code)

    def named(self, ended: Ended, *codes: str) -> Table:
        """A failure with one of these causes and a cure."""
        error: Table = ended.result.get("error", {})
        assert (ended.code, error.get("code") in codes) == (1, True), ended.explain()
        assert error["message"], ended.explain()
        assert error["hint"], ended.explain()
        return error

    def converges(self, *words: str) -> Ended:
        """`up` does what is missing, and another one finds nothing to do."""
        ended = self.up(*words).wait().succeeded()
        assert set(ended.statuses("step").values()) <= {"ok", "changed", "skipped"}, ended.explain()
        again = self.up(*words).wait().succeeded()
        assert set(again.statuses("step").values()) <= {"ok", "skipped"}, again.explain()
        return ended

    def leaves(self) -> None:
        """After `down` nothing is left of the environment, and all that is the user's is there."""
        if (self.laptop.state / "default" / "environment.json").exists():
            identity = self.laptop.record()["id"]
            receipt = self.laptop("down").succeeded().result
            assert receipt["left"] == 0, receipt
            assert self.left(identity) == []
            assert self.laptop.leftovers() == []
        assert self.host.read(_THESIS) == "of years"

    def left(self, identity: str) -> list[str]:
        """What this host has of an environment, looked for without any help of ours."""
        files = f"find {HOME}/.local/state/mlops-env /tmp/mlops-env-* /etc/systemd/system/mlops-env-* ! -type d"
        found = self.host.shell(f"{files} 2>/dev/null || :").splitlines()
        return found + self.processes(identity) + self.host.docker_left(identity)

    def processes(self, identity: str, *, jobs: bool = False) -> list[str]:
        """Processes with the environment's mark, or only those that are bootstrap's own commands."""
        mark = "MLOPS_ENV_JOB=1" if jobs else f"MLOPS_ENV_ID={identity}"
        script = (
            "for folder in /proc/[0-9]*; do "
            f"if grep -qzsx {mark} $folder/environ && grep -qzsx MLOPS_ENV_ID={identity} $folder/environ; then "
            "tr '\\0' ' ' <$folder/cmdline; echo; fi; done"
        )
        return [line for line in self.host.shell(script).splitlines() if line.strip()]

    def _runtime(self) -> tuple[str, ...]:
        return ("--runtime", self.runtime)


def edited(product: Path, folder: Path, name: str, changes: dict[str, str]) -> Path:
    """A copy of the product with another text here and there in one of its files."""
    shutil.copytree(product, folder)
    file = folder / name
    text = file.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")
    return folder
