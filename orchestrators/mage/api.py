"""The few calls of Mage's HTTP API that a run needs."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from triggers import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Not a secret: the same in every Mage, written in its pages; it only says "the web interface".
_API_KEY = "zkWlN0PkIKSN0C11CfUHUj84OT5XOJ6tDZ6bDRO2"

_PAGE = 100

# Loopback: a proxy must never be asked for it.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class MageError(OrchestratorError):
    """Mage answered that it cannot, will not, or does not know."""


class Unreachable(MageError):
    """Nobody answers, or not with Mage's words: it is starting, or restarting."""


class Mage:
    """A Mage server, and the session of its owner once logged in."""

    def __init__(self, url: str, timeout: float = 30) -> None:
        self._url = url
        self._timeout = timeout
        self._session: str | None = None

    def status(self) -> dict[str, Any]:
        """Answered without a login."""
        statuses: list[dict[str, Any]] = self._call("GET", "/api/status")["statuses"]
        return statuses[0]

    def log_in(self, email: str, password: str) -> None:
        session = {"email": email, "password": password}
        answer = self._call("POST", "/api/sessions", {"session": session})
        # A JWT, for the browser's cookie; what the API wants as bearer is inside.
        payload = str(answer["session"]["token"]).split(".")[1]
        self._session = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["token"]

    def api_trigger(self, pipeline: str, name: str) -> dict[str, Any]:
        """The pipeline's API trigger of this name, made if there is none; Mage makes its token."""
        path = f"/api/pipelines/{pipeline}/pipeline_schedules"
        for _ in range(2):
            triggers = self._call("GET", path)["pipeline_schedules"]
            ours = [one for one in triggers if one["name"] == name and one["schedule_type"] == "api"]
            if ours:
                oldest: dict[str, Any] = min(ours, key=lambda one: one["id"])
                return oldest
            wanted = {"name": name, "schedule_type": "api", "status": "active"}
            self._call("POST", path, {"pipeline_schedule": wanted})
        raise MageError(f"Mage made a trigger for pipeline {pipeline} but does not list it")

    def start(self, trigger: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
        """A new run, which the scheduler picks up within a second."""
        path = f"/api/pipeline_schedules/{trigger['id']}/api_trigger"
        answer = self._call("POST", path, {"pipeline_run": {"variables": variables}}, token=trigger["token"])
        run: dict[str, Any] = answer["pipeline_run"]
        return run

    def runs(self, pipeline: str) -> Iterator[dict[str, Any]]:
        """All runs of a pipeline, the latest first."""
        query = f"pipeline_uuid={pipeline}&disable_retries_grouping=true&_limit={_PAGE}"
        offset = 0
        while True:
            answer = self._call("GET", f"/api/pipeline_runs?{query}&_offset={offset}")
            yield from answer["pipeline_runs"]
            if not answer["metadata"]["next"]:
                return
            offset += _PAGE

    def run(self, run_id: int) -> dict[str, Any]:
        """One run with its block runs."""
        run: dict[str, Any] = self._call("GET", f"/api/pipeline_runs/{run_id}")["pipeline_run"]
        return run

    def _call(
        self, method: str, path: str, payload: dict[str, Any] | None = None, token: str | None = None
    ) -> dict[str, Any]:
        request = urllib.request.Request(self._url + path, method=method)
        request.add_header("X-API-KEY", _API_KEY)
        if bearer := token or self._session:
            request.add_header("Authorization", f"Bearer {bearer}")
        if payload is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps({"api_key": _API_KEY, **payload}).encode()
        try:
            with _OPENER.open(request, timeout=self._timeout) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            body = error.read()
            if error.code >= 500:  # noqa: PLR2004 - the server's own trouble
                raise Unreachable(f"{method} {path}: HTTP {error.code}") from error
        except OSError as error:  # URLError, timeouts, a connection cut in the middle
            raise Unreachable(f"{method} {path}: {getattr(error, 'reason', error)}") from error
        return parse(body, f"{method} {path}")


def parse(body: bytes, call: str) -> dict[str, Any]:
    """Mage's answer; its refusals come with HTTP 200 and an `error` in the body."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise Unreachable(f"{call}: not an answer of Mage's: {body[:80]!r}") from error
    if not isinstance(answer, dict):
        raise Unreachable(f"{call}: not an answer of Mage's: {body[:80]!r}")
    if refusal := answer.get("error"):
        message = refusal.get("exception") or refusal.get("message")
        raise MageError(f"{call}: {message} ({refusal.get('code')})")
    return answer
