"""The five steps, each from the run folder to the run folder, and the run of all five in one process."""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from nyc_taxi import evaluate as evaluation
from nyc_taxi import ingest as ingestion
from nyc_taxi import transform as transformation
from nyc_taxi.console import say
from nyc_taxi.errors import DataError
from nyc_taxi.features import Statistics
from nyc_taxi.ingest import ROLES, Role
from nyc_taxi.report import render
from nyc_taxi.run_folder import RunFolder
from nyc_taxi.settings import Settings
from nyc_taxi.tracking import tracking
from nyc_taxi.train import fit

Trips = Callable[[Role], pl.LazyFrame]
Result = dict[str, Any]


def ingest(settings: Settings, folder: RunFolder) -> None:
    distance = settings.features == "pair"
    sources = {role: ingestion.ingest(settings.inputs[role], settings.kind, distance=distance) for role in ROLES}
    folder.write_sources(sources)
    for role, source in sources.items():
        say(f"{role}: {source.rows:,} {source.kind} trips in {source.path}")


def transform(_settings: Settings, folder: RunFolder) -> None:
    for role, source in folder.read_sources().items():
        with ingestion.reading(source.path):
            folder.write_trips(role, transformation.trips(source))


def features(settings: Settings, folder: RunFolder, trips: Trips | None = None) -> None:
    """From what `transform` wrote, or straight from `trips`."""
    trips = trips or folder.read_trips
    for role, source in folder.read_sources().items():
        with ingestion.reading(source.path):
            statistics = Statistics.of(trips(role), settings.features)
        if statistics.rows == 0:
            raise DataError(f"{source.path}: no trip lasts 1 to 60 minutes", "give a month with such trips")
        folder.write_statistics(role, statistics)
        pairs = len(statistics.groups)
        say(f"{role}: {statistics.rows:,} trips of 1 to 60 minutes in {pairs:,} pairs of zones")


def train(settings: Settings, folder: RunFolder) -> None:
    statistics = {role: folder.read_statistics(role) for role in ROLES}
    model = fit(statistics["train"])
    folder.write_model(model)
    say(f"model: {len(model.weights):,} features, intercept {model.intercept:.4f}")
    with tracking() as run:
        if run is None:
            say("MLFLOW_TRACKING_URI is not set: nothing is logged")
            return
        run.log_data(folder.read_sources(), {role: statistics[role].rows for role in ROLES})
        run.log_params(settings.params())
        folder.write_logged(run.run_id, run.log_model(folder.model, model.features))


def evaluate(settings: Settings, folder: RunFolder, trips: Trips | None = None) -> Result:
    """The result that is also the last line on stdout."""
    model, sources = folder.read_model(), folder.read_sources()
    statistics = {role: folder.read_statistics(role) for role in ROLES}
    metrics = evaluation.metrics(model, statistics["train"], statistics["validate"])
    rows = {"train": statistics["train"].rows, "validation": statistics["validate"].rows}
    with ingestion.reading(sources["validate"].path):
        errors = evaluation.errors(model, statistics["validate"], (trips or folder.read_trips)("validate"))
    result: Result = {"metrics": metrics, "rows": rows}
    folder.write_result(result)
    folder.write_report(render(settings.params(), sources, result, errors))
    say(f"RMSE, minutes: training {metrics['train_rmse']:.4f}, validation {metrics['validation_rmse']:.4f}")
    say(f"report: {folder.report}")
    with tracking(folder) as run:
        if run is not None:
            run.log_metrics(metrics)
            run.log_report(folder.report)
            run.finish()
    return result


def run(settings: Settings, folder: RunFolder) -> Result:
    """As the five steps one by one, but no trip is written to disk in between."""

    def trips(role: Role) -> pl.LazyFrame:
        return transformation.trips(folder.read_sources()[role])

    ingest(settings, folder)
    features(settings, folder, trips)
    train(settings, folder)
    return evaluate(settings, folder, trips)


COMMANDS: Mapping[str, Callable[[Settings, RunFolder], Result | None]] = {
    step.__name__: step for step in (ingest, transform, features, train, evaluate, run)
}


def execute(command: str, settings: Settings) -> Result | None:
    return COMMANDS[command](settings, RunFolder(settings.folder))
