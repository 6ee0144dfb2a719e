from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def extend(
    time: Annotated[str, typer.Argument(help="By how much: 30m, 4h, 2d; or none, for no limit at all.")],
    name: options.Name = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Have a rented host stop itself later.

    \b
      mlops-env extend 4h
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config, environment  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415
        from mlops_env.ec2 import lifetime  # noqa: PLC0415
        from mlops_env.errors import UsageError  # noqa: PLC0415

        seconds = config.duration(time)
        if seconds is None:
            raise UsageError(f"{time!r} is no duration", code="configuration", hint="such as 30m, 4h, 2d, or `none`")
        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env extend"):
            env = environment.need(wanted)
            if env.record.target != "ec2":
                raise UsageError(
                    f"environment {env.name!r} is on a machine of your own, which has no lifetime",
                    code="no-lifetime",
                    hint="`mlops-env stop` ends its services",
                )
            with connecting.connect(env, emit) as connection:
                env = lifetime.extend(connection, environment.need(wanted), seconds, emit).save()
        deadline = env.record.cloud["deadline"]
        return reporting.Outcome(lifetime.text(env.record.cloud), {"environment": env.name, "deadline": deadline})

    reporting.run("extend", body, as_json=as_json, debug=debug)
