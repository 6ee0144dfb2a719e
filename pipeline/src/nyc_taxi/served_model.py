"""The model as MLflow serves it: this file and model.json travel together, and need only mlflow and pandas.

MLflow runs this file when the model is logged and when it is loaded; nothing else imports it.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Duration(PythonModel):
    """Zones and distance in, minutes out."""

    def load_context(self, context: PythonModelContext) -> None:
        model = json.loads(Path(context.artifacts["model"]).read_text(encoding="utf-8"))
        self.pair = model["features"] == "pair"
        self.intercept = model["intercept"]
        self.weights = model["weights"]

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        pickup, dropoff = model_input["PULocationID"].astype(str), model_input["DOLocationID"].astype(str)
        names = (
            ["PU_DO=" + pickup + "_" + dropoff] if self.pair else ["PULocationID=" + pickup, "DOLocationID=" + dropoff]
        )
        duration = pd.Series(self.intercept, index=model_input.index)
        for name in names:
            duration += name.map(self.weights).fillna(0.0).astype(float)  # never seen in training: no weight
        if self.pair:
            duration += self.weights["trip_distance"] * model_input["trip_distance"]
        return pd.DataFrame({"duration": duration})


set_model(Duration())
