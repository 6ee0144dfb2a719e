"""The kinds of trip files the TLC publishes, the months of them, and the two months that ship with us."""

import calendar
import datetime as dt
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nyc_taxi.errors import DataError

SHIPPED_FOLDER = Path(__file__).parent / "data"
SHIPPED_SHA256 = {
    "green_tripdata_2023-01.parquet": "9f0e03dd7f8f94ecc15949cdbfd2a4e1fc9ebb41a11882215158c9fc95012e31",
    "green_tripdata_2023-02.parquet": "bcc2821d639197cbb09aeb8994121a7004f2a6568a64bf4839015db802f62743",
}

_MONTH = re.compile(r"(\d{4})-(\d{1,2})")
_FILE_NAME = re.compile(r"(green|yellow|fhv)_tripdata_(\d{4})-(\d{2})\.parquet")


@dataclass(frozen=True)
class Kind:
    """Where a kind of trip file keeps what we need; TLC changes the case of names, so that is ignored."""

    name: str
    pickup: str
    dropoff: str
    distance: str | None
    pickup_zone: str = "PULocationID"
    dropoff_zone: str = "DOLocationID"


KINDS = {
    kind.name: kind
    for kind in (
        Kind("green", "lpep_pickup_datetime", "lpep_dropoff_datetime", "trip_distance"),
        Kind("yellow", "tpep_pickup_datetime", "tpep_dropoff_datetime", "trip_distance"),
        Kind("fhv", "pickup_datetime", "dropOff_datetime", None),
    )
}


@dataclass(frozen=True)
class Month:
    kind: str
    year: int
    month: int

    @classmethod
    def parse(cls, text: str, kind: str) -> Self | None:
        """The month that `text` spells as YYYY-MM; None if it is something else, such as a file."""
        match = _MONTH.fullmatch(text)
        if match is None:
            return None
        year, month = int(match[1]), int(match[2])
        if not 1 <= month <= 12 or len(match[2]) != 2:  # noqa: PLR2004
            raise DataError(f"{text} is not a month", "write it as YYYY-MM, such as 2023-01")
        return cls(kind, year, month)

    @classmethod
    def of_file(cls, file_name: str) -> Self | None:
        """The month that a file says it holds, if it bears TLC's own name."""
        match = _FILE_NAME.fullmatch(file_name)
        return cls(match[1], int(match[2]), int(match[3])) if match else None

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @property
    def file_name(self) -> str:
        return f"{self.kind}_tripdata_{self}.parquet"

    @property
    def first(self) -> dt.datetime:
        return dt.datetime(self.year, self.month, 1)  # noqa: DTZ001 - TLC's clocks are New York's, without a zone

    @property
    def end(self) -> dt.datetime:
        return self.first + dt.timedelta(days=calendar.monthrange(self.year, self.month)[1])
