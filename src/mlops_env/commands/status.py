from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.environment import Environment, Record
    from mlops_env.events import Emit


_UNREACHABLE = ("ssh-", "host-key-", "connection-", "aws-")
_HOST_STATES = {"host-stopped": "stopped", "host-gone": "gone", "sandbox-gone": "gone", "running": "up"}


def status(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Show health, pages, last run and cost.

    Of all environments, or of one by --name.
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import environment  # noqa: PLC0415

        found = [environment.need(name)] if name else environment.find_all()
        looks = [look(env, emit) for env in found]
        text = "\n\n".join(map(_text, looks)) or "There is no environment. `mlops-env up` makes one."
        return reporting.Outcome(text, {"environments": looks})

    reporting.run("status", body, as_json=as_json, debug=debug)


def look(env: Environment, emit: Emit) -> dict[str, Any]:
    """One environment as it is now: `health` is up, degraded, stopped or, of a host, unreachable or gone."""
    from mlops_env.errors import CommandFailed, MlopsEnvError  # noqa: PLC0415

    record, services, trouble, code = env.record, [], "", ""
    try:
        if record.cloud.get("no_host"):
            code = _without_host(env, emit)
        elif record.host and "home" not in record.host:
            trouble = "nothing has been brought up on its host yet"
        else:
            services = services_of(env, emit)
    except CommandFailed:
        pass  # an `up` that was cut short has left nothing to ask
    except MlopsEnvError as error:
        trouble, code = error.message, error.code
    if code in _HOST_STATES:
        health = _HOST_STATES[code]
    elif code.startswith(_UNREACHABLE):
        health = "unreachable"
    elif services and all(service["healthy"] for service in services):
        health = "up"
    else:
        running = any(service["state"] == "running" for service in services)
        health = "degraded" if running or not record.stopped else "stopped"
    return {
        "environment": record.name,
        "target": record.target,
        "orchestrator": record.orchestrator,
        "runtime": record.runtime,
        "workspace": record.workspace,
        "host": record.host.get("destination"),
        "health": health,
        "trouble": trouble or None,
        "services": services,
        "run": record.run or None,
        "time_left": None,
        "cost_per_hour": 0.0,
        **_rented(record, health),
    }


def _without_host(env: Environment, emit: Emit) -> str:
    """What AWS says of an environment that has no machine: there is nothing else to ask."""
    from mlops_env.ec2 import instance, surroundings  # noqa: PLC0415

    found = instance.look(surroundings.of(env, emit).aws(env), env.record.id)
    return "host-gone" if found is None else "running" if found.state == "running" else "host-stopped"


def _rented(record: Record, health: str) -> dict[str, Any]:
    """What a host in the cloud has cost until now, costs from now on, and how long it has."""
    if not record.cloud:
        return {}
    import time  # noqa: PLC0415

    from mlops_env.commands import summary  # noqa: PLC0415
    from mlops_env.ec2 import costs, offer  # noqa: PLC0415

    told, deadline = offer.price_of(record), record.cloud.get("deadline")
    is_off = health in {"stopped", "gone"}
    now = {} if told is None else {"cost_per_hour": told.disk_hour if is_off else told.per_hour}
    return {
        **summary.rented_fields(record),
        **now,
        "accrued": costs.accrued(record.cloud, told) if told else None,
        "time_left": max(0, round(deadline - time.time())) if deadline and not is_off else None,
    }


def services_of(env: Environment, emit: Emit) -> list[dict[str, Any]]:
    """The services as they are, each with its page's address on this machine; a forward that is down is the reason."""
    from mlops_env import bootstrap, orchestrators  # noqa: PLC0415
    from mlops_env.commands import connecting  # noqa: PLC0415

    with connecting.connect(env, emit) as connection:
        services = orchestrators.status(connection, bootstrap.present(connection, env))["services"]
    return connecting.seen_from_here(env, services)


def _text(look: dict[str, Any]) -> str:
    where = look["instance"] or "a host to be" if look["target"] == "ec2" else look["host"] or look["target"]
    lines = [f"{look['environment']}: {look['health']} ({look['orchestrator']} on {where}, {look['runtime']})"]
    if look["trouble"]:
        lines.append(f"  {look['trouble']}")
    for service in look["services"]:
        where = service["url"] or ""
        lines.append(f"  {service['name']:<16}{service['reason'] or 'healthy'}  {where}".rstrip())
    if look["run"]:
        lines.append(f"  last run        {look['run'].get('state')}  {look['run'].get('key')}")
    lines.append(f"  workspace       {look['workspace']}")
    lines += [f"  {what:<16}{text}" for what, text in _costs(look).items()]
    if look["health"] == "degraded":
        lines.append("  `mlops-env up` mends what is down.")
    return "\n".join(lines)


def _costs(look: dict[str, Any]) -> dict[str, str]:
    if look["target"] != "ec2":
        return {"costs": f"{'whatever the host costs' if look['host'] else 'nothing by the hour'}, no time limit"}
    from mlops_env.ec2 import offer  # noqa: PLC0415

    left = f"{offer.duration(look['time_left'])} until it stops itself" if look["time_left"] else "no time limit"
    if look["accrued"] is None:
        return {"costs": "what AWS takes for it", "lifetime": left}
    pretended = "would have cost" if look["sandbox"] else "cost"
    text = f"{pretended} about ${look['accrued']:.2f} so far, ${look['cost_per_hour']:.3f} an hour now"
    return {"costs": text, "lifetime": "off; the disk stays" if look["health"] == "stopped" else left}
