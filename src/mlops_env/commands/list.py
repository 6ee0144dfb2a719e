from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.environment import Record
    from mlops_env.events import Emit


def list_(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """List the environments, without looking at them."""

    def body(emit: Emit) -> reporting.Outcome:  # noqa: ARG001 - nothing to tell before the end
        from mlops_env import environment  # noqa: PLC0415

        records = [env.record for env in environment.find_all()]
        rows = [f"{r.name:<20}{_where(r):<24}{r.orchestrator:<12}{r.workspace}" for r in records]
        fields = [
            {
                "environment": r.name,
                "target": r.target,
                "host": r.host.get("destination"),
                "orchestrator": r.orchestrator,
                "workspace": r.workspace,
            }
            for r in records
        ]
        text = "\n".join(rows) or "There is no environment. `mlops-env up` makes one."
        return reporting.Outcome(text, {"environments": fields})

    reporting.run("list", body, as_json=as_json, debug=debug)


def _where(record: Record) -> str:
    from mlops_env.commands.summary import place  # noqa: PLC0415

    return place(record) if record.host else record.target
