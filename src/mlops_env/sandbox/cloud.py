"""The sandbox's background process: `python -m mlops_env.sandbox.cloud DIRECTORY`.

It writes DIRECTORY/cloud.json when it answers, and removes it at its end; what it has to say goes to stderr, which
`control` sends to DIRECTORY/cloud.log.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from mlops_env.sandbox import canned
from mlops_env.sandbox.control import BY_CONTROL, running, variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from werkzeug.serving import BaseWSGIServer

_MOTO = {
    "MOTO_AMIS_PATH": str(canned.IMAGES),
    "MOTO_ENABLE_AMI_VALIDATION": "true",
    "MOTO_ENABLE_KEYPAIR_VALIDATION": "true",
    "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "true",
}


def main(directory: Path) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("mlops_env").setLevel(logging.INFO)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    _forget_the_users_aws()
    os.environ.update(_MOTO)
    if found := running(directory):
        sys.exit(f"the sandbox of {directory} runs already: pid {found.pid}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_urlsafe(32)
    server = _server(directory, token)
    os.environ.update(variables(f"http://127.0.0.1:{server.port}", directory))
    record = directory / "cloud.json"
    _write(record, {"port": server.port, "token": token, **_this_process()})
    server.serve_forever(poll_interval=0.1)
    record.unlink(missing_ok=True)
    logging.shutdown()
    os._exit(0)  # all there is was in memory; threads that wait for Docker would be waited for


def _forget_the_users_aws() -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "MOTO_"))]:
        del os.environ[name]


def _server(directory: Path, token: str) -> BaseWSGIServer:
    """Listening already, so that whoever reads of it gets an answer."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler  # noqa: PLC0415 - reads its settings when imported
    from werkzeug.serving import make_server  # noqa: PLC0415 - as above

    from mlops_env.sandbox.administration import Administration  # noqa: PLC0415 - as above
    from mlops_env.sandbox.application import Application  # noqa: PLC0415 - as above
    from mlops_env.sandbox.faults import Faults  # noqa: PLC0415 - as above
    from mlops_env.sandbox.hosts import Hosts  # noqa: PLC0415 - as above

    faults = Faults()
    application = Application(Hosts(directory, faults), faults)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)

    def shutdown(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()  # it waits for the loop that it ends

    signal.signal(signal.SIGTERM, shutdown)
    application.administration = Administration(
        application, token, variables(f"http://127.0.0.1:{server.port}", directory), shutdown
    )
    return server


def _this_process() -> dict[str, object]:
    process = psutil.Process()
    by_hand = os.environ.pop(BY_CONTROL, "") != "1"
    return {"pid": process.pid, "started": process.create_time(), "by_hand": by_hand}


def _write(path: Path, value: Mapping[str, object]) -> None:
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    part.write_text(json.dumps(value), encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
