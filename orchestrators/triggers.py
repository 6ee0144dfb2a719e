"""The command line that every trigger.py has: `health`, and `run [--run-key KEY] [--param NAME=VALUE]…`.

The last line on stdout is the result as JSON; progress is on stderr, as lines `step NAME: STATE`. `run` with the key of
an earlier run finds that run instead of starting another. Exit 0: healthy, completed; 1: not; 2: wrong usage or
mlops-env.toml; 130: no longer waiting, the run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from typing import TYPE_CHECKING, Any

from workspace import Environment, UsageError, check_run_key, parse_params

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class OrchestratorError(Exception):
    """The orchestrator does not answer, or does not do what it was asked."""


def main(
    health: Callable[[Environment], str],
    run: Callable[[Environment, str, Mapping[str, str]], dict[str, Any]],
    arguments: Sequence[str] | None = None,
) -> int:
    """The whole of a trigger.py, but for what differs.

    Args:
        health: says why the orchestrator is not healthy, after one look; empty if it is.
        run: runs the pipeline once for this key, with these parameters over its own, and waits. It returns `id`,
            `state` (completed, failed, cancelled), `page` (the path of the run's page) and `failed_step`.
        arguments: those of the command line, by default.
    """
    parser = argparse.ArgumentParser(prog="trigger.py", description="The orchestrator's health and runs.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("health")
    run_parser = verbs.add_parser("run")
    run_parser.add_argument("--run-key", default=f"run-{uuid.uuid4()}")
    run_parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE")
    given = parser.parse_args(arguments)
    try:
        environment = Environment.read()
        if given.verb == "health":
            reason = health(environment)
            print(json.dumps({"healthy": not reason, "reason": reason}))
            return 1 if reason else 0
        result = run(environment, check_run_key(given.run_key), parse_params(given.param))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except OrchestratorError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("no longer waiting; the run goes on", file=sys.stderr)
        return 130
    print(json.dumps(result))
    return 0 if result["state"] == "completed" else 1
