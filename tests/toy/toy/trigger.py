"""Ask the toy how it is, or run the pipeline on it and wait; triggers.py has the command line."""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from triggers import OrchestratorError, main

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workspace import Environment

_PATIENCE = 30.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ToyError(OrchestratorError):
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


if __name__ == "__main__":
    sys.exit(main(health, run))
