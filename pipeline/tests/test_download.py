"""Other months come over HTTP: here from a server on loopback that fails as told."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nyc_taxi import cli
from nyc_taxi.errors import DataError
from nyc_taxi.ingest import ingest
from nyc_taxi.remote import cache_folder

NAME = "green_tripdata_2023-03.parquet"


class Server(ThreadingHTTPServer):
    """Gives each request the next of `answers`: a status, or "cut" for a body that ends early; then 200s."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.answers: list[int | str] = []
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if isinstance(answer, int) and answer != 200:
            self.send_error(answer)
            return
        content = self.server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if answer == "cut" else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, trip_file: Callable[..., Path]) -> Iterator[Server]:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with Server() as server:
        server.content = trip_file().read_bytes()  # trips of February
        monkeypatch.setenv("NYC_TAXI_BASE_URL", server.url)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def march(trip_file: Callable[..., Path]) -> bytes:
    import polars as pl  # noqa: PLC0415

    path = trip_file("march.parquet")
    frame = pl.read_parquet(path)
    frame.with_columns(pl.col("^lpep_.*$").dt.offset_by("1mo")).write_parquet(path)
    return path.read_bytes()


def test_a_month_is_downloaded_once(server: Server, trip_file: Callable[..., Path]) -> None:
    server.content = march(trip_file)
    source = ingest("2023-03", None, distance=True)
    assert Path(source.path) == cache_folder() / NAME
    assert (source.rows, source.month) == (24, "2023-03")
    assert ingest("2023-03", "green", distance=False) == source
    assert server.asked == [f"/{NAME}"]
    assert not list(cache_folder().glob("*.part"))


def test_passing_failures_are_tried_again(
    server: Server, trip_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = march(trip_file)
    server.answers = [503, "cut", 429]
    assert ingest("2023-03", None, distance=True).rows == 24
    error = capsys.readouterr().err
    assert "HTTP 503 Service Unavailable; attempt 1 of 4, again in 1 s" in error
    assert "attempt 3 of 4, again in 4 s" in error


def test_a_month_that_does_not_exist_is_not_tried_again(server: Server) -> None:
    server.answers = [403]
    with pytest.raises(DataError, match=r"HTTP 403 Forbidden[\s\S]*publishes a month about two months after"):
        ingest("2023-03", None, distance=True)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<html>log in</html>", "is a web page"), (b"", "is empty"), (None, "holds trips of 2023-02, not of 2023-03")],
)
def test_what_is_not_that_month_never_enters_the_cache(server: Server, content: bytes | None, said: str) -> None:
    server.content = server.content if content is None else content
    with pytest.raises(DataError, match=said) as refused:
        ingest("2023-03", None, distance=True)
    assert f"{server.url}/{NAME}" in str(refused.value)
    assert [path.suffix for path in cache_folder().iterdir()] in ([], [".lock"])


def test_an_address_is_downloaded_and_kept(server: Server) -> None:
    address = f"{server.url}/any/trips.parquet?token=1"
    first, again = (ingest(address, None, distance=True) for _ in range(2))
    assert first == again
    assert (first.asked, first.rows, first.month) == (address, 24, None)
    assert server.asked == ["/any/trips.parquet?token=1"]


def test_without_a_network_the_months_at_hand_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    cache_folder().mkdir(parents=True)
    (cache_folder() / "yellow_tripdata_2022-12.parquet").touch()
    assert cli.main(["ingest", "--train", "2023-03"]) == 2
    at_hand = "green 2023-01 (shipped), green 2023-02 (shipped), yellow 2022-12 (downloaded)"
    error = capsys.readouterr().err
    assert "Connection refused, after 4 attempts" in error
    assert f"cure: check the network, or use a month that is at hand: {at_hand}" in error


def test_a_cache_that_cannot_be_written(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cli.main(["ingest", "--train", f"{server.url}/{NAME}"]) == 1
    error = capsys.readouterr().err
    assert f"error: cannot write {tmp_path}/file/nyc-taxi/" in error
    assert "Not a directory" in error
