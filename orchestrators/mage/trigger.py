"""Ask Mage how it is, or run the pipeline through its scheduler and wait; triggers.py has the command line."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mage import names
from mage.api import Mage, MageError, Unreachable
from triggers import main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from workspace import Environment

    T = TypeVar("T")

_USER = "admin@localhost"  # `login` in orchestrator.toml
_PASSWORD = "mage-password"  # noqa: S105 - the name of its file
_PATIENCE = 60.0  # seconds that Mage may be away, restarting
_POLL = 0.5
_ENDED = ("completed", "failed", "cancelled")


def unhealthy(status: Mapping[str, Any], project: Path, server: str) -> str:
    """Why this is not our Mage, or not a working one; empty if it is.

    Args:
        status: what answers on our port says of itself.
        project: the folder that our Mage serves.
        server: the process id that services/mage.sh wrote before it became the server.
    """
    if Path(status["repo_path"]) != project:
        return f"another Mage answers on this port; it serves {status['repo_path']}"
    if str(status["server_process_id"]) != server:
        return f"an earlier Mage of this project, process {status['server_process_id']}, still has the port"
    if status["scheduler_status"] != "running":
        return f"the scheduler is {status['scheduler_status']}"
    return ""


def health(environment: Environment) -> str:
    project = environment.workspace / ".mlops-env" / "projects" / "mage"
    try:
        status = Mage(environment.url, timeout=1.5).status()
        server = (environment.state / "mage" / "server.pid").read_text(encoding="utf-8").strip()
        return unhealthy(status, project, server)
    except MageError as error:
        return str(error)
    except FileNotFoundError:
        return "Mage has not been started"


def patiently(call: Callable[[], T]) -> T:
    """Try again while Mage is away, but not for ever."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return call()
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL)


def log_in(mage: Mage, environment: Environment) -> None:
    try:
        mage.log_in(_USER, environment.secret(_PASSWORD))
    except Unreachable:
        raise
    except MageError as error:
        cure = (
            f"if you changed the password of {_USER} in Mage, write the new one into the file {_PASSWORD} "
            "among this environment's secrets (`mlops-env credentials` names it)"
        )
        raise MageError(f"{error}; {cure}") from error


def find_or_start(mage: Mage, pipeline: str, variables: dict[str, str]) -> dict[str, Any]:
    """The latest run with this key, or a new one; as often as asked, never two."""
    for run in mage.runs(pipeline):
        if (run.get("variables") or {}).get("run_key") == variables["run_key"]:
            return run
    return mage.start(mage.api_trigger(pipeline, names.TRIGGER), variables)


def wait(mage: Mage, run_id: int, steps: Mapping[str, str]) -> dict[str, Any]:
    """Until the run has ended; each change of a block is a line on stderr."""
    seen: dict[str, str] = {}
    while True:
        run = patiently(lambda: mage.run(run_id))
        for block in run["block_runs"]:
            uuid, state = block["block_uuid"], block["status"]
            if seen.get(uuid, "initial") != state:
                print(f"step {steps.get(uuid, uuid)}: {state}", file=sys.stderr, flush=True)
            seen[uuid] = state
        if run["status"] in _ENDED:
            return run
        time.sleep(_POLL)


def result(run: Mapping[str, Any], steps: Mapping[str, str]) -> dict[str, Any]:
    failed = [block["block_uuid"] for block in run["block_runs"] if block["status"] == "failed"]
    return {
        "id": str(run["id"]),
        "state": run["status"],
        "page": f"/pipelines/{run['pipeline_uuid']}/runs/{run['id']}",
        "failed_step": steps.get(failed[0], failed[0]) if failed else None,
    }


def run_pipeline(environment: Environment, run_key: str, params: Mapping[str, str]) -> dict[str, Any]:
    """Run it once for this key, and wait for its end."""
    pipeline = environment.pipeline()
    variables = {**pipeline.merged(params), "run_key": run_key}
    steps = {uuid: step for step, uuid in names.block_uuids(pipeline).items()}
    mage = Mage(environment.url)
    patiently(lambda: log_in(mage, environment))
    run = patiently(lambda: find_or_start(mage, names.pipeline_uuid(pipeline), variables))
    return result(wait(mage, run["id"], steps), steps)


if __name__ == "__main__":
    sys.exit(main(health, run_pipeline))
