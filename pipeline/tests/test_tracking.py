"""What MLflow gets, told by MLflow itself (its file store: a server is the integration tier's)."""

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from nyc_taxi import steps
from nyc_taxi.features import Features
from nyc_taxi.run_folder import RunFolder
from nyc_taxi.settings import Settings

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's own


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri


@pytest.mark.parametrize("features", ["separate", "pair"])
@pytest.mark.usefixtures("store")
def test_a_run_is_logged_whole(tmp_path: Path, features: Features) -> None:
    import mlflow  # noqa: PLC0415

    folder = tmp_path / "run"
    settings = Settings({"train": "2023-01", "validate": "2023-02"}, None, features, "linear", folder)
    result = steps.execute("run", settings)
    assert result is not None

    run_id, model_id = RunFolder(folder).read_logged()
    run = mlflow.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == result["metrics"]
    assert run.data.params == {"train": "2023-01", "validate": "2023-02", "features": features, "model": "linear"}
    assert run.data.tags["data.train.rows_kept"] == "65946"
    assert len(run.data.tags["data.validate.sha256"]) == 64
    assert run.data.tags["version.polars"]
    assert run.inputs is not None
    assert sorted(data.dataset.name for data in run.inputs.dataset_inputs) == [
        "green_tripdata_2023-01.parquet",
        "green_tripdata_2023-02.parquet",
    ]
    client = mlflow.MlflowClient()
    assert "report.html" in [artifact.path for artifact in client.list_artifacts(run_id)]
    logged = client.get_logged_model(model_id)
    assert (logged.source_run_id, logged.experiment_id) == (run_id, run.info.experiment_id)
    assert logged.status == "READY"
    assert {metric.key: metric.value for metric in logged.metrics or []} == result["metrics"]

    served = mlflow.pyfunc.load_model(f"models:/{model_id}")
    assert served.metadata.signature.outputs.input_names() == ["duration"]
    trips = pd.DataFrame(
        {"PULocationID": [236, 65, 9999], "DOLocationID": [239, 170, 9999], "trip_distance": [1.98, 6.54, 0.0]}
    )
    predicted = served.predict(trips)["duration"]
    model = RunFolder(folder).read_model()
    zones = ["PU_DO=65_170"] if features == "pair" else ["PULocationID=65", "DOLocationID=170"]
    assert predicted[1] == pytest.approx(
        model.intercept + sum(model.weights[zone] for zone in zones) + model.distance * 6.54
    )
    assert predicted[2] == pytest.approx(model.intercept)
    if features == "separate":
        assert served.predict(trips.drop(columns="trip_distance"))["duration"].equals(predicted)


def test_the_runners_run_stays_open(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow  # noqa: PLC0415

    client = mlflow.MlflowClient(store)
    run_id = client.create_run(client.create_experiment("runner")).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    settings = Settings({"train": "2023-01", "validate": "2023-02"}, None, "separate", "linear", tmp_path / "run")
    steps.execute("run", settings)
    run = client.get_run(run_id)
    assert run.info.status == "RUNNING"
    assert "validation_rmse" in run.data.metrics
    assert len(client.search_experiments()) == 2


def test_an_mlflow_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nyc_taxi import cli  # noqa: PLC0415

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert cli.main(["run", "--run-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "error: MLflow: API request to http://127.0.0.1:9" in error
    assert "cure: check that the server at MLFLOW_TRACKING_URI is up" in error


@pytest.mark.usefixtures("store")
def test_a_full_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nyc_taxi import cli  # noqa: PLC0415

    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/model")  # noqa: S108

    monkeypatch.setattr("mlflow.models.Model.log", full)
    assert cli.main(["run", "--run-dir", str(tmp_path)]) == 1
    assert "error: MLflow: [Errno 28] No space left on device: '/tmp/model'\n  cure: free" in capsys.readouterr().err
