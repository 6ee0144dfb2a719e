"""The services of an environment on this host.

    python services.py check    exit 0 if all is installed, configured just so, running and healthy
    python services.py apply    make it so: everything that can overlap does
    python services.py status   one JSON object, services and how they are
    python services.py stop     end them all, and what they started
    python services.py logs [--lines N] [--follow] [SERVICE]   what they say; exit 2: there is no such service
    python services.py exec SCRIPT …   run one of our scripts in the orchestrator's Python, with its environment

Runs in the tools venv. The environment variables MLOPS_ENV_* say which environment it acts for, and MLOPS_ENV_RUNTIME
how its services run: by_venv.py or by_compose.py, which have the same functions.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from events import say
from failures import Failure
from host import Host
from venvs import InstallError
from workspace import UsageError

if TYPE_CHECKING:
    from types import ModuleType


def runtime(host: Host) -> ModuleType:
    """One of the two, and only that one: each would make the other's `check` wait for its imports."""
    if host.runtime == "compose":
        import by_compose  # noqa: PLC0415

        return by_compose
    import by_venv  # noqa: PLC0415

    return by_venv


def make_secrets(host: Host) -> None:
    """Secrets are made on the host, once; only their owner, who is the workspace's, can read them."""
    import secrets  # noqa: PLC0415 - a check needs none

    directory = host.directory / "secrets"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in host.secrets:
        if (directory / name).exists():
            continue
        part = directory / f".{name}"
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24))
        part.rename(directory / name)


def act(host: Host, verb: str, words: list[str]) -> int:
    services = runtime(host)
    match verb:
        case "check":
            return 0 if services.check(host) else 1
        case "apply":
            make_secrets(host)
            services.apply(host)
        case "status":
            print(json.dumps(services.status(host)))
        case "stop":
            print(json.dumps(services.stop(host)))
        case "logs":
            services.show_logs(host, words)
        case "exec":
            return int(services.execute(host, words[0], words[1:]))
        case _:
            sys.exit(__doc__)
    return 0


def main() -> int:
    verb, *words = sys.argv[1:] or ["status"]
    try:
        return act(Host.read(), verb, words)
    except Failure as failure:
        print(failure, file=sys.stderr)
        if failure.code:
            say("cause", "services", message=str(failure), code=failure.code, hint=failure.hint)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except (InstallError, OSError) as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
