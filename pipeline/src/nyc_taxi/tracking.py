"""Whether and how a run is logged. MLflow takes two seconds to import, so only steps that log pay for it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nyc_taxi.console import say
from nyc_taxi.run_folder import RunFolder

if TYPE_CHECKING:
    from nyc_taxi.mlflow_run import MlflowRun

_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # half a minute: a server's restart; by default it is minutes
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@contextmanager
def tracking(folder: RunFolder | None = None) -> Iterator["MlflowRun | None"]:
    """The run to log to, or the one that `folder` was logged to; None if there is no MLflow."""
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        yield None
        return
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    say("logging to MLflow")
    from nyc_taxi.mlflow_run import opened  # noqa: PLC0415 - see above, and MLflow reads the settings when imported

    with opened(folder) as run:
        yield run
