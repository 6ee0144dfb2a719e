from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.environment import Environment
    from mlops_env.events import Emit


def stop(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """End the services, or a rented host; keep all else."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment, orchestrators  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env stop"):
            env = environment.need(wanted)
            if env.record.target == "ec2":
                return _rented(env, emit)
            with connecting.connect(env, emit) as connection:
                env = env.save(stopped=True)
                done = orchestrators.stop(connection, bootstrap.present(connection, env))
            connecting.end_forward(env)
        text = f"Environment {env.name!r} is stopped: {done['stopped']} processes ended, {done['left']} left."
        return reporting.Outcome(text, {"environment": env.name, **done}, ok=not done["left"])

    reporting.run("stop", body, as_json=as_json, debug=debug)


def _rented(env: Environment, emit: Emit) -> reporting.Outcome:
    from mlops_env.commands import connecting  # noqa: PLC0415
    from mlops_env.ec2 import creation, offer  # noqa: PLC0415

    connecting.end_forward(env)
    env = creation.stop(env.save(stopped=True), emit)
    told = offer.price_of(env.record)
    costs = f"${told.stopped_per_month:.2f} a month" if told else "what AWS takes for it"
    lines = [
        f"Environment {env.name!r} is stopped: its host is off.",
        f"Its disk is kept, which costs {costs}: only `down` ends that.",
        f"`mlops-env start --name {env.name}` goes on.",
    ]
    fields = {"environment": env.name, "stopped_per_month": told.stopped_per_month if told else None}
    return reporting.Outcome("\n".join(lines), fields)
