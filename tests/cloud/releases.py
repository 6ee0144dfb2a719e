"""A server of Pulumi's releases on this machine, with the faults of a network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = "3.999.0"
PADDING = bytes(range(256)) * 4096


def engine(version: str = VERSION) -> bytes:
    """Something that says its version, as large as to need several reads."""
    return f'#!/bin/sh\necho "v{version}"\nexit\n'.encode() + PADDING


def tar(members: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=0) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def packed(members: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return archive.getvalue()


class Releases:
    """What it publishes, in `files`, can be changed at any time; `cut_after` bytes it hangs up once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_after: int | None = None
        self.can_continue = True

    def publish(self, name: str, archive: bytes, version: str = VERSION) -> None:
        listed = f"{hashlib.sha256(archive).hexdigest()}  {name}\n{'0' * 64}  another.tar.gz\n"
        self.files[f"/v{version}/{name}"] = archive
        self.files[f"/v{version}/pulumi-{version}-checksums.txt"] = listed.encode()

    def asked(self, suffix: str) -> list[str]:
        """The ranges that were asked for, one for each request of such a file; empty for all of it."""
        return [wanted for path, wanted in self.requests if path.endswith(suffix)]


@contextlib.contextmanager
def serve() -> Iterator[Releases]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            releases.requests.append((self.path, wanted))
            content = releases.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and releases.can_continue else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            part = content[start:]
            if releases.cut_after is not None and len(part) > releases.cut_after:
                part, releases.cut_after = part[: releases.cut_after], None
            with contextlib.suppress(ConnectionError):
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        releases = Releases(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield releases
        finally:
            server.shutdown()
            thread.join()
