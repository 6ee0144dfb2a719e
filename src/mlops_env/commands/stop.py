from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def stop(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """End the services, keep all else."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment, orchestrators  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env stop"):
            env = environment.need(wanted)
            with connecting.connect(env, emit) as connection:
                env = env.save(stopped=True)
                done = orchestrators.stop(connection, bootstrap.present(connection, env))
            connecting.end_forward(env)
        text = f"Environment {env.name!r} is stopped: {done['stopped']} processes ended, {done['left']} left."
        return reporting.Outcome(text, {"environment": env.name, **done}, ok=not done["left"])

    reporting.run("stop", body, as_json=as_json, debug=debug)
