"""A way to a host that fails when told to."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: close sends RST


class Proxy:
    """Carries TCP from a loopback port to an address; `cut` stops all bytes, `reset` ends all connections."""

    def __init__(self, address: str, port: int = 22) -> None:
        self._target = (address, port)
        self._flowing = threading.Event()
        self._flowing.set()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.carried = 0
        """Bytes so far, both ways."""

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset()
        self._flowing.set()

    def cut(self) -> None:
        """As a cable pulled out: nobody is told; new connections are taken and get no answer."""
        self._flowing.clear()

    def mend(self) -> None:
        self._flowing.set()

    def reset(self) -> None:
        pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    @property
    def connections(self) -> int:
        return len(self._pairs)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = (near, far)
            self._pairs.append(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._carry, args=(pair, source, sink), daemon=True).start()

    def _carry(self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._flowing.wait()
                sink.sendall(data)
                self.carried += len(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in pair:
                end.close()
            with suppress(ValueError):
                self._pairs.remove(pair)
