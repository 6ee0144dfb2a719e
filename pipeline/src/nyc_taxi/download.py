"""Fetches a file that must be whole and right before anything sees it under its name."""

import http.client
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from filelock import FileLock

from nyc_taxi.console import rewrite, say
from nyc_taxi.errors import DataError, TaxiError, WriteError

ATTEMPTS = 4
TIMEOUT_SECONDS = 30
_CHUNK = 1 << 18
_MEGABYTE = 1_000_000
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}


class UnreachableError(TaxiError):
    """No answer, after several attempts; the caller adds what could be used instead."""

    exit_code = 2


def fetch(url: str, target: Path, verify: Callable[[Path], object]) -> None:
    """Downloads `url` to `target`, which appears only once it is complete and `verify` did not raise.

    Two processes that want the same file share one download; what a killed one left, the next overwrites.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.exists():
                return
            part = target.with_name(f"{target.name}.part")
            try:
                _download(url, part)
                verify(part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(
            target,
            error.strerror or str(error),
            "free space, or set XDG_CACHE_HOME to a folder that can be written",
        ) from error


def _download(url: str, part: Path) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with part.open("wb") as file:
                _transfer(url, file)
        except urllib.error.HTTPError as error:
            error.close()
            cause = f"HTTP {error.code} {error.reason}"
            if error.code not in _TRY_AGAIN:
                raise DataError(
                    f"{url}: {cause}",
                    "check the address; TLC publishes a month about two months after its end",
                ) from error
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            cause = str(getattr(error, "reason", error)) or type(error).__name__
        else:
            return
        if attempt < ATTEMPTS:
            pause = 2.0 ** (attempt - 1)
            say(f"{url}: {cause}; attempt {attempt} of {ATTEMPTS}, again in {pause:.0f} s")
            time.sleep(pause)
    raise UnreachableError(f"{url}: {cause}, after {ATTEMPTS} attempts", "check the network")


def _transfer(url: str, file: IO[bytes]) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "nyc-taxi"})  # noqa: S310 - the caller admits http only
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
        length = int(response.headers.get("Content-Length") or 0)
        progress = _Progress(url.rpartition("/")[2], length)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            progress.add(len(chunk))
        progress.finish()
    if length and progress.received != length:  # http.client calls a connection closed early an ordinary end
        raise http.client.IncompleteRead(b"", length - progress.received)


class _Progress:
    """A live line on a terminal, a line per quarter in a log."""

    def __init__(self, name: str, length: int) -> None:
        self.received = 0
        self._name = name
        self._length = length
        self._live = sys.stderr.isatty()
        self._quarter = 0

    def add(self, count: int) -> None:
        self.received += count
        quarter = 4 * self.received // self._length if self._length else 0
        if self._live:
            rewrite(self._line())
        elif quarter > self._quarter:
            self._quarter = quarter
            say(self._line())

    def finish(self) -> None:
        if self._live:
            sys.stderr.write("\n")

    def _line(self) -> str:
        whole = f" of {self._length / _MEGABYTE:.1f}" if self._length else ""
        return f"downloading {self._name}: {self.received / _MEGABYTE:.1f}{whole} MB"
