"""What a run was asked for: a flag, else PARAM_NAME as the step runner sets it, else the default."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from nyc_taxi.errors import DataError
from nyc_taxi.months import KINDS

if TYPE_CHECKING:  # both import polars, which --help need not pay for
    from nyc_taxi.features import Features
    from nyc_taxi.ingest import Role

CHOICES: dict[str, tuple[str, ...]] = {
    "kind": tuple(KINDS),
    "features": ("separate", "pair"),
    "model": ("linear",),
}
DEFAULTS = {"train": "2023-01", "validate": "2023-02", "kind": "", "features": "separate", "model": "linear"}
DEFAULT_FOLDER = "nyc-taxi-run"


@dataclass(frozen=True)
class Settings:
    inputs: "dict[Role, str]"
    kind: str | None
    features: "Features"
    model: str
    folder: Path

    @classmethod
    def resolve(cls, flags: argparse.Namespace, environ: Mapping[str, str]) -> Self:
        """Raises one error that lists every wrong value."""
        values = {
            name: getattr(flags, name) or environ.get(f"PARAM_{name.upper()}") or default
            for name, default in DEFAULTS.items()
        }
        wrong = [
            f"{name} is {values[name]!r}, not one of {', '.join(choices)}"
            for name, choices in CHOICES.items()
            if values[name] and values[name] not in choices
        ]
        if wrong:
            raise DataError("; ".join(wrong), "correct the flag, the PARAM_ variable, or params in mlops-env.toml")
        return cls(
            inputs={"train": values["train"], "validate": values["validate"]},
            kind=values["kind"] or None,
            features=cast("Features", values["features"]),
            model=values["model"],
            folder=Path(flags.run_dir or environ.get("MLOPS_ENV_RUN_DIR") or DEFAULT_FOLDER).absolute(),
        )

    def params(self) -> dict[str, str]:
        """As logged: what an orchestrator passed, so that its own record of it agrees."""
        params = {"train": self.inputs["train"], "validate": self.inputs["validate"]}
        if self.kind:
            params["kind"] = self.kind
        return params | {"features": self.features, "model": self.model}
