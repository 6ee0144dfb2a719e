from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit

_USAGE = 2


def logs(
    service: Annotated[str | None, typer.Argument(help="One service; else all.")] = None,
    name: options.Name = None,
    lines: Annotated[int, typer.Option("--lines", "-l", help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new lines, until Ctrl-C.")] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Show what the services say.

    \b
      mlops-env logs
      mlops-env logs mlflow -f
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415
        from mlops_env.errors import CommandFailed, UsageError  # noqa: PLC0415
        from mlops_env.events import Event  # noqa: PLC0415

        env = environment.need(config.called(name))
        words = ["--lines", str(lines), *(["--follow"] if follow else []), *([service] if service else [])]
        with connecting.connect(env, emit) as connection:
            result = connection.run(
                bootstrap.present(connection, env).services("logs", *words),
                on_line=lambda stream, line: emit(Event("output" if stream == "stdout" else "log", message=line)),
            )
        if result.exited == _USAGE:
            raise UsageError(result.tail(1), code="unknown-service", hint="choose one of these")
        if error := bootstrap.told_error(result):
            raise error
        if not result.ok and not result.stdout:
            raise CommandFailed("there are no logs to be had", code="no-logs", result=result, hint="`mlops-env up`")
        return reporting.Outcome("", {"environment": env.name})

    reporting.run("logs", body, as_json=as_json, debug=debug)
