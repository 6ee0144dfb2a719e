"""What `up` and `run` come to, for people and for programs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from mlops_env.commands.reporting import Outcome
from mlops_env.ec2 import offer
from mlops_env.orchestrators import Orchestrator

_INDENT = " " * 4  # so that MLflow's address of a run fits into 80 columns
_NEXT = {
    "open": "the pages in a browser",
    "run": "another run, with -p KEY=VALUE",
    "stop": "until the next start",
    "down": "all gone but the workspace",
}
_NEXT_OF_HOST = {
    "pull": "what was made and saved there",
    "ssh": "a shell there",
}

_NEXT_OF_CLOUD = {
    "stop": "off; its disk stays",
    "extend 4h": "more time",
    "down": "all of it gone from AWS; your files are saved here",
}

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_env.environment import Environment, Record
    from mlops_env.orchestrators import Run


def of_up(record: Record, urls: Mapping[str, str], run: Run | None) -> Outcome:
    """The whole picture: where to look, who to log in as, what the run gave, what it costs, what next."""
    orchestrator = Orchestrator.read(record.orchestrator)
    suffix = "" if record.name == "default" else f" --name {record.name}"
    lines = [
        *_headline(record, orchestrator.title, run),
        "",
        *_page_lines(orchestrator, urls, suffix),
        f"  workspace  {_workspace(record)}",
        *(_run_lines(run, urls, record.orchestrator) if run else []),
        f"  costs      {_costs(record)}",
        *([f"  lifetime   {_lifetime(record)}"] if record.cloud else []),
        "",
        *(f"  mlops-env {f'{verb}{suffix}':<16} {what}" for verb, what in _next(record).items()),
    ]
    fields: dict[str, Any] = {
        "environment": record.name,
        "target": record.target,
        **({"host": record.host["destination"]} if record.host else {}),
        **rented_fields(record),
        "orchestrator": record.orchestrator,
        "runtime": record.runtime,
        "workspace": record.workspace,
        "urls": dict(urls),
    }
    if run:
        fields["run"] = run_fields(run, urls, record.orchestrator)
    if run and not run.ok:
        fields["error"] = {
            "code": f"run-{run.state}",
            "message": f"environment is up; {_how_it_ended(run)}",
            "hint": f"mend the step and `mlops-env run{suffix}`; `mlops-env logs{suffix}` shows more",
            "log": run.log,
        }
    return Outcome("\n".join(lines), fields, ok=run is None or run.ok)


def of_provisioned(env: Environment) -> Outcome:
    """An `up` whose AWS is a rehearsal without a machine ends here."""
    record = env.record
    lines = [
        f"Environment {record.name!r} is provisioned: AWS has what `up` makes there.",
        "",
        f"  engine     {record.cloud['engine']}",
        f"  instance   {record.cloud['outputs']['instance_id']} in {record.cloud['outputs']['zone']}",
        "  host       none, as --no-host says: nothing was bootstrapped, and nothing was run",
        f"  costs      {_costs(record)}",
        "",
        f"  mlops-env {'down':<16} all gone",
    ]
    fields = {"environment": record.name, "target": record.target, **rented_fields(record)}
    return Outcome("\n".join(lines), fields)


def rented_fields(record: Record) -> dict[str, Any]:
    """What programs are told of a host in the cloud."""
    if not record.cloud:
        return {}
    cloud = record.cloud
    told = offer.price_of(record)
    return {
        "region": cloud["region"],
        "instance": cloud.get("outputs", {}).get("instance_id"),
        "engine": cloud.get("engine"),
        "sandbox": cloud["sandbox"],
        "cost_per_hour": 0.0 if cloud["sandbox"] or not told else told.per_hour,
        "deadline": cloud.get("deadline"),
    }


def _costs(record: Record) -> str:
    if record.cloud:
        return offer.bill(record)
    return "whatever the host costs" if record.host else "nothing by the hour: it is your machine"


def _lifetime(record: Record) -> str:
    from mlops_env.ec2 import lifetime  # noqa: PLC0415 - only a host in the cloud has one

    return lifetime.text(record.cloud)


def place(record: Record) -> str:
    """Where an environment is, for people."""
    if record.cloud:
        made = record.cloud.get("outputs", {}).get("instance_id", "a host to be")
        return f"{made} ({'sandbox' if record.cloud['sandbox'] else record.cloud['region']})"
    return str(record.host["destination"]) if record.host else "this machine"


def _how_it_ended(run: Run) -> str:
    return f"the run {run.state}" + (f" in step {run.failed_step}" if run.failed_step else "")


def _next(record: Record) -> dict[str, str]:
    of_cloud = _NEXT_OF_CLOUD if record.cloud else {}
    return {**_NEXT, **_NEXT_OF_HOST, **of_cloud} if record.host else _NEXT


def _workspace(record: Record) -> str:
    if not record.host:
        return record.workspace
    return (
        f"~/mlops-env/{record.name} on {place(record)}"
        if record.cloud
        else (f"{record.host['destination']}:~/mlops-env/{record.name}")
    )


def _headline(record: Record, title: str, run: Run | None) -> list[str]:
    if run and not run.ok:
        log = [f"  | {line}" for line in run.log.splitlines()[-10:]]
        return [f"Environment {record.name!r} is up; {_how_it_ended(run)}.", *log]
    return [f"Environment {record.name!r} is up: {title} and MLflow on {place(record)}."]


def _page_lines(orchestrator: Orchestrator, urls: Mapping[str, str], suffix: str) -> list[str]:
    login = orchestrator.login
    users = {orchestrator.name: f"   user {login['user']}"} if login else {}
    lines = [f"  {name:<10} {url}{users.get(name, '')}" for name, url in urls.items()]
    return [*lines, f"  password   mlops-env credentials{suffix}"] if login else lines


def run_fields(run: Run, urls: Mapping[str, str], orchestrator: str) -> dict[str, Any]:
    return {
        "id": run.id,
        "key": run.key,
        "state": run.state,
        "page": _page(run, urls, orchestrator),
        "failed_step": run.failed_step,
        "mlflow_run_id": run.mlflow_run_id,
        "pipeline": run.pipeline,
        "metrics": dict(run.metrics),
    }


def _page(run: Run, urls: Mapping[str, str], orchestrator: str) -> str:
    return f"{urls[orchestrator]}{run.page}" if run.page and orchestrator in urls else ""


def _run_lines(run: Run, urls: Mapping[str, str], orchestrator: str) -> list[str]:
    metrics = ", ".join(f"{name} {value:.6g}" for name, value in run.metrics.items() if value is not None)
    lines = [f"  run        {run.state}"]
    lines += textwrap.wrap(metrics, 78, initial_indent=_INDENT, subsequent_indent=_INDENT)
    if _page(run, urls, orchestrator):
        lines.append(f"{_INDENT}{_page(run, urls, orchestrator)}")
    if run.mlflow_run_id and "mlflow" in urls:
        lines.append(f"{_INDENT}{urls['mlflow']}/#/experiments/{run.experiment_id}/runs/{run.mlflow_run_id}")
    return lines
