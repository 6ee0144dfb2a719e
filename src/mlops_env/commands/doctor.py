from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def doctor(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Check this machine, or the host of an environment.

    Each finding has its cure.
    """

    def body(emit: Emit) -> reporting.Outcome:
        from dataclasses import asdict  # noqa: PLC0415

        from mlops_env import config, environment, preflight  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415
        from mlops_env.commands.status import services_of  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415
        from mlops_env.events import Event  # noqa: PLC0415
        from mlops_env.orchestrators import Orchestrator  # noqa: PLC0415

        wanted = config.called(name)
        env = environment.find(wanted)
        if env and env.is_remote:
            with connecting.connect(env, emit) as connection:
                found = preflight.of_host(connection, env)
        else:
            owners = [env.record.orchestrator] if env else config.orchestrator_names()
            needed = [Orchestrator.read(owner) for owner in (*owners, "mlflow")]
            directory = environment.state_root() / wanted / "host"
            found = preflight.checks(LocalConnection(), needed, directory, env.record.runtime if env else "")
        if env:
            found += preflight.of_services(services_of(env, emit))
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
