"""Real processes: each test has a machine of its own, and nothing of it is left when the test ends."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .harness import Machine, add_toy, copy_product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Of the whole session; short, as some of what runs there makes sockets in it."""
    path = Path(tempfile.mkdtemp(prefix="it-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def cache(folder: Path) -> Path:
    """One package cache, cold at the start."""
    return folder / "uv"


@pytest.fixture(scope="session")
def product(folder: Path) -> Path:
    return copy_product(folder / "product")


@pytest.fixture(scope="session")
def toy_product(folder: Path) -> Path:
    return add_toy(copy_product(folder / "toy"))


@pytest.fixture(scope="module")
def machine(folder: Path, cache: Path, product: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with the real services, for all tests of a module, in their order."""
    made = Machine(folder / request.module.__name__, cache, product)
    yield made
    made.tear_down()


@pytest.fixture(scope="module")
def standing(folder: Path, cache: Path, toy_product: Path, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine of the module on which the toy is up: for tests that begin with an `up` and leave what `up` mends."""
    made = Machine(folder / f"{request.module.__name__} standing", cache, toy_product)
    yield made
    made.tear_down()


@pytest.fixture
def toy_machines(folder: Path, cache: Path, toy_product: Path) -> Iterator[Callable[[], Machine]]:
    made: list[Machine] = []

    def make() -> Machine:
        made.append(Machine(Path(tempfile.mkdtemp(dir=folder)) / "m", cache, toy_product))
        return made[-1]

    yield make
    errors = []
    for one in made:
        try:
            one.tear_down()
        except AssertionError as error:
            errors.append(error)
    assert not errors, errors


@pytest.fixture
def toy(toy_machines: Callable[[], Machine]) -> Machine:
    """A machine on which the orchestrator starts in a moment."""
    return toy_machines()
