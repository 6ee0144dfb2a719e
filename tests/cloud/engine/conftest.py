"""Both engines, as far as there are two: the embedded one, and the real one where `pulumi` is on PATH."""

from __future__ import annotations

import gc
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cloud.stacks import Held, Wish, World, empty, make_stack, moto, program, served
from mlops_env.sandbox.engine import shim

if TYPE_CHECKING:
    from collections.abc import Iterator

REAL = shutil.which("pulumi")


@pytest.fixture(scope="package")
def aws() -> Iterator[dict[str, str]]:
    with moto() as variables:
        yield variables


@pytest.fixture(scope="package")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("an engine's root")
    shim(root)
    return root


@pytest.fixture(params=["embedded", *(["real"] if REAL else [])])
def engine(request: pytest.FixtureRequest, embedded: Path) -> Path:
    """The root of an engine: `bin/pulumi` is in it."""
    if request.param == "embedded" or REAL is None:
        return embedded
    return Path(REAL).resolve().parents[1]


@pytest.fixture
def is_embedded(engine: Path, embedded: Path) -> bool:
    return engine == embedded


@pytest.fixture
def world(engine: Path, aws: dict[str, str], tmp_path: Path) -> Iterator[World]:
    yield from _world(engine, aws, tmp_path)


@pytest.fixture
def alone(embedded: Path, aws: dict[str, str], tmp_path: Path) -> Iterator[World]:
    """A world of the embedded engine, for what no other has."""
    yield from _world(embedded, aws, tmp_path)


def _world(root: Path, aws: dict[str, str], tmp_path: Path) -> Iterator[World]:
    ec2 = empty(aws)
    provider, wish = Held(aws), Wish()
    with served(provider) as port:
        stack = make_stack(root, tmp_path, port, program(wish))
        yield World(ec2, provider, stack, tmp_path / "state", wish, [])
        provider.released.set()


@pytest.fixture(autouse=True)
def _no_loop_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """When an engine dies, the SDK leaves its program's event loop open; gRPC's log keeps it, with the exception."""
    monkeypatch.setattr(logging.getLogger("grpc._server"), "disabled", True)
    yield
    gc.collect()
