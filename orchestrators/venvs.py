"""The venvs of an environment, each from its lock by uv: one a service, and one for the pipeline's own steps.

A venv counts as there when the digest of what it was made from is written in it, which happens last: uv alone cannot
tell a package whose files a kill -9 left half linked from a whole one.

    python venvs.py    in a container: make the pipeline's venv, unless it is there
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import workspace

_STAMP = "mlops-env.digest"
_METADATA = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")  # PEP 723's own expression
_DEPENDENCY_FILES = ("pylock.toml", "uv.lock", "requirements.lock", "requirements.txt")


class InstallError(Exception):
    """uv could not make the venv; its own words are on stderr already."""


@dataclass(frozen=True)
class Venv:
    """What a venv is made from: the Python it needs, uv commands that fill it, and the files these read."""

    path: Path
    python: str
    commands: tuple[tuple[str, ...], ...]
    sources: tuple[Path, ...]
    cwd: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def executable(self) -> Path:
        return self.path / "bin" / "python"

    def digest(self) -> str:
        # Not the commands whole: they hold paths, and the tree's moves with every upgrade.
        digest = hashlib.sha256(repr((self.python, [command[:2] for command in self.commands])).encode())
        for source in self.sources:
            digest.update(source.read_bytes())
        return digest.hexdigest()

    def is_current(self) -> bool:
        try:
            stamp = (self.path / _STAMP).read_text(encoding="utf-8")
        except OSError:
            return False
        return stamp == self.digest() and self.executable.exists()

    def make(self, uv: str) -> None:
        """Make it anew from uv's cache and the registry; raises InstallError."""
        digest = self.digest()
        shutil.rmtree(self.path, ignore_errors=True)  # uv clears none that a kill -9 left half made
        self._uv(uv, "venv", "--quiet", "--clear", "--no-project", "--python", self.python, str(self.path))
        for command in self.commands:
            self._uv(uv, *command)
        (self.path / _STAMP).write_text(digest, encoding="utf-8")

    def _uv(self, uv: str, *words: str) -> None:
        # VIRTUAL_ENV of a caller's shell would have uv talk about another venv than this one.
        variables = {key: value for key, value in os.environ.items() if key not in {"VIRTUAL_ENV", "PYTHONPATH"}}
        command = [uv, *words]
        if subprocess.run(command, cwd=self.cwd, env={**variables, **self.settings}, check=False).returncode:
            raise InstallError(f"`uv {words[0]} {words[1]}` for {self.path.name} failed")


def of_lock(path: Path, lock: Path, python: str) -> Venv:
    """A service's venv: exactly what its hashed lock says."""
    sync = ("pip", "sync", "--quiet", "--require-hashes", "--python", str(path / "bin/python"), str(lock))
    return Venv(path, python, (sync,), (lock,), lock.parent)


def of_pipeline(path: Path, folder: Path) -> Venv:
    """The pipeline's venv, from the first of its dependency files, and the project itself where it can be built."""
    project = _toml(folder / "pyproject.toml")
    scripts = _scripts(folder)
    python = _python(folder, project, scripts)
    into = ("--quiet", "--python", str(path / "bin/python"))
    sources = [folder / name for name in ("pyproject.toml", ".python-version") if (folder / name).is_file()]
    commands: list[tuple[str, ...]] = []
    settings = {}
    found = next((name for name in _DEPENDENCY_FILES if (folder / name).is_file()), None)
    if found == "uv.lock":
        commands.append(("sync", "--quiet", "--frozen", "--no-install-project", "--no-dev"))
        settings["UV_PROJECT_ENVIRONMENT"] = str(path)
    elif found == "pylock.toml":
        commands.append(("pip", "sync", *into, found))
    elif found:
        commands.append(("pip", "install", *into, "-r", found))
    else:
        wanted = sorted({d for _, metadata in scripts for d in metadata.get("dependencies", [])})
        if "project" in project and "build-system" not in project:
            wanted += ["-r", "pyproject.toml"]  # a project that cannot be built still says what it needs
        if wanted:
            commands.append(("pip", "install", *into, *wanted))
            sources += [script for script, _ in scripts]
    if found:
        sources.append(folder / found)
    if "build-system" in project and "project" in project:
        commands.append(("pip", "install", *into, *([] if not found else ["--no-deps"]), "--editable", "."))
    return Venv(path, python, tuple(commands), tuple(sources), folder, settings)


def _python(folder: Path, project: dict[str, Any], scripts: list[tuple[Path, dict[str, Any]]]) -> str:
    pinned = folder / ".python-version"
    if pinned.is_file() and (version := pinned.read_text(encoding="utf-8").split()):
        return version[0]
    wanted = [project.get("project", {}).get("requires-python")]
    wanted += [metadata.get("requires-python") for _, metadata in scripts]
    return next((specifier for specifier in wanted if specifier), ">=3.11")


def _scripts(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The Python scripts that the steps run and that carry PEP 723 metadata, with it."""
    found = []
    for step in workspace.load(folder).steps:
        for word in step.words:
            script = folder / word
            if word.endswith(".py") and script.is_file():
                match = _METADATA.search(script.read_text(encoding="utf-8"))
                if match:
                    lines = match["content"].splitlines()
                    found.append((script, tomllib.loads("\n".join(line[2:] for line in lines))))
    return found


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise workspace.UsageError(f"{path}: {error}") from error


def main() -> int:
    folder = Path(os.environ["MLOPS_ENV_VENVS"])
    # Beside the venv, in its volume: what uv downloads, and a Python where the image's does not do.
    os.environ |= {"UV_CACHE_DIR": str(folder / ".cache"), "UV_PYTHON_INSTALL_DIR": str(folder / ".python")}
    try:
        venv = of_pipeline(folder / "pipeline", Path(os.environ["MLOPS_ENV_WORKSPACE"]))
        if not venv.is_current():
            venv.make(os.environ["MLOPS_ENV_UV"])
    except (InstallError, workspace.UsageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
