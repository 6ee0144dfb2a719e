"""The packages that decide a run's figures, as installed."""

import platform
from importlib.metadata import version

PACKAGES = ("nyc-taxi", "polars", "numpy", "pandas", "mlflow-skinny")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
