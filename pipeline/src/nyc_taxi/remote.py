"""Trip files from elsewhere, kept in the user's cache."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from nyc_taxi import download
from nyc_taxi.console import say
from nyc_taxi.errors import DataError
from nyc_taxi.months import SHIPPED_SHA256, Month

TLC_URL = "https://d37ci6vzurychx.cloudfront.net/trip-data"

Check = Callable[[Path, Month | None, str], object]  # raises unless the file holds trips of the month; its name to show


def cache_folder() -> Path:
    return platformdirs.user_cache_path("nyc-taxi")


def at_hand() -> str:
    """What can be used without a network, as "green 2023-01 (shipped), …"."""
    found = [(name, "shipped") for name in SHIPPED_SHA256]
    found += [(file.name, "downloaded") for file in cache_folder().glob("*.parquet")]
    months = [(month, origin) for name, origin in found if (month := Month.of_file(name))]
    return ", ".join(sorted(f"{month.kind} {month} ({origin})" for month, origin in months))


def month_file(month: Month, check: Check) -> Path:
    target = cache_folder() / month.file_name
    if not target.exists():
        url = f"{os.environ.get('NYC_TAXI_BASE_URL') or TLC_URL}/{month.file_name}"
        say(f"{month.kind} {month} is not at hand; downloading {url}")
        try:
            download.fetch(url, target, lambda part: check(part, month, url))
        except download.UnreachableError as error:
            raise DataError(
                str(error).partition("\n")[0],
                f"check the network, or use a month that is at hand: {at_hand()}",
            ) from error
    return target


def address_file(url: str, check: Check) -> tuple[Path, Month | None]:
    name = urlsplit(url).path.rpartition("/")[2] or "trips.parquet"
    month = Month.of_file(name)
    target = cache_folder() / "addresses" / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    download.fetch(url, target, lambda part: check(part, month, url))
    return target, month
