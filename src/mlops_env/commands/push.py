from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def push(
    name: options.Name = None,
    force: Annotated[
        bool, typer.Option("--force", help="Where both sides changed a file, yours; the host's stays as FILE.orig.")
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Send the pipeline's files to the host.

    Those that git lists, and of them what has changed here since the last exchange. `run` and `up` do it by themselves.
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment, exchange  # noqa: PLC0415
        from mlops_env.commands.connecting import connect  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env push"):
            env = environment.need(wanted)
            exchange.need_remote(env, "push")
            with connect(env, emit) as connection:
                done = exchange.push(connection, env, bootstrap.present(connection, env), emit, force=force)
        if not (env.workspace / config.FILE).is_file():
            text = f"Nothing to push: there is no {config.FILE} in {env.workspace}. `mlops-env pull` brings the host's."
        else:
            text = f"Sent {done.text} → {env.host_workspace} on the host"
        return reporting.Outcome(text, {"environment": env.name, **done.as_json()})

    reporting.run("push", body, as_json=as_json, debug=debug)
