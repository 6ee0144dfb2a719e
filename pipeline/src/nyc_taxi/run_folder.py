"""The folder through which the steps of one run hand on their files."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from nyc_taxi.errors import DataError, WriteError
from nyc_taxi.features import Statistics
from nyc_taxi.ingest import ROLES, Role, Source
from nyc_taxi.train import Model


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def write_sources(self, sources: dict[Role, Source]) -> None:
        self._write_json("ingest.json", {role: asdict(source) for role, source in sources.items()})

    def read_sources(self) -> dict[Role, Source]:
        sources = self._read_json("ingest.json", "ingest")
        return {role: Source(**sources[role]) for role in ROLES}

    def write_trips(self, role: Role, trips: pl.LazyFrame) -> None:
        with self._writing(f"trips-{role}.parquet") as part:
            trips.sink_parquet(part, engine="streaming")

    def read_trips(self, role: Role) -> pl.LazyFrame:
        return pl.scan_parquet(self._made(f"trips-{role}.parquet", "transform"), glob=False)

    def write_statistics(self, role: Role, statistics: Statistics) -> None:
        with self._writing(f"statistics-{role}.parquet") as part:
            statistics.groups.write_parquet(part)

    def read_statistics(self, role: Role) -> Statistics:
        return Statistics(pl.read_parquet(self._made(f"statistics-{role}.parquet", "features"), glob=False))

    def write_model(self, model: Model) -> None:
        self._write_text(self.model.name, model.to_json())

    def read_model(self) -> Model:
        return Model.from_json(self._made(self.model.name, "train").read_text(encoding="utf-8"))

    def write_result(self, result: dict[str, Any]) -> None:
        self._write_json("result.json", result)

    def write_report(self, html: str) -> None:
        self._write_text(self.report.name, html)

    def write_logged(self, run_id: str, model_id: str) -> None:
        self._write_json("mlflow.json", {"run_id": run_id, "model_id": model_id})

    def read_logged(self) -> tuple[str, str]:
        logged = self._read_json("mlflow.json", "train")
        return logged["run_id"], logged["model_id"]

    def _made(self, name: str, step: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise DataError(f"{path}: no such file", f"run `nyc-taxi {step}` with this run folder first")
        return path

    def _read_json(self, name: str, step: str) -> Any:
        return json.loads(self._made(name, step).read_text(encoding="utf-8"))

    def _write_json(self, name: str, value: object) -> None:
        self._write_text(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        with self._writing(name) as part:
            part.write_text(text, encoding="utf-8")

    @contextmanager
    def _writing(self, name: str) -> Iterator[Path]:
        """A temporary path that becomes `name` when the block succeeds, so no later step sees half a file."""
        target = self.path / name
        part = self.path / f"{name}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                yield part
                part.replace(target)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _write_error(target, error.strerror or str(error)) from error
        except pl.exceptions.PolarsError as error:  # a full disk among them, told by the system's number in the text
            if "(os error " not in str(error):
                raise
            raise _write_error(target, str(error).rpartition("error: ")[2]) from error


def _write_error(target: Path, cause: str) -> WriteError:
    return WriteError(
        target,
        cause.partition("\n")[0],
        "free space, or give a folder that can be written with --run-dir (or MLOPS_ENV_RUN_DIR)",
    )
