from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.connection import Connection
    from mlops_env.environment import Environment
    from mlops_env.events import Emit


def status(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Show health, pages, last run and cost.

    Of all environments, or of one by --name.
    """

    def body(emit: Emit) -> reporting.Outcome:  # noqa: ARG001 - nothing to tell before the end
        from mlops_env import environment  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415

        found = [environment.need(name)] if name else environment.find_all()
        with LocalConnection() as connection:
            looks = [look(connection, env) for env in found]
        text = "\n\n".join(map(_text, looks)) or "There is no environment. `mlops-env up` makes one."
        return reporting.Outcome(text, {"environments": looks})

    reporting.run("status", body, as_json=as_json, debug=debug)


def look(connection: Connection, env: Environment) -> dict[str, Any]:
    """One environment as it is now: `health` is up, degraded or stopped."""
    from mlops_env import bootstrap, orchestrators  # noqa: PLC0415
    from mlops_env.errors import CommandFailed  # noqa: PLC0415

    record = env.record
    try:
        services = orchestrators.status(connection, bootstrap.on_this_machine(env))["services"]
    except CommandFailed:  # an `up` that was cut short has left nothing to ask
        services = []
    if services and all(service["healthy"] for service in services):
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
        "health": health,
        "services": services,
        "run": record.run or None,
        "time_left": None,
        "cost_per_hour": 0.0,
    }


def _text(look: dict[str, Any]) -> str:
    lines = [f"{look['environment']}: {look['health']} ({look['orchestrator']} on {look['target']}, {look['runtime']})"]
    for service in look["services"]:
        where = service["url"] or ""
        lines.append(f"  {service['name']:<16}{service['reason'] or 'healthy'}  {where}".rstrip())
    if look["run"]:
        lines.append(f"  last run        {look['run'].get('state')}  {look['run'].get('key')}")
    lines.append(f"  workspace       {look['workspace']}")
    lines.append("  costs           nothing by the hour, no time limit")
    if look["health"] == "degraded":
        lines.append("  `mlops-env up` mends what is down.")
    return "\n".join(lines)
