from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit

app = typer.Typer(
    help="The AWS of `up --target ec2 --sandbox`: it starts by itself, and ends with its last environment.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def start(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Start it now, and have it stay until `sandbox stop`."""

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env.ec2.aws import need_extra  # noqa: PLC0415
        from mlops_env.ec2.surroundings import sandbox_directory  # noqa: PLC0415
        from mlops_env.sandbox import control  # noqa: PLC0415

        need_extra()
        running = control.ensure(sandbox_directory(), emit, with_hosts=False, by_hand=True)
        text = f"The sandbox answers at {running.endpoint}, pid {running.pid}. `mlops-env sandbox stop` ends it."
        return reporting.Outcome(text, control.status(sandbox_directory()))

    reporting.run("sandbox start", body, as_json=as_json, debug=debug)


@app.command()
def status(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Show what it has started, and what its AWS has."""

    def body(emit: Emit) -> reporting.Outcome:  # noqa: ARG001 - nothing to tell before the end
        from mlops_env.ec2.surroundings import sandbox_directory  # noqa: PLC0415
        from mlops_env.sandbox import control  # noqa: PLC0415

        found = control.status(sandbox_directory())
        return reporting.Outcome(control.as_text(found), found)

    reporting.run("sandbox status", body, as_json=as_json, debug=debug)


@app.command()
def stop(as_json: options.Json = False, debug: options.Debug = False) -> None:
    """End it, with every machine in it.

    Environments that lived there have then nothing left but their record: `mlops-env down --discard` removes that.
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env.ec2.surroundings import sandbox_directory  # noqa: PLC0415
        from mlops_env.receipt import Receipt  # noqa: PLC0415
        from mlops_env.sandbox import control  # noqa: PLC0415

        receipt = Receipt(control.stop(sandbox_directory(), emit))
        end = "The sandbox is gone." if not receipt.left else f"{receipt.left} things are left; see above."
        fields = {"receipt": receipt.as_json(), "left": receipt.left}
        return reporting.Outcome(f"{receipt.as_text()}\n\n{end}", fields, ok=not receipt.left)

    reporting.run("sandbox stop", body, as_json=as_json, debug=debug)
