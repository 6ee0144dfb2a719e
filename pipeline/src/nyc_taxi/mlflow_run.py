"""The run in MLflow.

The step runner opens the run and names it in MLFLOW_RUN_ID; its status is then the runner's. Without
MLFLOW_RUN_ID, `train` opens a run and `evaluate` finishes it. All goes through the client, as MLflow's fluent
functions would end the run when the step's process ends.
"""

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec

from mlflow import MlflowClient
from nyc_taxi.errors import TaxiError
from nyc_taxi.features import Features
from nyc_taxi.ingest import Role, Source
from nyc_taxi.run_folder import RunFolder
from nyc_taxi.versions import versions

EXPERIMENT = "nyc-taxi"
_DIGEST_LENGTH = 36  # all that MLflow keeps of a data set's digest; the tag has the whole
_EXAMPLE = pd.DataFrame({"PULocationID": [236, 65], "DOLocationID": [239, 170], "trip_distance": [1.98, 6.54]})


class MlflowRun:
    def __init__(self, client: MlflowClient, run_id: str, model_id: str | None, *, ours: bool) -> None:
        self.run_id = run_id
        self._client = client
        self._model_id = model_id
        self._ours = ours

    def log_params(self, params: Mapping[str, str]) -> None:
        self._client.log_batch(
            self.run_id,
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(f"version.{package}", version) for package, version in versions().items()],
        )

    def log_data(self, sources: Mapping[Role, Source], kept: Mapping[Role, int]) -> None:
        """As data sets, which MLflow's page shows beside the run, and as tags with the whole checksum."""
        inputs, tags = [], []
        for role, source in sources.items():
            facts = {
                "file": Path(source.path).name,
                "sha256": source.sha256,
                "rows_read": str(source.rows),
                "rows_kept": str(kept[role]),
            }
            tags += [RunTag(f"data.{role}.{name}", fact) for name, fact in facts.items()]
            data = Dataset(
                name=facts["file"],
                digest=source.sha256[:_DIGEST_LENGTH],
                source_type="local",
                source=json.dumps({"uri": source.path}),
                profile=json.dumps({"num_rows": source.rows, "num_rows_kept": kept[role]}),
            )
            inputs.append(DatasetInput(data, [InputTag("mlflow.data.context", role)]))
        self._client.log_batch(self.run_id, tags=tags)
        self._client.log_inputs(self.run_id, datasets=inputs)

    def log_model(self, model: Path, features: Features) -> str:
        """As code and weights, without a pickle: loads wherever MLflow and pandas are. The model's id."""
        columns: list[ColSpec | TensorSpec] = [
            ColSpec("long", "PULocationID"),
            ColSpec("long", "DOLocationID"),
            ColSpec("double", "trip_distance", required=features == "pair"),
        ]
        run = self._client.get_run(self.run_id)
        model_id = self._client.create_logged_model(  # in the run's experiment; MLflow itself would take the default
            run.info.experiment_id, name="model", source_run_id=self.run_id, params=run.data.params
        ).model_id
        installed = versions()
        with warnings.catch_warnings(action="ignore"):  # MLflow's hints to people who write notebooks
            Model.log(
                artifact_path=None,
                model_id=model_id,
                flavor=mlflow.pyfunc,
                run_id=self.run_id,
                python_model=str(Path(__file__).with_name("served_model.py")),
                artifacts={"model": str(model)},
                signature=ModelSignature(Schema(columns), Schema([ColSpec("double", "duration")])),
                input_example=_EXAMPLE,
                # Given, so that MLflow need not load the model in another process to find them.
                pip_requirements=[f"{package}=={installed[package]}" for package in ("mlflow-skinny", "pandas")],
            )
        return model_id

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """On the run and on its model."""
        now = time.time_ns() // 1_000_000
        self._client.log_batch(
            self.run_id,
            metrics=[
                Metric(name, value, now, 0, model_id=self._model_id, run_id=self.run_id)
                for name, value in metrics.items()
            ],
        )

    def log_report(self, report: Path) -> None:
        self._client.log_artifact(self.run_id, str(report))

    def finish(self) -> None:
        if self._ours:
            self._client.set_terminated(self.run_id)


@contextmanager
def opened(folder: RunFolder | None) -> Iterator[MlflowRun]:
    try:
        yield _open(MlflowClient(), folder)
    except MlflowException as error:
        raise TaxiError(
            f"MLflow: {str(error).partition(chr(10))[0]}",
            "check that the server at MLFLOW_TRACKING_URI is up; model and report are in the run folder",
        ) from error
    except OSError as error:  # MLflow puts a model together in the temporary folder
        raise TaxiError(f"MLflow: {error}", "free space where temporary files go, or set TMPDIR") from error


def _open(client: MlflowClient, folder: RunFolder | None) -> MlflowRun:
    given = os.environ.get("MLFLOW_RUN_ID")
    if folder is not None:
        run_id, model_id = folder.read_logged()
        return MlflowRun(client, given or run_id, model_id, ours=not given)
    if given:
        return MlflowRun(client, given, None, ours=False)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    return MlflowRun(client, client.create_run(experiment_id).info.run_id, None, ours=True)
