"""What host-side scripts tell while they work: events on the stream that the bootstrap step opened for them."""

from __future__ import annotations

import json
import os
import sys
import threading

_STREAM = 3
_one_at_a_time = threading.Lock()


def say(kind: str, name: str, status: str = "", message: str = "", **fields: object) -> None:
    """One event on fd 3; on stderr for somebody who runs the script by hand."""
    event = {"type": kind, "name": name, "status": status, "message": message, **fields}
    line = json.dumps({key: value for key, value in event.items() if value != ""}) + "\n"
    with _one_at_a_time:
        try:
            os.write(_STREAM, line.encode())
        except OSError:
            sys.stderr.write(line)
