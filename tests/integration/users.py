"""A user's own two files, whose pins Mage cannot meet: pandas 3, and a Python that Mage does not exist for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .harness import Machine

PYTHON = "3.13"

_PROJECT = f"""\
[project]
name = "mine"
version = "1"
requires-python = "=={PYTHON}.*"
dependencies = ["pandas>=3"]
"""

_TRAIN = """\
import json
import sys
from pathlib import Path

import pandas

if Path("broken").exists():
    sys.exit("no such column: distance")
Path("model.txt").write_text(str(pandas.Series([1.0, 2.0, 6.0]).mean()))
metrics = {
    "mean": float(Path("model.txt").read_text()),
    "pandas": int(pandas.__version__.split(".")[0]),
    "python": sys.version_info.minor,
}
print(json.dumps({"metrics": metrics}))
"""


def two_file_repository(machine: Machine) -> Path:
    folder = machine.home / "my models"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(_PROJECT)
    (folder / "train.py").write_text(_TRAIN)
    return folder


def path_with_python() -> str:
    """PATH with the wanted Python last, so that nothing else finds it first; without one here, uv fetches it."""
    uv = Path(sys.executable).parent / "uv"
    listed = [str(uv), "python", "list", "--only-installed", "--output-format", "json", PYTHON]
    done = subprocess.run(listed, capture_output=True, text=True, check=True)
    found = [Path(row["path"]) for row in json.loads(done.stdout)]
    # pyenv shows one of its Pythons on PATH; the others are beside the one that runs this, whatever HOME is.
    found += Path(sys.base_prefix).parent.glob(f"{PYTHON}.*/bin/python3")
    return os.pathsep.join([os.environ["PATH"], *(str(path.parent) for path in found[:1])])
