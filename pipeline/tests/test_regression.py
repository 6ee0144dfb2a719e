"""Against the textbook: the dense one-hot matrix of the trips, centred, and NumPy's minimum-norm least squares."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nyc_taxi.features import Features, Statistics
from nyc_taxi.train import Model, fit

ZONE = st.integers(-1, 4)
MILES = st.floats(0, 20).map(lambda miles: round(miles, 2))
TRIP = st.tuples(ZONE, ZONE, MILES, st.floats(1, 60).map(lambda minutes: round(minutes, 2)))
TRIPS = st.lists(TRIP, min_size=1, max_size=60)
Trip = tuple[int, int, float, float]


def frame(trips: list[Trip]) -> pl.LazyFrame:
    schema = {
        "PULocationID": pl.Int32,
        "DOLocationID": pl.Int32,
        "trip_distance": pl.Float64,
        "duration": pl.Float64,
    }
    return pl.LazyFrame(trips, schema=schema, orient="row")


def names(pickup: int, dropoff: int, features: Features) -> list[str]:
    if features == "pair":
        return [f"PU_DO={pickup}_{dropoff}"]
    return [f"PULocationID={pickup}", f"DOLocationID={dropoff}"]


def textbook(trips: list[Trip], features: Features) -> tuple[float, dict[str, float]]:
    columns = sorted({name for trip in trips for name in names(trip[0], trip[1], features)})
    design = np.array([[float(c in names(t[0], t[1], features)) for c in columns] for t in trips])
    if features == "pair":
        columns.append("trip_distance")
        design = np.hstack([design, np.array([[t[2]] for t in trips])])
    target = np.array([t[3] for t in trips])
    means = design.mean(axis=0)
    weights, *_ = np.linalg.lstsq(design - means, target - target.mean(), rcond=1e-9)
    return float(target.mean() - means @ weights), dict(zip(columns, weights.tolist(), strict=True))


def predict(model: Model, trip: Trip) -> float:
    zones = sum(model.weights.get(name, 0.0) for name in names(trip[0], trip[1], model.features))
    return model.intercept + zones + model.distance * trip[2]


@pytest.mark.parametrize("features", ["separate", "pair"])
@settings(deadline=None, max_examples=60)
@given(trips=TRIPS)
def test_fit_is_the_minimum_norm_solution(features: Features, trips: list[Trip]) -> None:
    model = fit(Statistics.of(frame(trips), features))
    intercept, weights = textbook(trips, features)
    assert model.intercept == pytest.approx(intercept, abs=1e-6)
    assert model.weights == pytest.approx(weights, abs=1e-6)


@pytest.mark.parametrize("features", ["separate", "pair"])
@settings(deadline=None, max_examples=60)
@given(train=TRIPS, validation=TRIPS)
def test_rmse_needs_no_trips(features: Features, train: list[Trip], validation: list[Trip]) -> None:
    model = fit(Statistics.of(frame(train), features))
    residuals = [trip[3] - predict(model, trip) for trip in validation]
    rmse = float(np.sqrt(np.mean(np.square(residuals))))
    assert model.rmse(Statistics.of(frame(validation), features)) == pytest.approx(rmse, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("features", ["separate", "pair"])
@settings(deadline=None, max_examples=60)
@given(trips=TRIPS, marks=st.lists(st.integers(0, 2), min_size=60, max_size=60))
def test_statistics_of_any_split_merge_to_the_whole(features: Features, trips: list[Trip], marks: list[int]) -> None:
    shares = [[trip for trip, mark in zip(trips, marks, strict=False) if mark == share] for share in range(3)]
    a, b, c = (Statistics.of(frame(share), features) for share in shares)
    whole = Statistics.of(frame(trips), features)
    for merged in (a.merge(b).merge(c), c.merge(a.merge(b)), b.merge(c).merge(a)):
        assert merged.rows == whole.rows
        assert merged.groups.schema == whole.groups.schema
        for row, expected in zip(merged.groups.iter_rows(), whole.groups.iter_rows(), strict=True):
            assert row == pytest.approx(expected, rel=1e-9)


@given(trips=TRIPS)
@settings(deadline=None, max_examples=20)
def test_a_model_survives_its_json(trips: list[Trip]) -> None:
    model = fit(Statistics.of(frame(trips), "pair"))
    assert Model.from_json(model.to_json()) == model


def test_trips_without_a_distance_are_left_out_of_pair() -> None:
    trips = frame([(1, 2, 1.0, 10.0), (1, 2, float("nan"), 20.0)])
    assert Statistics.of(trips, "pair").rows == 1
    assert Statistics.of(trips, "separate").rows == 2
