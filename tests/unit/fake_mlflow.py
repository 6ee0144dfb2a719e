"""The few endpoints of MLflow's REST API that our scripts use, on a real socket."""

from __future__ import annotations

import re
import threading
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import json_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

_CONDITION = re.compile(r"tags\.`(?P<key>[^`]+)` = '(?P<value>[^']*)'")


class FakeMlflow:
    """What the server knows; tests look at it and change it."""

    def __init__(self) -> None:
        self.url = ""
        self.experiments: list[dict[str, str]] = []
        self.runs: list[dict[str, Any]] = []
        self.failures: list[int] = []  # HTTP statuses to answer with first
        self._lock = threading.Lock()

    def tags(self, run: dict[str, Any]) -> dict[str, str]:
        return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}

    def answer(self, endpoint: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._lock:
            if self.failures:
                return self.failures.pop(0), {}
            return getattr(self, "_" + re.sub(r"\W", "_", endpoint))(given)  # type: ignore[no-any-return]

    def _experiments_get_by_name(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        for experiment in self.experiments:
            if experiment["name"] == given["experiment_name"]:
                return 200, {"experiment": experiment}
        return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}

    def _experiments_create(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if any(experiment["name"] == given["name"] for experiment in self.experiments):
            return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "as the real server says"}
        number = str(len(self.experiments) + 1)
        self.experiments.append({"experiment_id": number, "name": given["name"], "lifecycle_stage": "active"})
        return 200, {"experiment_id": number}

    def _experiments_restore(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.experiments[int(given["experiment_id"]) - 1]["lifecycle_stage"] = "active"
        return 200, {}

    def _runs_create(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = {
            "info": {
                "run_id": f"run{len(self.runs) + 1}",
                "experiment_id": given["experiment_id"],
                "status": "RUNNING",
                "start_time": given["start_time"],
            },
            "data": {"tags": given["tags"], "params": [], "metrics": []},
        }
        self.runs.append(run)
        return 200, {"run": run}

    def _runs_get(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return 200, {"run": self._run(given)}

    def _runs_search(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        wanted = {match["key"]: match["value"] for match in _CONDITION.finditer(given["filter"])}
        assert len(wanted) == given["filter"].count(" and ") + 1
        found = [
            run
            for run in reversed(self.runs)
            if run["info"]["experiment_id"] in given["experiment_ids"] and wanted.items() <= self.tags(run).items()
        ]
        return 200, {"runs": found[: given["max_results"]]}

    def _runs_update(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        changed = {key: value for key, value in given.items() if key in {"status", "end_time"}}
        self._run(given)["info"].update(changed)
        return 200, {}

    def _runs_log_batch(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        data = self._run(given)["data"]
        for kind in ("tags", "params", "metrics"):
            fresh = {item["key"] for item in given[kind]}
            data[kind] = [item for item in data[kind] if item["key"] not in fresh] + given[kind]
        return 200, {}

    def _runs_delete_tag(self, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        data = self._run(given)["data"]
        data["tags"] = [tag for tag in data["tags"] if tag["key"] != given["key"]]
        return 200, {}

    def _run(self, given: dict[str, Any]) -> dict[str, Any]:
        return next(run for run in self.runs if run["info"]["run_id"] == given["run_id"])


@contextmanager
def serving() -> Iterator[FakeMlflow]:
    fake = FakeMlflow()

    def answer(path: str, body: dict[str, Any] | None, _headers: Message) -> tuple[int, dict[str, Any]]:
        url = urllib.parse.urlsplit(path)
        given = dict(urllib.parse.parse_qsl(url.query)) if body is None else body
        return fake.answer(url.path.removeprefix("/api/2.0/mlflow/"), given)

    with json_server.serving(answer) as fake.url:
        yield fake
