"""Linear training against the course notebook's method, and grouping against a bare scan: whole processes, one run.

    python bench/training.py --python PIPELINE_VENV/bin/python [--uv uv] [--trips 3100000] [--many 60000000]

Needs only the standard library here, so that this process's own memory cannot show in its children's peaks. The
notebook's method gets a venv of its own, made by uv. The last line on stdout is a JSON list of rows
{"name", "ratio" or "value", "bar", "met"}; progress goes to stderr.

The RMSE is compared with an exact one found another way: centred normal equations of the sparse one-hot matrix of
all trips, residuals trip by trip. The notebook's own solver is iterative and stops near it, so it is shown beside.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REQUIREMENTS = ["numpy==2.2.6", "pandas==2.2.3", "pyarrow==19.0.1", "scikit-learn==1.7.2", "scipy==1.15.3"]

# The shipped months, repeated to so many trips; written in a stream, as 60 million do not fit everywhere.
TILE = """
import sys
import polars as pl
from nyc_taxi.months import SHIPPED_FOLDER
target, trips = sys.argv[1], int(sys.argv[2])
columns = {"lpep_pickup_datetime": pl.Datetime("us"), "lpep_dropoff_datetime": pl.Datetime("us"),
           "PULocationID": pl.Int64, "DOLocationID": pl.Int64, "trip_distance": pl.Float64}
months = [pl.scan_parquet(path).select(pl.col(name).cast(dtype) for name, dtype in columns.items())
          for path in sorted(SHIPPED_FOLDER.glob("*.parquet"))]
block = pl.concat(months).collect()
copies = -(-trips // len(block))
pl.concat([block.lazy()] * copies).head(trips).sink_parquet(target, row_group_size=500_000)
"""

# As the course's notebook has it, line by line, but for the name that scikit-learn now gives to the RMSE.
NOTEBOOK = """
import json, sys
import pandas as pd
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.metrics import root_mean_squared_error

categorical = ["PULocationID", "DOLocationID"]

def read_dataframe(filename):
    df = pd.read_parquet(filename)
    df["duration"] = df.lpep_dropoff_datetime - df.lpep_pickup_datetime
    df.duration = df.duration.apply(lambda td: td.total_seconds() / 60)
    df = df[(df.duration >= 1) & (df.duration <= 60)].copy()
    df[categorical] = df[categorical].astype(str)
    return df

df_train, df_val = read_dataframe(sys.argv[1]), read_dataframe(sys.argv[2])
dv = DictVectorizer()
X_train = dv.fit_transform(df_train[categorical].to_dict(orient="records"))
X_val = dv.transform(df_val[categorical].to_dict(orient="records"))
lr = LinearRegression()
lr.fit(X_train, df_train.duration.values)
print(json.dumps({"train_rmse": root_mean_squared_error(df_train.duration.values, lr.predict(X_train)),
                  "validation_rmse": root_mean_squared_error(df_val.duration.values, lr.predict(X_val))}))
"""

EXACT = """
import json, sys
import numpy as np, pandas as pd
from scipy import sparse

def read(filename):
    df = pd.read_parquet(filename)
    minutes = (df.lpep_dropoff_datetime - df.lpep_pickup_datetime).dt.total_seconds() / 60
    kept = (minutes >= 1) & (minutes <= 60)
    return df[kept], minutes[kept].to_numpy()

train, y = read(sys.argv[1])
zones = [np.unique(train[c]) for c in ("PULocationID", "DOLocationID")]

def one_hot(df):
    blocks = []
    for column, known in zip(("PULocationID", "DOLocationID"), zones):
        at = pd.Index(known).get_indexer(df[column])
        rows = np.flatnonzero(at >= 0)
        blocks.append(sparse.csr_matrix((np.ones(len(rows)), (rows, at[rows])), (len(df), len(known))))
    return sparse.hstack(blocks).tocsr()

X = one_hot(train)
mean = np.asarray(X.mean(axis=0)).ravel()
values, vectors = np.linalg.eigh((X.T @ X).toarray() - len(y) * np.outer(mean, mean))
kept = values > 1e-12 * values[-1]
w = vectors[:, kept] @ ((vectors[:, kept].T @ (X.T @ (y - y.mean()))) / values[kept])
b = y.mean() - mean @ w
validation, z = read(sys.argv[2])
rmse = lambda X, y: float(np.sqrt(np.mean((y - b - X @ w) ** 2)))
print(json.dumps({"train_rmse": rmse(X, y), "validation_rmse": rmse(one_hot(validation), z)}))
"""

FEBRUARY = """
import json
from nyc_taxi.months import SHIPPED_FOLDER
print(json.dumps({"path": str(SHIPPED_FOLDER / "green_tripdata_2023-02.parquet")}))
"""

# In one process each, imports excluded: reading the columns and no more, and what the features step does with them.
SCAN = """
import json, sys, time
import polars as pl
from nyc_taxi.features import Statistics
start = time.perf_counter()
columns = ["lpep_pickup_datetime", "lpep_dropoff_datetime", "PULocationID", "DOLocationID"]
pl.scan_parquet(sys.argv[1]).select(pl.col(columns).max()).collect(engine="streaming")
print(json.dumps({"seconds": time.perf_counter() - start}))
"""

GROUP = """
import json, sys, time
from nyc_taxi.features import Statistics
from nyc_taxi.ingest import Source
from nyc_taxi.transform import trips
start = time.perf_counter()
source = Source("", sys.argv[1], "green", None, 0, 0, "")
rows = Statistics.of(trips(source), "separate").rows
print(json.dumps({"seconds": time.perf_counter() - start, "rows": rows}))
"""


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_mib: float
    result: dict[str, Any]


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def measure(*argv: str | Path) -> Measured:
    """Wall time and peak memory of one whole process, and the JSON of its last line."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.PIPE, text=True)
        with process:
            assert process.stderr is not None  # noqa: S101 - for the type checker
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            sys.exit(f"{errors}\n{argv[0]} exited {process.returncode}")
        output.seek(0)
        lines = output.read().splitlines()
    peak_mib = usage.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    return Measured(seconds, peak_mib, json.loads(lines[-1]) if lines else {})


def fastest(times: int, *argv: str | Path) -> Measured:
    """Other processes only ever add to a time, so the least of several is the one that tells most."""
    return min((measure(*argv) for _ in range(times)), key=lambda one: one.result.get("seconds", one.seconds))


def row(name: str, kind: str, value: float, sign: str, bar: float) -> dict[str, Any]:
    met = value >= bar if sign == ">=" else value <= bar
    return {"name": name, kind: round(value, 3) if value >= 0.001 else value, "bar": f"{sign} {bar:g}", "met": met}  # noqa: PLR2004


def against_notebook(python: str, notebook_python: Path, folder: Path, trips: int) -> list[dict[str, Any]]:
    tiled = folder / "tiled.parquet"
    measure(python, "-c", TILE, tiled, str(trips))
    february = measure(python, "-c", FEBRUARY).result["path"]
    command = (python, "-m", "nyc_taxi", "run", "--train", tiled, "--validate", february, "--json")
    before = fastest(5, *command, "--run-dir", folder / "run")
    theirs = fastest(2, notebook_python, "-c", NOTEBOOK, tiled, february)
    after = fastest(5, *command, "--run-dir", folder / "run")
    ours = min(before, after, key=lambda one: one.seconds)
    say(f"nyc-taxi run: {ours.seconds:.2f} s, {ours.peak_mib:.0f} MiB, {ours.result['metrics']}")
    say(f"the notebook's method: {theirs.seconds:.2f} s, {theirs.peak_mib:.0f} MiB, {theirs.result}")
    exact = measure(notebook_python, "-c", EXACT, tiled, february)
    say(f"an exact solution from all trips: {exact.seconds:.2f} s, {exact.peak_mib:.0f} MiB, {exact.result}")
    differences = [abs(ours.result["metrics"][name] - rmse) for name, rmse in exact.result.items()]
    name = f"training on {trips / 1e6:g} M trips, zones"
    return [
        row(f"{name}: speed, times the notebook's", "ratio", theirs.seconds / ours.seconds, ">=", 30),
        row(f"{name}: memory, times the notebook's", "ratio", ours.peak_mib / theirs.peak_mib, "<=", 1 / 8),
        row(f"{name}: RMSE less the exact one, minutes", "value", max(differences), "<=", 1e-6),
    ]


def against_scan(python: str, folder: Path, trips: int) -> list[dict[str, Any]]:
    """The memory row compares with half of the trips: what is streamed costs the same."""
    many, half = folder / "many.parquet", folder / "half.parquet"
    measure(python, "-c", TILE, many, str(trips))
    measure(python, "-c", TILE, half, str(trips // 2))
    scan = fastest(5, python, "-c", SCAN, many)
    group = fastest(5, python, "-c", GROUP, many)
    small = fastest(5, python, "-c", GROUP, half)
    for text, measured in (("scan", scan), ("grouping", group), ("grouping half", small)):
        say(f"{text}: {measured.result['seconds']:.2f} s, {measured.peak_mib:.0f} MiB")
    name = f"grouping {trips / 1e6:g} M trips by zones"
    ratio = group.result["seconds"] / scan.result["seconds"]
    return [
        row(f"{name}: time, times a bare scan's", "ratio", ratio, "<=", 2.5),
        row(f"{name}: memory, times that of half", "ratio", group.peak_mib / small.peak_mib, "<=", 1.5),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python that has nyc-taxi installed")
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--trips", type=int, default=3_100_000)
    parser.add_argument("--many", type=int, default=60_000_000)
    options = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory(prefix="mlops-env-bench-") as name:
        folder = Path(name)
        venv = folder / "notebook"
        say("making the notebook's venv")
        subprocess.run([options.uv, "venv", "--quiet", venv], check=True)
        notebook_python = venv / "bin" / "python"
        install = [options.uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", notebook_python]
        subprocess.run([*install, *REQUIREMENTS], check=True)
        rows = against_scan(options.python, folder, options.many)
        rows += against_notebook(options.python, notebook_python, folder, options.trips)
    for one in rows:
        figure, verdict = one.get("ratio", one.get("value")), "met" if one["met"] else "MISSED"
        say(f"{one['name']}: {figure} (bar {one['bar']}, {verdict})")
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
