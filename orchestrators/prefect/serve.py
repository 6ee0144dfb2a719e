"""Serve the generated flow: register it with the server and run it when the server says so.

`flow.serve()` for a file that the user edits: each run loads it anew, and a change of its parameters is told to the
server when it is saved. Runs in the project's folder, with Prefect's own settings in the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Last: there none of our names can hide what Prefect imports.
sys.path.append(str(Path(__file__).resolve().parents[1]))

import runs
from tracking import Mlflow, MlflowError
from workspace import Environment

if TYPE_CHECKING:
    # This folder; when it runs, `prefect` is Prefect.
    from prefect.names import DEPLOYMENT, ENTRYPOINT, run_key_of
else:
    from names import DEPLOYMENT, ENTRYPOINT, run_key_of

_FILE = Path(ENTRYPOINT.partition(":")[0])
_POLL_SECONDS = 1.0
_SERVER_SECONDS = 180.0
_UNFINISHED = ("RUNNING", "PENDING", "CANCELLING")


def wait_for_server(url: str) -> None:
    """Both are started at the same moment, and the server takes longer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _SERVER_SECONDS
    while True:
        try:
            with opener.open(f"{url}/api/health", timeout=5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"no answer from the Prefect server at {url}: {error}")
        time.sleep(0.2)


async def register(runner: Any) -> None:
    """Tell the server of the flow; a file that cannot be loaded is told in the log until it is saved anew."""
    deployments = import_module("prefect.deployments.runner").RunnerDeployment
    while True:
        seen = saved()
        try:
            # Not enforced here: the run itself checks, against the file as it is then.
            deployment = deployments.from_entrypoint(ENTRYPOINT, DEPLOYMENT, enforce_parameter_schema=False)
            await forget_others(await runner.aadd_deployment(deployment))
        except Exception as error:  # noqa: BLE001 (whatever the user's file raises)
            print(f"{_FILE} cannot be served: {error!r}; waiting until it is saved anew", file=sys.stderr)
            while saved() == seen:  # noqa: ASYNC110 (files have no events)
                await asyncio.sleep(_POLL_SECONDS)
        else:
            return


async def follow(runner: Any) -> None:
    """Register the flow again whenever its file is saved."""
    seen = saved()
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        if saved() != seen:
            seen = saved()
            await register(runner)


def saved() -> int:
    try:
        return _FILE.stat().st_mtime_ns
    except FileNotFoundError:  # an editor replaces it at this very moment, or the user deleted it
        return 0


async def forget_others(mine: Any) -> None:
    """After the pipeline was renamed, its old deployment would look ready for ever."""
    filters = import_module("prefect.client.schemas.filters")
    ours = filters.DeploymentFilter(name=filters.DeploymentFilterName(any_=[DEPLOYMENT]))
    async with import_module("prefect").get_client() as client:
        for deployment in await client.read_deployments(deployment_filter=ours):
            if deployment.id != mine:
                await client.delete_deployment(deployment.id)


async def end_abandoned(environment: Environment) -> None:
    """Runs that an earlier, killed worker left running: nobody else will ever say that they ended."""
    filters, states = import_module("prefect.client.schemas.filters"), import_module("prefect.states")
    state = filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=list(_UNFINISHED)))
    async with import_module("prefect").get_client() as client:
        for run in await client.read_flow_runs(flow_run_filter=filters.FlowRunFilter(state=state)):
            crashed = states.Crashed(message="its worker was ended")
            await client.set_flow_run_state(run.id, crashed, force=True)
            try:
                key = run_key_of(str(run.id), run.parameters)
                runs.abandon(Mlflow(environment.tracking_uri), environment, key)
            except MlflowError as error:
                print(error, file=sys.stderr)


async def serve(environment: Environment) -> None:
    runner = import_module("prefect.runner").Runner(
        name=DEPLOYMENT, query_seconds=_POLL_SECONDS, pause_on_shutdown=False
    )
    await end_abandoned(environment)
    await register(runner)
    following = asyncio.create_task(follow(runner))
    try:
        await runner.start()
    finally:
        following.cancel()


def main() -> None:
    environment = Environment.read()
    folder = Path(os.environ["PREFECT_HOME"], "tmp")
    folder.mkdir(exist_ok=True)
    tempfile.tempdir = str(folder)  # for this process only: a step's TMPDIR is the user's
    wait_for_server(environment.url)
    asyncio.run(serve(environment))


if __name__ == "__main__":
    main()
