"""Step 1: finds the trip files that were asked for and checks them before anything is computed."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import polars as pl

from nyc_taxi.errors import DataError
from nyc_taxi.months import KINDS, SHIPPED_FOLDER, SHIPPED_SHA256, Kind, Month

_MAGIC = b"PAR1"
_SMALLEST_PARQUET = 12  # the magic twice and the length of the footer

Role = Literal["train", "validate"]  # what trips are for
ROLES: tuple[Role, Role] = ("train", "validate")


@dataclass(frozen=True)
class Source:
    """A checked trip file."""

    asked: str
    path: str
    kind: str
    month: str | None
    bytes: int
    rows: int
    sha256: str


def ingest(asked: str, kind: str | None, *, distance: bool) -> Source:
    """The checked file for a month, an address or a path; `distance`: trip_distance is needed."""
    month = Month.parse(asked, kind or "green")
    if month is not None and month.file_name in SHIPPED_SHA256:
        path = SHIPPED_FOLDER / month.file_name
    elif month is not None or urlsplit(asked).scheme in {"http", "https"}:
        from nyc_taxi import remote  # noqa: PLC0415 - what downloads need is not imported by runs without one

        if month is not None:
            path = remote.month_file(month, check)
        else:
            path, month = remote.address_file(asked, check)
    else:
        path = Path(asked).expanduser().absolute()
        month = Month.of_file(path.name)
    found, rows = check(path, month, str(path), distance=distance)
    if kind is not None and found.name != kind:
        raise DataError(f"{path}: holds {found.name} trips, not {kind}", f"leave out --kind, or give a {kind} file")
    with reading(path), path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if path.parent == SHIPPED_FOLDER and sha256 != SHIPPED_SHA256.get(path.name, sha256):
        raise DataError(f"{path}: differs from the month that was shipped", "install nyc-taxi again")
    return Source(asked, str(path), found.name, str(month) if month else None, path.stat().st_size, rows, sha256)


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Names the file that cannot be read: whatever polars raises here, damaged bytes are the cause."""
    try:
        yield
    except FileNotFoundError as error:
        from nyc_taxi.remote import at_hand  # noqa: PLC0415 - as above

        raise DataError(
            f"{path}: no such file",
            f"give a parquet file, an http address or a month; at hand: {at_hand()}",
        ) from error
    except OSError as error:
        cause = error.strerror or str(error)
        raise DataError(f"{path}: cannot be read: {cause}", "check that the file may be read") from error
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        cause = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read: {cause}", "get the file again; it is damaged") from error


def check(path: Path, month: Month | None, name: str, *, distance: bool = False) -> tuple[Kind, int]:
    """Raises unless `path` is a parquet file with trips of `month`; the kind of trips in it and its rows."""
    with reading(path):
        _check_parquet(path, name)
    with reading(name):
        frame = pl.scan_parquet(path, glob=False)
        schema = frame.collect_schema()
        kind = _check_columns(schema, month, name, distance=distance)
        rows = int(frame.select(pl.len()).collect().item())
        if rows == 0:
            raise DataError(f"{name}: has no rows", "give a month with trips")
        if month is not None:
            _check_month(frame.rename(str.lower).select(pl.col(kind.pickup.lower()).alias("pickup")), month, name)
    return kind, rows


def _check_parquet(path: Path, name: str) -> None:
    if path.is_dir():
        raise DataError(f"{name}: is a folder", "give one parquet file")
    with path.open("rb") as file:
        head = file.read(_SMALLEST_PARQUET)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - len(_MAGIC), 0))
        tail = file.read()
    if not head:
        raise DataError(f"{name}: is empty (0 bytes)", "get the file again")
    if head.lstrip().startswith(b"<"):
        raise DataError(
            f"{name}: is a web page, not parquet",
            "get the file itself; what was saved is the page of an error or a login",
        )
    if not head.startswith(_MAGIC):
        raise DataError(f"{name}: is not a parquet file (it does not start with PAR1)", "give TLC's parquet file")
    if size < _SMALLEST_PARQUET or tail != _MAGIC:
        raise DataError(f"{name}: is cut short (it does not end with PAR1)", "get the file again, whole")


def _check_columns(schema: pl.Schema, month: Month | None, name: str, *, distance: bool) -> Kind:
    columns = {column.lower(): dtype for column, dtype in schema.items()}
    kind = _kind_of(set(columns), month, name)
    needed = [kind.pickup, kind.dropoff, kind.pickup_zone, kind.dropoff_zone]
    if distance:
        if kind.distance is None:
            raise DataError(f"{name}: {kind.name} trips have no trip_distance", "use --features separate")
        needed.append(kind.distance)
    for column in needed:
        dtype = columns.get(column.lower())
        if dtype is None:
            raise DataError(
                f"{name}: has no column {column}",
                f"give {kind.name} trips as TLC publishes them; columns found: {', '.join(schema)}",
            )
        timestamp = column in {kind.pickup, kind.dropoff}
        if not (isinstance(dtype, pl.Datetime) if timestamp else dtype.is_numeric() or dtype == pl.Null):
            expected = "a timestamp" if timestamp else "a number"
            raise DataError(f"{name}: column {column} is {dtype}, not {expected}", f"cast it to {expected}")
    return kind


def _kind_of(columns: set[str], month: Month | None, name: str) -> Kind:
    """Told by the columns of time, which differ for each kind; one of the two may be missing."""
    for kind in KINDS.values():
        if columns & {kind.pickup.lower(), kind.dropoff.lower()}:
            if month is not None and month.kind != kind.name:
                raise DataError(f"{name}: holds {kind.name} trips, not {month.kind}", "give the file of that kind")
            return kind
    pickups = ", ".join(f"{kind.pickup} ({kind.name})" for kind in KINDS.values())
    raise DataError(f"{name}: has no pickup column: none of {pickups}", "give a trip file as TLC publishes it")


def _check_month(frame: pl.LazyFrame, month: Month, name: str) -> None:
    """TLC's own files hold a few stray trips of other months, so most trips decide."""
    inside = pl.col("pickup").is_between(month.first, month.end, closed="left").mean()
    share, middle = frame.select(inside, pl.col("pickup").median().alias("middle")).collect(engine="streaming").row(0)
    if share is None or share < 0.5:  # noqa: PLR2004
        raise DataError(
            f"{name}: holds trips of {middle:%Y-%m}, not of {month}" if middle else f"{name}: has no pickup times",
            f"give the file of {month}, or name the file after the month that it holds",
        )
