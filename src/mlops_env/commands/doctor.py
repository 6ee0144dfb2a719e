from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def doctor(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Check this machine; each finding has its cure."""

    def body(emit: Emit) -> reporting.Outcome:
        from dataclasses import asdict  # noqa: PLC0415

        from mlops_env import config, environment, preflight  # noqa: PLC0415
        from mlops_env.commands.status import look  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415
        from mlops_env.events import Event  # noqa: PLC0415
        from mlops_env.orchestrators import Orchestrator  # noqa: PLC0415

        wanted = config.called(name)
        env = environment.find(wanted)
        owners = [env.record.orchestrator] if env else config.orchestrator_names()
        with LocalConnection() as connection:
            needed = [Orchestrator.read(owner) for owner in (*owners, "mlflow")]
            directory = environment.state_root() / wanted / "host"
            found = preflight.checks(connection, needed, directory)
            if env:
                found += preflight.of_services(look(connection, env)["services"])
        for check in found:
            emit(
                Event(
                    "check",
                    check.status,
                    check.name,
                    f"{check.message}{f': {check.hint}' if check.hint else ''}",
                )
            )
        bad = [check for check in found if check.status == "failed"]
        text = f"{len(found)} checks, {len(bad)} failed"
        return reporting.Outcome(text, {"checks": [asdict(check) for check in found]}, ok=not bad)

    reporting.run("doctor", body, as_json=as_json, debug=debug)
