"""Where the shipped directories are, and the one tree made of them that travels to every host."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).parent
_LEFT_OUT = {
    ".venv",
    "__pycache__",
    ".mlops-env",
    ".pytest_cache",
    ".hypothesis",
    ".mypy_cache",
    ".ruff_cache",
    "tests",
    "requirements-test.in",
    "requirements-test.lock",
}


def bundled(name: str) -> Path:
    """Directory shipped with us: inside the wheel, or beside `src/` in a checkout."""
    shipped = _PACKAGE / "_bundle" / name
    return shipped if shipped.is_dir() else _PACKAGE.parents[1] / name


@dataclass(frozen=True)
class Tree:
    """Files by their name in the tree, and one digest over names and contents."""

    files: dict[str, bytes]
    digest: str

    def tar(self) -> bytes:
        """An uncompressed tar, the same bytes for the same digest."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in self.files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()


def tree() -> Tree:
    """What a host needs: bootstrap, the host-side scripts with all orchestrators, and the taxi pipeline.

    All orchestrators, though a host runs one: they are text, and a swap then moves nothing that runs.
    """
    files: dict[str, bytes] = {}
    for name in ("bootstrap", "orchestrators", "pipeline"):
        files |= _directory(bundled(name), name)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return Tree({name: files[name] for name in sorted(files)}, digest.hexdigest()[:16])


def _directory(root: Path, prefix: str) -> dict[str, bytes]:
    return {
        f"{prefix}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not any(part in _LEFT_OUT or part.endswith(".egg-info") for part in path.relative_to(root).parts)
    }
