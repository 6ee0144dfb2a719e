from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.config import Config
    from mlops_env.events import Emit


def run(
    name: options.Name = None,
    param: options.Params = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Run the pipeline again, with -p other parameters.

    `train` is the same command.

    \b
      mlops-env run
      mlops-env run -p train=2023-02 -p validate=2023-01
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config  # noqa: PLC0415

        return run_again(config.resolve({"name": name}, param or [], os.environ, Path.cwd()), emit)

    reporting.run("run", body, as_json=as_json, debug=debug)


def run_again(asked: Config, emit: Emit) -> reporting.Outcome:
    """Mend what is down, then trigger a new run and wait for it."""
    from mlops_env import environment, orchestrators, preflight  # noqa: PLC0415
    from mlops_env.commands import connecting, summary  # noqa: PLC0415

    with environment.locked(asked.name, "mlops-env run"):
        env = environment.need(asked.name)
        preflight.check_pipeline(env.workspace, asked.params)
        with connecting.connect(env, emit) as connection:
            scripts, urls = connecting.bring(connection, env.save(stopped=False), emit)
            done = orchestrators.run_pipeline(connection, scripts, asked.params, emit, again=True)
    return summary.of_up(env.record, urls, done)
