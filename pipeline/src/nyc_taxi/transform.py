"""Step 2: trips of any kind and month in one shape: two zones, distance, hour, and minutes from 1 to 60."""

import polars as pl

from nyc_taxi.ingest import Source
from nyc_taxi.months import KINDS

_MINUTE = 60_000_000  # microseconds
UNKNOWN_ZONE = -1  # as the course does for FHV, where most pickups have none


def trips(source: Source) -> pl.LazyFrame:
    """Lazy: what is not used later is never read. Columns by name and cast: their types differ by month."""
    kind = KINDS[source.kind]
    frame = pl.scan_parquet(source.path, glob=False).rename(str.lower)
    pickup, dropoff = pl.col(kind.pickup.lower()), pl.col(kind.dropoff.lower())
    columns = {
        "PULocationID": _zone(kind.pickup_zone),
        "DOLocationID": _zone(kind.dropoff_zone),
        "hour": pickup.dt.hour(),
        "duration": (dropoff - pickup).dt.total_microseconds(),
    }
    if kind.distance is not None and kind.distance in frame.collect_schema():
        columns["trip_distance"] = pl.col(kind.distance).cast(pl.Float64)
    return (
        frame.select(**columns)
        .filter(pl.col("duration").is_between(_MINUTE, 60 * _MINUTE))
        .with_columns(pl.col("duration") / _MINUTE)
    )


def _zone(column: str) -> pl.Expr:
    return pl.col(column.lower()).cast(pl.Int32, strict=False).fill_null(UNKNOWN_ZONE)
