"""A Docker Engine that answers what a test declares, on a unix socket of its own."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Answer = Callable[[str, str, dict[str, str]], tuple[int, Any]]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def serving(path: Path, answer: Answer) -> Iterator[None]:
    """Serve until the end; `answer` is from method, path and query to HTTP status and value."""

    class Handler(BaseHTTPRequestHandler):
        def address_string(self) -> str:
            return "a unix socket"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if self.raw_requestline and self.parse_request():
                asked = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(asked.query).items()}
                status, value = answer(self.command, asked.path, query)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"" if value is None else json.dumps(value).encode())

    with _Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def container(service: str, *, digest: str = "", state: str = "running", status: str = "Up 2 minutes (healthy)") -> Any:
    """One line of the engine's list of containers."""
    labels = {"com.docker.compose.service": service, "com.docker.compose.oneoff": "False"}
    if digest:
        labels["mlops-env.digest"] = digest
    return {"Id": f"id-of-{service}", "Labels": labels, "State": state, "Status": status}
