"""The toy's server and its scheduler.

GET /health          {"project": …, "pid": …}
POST /runs           {"key": …, "params": {…}}: one run a key, however often it is asked for
GET /runs, /runs/KEY

What it knows is in one JSON file. A run that an earlier, killed server left unfinished is failed at the start.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import files
import runs
from tracking import Mlflow, MlflowError
from workspace import Environment

ENVIRONMENT = Environment.read()
PROJECT = ENVIRONMENT.workspace / ".mlops-env" / "projects" / "toy"
FILE = ENVIRONMENT.state / "toy" / "runs.json"
STEP = ENVIRONMENT.tree / "orchestrators" / "step.py"


class Scheduler:
    """One run after the other, one process a step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: queue.Queue[str] = queue.Queue()
        self.runs: dict[str, dict[str, Any]] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
        for key, run in self.runs.items():
            if run["state"] in {"waiting", "running"}:
                self._say(key, state="failed")
                try:
                    runs.abandon(Mlflow(ENVIRONMENT.tracking_uri, patience=10), ENVIRONMENT, key)
                except MlflowError as error:
                    print(error, file=sys.stderr)

    def submit(self, key: str, params: dict[str, str]) -> dict[str, Any]:
        with self._lock:
            if key not in self.runs:
                steps = json.loads((PROJECT / "plan.json").read_text("utf-8"))["steps"]
                self.runs[key] = {"id": len(self.runs) + 1, "key": key, "params": params, "state": "waiting"}
                self.runs[key] |= {"steps": dict.fromkeys(steps, "waiting")}
                self._save()
                self._waiting.put(key)
            return self.runs[key]

    def work(self) -> None:
        while True:
            key = self._waiting.get()
            self._say(key, state="running")
            words = [word for item in self.runs[key]["params"].items() for word in ("--param", "=".join(item))]
            for step in self.runs[key]["steps"]:
                self._say(key, step=step, state="running")
                command = [sys.executable, str(STEP), step, "--run-key", key, *words]
                failed = subprocess.run(command, check=False).returncode
                self._say(key, step=step, state="failed" if failed else "completed")
                if failed:
                    break
            states = set(self.runs[key]["steps"].values())
            self._say(key, state="completed" if states == {"completed"} else "failed")

    def _say(self, key: str, *, state: str, step: str = "") -> None:
        with self._lock:
            if step:
                self.runs[key]["steps"][step] = state
            else:
                self.runs[key]["state"] = state
            self._save()

    def _save(self) -> None:
        files.replace(FILE, json.dumps(self.runs).encode())


class Handler(BaseHTTPRequestHandler):
    scheduler: Scheduler

    def do_GET(self) -> None:
        if self.path == "/health":
            self._answer({"project": str(PROJECT), "pid": os.getpid()})
        elif self.path == "/runs":
            self._answer(list(self.scheduler.runs.values()))
        else:
            self._answer(self.scheduler.runs.get(self.path.removeprefix("/runs/")))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(self.scheduler.submit(body["key"], body["params"]))

    def _answer(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(404 if value is None else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    Handler.scheduler = Scheduler()
    threading.Thread(target=Handler.scheduler.work, daemon=True).start()
    address = os.environ.get("MLOPS_ENV_BIND", "127.0.0.1")
    ThreadingHTTPServer((address, int(os.environ["MLOPS_ENV_PORT"])), Handler).serve_forever()


if __name__ == "__main__":
    main()
