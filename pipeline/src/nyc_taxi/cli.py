"""`nyc-taxi`: one command for each step, and `run` for all five."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from nyc_taxi.console import say
from nyc_taxi.errors import TaxiError
from nyc_taxi.settings import Settings

EPILOG = """\
examples:
  nyc-taxi run                                          January 2023 predicts February, offline
  nyc-taxi run --train 2023-03 --validate 2023-04 --kind yellow
  nyc-taxi run --train my.parquet --validate 2023-02 --features pair --json

Each flag can also be set as PARAM_TRAIN, PARAM_VALIDATE, and so on.
A run is logged to MLflow if MLFLOW_TRACKING_URI is set.
Exit codes: 0 done, 1 failed, 2 wrong data or usage, 130 interrupted.
"""
COMMANDS = {
    "ingest": "find the trip files, downloading if need be, and check them",
    "transform": "trips of any month in one shape: 1 to 60 minutes, two zones, distance",
    "features": "the sums that linear regression needs, for each pair of zones",
    "train": "fit the model and log it",
    "evaluate": "errors on the validation month, with a report",
    "run": "all five steps in one process",
}


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    where = "a month as YYYY-MM, a parquet file, or its http address"
    common.add_argument("--train", metavar="WHAT", help=f"trips to learn from: {where} (2023-01)")
    common.add_argument("--validate", metavar="WHAT", help="trips to check on, likewise (2023-02)")
    common.add_argument(
        "--kind", metavar="KIND", help="green, yellow or fhv (green for a month, else what the file is)"
    )
    common.add_argument(
        "--features",
        metavar="HOW",
        help="separate: each zone by itself; pair: zone pairs and distance (separate)",
    )
    common.add_argument("--model", metavar="MODEL", help="linear (linear)")
    common.add_argument(
        "--run-dir", metavar="DIR", help="where steps hand on files (MLOPS_ENV_RUN_DIR, else ./nyc-taxi-run)"
    )
    common.add_argument("--json", action="store_true", help="end with the result as one line of JSON on stdout")
    top = argparse.ArgumentParser(
        prog="nyc-taxi",
        description="Predicts how long a New York taxi trip takes.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", parents=[common])
    return top


def main(argv: Sequence[str] | None = None) -> int:
    flags = parser().parse_args(argv)
    try:
        settings = Settings.resolve(flags, os.environ)
        from nyc_taxi.steps import execute  # noqa: PLC0415 - imports polars, which --help need not pay for

        result = execute(flags.command, settings)
    except TaxiError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    if result is not None and (flags.json or flags.command == "evaluate" or os.environ.get("MLOPS_ENV_RUN_DIR")):
        sys.stdout.write(f"{json.dumps(result)}\n")
    return 0
