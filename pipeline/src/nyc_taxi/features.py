"""Step 3: all that linear regression needs to know of the trips, as sums per pair of zones.

The one-hot matrix of the trips is never built. Trips of one pair of zones share their row of it, so the sums
of such groups determine every entry of XᵀX, Xᵀy and yᵀy exactly, in a few thousand rows, however many trips
there are.
"""

from dataclasses import dataclass
from typing import Literal, Self

import polars as pl

Features = Literal["separate", "pair"]
ZONES = ["PULocationID", "DOLocationID"]

_DURATION = {"n": pl.len().cast(pl.Int64), "y": pl.col("y").sum(), "yy": (pl.col("y") * pl.col("y")).sum()}
_DISTANCE = {
    "d": pl.col("d").sum(),
    "dd": (pl.col("d") * pl.col("d")).sum(),
    "dy": (pl.col("d") * pl.col("y")).sum(),
}


@dataclass(frozen=True)
class Statistics:
    """Count n and sums of y (minutes) and d (miles), of their squares and product, for each pair of zones.

    They merge: the statistics of two files, or of two workers' shares, are the sums of both.
    """

    groups: pl.DataFrame

    @classmethod
    def of(cls, trips: pl.LazyFrame, features: Features) -> Self:
        """Streams: memory grows with the number of pairs, not of trips."""
        sums, columns = dict(_DURATION), {"y": pl.col("duration")}
        if features == "pair":
            sums |= _DISTANCE
            columns["d"] = pl.col("trip_distance")
            trips = trips.filter(pl.col("trip_distance").is_finite())  # null too: neither can be regressed on
        frame = trips.select(*ZONES, **columns).group_by(ZONES).agg(**sums)
        return cls(frame.sort(ZONES).collect(engine="streaming"))

    def merge(self, other: Self) -> Self:
        both = pl.concat([self.groups, other.groups])
        return type(self)(both.group_by(ZONES).sum().sort(ZONES))

    @property
    def rows(self) -> int:
        return int(self.groups["n"].sum())

    @property
    def features(self) -> Features:
        return "pair" if "d" in self.groups.columns else "separate"
