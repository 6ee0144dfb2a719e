"""Step 5: how far off the model is, and where; the distributions behind the report's plots."""

from dataclasses import dataclass

import polars as pl

from nyc_taxi.features import ZONES, Statistics
from nyc_taxi.train import Model

CELL = 2  # minutes, the side of a cell of the density
LONGEST = 60  # minutes; no trip lasts longer, and predictions beyond are counted in the last cell
WIDEST = 30  # minutes; larger errors are counted in the last bars


@dataclass(frozen=True)
class Errors:
    """Trips by (predicted, actual) cell and by whole minutes of actual - predicted; RMSE by hour."""

    density: dict[tuple[int, int], int]
    histogram: dict[int, int]
    rmse_by_hour: dict[int, float]


def metrics(model: Model, train: Statistics, validation: Statistics) -> dict[str, float]:
    return {
        "train_rmse": model.rmse(train),
        "validation_rmse": model.rmse(validation),
        "intercept": model.intercept,
        "feature_count": len(model.weights),
    }


def errors(model: Model, validation: Statistics, trips: pl.LazyFrame) -> Errors:
    """One streamed pass over the trips; what the zones add is looked up once for each pair of them."""
    predicted = pl.col("base")
    if model.distance:
        predicted = predicted + model.distance * pl.col("trip_distance")
        trips = trips.filter(pl.col("trip_distance").is_finite())
    error = pl.col("duration") - predicted
    frame = trips.join(validation.groups.lazy().select(*ZONES, base=model.base()), on=ZONES).select(
        "hour",
        error=error,
        predicted=_bin(predicted, CELL).clip(0, LONGEST // CELL - 1),
        actual=_bin(pl.col("duration"), CELL).clip(0, LONGEST // CELL - 1),
        minutes=_bin(error, 1).clip(-WIDEST, WIDEST - 1),
    )
    density, histogram, hours = pl.collect_all(
        [
            frame.group_by("predicted", "actual").len(),
            frame.group_by("minutes").len().sort("minutes"),
            frame.group_by("hour").agg((pl.col("error") ** 2).mean().sqrt()).sort("hour"),
        ],
        engine="streaming",
    )
    return Errors(
        density={(predicted, actual): trips for predicted, actual, trips in density.iter_rows()},
        histogram=dict(histogram.iter_rows()),
        rmse_by_hour=dict(hours.iter_rows()),
    )


def _bin(value: pl.Expr, width: int) -> pl.Expr:
    return (value / width).floor().cast(pl.Int32)
