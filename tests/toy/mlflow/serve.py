"""The calls of MLflow's REST API that tracking.py makes, kept in one JSON file in the workspace."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import files

FILE = Path(os.environ["MLOPS_ENV_WORKSPACE"], ".mlops-env", "mlflow", "toy.json")
_EMPTY = {"experiments": {"Default": "0"}, "runs": {}}


class Refusal(Exception):
    pass


class Store:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._content: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else _EMPTY

    def call(self, endpoint: str, body: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            answer: dict[str, Any] = getattr(self, re.sub(r"\W", "_", endpoint))(body)
            files.replace(FILE, json.dumps(self._content).encode())
            return answer

    def experiments_get_by_name(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["experiment_name"]
        if name not in self._content["experiments"]:
            raise Refusal("RESOURCE_DOES_NOT_EXIST")
        return {"experiment": {"experiment_id": self._content["experiments"][name], "lifecycle_stage": "active"}}

    def experiments_create(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["name"] in self._content["experiments"]:
            raise Refusal("RESOURCE_ALREADY_EXISTS")
        self._content["experiments"][body["name"]] = str(len(self._content["experiments"]))
        return {"experiment_id": self._content["experiments"][body["name"]]}

    def runs_create(self, body: dict[str, Any]) -> dict[str, Any]:
        run_id = uuid.uuid4().hex
        info = {"run_id": run_id, "experiment_id": body["experiment_id"], "status": "RUNNING"}
        info["start_time"] = body["start_time"]
        data = {"tags": body["tags"], "params": [], "metrics": []}
        self._content["runs"][run_id] = {"info": info, "data": data}
        return {"run": self._content["runs"][run_id]}

    def runs_get(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"run": self._content["runs"][body["run_id"]]}

    def runs_update(self, body: dict[str, Any]) -> dict[str, Any]:
        self._content["runs"][body["run_id"]]["info"] |= body
        return {}

    def runs_log_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        data = self._content["runs"][body["run_id"]]["data"]
        for kind in ("tags", "params", "metrics"):
            known = {item["key"]: item for item in data[kind]}
            data[kind] = list({**known, **{item["key"]: item for item in body.get(kind, [])}}.values())
        return {}

    def runs_delete_tag(self, body: dict[str, Any]) -> dict[str, Any]:
        data = self._content["runs"][body["run_id"]]["data"]
        data["tags"] = [tag for tag in data["tags"] if tag["key"] != body["key"]]
        return {}

    def runs_search(self, body: dict[str, Any]) -> dict[str, Any]:
        wanted = re.findall(r"tags\.`([^`]*)` = '([^']*)'", body["filter"])
        found = [
            run
            for run in self._content["runs"].values()
            if run["info"]["experiment_id"] in body["experiment_ids"]
            and {(tag["key"], tag["value"]) for tag in run["data"]["tags"]} >= set(wanted)
        ]
        found.sort(key=lambda run: run["info"]["start_time"], reverse=True)
        return {"runs": found[: body["max_results"]]}


class Handler(BaseHTTPRequestHandler):
    store: Store

    def do_GET(self) -> None:
        self._answer(dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        endpoint = urlsplit(self.path).path.removeprefix("/api/2.0/mlflow/")
        code, answer = 200, {}
        try:
            answer = self.store.call(endpoint, body)
        except Refusal as refusal:
            code, answer = 404, {"error_code": str(refusal)}
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    Handler.store = Store()
    address = os.environ.get("MLOPS_ENV_BIND", "127.0.0.1")
    ThreadingHTTPServer((address, int(os.environ["MLOPS_ENV_PORT"])), Handler).serve_forever()


if __name__ == "__main__":
    main()
