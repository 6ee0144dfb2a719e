"""The few calls of MLflow's REST API that a run needs, so that no script needs mlflow installed."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_GATEWAY = (502, 503, 504)


class MlflowError(Exception):
    """MLflow is away or refused; the message names the URL."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Mlflow:
    """The few calls of MLflow's REST API that a run needs.

    Args:
        url: the tracking server.
        patience: for how many seconds a call is tried again while the server is away (it may be restarting).
        timeout: seconds that one answer may take.
    """

    def __init__(self, url: str, *, patience: float = 0, timeout: float = 20) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._patience = patience
        # A proxy from the environment must not see, nor break, what goes to 127.0.0.1.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def experiment(self, name: str) -> dict[str, Any] | None:
        try:
            reply = self._get("experiments/get-by-name", {"experiment_name": name})
        except MlflowError as error:
            if error.code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        found: dict[str, Any] = reply["experiment"]
        return found

    def ensure_experiment(self, name: str) -> str:
        """The experiment's id; made if absent, restored if the user deleted it."""
        found = self.experiment(name)
        if found is None:
            try:
                return str(self._post("experiments/create", {"name": name}, again=False)["experiment_id"])
            except MlflowError as error:  # somebody else was first
                found = self.experiment(name) if error.code == "RESOURCE_ALREADY_EXISTS" else None
                if found is None:
                    raise
        if found.get("lifecycle_stage") == "deleted":
            self._post("experiments/restore", {"experiment_id": found["experiment_id"]})
        return str(found["experiment_id"])

    def search(self, experiment_id: str, tags: Mapping[str, str], *, limit: int = 1) -> list[dict[str, Any]]:
        """The latest runs that carry all these tags."""
        body = {
            "experiment_ids": [experiment_id],
            "filter": " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items()),
            "order_by": ["attributes.start_time DESC"],
            "max_results": limit,
        }
        runs: list[dict[str, Any]] = self._post("runs/search", body).get("runs", [])
        return runs

    def tag(self, run_id: str, key: str) -> str | None:
        tags = self._get("runs/get", {"run_id": run_id})["run"]["data"].get("tags", [])
        return next((tag["value"] for tag in tags if tag["key"] == key), None)

    def create_run(self, experiment_id: str, name: str, user: str, tags: Mapping[str, str]) -> dict[str, Any]:
        body = {
            "experiment_id": experiment_id,
            "run_name": name,
            "user_id": user,
            "start_time": _now(),
            "tags": _pairs(tags),
        }
        # Not tried again: when only the answer was lost, there would be two runs.
        run: dict[str, Any] = self._post("runs/create", body, again=False)["run"]
        return run

    def update_run(self, run_id: str, status: str) -> None:
        ended = {} if status == "RUNNING" else {"end_time": _now()}
        self._post("runs/update", {"run_id": run_id, "status": status, **ended})

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        now = _now()
        body = {
            "run_id": run_id,
            "params": _pairs(params or {}),
            "tags": _pairs(tags or {}),
            "metrics": [
                {"key": key, "value": _wire_number(value), "timestamp": now, "step": 0}
                for key, value in (metrics or {}).items()
            ],
        }
        self._post("runs/log-batch", body)

    def delete_tag(self, run_id: str, key: str) -> None:
        self._post("runs/delete-tag", {"run_id": run_id, "key": key})

    def _get(self, endpoint: str, query: Mapping[str, str]) -> dict[str, Any]:
        url = f"{self._url}/api/2.0/mlflow/{endpoint}?{urllib.parse.urlencode(query)}"
        return self._send(urllib.request.Request(url), again=True)

    def _post(self, endpoint: str, body: Mapping[str, Any], *, again: bool = True) -> dict[str, Any]:
        url = f"{self._url}/api/2.0/mlflow/{endpoint}"
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        return self._send(urllib.request.Request(url, data=data, headers=headers), again=again)

    def _send(self, request: urllib.request.Request, *, again: bool) -> dict[str, Any]:
        deadline = time.monotonic() + (self._patience if again else 0)
        while True:
            try:
                with self._opener.open(request, timeout=self._timeout) as reply:
                    answer: dict[str, Any] = json.loads(reply.read() or b"{}")
                    return answer
            except urllib.error.HTTPError as error:
                refusal = self._refusal(error)
                if error.code not in _GATEWAY or time.monotonic() > deadline:
                    raise refusal from error
            # A server that is going down resets connections or sends half an answer.
            except (OSError, http.client.HTTPException, ValueError) as error:
                if time.monotonic() > deadline:
                    reason = getattr(error, "reason", None) or error
                    message = f"no answer from MLflow at {self._url}: {reason} (see `mlops-env logs mlflow`)"
                    raise MlflowError(message) from error
            time.sleep(0.5)

    def _refusal(self, error: urllib.error.HTTPError) -> MlflowError:
        text = error.read().decode(errors="replace")
        try:
            detail = json.loads(text)
        except ValueError:
            detail = {"message": text[:200]}
        message = f"MLflow at {self._url} answered {error.code}: {detail.get('message', '')}"
        return MlflowError(message, detail.get("error_code", ""))


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def _wire_number(value: float) -> float | str:
    # JSON has no such numbers; protobuf's JSON, which MLflow reads, spells them as text.
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _now() -> int:
    return time.time_ns() // 1_000_000
