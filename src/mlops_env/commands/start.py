from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def start(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Start the services again, without a run."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment  # noqa: PLC0415
        from mlops_env.commands import summary  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env start"), LocalConnection() as connection:
            env = environment.need(wanted).save(stopped=False)
            _, converged = bootstrap.bring(connection, env, emit)
        return summary.of_up(env.record, converged.urls, None)

    reporting.run("start", body, as_json=as_json, debug=debug)
