from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.environment import Environment
    from mlops_env.events import Emit
    from mlops_env.receipt import Receipt


def down(
    name: options.Name = None,
    delete_workspace: Annotated[
        bool, typer.Option("--delete-workspace", help="The workspace too, with MLflow's history.")
    ] = False,
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
            if env is None:
                environment.discard_unborn(wanted)
                text = f"There is no environment {wanted!r}: nothing to remove."
                return reporting.Outcome(text, {"environment": wanted, "receipt": [], "left": 0})
            if delete_workspace and not yes:
                _ask(env, as_json=as_json)
            receipt = take_down(env, emit, delete_workspace=delete_workspace)
        return _outcome(env, receipt, kept=not delete_workspace)

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


def take_down(env: Environment, emit: Emit, *, delete_workspace: bool) -> Receipt:
    """Sweep the host, then the workspace as far as asked, and last the record, which lets `down` be repeated."""
    from mlops_env import bootstrap, receipt  # noqa: PLC0415
    from mlops_env.connection import LocalConnection  # noqa: PLC0415
    from mlops_env.events import Event  # noqa: PLC0415

    emit(Event("step", "started", "down", "ending processes, removing files"))
    with LocalConnection() as connection:
        swept = receipt.parse(connection.run(bootstrap.on_this_machine(env).sweep()))
    rows = swept.plus(receipt.release_workspace(env, delete=delete_workspace))
    rows = rows if rows.left else rows.plus(receipt.forget(env))
    emit(Event("step", "failed" if rows.left else "ok", "down", f"{rows.found} things found, {rows.left} left"))
    return rows


def _outcome(env: Environment, receipt: Receipt, *, kept: bool) -> reporting.Outcome:
    headline = (
        f"Environment {env.name!r} is gone." if not receipt.left else f"{receipt.left} things are left; see above."
    )
    lines = [receipt.as_text(), "", headline]
    if kept and env.workspace.exists():
        lines += [
            f"Kept: {env.workspace}",
            "  with MLflow's history. It is yours; `--delete-workspace` removes it too.",
        ]
    if receipt.left:
        lines.append("Run `mlops-env down` again; it is safe to repeat.")
    fields = {"environment": env.name, "receipt": receipt.as_json(), "left": receipt.left}
    return reporting.Outcome("\n".join(lines), fields, ok=not receipt.left)
