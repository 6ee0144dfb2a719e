"""Ask Prefect how it is, or run the flow through its server and wait; triggers.py has the command line."""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from triggers import OrchestratorError, main

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    # This folder; when it runs, `prefect` is Prefect.
    from prefect.names import DEPLOYMENT, RUN_KEY, identifiers
    from workspace import Environment
else:
    from names import DEPLOYMENT, RUN_KEY, identifiers

_ENDED = {"COMPLETED": "completed", "FAILED": "failed", "CRASHED": "failed", "CANCELLED": "cancelled"}
_POLL_SECONDS = 0.4
_LATEST_POLL = 8.0  # seconds; the worker asks each second
_WORKER_PATIENCE = 90.0  # seconds that the worker may be away, restarting
_PATIENCE = 60.0  # seconds that the server may be away, restarting
_NOT_FOUND, _SERVER_ERROR = 404, 500


class PrefectError(OrchestratorError):
    """The server is away or refused; the message says which."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Prefect:
    """The server's API, with the password of this environment.

    Args:
        environment: whose server it is.
        patience: for how many seconds a call is tried again while the server is away.
        timeout: seconds that one answer may take.
    """

    def __init__(self, environment: Environment, *, patience: float, timeout: float) -> None:
        login = f"admin:{environment.secret('prefect-password')}".encode()
        self._url = environment.url
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(login).decode()}",
            "Content-Type": "application/json",
        }
        self._patience, self._timeout = patience, timeout
        # A proxy from the environment must not see, nor break, what goes to 127.0.0.1.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST with a body, else GET; every call here can safely be made twice."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/api{path}", data=data, headers=self._headers)
        deadline = time.monotonic() + self._patience
        while True:
            try:
                with self._opener.open(request, timeout=self._timeout) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                if error.code < _SERVER_ERROR or time.monotonic() > deadline:
                    text = error.read().decode(errors="replace")[:500]
                    raise PrefectError(f"Prefect answered {error.code}: {text}", error.code) from error
            # A server that is going down resets connections or sends half an answer.
            except (OSError, http.client.HTTPException, ValueError) as error:
                if time.monotonic() > deadline:
                    reason = getattr(error, "reason", None) or error
                    raise PrefectError(f"no answer from Prefect at {self._url}: {reason}") from error
            time.sleep(0.5)

    def deployment(self, flow: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call(f"/deployments/name/{urllib.parse.quote(flow)}/{DEPLOYMENT}")
        return found

    def tasks(self, flow_run_id: str) -> list[dict[str, Any]]:
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "sort": "EXPECTED_START_TIME_ASC"}
        found: list[dict[str, Any]] = self.call("/task_runs/filter", body)
        return found


def health(environment: Environment) -> str:
    """Why Prefect is not healthy; empty if it is: the server answers, and a worker asks it for work."""
    prefect = Prefect(environment, patience=0, timeout=1.5)
    try:
        deployment = prefect.deployment(environment.pipeline().name)
    except PrefectError as error:
        return "the worker has not registered the flow yet" if error.code == _NOT_FOUND else str(error)
    if (age := seconds_since_poll(deployment)) is None or age > seconds_since_start(environment):
        return "the worker has not asked for work yet"
    return "" if age < _LATEST_POLL else f"no worker has asked for work for {age:.0f} seconds"


def seconds_since_start(environment: Environment) -> float:
    """How long ago services/prefect-worker.sh began."""
    try:
        return time.time() - (environment.state / "prefect" / "worker.started").stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def seconds_since_poll(deployment: Mapping[str, Any]) -> float | None:
    # The server's own status lags a minute behind a worker that died.
    polled = deployment.get("last_polled")
    return (datetime.now(UTC) - datetime.fromisoformat(polled)).total_seconds() if polled else None


def run(environment: Environment, run_key: str, params: Mapping[str, str]) -> dict[str, Any]:
    """Run the flow once for this key, and wait for its end."""
    pipeline = environment.pipeline()
    values = pipeline.merged(params)
    names = identifiers(pipeline.params)
    parameters = {names[name]: value for name, value in values.items()}
    prefect = Prefect(environment, patience=_PATIENCE, timeout=20)
    deployment = prefect.deployment(pipeline.name)
    flow_run = prefect.call(
        f"/deployments/{deployment['id']}/create_flow_run",
        {"name": run_key, "parameters": {**parameters, RUN_KEY: run_key}, "idempotency_key": run_key},
    )
    seen = time.monotonic()
    told: dict[str, str] = {}
    while True:
        flow_run = prefect.call(f"/flow_runs/{flow_run['id']}")
        tasks = prefect.tasks(flow_run["id"])
        for task in tasks:
            # A pending task has not got its own name yet.
            if task["state_type"] != "PENDING" and told.get(task["name"]) != task["state_name"]:
                told[task["name"]] = task["state_name"]
                print(f"step {task['name']}: {task['state_name'].lower()}", file=sys.stderr)
        if state := _ENDED.get(flow_run["state_type"]):
            break
        age = seconds_since_poll(prefect.deployment(pipeline.name))
        if age is not None and age < _LATEST_POLL:
            seen = time.monotonic()
        elif time.monotonic() > seen + _WORKER_PATIENCE:
            raise PrefectError("nobody runs it: the worker is gone (see `mlops-env logs prefect-worker`)")
        time.sleep(_POLL_SECONDS)
    if state != "completed":
        print(flow_run["state"].get("message") or "", file=sys.stderr)
    return {
        "id": flow_run["id"],
        "state": state,
        "page": f"/v2/runs/flow-run/{flow_run['id']}",
        "failed_step": None if state == "completed" else failed_step(tasks),
    }


def failed_step(tasks: Sequence[Mapping[str, Any]]) -> str | None:
    """The step that did not complete; none where the run ended before its first step."""
    return next((task["name"] for task in reversed(tasks) if task["state_type"] != "COMPLETED"), None)


if __name__ == "__main__":
    sys.exit(main(health, run))
