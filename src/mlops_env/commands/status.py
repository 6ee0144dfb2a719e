from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.environment import Environment
    from mlops_env.events import Emit


_UNREACHABLE = ("ssh-", "host-key-", "connection-")


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
    """One environment as it is now: `health` is up, degraded, stopped or, of a host, unreachable."""
    from mlops_env.errors import CommandFailed, MlopsEnvError  # noqa: PLC0415

    record, services, trouble, unreachable = env.record, [], "", False
    try:
        services = services_of(env, emit)
    except CommandFailed:
        pass  # an `up` that was cut short has left nothing to ask
    except MlopsEnvError as error:
        trouble, unreachable = error.message, error.code.startswith(_UNREACHABLE)
    if unreachable:
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
    }


def services_of(env: Environment, emit: Emit) -> list[dict[str, Any]]:
    """The services as they are, each with its page's address on this machine; a forward that is down is the reason."""
    from mlops_env import bootstrap, orchestrators  # noqa: PLC0415
    from mlops_env.commands import connecting  # noqa: PLC0415

    with connecting.connect(env, emit) as connection:
        services = orchestrators.status(connection, bootstrap.present(connection, env))["services"]
    return connecting.seen_from_here(env, services)


def _text(look: dict[str, Any]) -> str:
    where = look["host"] or look["target"]
    lines = [f"{look['environment']}: {look['health']} ({look['orchestrator']} on {where}, {look['runtime']})"]
    if look["trouble"]:
        lines.append(f"  {look['trouble']}")
    for service in look["services"]:
        where = service["url"] or ""
        lines.append(f"  {service['name']:<16}{service['reason'] or 'healthy'}  {where}".rstrip())
    if look["run"]:
        lines.append(f"  last run        {look['run'].get('state')}  {look['run'].get('key')}")
    lines.append(f"  workspace       {look['workspace']}")
    lines.append(
        f"  costs           {'whatever the host costs' if look['host'] else 'nothing by the hour'}, no time limit"
    )
    if look["health"] == "degraded":
        lines.append("  `mlops-env up` mends what is down.")
    return "\n".join(lines)
