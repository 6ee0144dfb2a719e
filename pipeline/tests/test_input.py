"""A bad file is refused in one sentence that names file, column and cure, before anything is trained."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from conftest import green_trips
from nyc_taxi import cli
from nyc_taxi.features import Statistics
from nyc_taxi.ingest import ingest
from nyc_taxi.months import SHIPPED_FOLDER, SHIPPED_SHA256
from nyc_taxi.transform import trips

TripFile = Callable[..., Path]
MARCH = dt.datetime(2023, 3, 1)  # noqa: DTZ001


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["run", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.startswith("error: ")
    assert "\n  cure: " in captured.err
    assert not Path("nyc-taxi-run").exists()
    return captured.err


def damaged(path: Path) -> bytes:
    """A file whose ends are whole and whose trips are not."""
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page, not parquet"),
        (b"PK\x03\x04 something else", "is not a parquet file"),
        (b"PAR1 cut sho", "is cut short"),
        (b"PAR1" + b"\0" * 40 + b"PAR1", "cannot be read"),
    ],
)
def test_not_parquet(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str) -> None:
    path = tmp_path / "trips.parquet"
    path.write_bytes(content)
    assert f"{path}: {said}" in refused(capsys, "--train", str(path))


def test_damaged_trips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trips.parquet"
    path.write_bytes(damaged(SHIPPED_FOLDER / "green_tripdata_2023-01.parquet"))
    assert cli.main(["run", "--validate", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: cannot be read" in error
    assert "model:" not in error


@pytest.mark.parametrize("column", green_trips())
def test_missing_column(trip_file: TripFile, capsys: pytest.CaptureFixture[str], column: str) -> None:
    path = trip_file(**{column: None})
    assert f"{path}: has no column {column}\n" in refused(capsys, "--validate", str(path), "--features", "pair")


def test_trip_distance_is_not_missed_where_it_is_not_used(trip_file: TripFile) -> None:
    assert cli.main(["run", "--train", str(trip_file(trip_distance=None))]) == 0


def test_not_trips_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path)
    assert "has no pickup column: none of lpep_pickup_datetime (green)" in refused(capsys, "--train", str(path))


def test_column_of_a_wrong_type(trip_file: TripFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = trip_file(lpep_pickup_datetime=["2023-02-01 00:00:00"] * 24)
    assert "column lpep_pickup_datetime is String, not a timestamp" in refused(capsys, "--train", str(path))


def test_no_rows(trip_file: TripFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = trip_file()
    pl.read_parquet(path).clear().write_parquet(path)
    assert f"{path}: has no rows" in refused(capsys, "--train", str(path))


def test_no_trip_of_a_usual_length(trip_file: TripFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = trip_file(lpep_dropoff_datetime=green_trips()["lpep_pickup_datetime"])
    assert cli.main(["run", "--train", str(path)]) == 2
    assert f"{path}: no trip lasts 1 to 60 minutes" in capsys.readouterr().err


def test_wrong_month_inside(trip_file: TripFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = trip_file("green_tripdata_2023-03.parquet")
    assert f"{path}: holds trips of 2023-02, not of 2023-03" in refused(capsys, "--train", str(path))


def test_stray_trips_of_other_months_are_no_wrong_month(trip_file: TripFile) -> None:
    march, february = green_trips(20, MARCH), green_trips(4)
    path = trip_file("green_tripdata_2023-03.parquet", **{name: march[name] + february[name] for name in march})
    assert ingest(str(path), None, distance=True).rows == 24


def test_wrong_kind(trip_file: TripFile, capsys: pytest.CaptureFixture[str]) -> None:
    path = trip_file()
    assert "holds green trips, not yellow" in refused(capsys, "--train", str(path), "--kind", "yellow")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("2023-13", "2023-13 is not a month"),
        ("2023-1", "2023-1 is not a month"),
        ("nowhere.parquet", "nowhere.parquet: no such file"),
        ("", "at hand: green 2023-01 (shipped), green 2023-02 (shipped)"),
    ],
)
def test_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str, said: str) -> None:
    assert said in refused(capsys, "--train", asked or str(tmp_path / "missing"))


def test_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a folder" in refused(capsys, "--train", str(tmp_path))


def test_every_wrong_setting_is_named_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARAM_FEATURES", "triple")
    error = refused(capsys, "--kind", "red")
    assert "kind is 'red', not one of green, yellow, fhv" in error
    assert "features is 'triple', not one of separate, pair" in error


def test_types_and_case_of_columns_drift(trip_file: TripFile) -> None:
    drifted = trip_file(
        PULocationID=pl.Series([1.0, None, float("nan")] * 8),
        DOLocationID=pl.Series([None] * 24, dtype=pl.Null),
        lpep_pickup_datetime=pl.Series(green_trips()["lpep_pickup_datetime"], dtype=pl.Datetime("ns")),
    )
    source = ingest(str(drifted), None, distance=True)
    frame = trips(source).collect()
    assert frame["PULocationID"].to_list() == [1, -1, -1] * 8
    assert set(frame["DOLocationID"]) == {-1}


def test_for_hire_vehicles_have_other_names_and_no_distance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    green = green_trips()
    names = ["pickup_datetime", "dropOff_datetime", "PUlocationID", "DOlocationID"]
    path = tmp_path / "fhv_tripdata_2023-02.parquet"
    pl.DataFrame(dict(zip(names, green.values(), strict=False))).write_parquet(path)
    source = ingest(str(path), None, distance=False)
    assert (source.kind, source.month) == ("fhv", "2023-02")
    assert Statistics.of(trips(source), "separate").rows == 24
    assert "fhv trips have no trip_distance" in refused(capsys, "--train", str(path), "--features", "pair")


def test_shipped_months_are_whole() -> None:
    assert {path.name for path in SHIPPED_FOLDER.glob("*.parquet")} == set(SHIPPED_SHA256)
    for name, sha256 in SHIPPED_SHA256.items():
        assert ingest(str(SHIPPED_FOLDER / name), "green", distance=True).sha256 == sha256
