"""Step 4: the least-squares solution of minimum norm on centred features, exact, from the statistics."""

import json
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from nyc_taxi.features import Features, Statistics

_RELATIVE_CUT = 1e-12  # eigenvalues below this share of the largest one are zeros, seen through rounding


@dataclass(frozen=True)
class Model:
    """A linear model; weights are named as scikit-learn's DictVectorizer names features, as in the course."""

    features: Features
    intercept: float
    weights: dict[str, float]

    @property
    def distance(self) -> float:
        return self.weights.get("trip_distance", 0.0)

    def base(self) -> pl.Expr:
        """The prediction for two zones at distance 0; a zone or pair not seen in training weighs nothing."""
        names = _NAMES[self.features]
        return sum(
            (name.replace_strict(self.weights, default=0.0, return_dtype=pl.Float64) for name in names),
            start=pl.lit(self.intercept),
        )

    def rmse(self, statistics: Statistics) -> float:
        """Exact, without the trips: the spread within each group, and how far its mean is off."""
        n, y = pl.col("n"), pl.col("y")
        within, off = pl.col("yy") - y * y / n, y / n - self.base()
        if self.distance:
            w, d = self.distance, pl.col("d")
            within += w * w * (pl.col("dd") - d * d / n) - 2 * w * (pl.col("dy") - d * y / n)
            off -= w * d / n
        squares = within.clip(lower_bound=0) + n * off * off  # rounding can leave a spread of 0 just below it
        return math.sqrt(statistics.groups.select(squares.sum()).item() / statistics.rows)

    def to_json(self) -> str:
        return json.dumps({"features": self.features, "intercept": self.intercept, "weights": self.weights}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))


_NAMES = {
    "separate": [pl.format("PULocationID={}", "PULocationID"), pl.format("DOLocationID={}", "DOLocationID")],
    "pair": [pl.format("PU_DO={}_{}", "PULocationID", "DOLocationID")],
}


def fit(statistics: Statistics) -> Model:
    return _fit_pair(statistics) if statistics.features == "pair" else _fit_separate(statistics)


def _fit_separate(statistics: Statistics) -> Model:
    """Pickup and drop-off zones as two one-hot blocks.

    XᵀX is [[diag(pickups), trips], [tripsᵀ, diag(drop-offs)]]. Each block sums to the constant, so the
    centred matrix is singular (more so if zones fall into unconnected sets): hence eigenvalues, and their cut.
    """
    groups = statistics.groups
    pickups, p = np.unique(groups["PULocationID"].to_numpy(), return_inverse=True)
    dropoffs, q = np.unique(groups["DOLocationID"].to_numpy(), return_inverse=True)
    q = q + len(pickups)
    size = len(pickups) + len(dropoffs)
    n, y = groups["n"].to_numpy().astype(np.float64), groups["y"].to_numpy()
    rows = float(n.sum())

    counts = np.bincount(p, n, size) + np.bincount(q, n, size)
    gram = np.diag(counts)
    gram[p, q] = gram[q, p] = n
    moments = np.bincount(p, y, size) + np.bincount(q, y, size)

    means, mean = counts / rows, float(y.sum()) / rows
    values, vectors = np.linalg.eigh(gram - np.outer(counts, means))
    kept = values > _RELATIVE_CUT * values[-1]
    vectors = vectors[:, kept]
    weights = vectors @ ((vectors.T @ (moments - counts * mean)) / values[kept])

    names = [f"PULocationID={zone}" for zone in pickups] + [f"DOLocationID={zone}" for zone in dropoffs]
    return Model("separate", mean - float(means @ weights), dict(zip(names, weights.tolist(), strict=True)))


def _fit_pair(statistics: Statistics) -> Model:
    """One one-hot for each pair of zones, and distance: solved in closed form, by eliminating the pairs.

    Each trip is in exactly one pair g, so least squares wants a level f(g) = mean y(g) - w · mean d(g) for
    each pair and a slope w from what varies inside the pairs: w = Σ S_dy(g) / Σ S_dd(g). The levels fix only
    the sums intercept + weight(g); the norm of the weights is least when the intercept is the levels' mean.
    If distance varies in no pair, w is free too, and that of least norm together with the weights.
    """
    groups = statistics.groups
    n, y, d = (groups[column].to_numpy().astype(np.float64) for column in ("n", "y", "d"))
    within = np.where(n > 1, groups["dd"].to_numpy() - d * d / n, 0.0)  # exactly 0 for a single trip
    if within.sum() > _RELATIVE_CUT * groups["dd"].to_numpy().sum():
        slope = float(np.where(n > 1, groups["dy"].to_numpy() - d * y / n, 0.0).sum() / within.sum())
    else:
        spread = d / n - (d / n).mean()
        slope = float(spread @ (y / n) / (spread @ spread + 1.0))
    levels = (y - slope * d) / n
    intercept = float(levels.mean())
    names = groups.select(_NAMES["pair"][0]).to_series()
    weights = dict(zip(names.to_list(), (levels - intercept).tolist(), strict=True))
    return Model("pair", intercept, weights | {"trip_distance": slope})
