"""What goes wrong on a real day, said so that the reader knows what to do next."""

from pathlib import Path


class TaxiError(Exception):
    """A failure that is not a bug: what happened, and the cure."""

    exit_code = 1

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(f"{problem}\n  cure: {cure}")


class DataError(TaxiError):
    """The input or the parameters are wrong; found before any training."""

    exit_code = 2


class WriteError(TaxiError):
    def __init__(self, path: Path, cause: str, cure: str) -> None:
        super().__init__(f"cannot write {path}: {cause}", cure)
