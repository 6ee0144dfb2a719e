"""Hosts and people for the tests; whatever is started is removed, also after a failure."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from integration.harness import add_toy, copy_product

from .harness import Yard
from .images import build_all
from .laptop import borrowed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .harness import Host
    from .laptop import Laptop


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Of the whole session; short, as some of what runs there makes sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="ho-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def yard(folder: Path) -> Iterator[Yard]:
    build_all()
    made = Yard(folder)
    yield made
    made.clear()


@pytest.fixture
def host(yard: Yard) -> Iterator[Host]:
    """A bare Debian 12 that nobody else has."""
    made = yard.start()
    yield made
    yard.stop(made)


@pytest.fixture(scope="session")
def product(folder: Path) -> Path:
    return copy_product(folder / "product")


@pytest.fixture(scope="session")
def toy_product(folder: Path) -> Path:
    return add_toy(copy_product(folder / "toy"))


@pytest.fixture
def laptops(yard: Yard) -> Iterator[Callable[[Path], Laptop]]:
    """Makes people's machines, each with the key to all hosts, on which this copy of ours is installed."""
    with ExitStack() as stack:
        yield lambda product: stack.enter_context(borrowed(yard, product))
