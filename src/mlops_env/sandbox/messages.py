"""Pulumi's messages without the rest of its SDK, whose import takes as long as all else that an operation does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def alone() -> None:
    """Have `pulumi.runtime.proto` imported without what is around it; for processes that run no program.

    Its parents become packages of nothing but a place. Where the SDK is imported already, nothing changes.
    """
    if "pulumi" in sys.modules:
        return
    found = importlib.util.find_spec("pulumi")
    if not found or not found.submodule_search_locations:
        return  # the import that follows says it best
    [place] = found.submodule_search_locations
    for name, directory in (("pulumi", Path(place)), ("pulumi.runtime", Path(place, "runtime"))):
        package = ModuleType(name)
        package.__path__ = [str(directory)]
        sys.modules[name] = package
