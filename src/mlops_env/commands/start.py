from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, renting, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def start(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Start the services, or a rented host, again, without a run."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config, environment  # noqa: PLC0415
        from mlops_env.commands import connecting, summary  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env start"):
            env = renting.started(environment.need(wanted), emit)
            with connecting.connect(env, emit) as connection:
                env = renting.moved_in(connection, env.save(stopped=False), emit)
                _, urls = connecting.bring(connection, env, emit)
        return summary.of_up(env.record, urls, None)

    reporting.run("start", body, as_json=as_json, debug=debug)
