from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


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
        from mlops_env import config, environment  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415
        from mlops_env.errors import UsageError  # noqa: PLC0415
        from mlops_env.events import Event  # noqa: PLC0415

        env = environment.need(config.called(name))
        directory = env.host / "logs"
        known = sorted(path.stem for path in directory.glob("*.log"))
        if not known:
            raise UsageError("no service has started yet, so there are no logs", code="no-logs", hint="`mlops-env up`")
        if service and service not in known:
            raise UsageError(
                f"no logs of {service!r}; there are: {', '.join(known)}",
                code="unknown-service",
                hint="choose one of these",
            )
        wanted = [str(directory / f"{one}.log") for one in ([service] if service else known)]
        follows = ["-F"] if follow else []
        with LocalConnection() as connection:
            connection.run(
                ["tail", "-n", str(lines), *follows, *wanted],
                on_line=lambda stream, line: emit(Event("output" if stream == "stdout" else "log", message=line)),
            )
        return reporting.Outcome("", {"environment": env.name, "services": known})

    reporting.run("logs", body, as_json=as_json, debug=debug)
