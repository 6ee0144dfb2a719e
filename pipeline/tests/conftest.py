import datetime as dt
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

FEBRUARY = dt.datetime(2023, 2, 1)  # noqa: DTZ001 - TLC's clocks have no zone


def green_trips(count: int = 24, start: dt.datetime = FEBRUARY) -> dict[str, list[Any]]:
    """`count` valid green trips, an hour apart, between a few zones."""
    pickups = [start + dt.timedelta(hours=i) for i in range(count)]
    return {
        "lpep_pickup_datetime": pickups,
        "lpep_dropoff_datetime": [pickup + dt.timedelta(minutes=5 + i % 7) for i, pickup in enumerate(pickups)],
        "PULocationID": [1 + i % 3 for i in range(count)],
        "DOLocationID": [1 + i % 4 for i in range(count)],
        "trip_distance": [0.5 + i % 5 for i in range(count)],
    }


@pytest.fixture
def trip_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a trip file; columns can be replaced, and dropped by None."""

    def write(name: str = "trips.parquet", **changes: Any) -> Path:
        columns = green_trips() | changes
        path = tmp_path / name
        pl.DataFrame({name: values for name, values in columns.items() if values is not None}).write_parquet(path)
        return path

    return write


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, cache or host of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("PARAM_", "MLFLOW_", "MLOPS_ENV_", "NYC_TAXI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NYC_TAXI_BASE_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.chdir(tmp_path)
    connect = socket.socket.connect

    def loopback_only(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_INET and not address[0].startswith("127."):
            raise AssertionError(f"a test reached for {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", loopback_only)
