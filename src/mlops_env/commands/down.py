from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_env.commands import options, renting, reporting

if TYPE_CHECKING:
    from mlops_env.config import Config
    from mlops_env.environment import Environment
    from mlops_env.events import Emit
    from mlops_env.receipt import Receipt, Row


def down(
    name: options.Name = None,
    delete_workspace: Annotated[
        bool, typer.Option("--delete-workspace", help="The workspace too, with MLflow's history.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also what was installed on the host, such as Docker.")
    ] = False,
    forget_host: Annotated[
        bool, typer.Option("--forget-host", help="The host is no more: remove only what is on this machine.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Of target ec2: give up what is only on the host.")
    ] = False,
    target: Annotated[str | None, typer.Option(help="ec2, where this machine has no record of it.")] = None,
    identity: Annotated[str | None, typer.Option("--id", help="Which one, then.", metavar="ID")] = None,
    region: options.Region = None,
    profile: options.Profile = None,
    sandbox: options.Sandbox = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Remove what `up` made, with a receipt.

    The workspace, with your code and MLflow's history, is kept unless you say otherwise.
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config, environment  # noqa: PLC0415

        wanted = config.called(name)
        with environment.locked(wanted, "mlops-env down"):
            env = environment.find(wanted)
            if env is None and target == "ec2":
                flags = {"name": wanted, "target": target, "region": region, "profile": profile}
                switches = renting.switches(sandbox=sandbox, no_host=False)
                asked = config.resolve({**flags, **switches}, [], os.environ, Path.cwd())
                return _unrecorded(asked, identity, emit)
            if env is None:
                environment.discard_unborn(wanted)
                text = f"There is no environment {wanted!r}: nothing to remove."
                return reporting.Outcome(text, {"environment": wanted, "receipt": [], "left": 0})
            if forget_host and env.record.target != "ec2":  # there the host itself is asked for, and ended
                return _outcome(env, _forget(env), kept="")
            if delete_workspace and not yes:
                _ask(env, as_json=as_json)
            if env.record.target == "ec2":
                return _end_rented(env, emit, discard=discard, delete_workspace=delete_workspace)
            receipt, kept = take_down(env, emit, delete_workspace=delete_workspace, purge=purge)
        return _outcome(env, receipt, kept=kept)

    reporting.run("down", body, as_json=as_json, debug=debug)


def _ask(env: Environment, *, as_json: bool) -> None:
    """A usage error unless somebody is there who agrees."""
    from mlops_env.errors import UsageError  # noqa: PLC0415
    from mlops_env.receipt import laid_out  # noqa: PLC0415

    try:
        agreed = not as_json and typer.confirm(f"Delete {laid_out(env)} with all that is in it?", err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        raise UsageError(
            f"nothing was removed: {laid_out(env)} would go with all that is in it",
            code="not-confirmed",
            hint="`--yes` says that this is meant",
        )


def take_down(env: Environment, emit: Emit, *, delete_workspace: bool, purge: bool) -> tuple[Receipt, str]:
    """Sweep the host, then the workspace as far as asked, and last the record, which lets `down` be repeated.

    Returns also where the workspace is that was kept; empty if there is none.
    """
    from mlops_env import bootstrap, receipt  # noqa: PLC0415
    from mlops_env.commands import connecting  # noqa: PLC0415
    from mlops_env.events import Event  # noqa: PLC0415

    emit(Event("step", "started", "down", "ending processes, removing files"))
    with connecting.connect(env, emit) as connection:
        rows = receipt.parse(connection.run(bootstrap.present(connection, env).sweep(purge=purge)))
        rows = rows.plus(receipt.release_workspace(connection, env, delete=delete_workspace))
        kept = receipt.kept(connection, env)
    rows = rows.plus(*_end_forward(env))
    rows = rows if rows.left else rows.plus(receipt.forget(env))
    emit(Event("step", "failed" if rows.left else "ok", "down", f"{rows.found} things found, {rows.left} left"))
    return rows, kept


def _end_rented(env: Environment, emit: Emit, *, discard: bool, delete_workspace: bool) -> reporting.Outcome:
    """Save the workspace, destroy what AWS has and ask what is left, and last what is on this machine."""
    from mlops_env.connection import LocalConnection  # noqa: PLC0415
    from mlops_env.ec2 import ending  # noqa: PLC0415
    from mlops_env.receipt import Receipt, forget, release_copy  # noqa: PLC0415

    saved = ""
    if discard and ending.is_sandbox_gone(env, emit):
        rows = Receipt(())  # its AWS was in the memory of a process that is no more
    else:
        saved = "" if discard else renting.save_workspace(env, emit)
        rows = ending.destroy(env, emit)
    rows = rows.plus(*_end_forward(env), *([] if rows.left else ending.put_sandbox_away(env, emit)))
    if not rows.left:
        rows = rows.plus(release_copy(LocalConnection(), env, delete=delete_workspace), forget(env))
    return _outcome(env, rows, kept=str(env.workspace) if env.workspace.exists() else "", saved=saved)


def _unrecorded(asked: Config, identity: str | None, emit: Emit) -> reporting.Outcome:
    from mlops_env import environment, intent  # noqa: PLC0415
    from mlops_env.ec2 import creation, ending  # noqa: PLC0415

    env = creation.in_its_region(environment.imagine(asked.name, intent.settle(asked, None), None))
    return _outcome(env, ending.destroy_unrecorded(env, identity or "", emit), kept="")


def _forget(env: Environment) -> Receipt:
    from mlops_env import receipt  # noqa: PLC0415

    rows = receipt.Receipt(()).plus(*_end_forward(env))
    return rows if rows.left else rows.plus(receipt.forget(env))


def _end_forward(env: Environment) -> tuple[Row, ...]:
    """What a host has on this machine: the tunnel to it."""
    if not env.is_remote:
        return ()
    from mlops_env import forward  # noqa: PLC0415 - only hosts need it
    from mlops_env.connection import LocalConnection  # noqa: PLC0415

    return forward.end(LocalConnection(), env)


def _outcome(env: Environment, receipt: Receipt, *, kept: str, saved: str = "") -> reporting.Outcome:
    headline = (
        f"Environment {env.name!r} is gone." if not receipt.left else f"{receipt.left} things are left; see above."
    )
    lines = [receipt.as_text(), "", headline]
    if saved:
        lines.append(f"Saved: {saved}")
    if kept:
        lines += [f"Kept: {kept}", "  with MLflow's history. It is yours; `--delete-workspace` removes it too."]
    if receipt.left:
        lines.append("Run `mlops-env down` again; it is safe to repeat.")
    fields: dict[str, Any] = {
        "environment": env.name,
        "receipt": receipt.as_json(),
        "left": receipt.left,
        "kept": kept or None,
    }
    if saved:
        fields["saved"] = saved
    return reporting.Outcome("\n".join(lines), fields, ok=not receipt.left)
