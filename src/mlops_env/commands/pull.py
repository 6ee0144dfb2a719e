from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def pull(
    name: options.Name = None,
    force: Annotated[
        bool, typer.Option("--force", help="Where both sides changed a file, the host's; yours stays as FILE.orig.")
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Bring the host's files here: what was saved in the browser, results, models, MLflow's history."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment, exchange  # noqa: PLC0415
        from mlops_env.commands.connecting import connect  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env pull"):
            env = environment.need(wanted)
            exchange.need_remote(env, "pull")
            with connect(env, emit) as connection:
                done = exchange.pull(connection, env, bootstrap.present(connection, env), emit, force=force)
        return reporting.Outcome(f"Saved {done.text} → {env.workspace}", {"environment": env.name, **done.as_json()})

    reporting.run("pull", body, as_json=as_json, debug=debug)
