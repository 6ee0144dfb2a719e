"""The published figures, from the shipped months; README.md has their sources."""

import dataclasses
import json
from pathlib import Path

import pytest

from nyc_taxi import steps
from nyc_taxi.features import Features
from nyc_taxi.run_folder import RunFolder
from nyc_taxi.settings import Settings


def settings(folder: Path, features: Features) -> Settings:
    return Settings({"train": "2023-01", "validate": "2023-02"}, None, features, "linear", folder)


@pytest.mark.parametrize(
    ("features", "count", "intercept", "train", "validation"),
    [
        ("separate", 467, 22.7668146, 7.0399374094, 7.3561703878),
        ("pair", 5702, 23.6770938, 4.7542675682, 6.0338470859),
    ],
)
def test_figures(
    tmp_path: Path, features: Features, count: int, intercept: float, train: float, validation: float
) -> None:
    result = steps.execute("run", settings(tmp_path / "run", features))
    assert result is not None
    assert result["rows"] == {"train": 65_946, "validation": 62_574}
    metrics = result["metrics"]
    assert metrics["feature_count"] == count
    assert metrics["intercept"] == pytest.approx(intercept, abs=1e-4)
    assert metrics["train_rmse"] == pytest.approx(train, abs=1e-6)
    assert metrics["validation_rmse"] == pytest.approx(validation, abs=1e-6)


@pytest.mark.parametrize("features", ["separate", "pair"])
def test_five_steps_give_what_one_run_gives(tmp_path: Path, features: Features) -> None:
    apart, whole = (settings(tmp_path / name, features) for name in ("a part", "whole"))
    for step in ("ingest", "transform", "features", "train"):
        assert steps.execute(step, apart) is None
    by_steps, by_run = steps.execute("evaluate", apart), steps.execute("run", whole)
    assert by_steps is not None
    assert by_run is not None
    assert by_steps["rows"] == by_run["rows"]
    assert by_steps["metrics"] == pytest.approx(by_run["metrics"], rel=1e-9)
    assert json.loads((apart.folder / "result.json").read_text(encoding="utf-8")) == by_steps
    assert not list(apart.folder.glob("*.part"))


def test_a_run_records_what_it_read(tmp_path: Path) -> None:
    steps.execute("ingest", settings(tmp_path, "separate"))
    source = RunFolder(tmp_path).read_sources()["train"]
    assert dataclasses.asdict(source) | {"path": ""} == {
        "asked": "2023-01",
        "path": "",
        "kind": "green",
        "month": "2023-01",
        "bytes": 1427002,
        "rows": 68211,
        "sha256": "9f0e03dd7f8f94ecc15949cdbfd2a4e1fc9ebb41a11882215158c9fc95012e31",
    }
