"""Drive the toy.

python trigger.py health
python trigger.py run [--run-key KEY] [--param NAME=VALUE]…
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workspace import Environment, UsageError, check_run_key, parse_params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATIENCE = 30.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ToyError(Exception):
    """The server is away."""


def call(url: str, body: Mapping[str, Any] | None = None, *, patience: float = 0) -> Any:
    deadline = time.monotonic() + patience
    while True:
        try:
            data = None if body is None else json.dumps(body).encode()
            with _OPENER.open(urllib.request.Request(url, data), timeout=2) as reply:
                return json.loads(reply.read())
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise ToyError(f"no answer from the toy at {url}: {error}") from error
            time.sleep(0.1)


def health(environment: Environment) -> str:
    try:
        served = call(f"{environment.url}/health")["project"]
    except ToyError as error:
        return str(error)
    ours = str(environment.workspace / ".mlops-env" / "projects" / "toy")
    return "" if served == ours else f"another toy answers on this port; it serves {served}"


def run(environment: Environment, key: str, params: Mapping[str, str]) -> dict[str, Any]:
    values = environment.pipeline().merged(params)
    call(f"{environment.url}/runs", {"key": key, "params": values}, patience=_PATIENCE)
    seen: dict[str, str] = {}
    while True:
        found = call(f"{environment.url}/runs/{key}", patience=_PATIENCE)
        for step, state in found["steps"].items():
            if state not in {"waiting", seen.get(step)}:
                print(f"step {step}: {state}", file=sys.stderr, flush=True)
                seen[step] = state
        if found["state"] in {"completed", "failed"}:
            failed = next((step for step, state in found["steps"].items() if state != "completed"), None)
            return {"id": str(found["id"]), "state": found["state"], "page": f"/runs/{key}", "failed_step": failed}
        time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="trigger.py")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("health")
    run_parser = verbs.add_parser("run")
    run_parser.add_argument("--run-key", default=f"run-{uuid.uuid4()}")
    run_parser.add_argument("--param", action="append", default=[])
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
    except ToyError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0 if result["state"] == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())
