"""The command line: every verb is a file of commands/."""

from __future__ import annotations

import typer

from mlops_env.commands import (
    credentials,
    doctor,
    down,
    extend,
    iam_policy,
    init,
    list,
    logs,
    open,
    preview,
    pull,
    push,
    run,
    sandbox,
    ssh,
    start,
    status,
    stop,
    up,
)

app = typer.Typer(
    name="mlops-env",
    help="Environments for machine learning that come up with one command and leave nothing behind.",
    epilog="Start with `mlops-env up`; end with `mlops-env down`.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(up.up)
app.command()(run.run)
app.command("train", hidden=True)(run.run)
app.command()(down.down)
app.command()(status.status)
app.command("list")(list.list_)
app.command("open")(open.open_)
app.command()(logs.logs)
app.command()(credentials.credentials)
app.command()(push.push)
app.command()(pull.pull)
app.command(context_settings={"ignore_unknown_options": True})(ssh.ssh)
app.command()(stop.stop)
app.command()(start.start)
app.command()(extend.extend)
app.command()(preview.preview)
app.command()(init.init)
app.command()(doctor.doctor)
app.command("iam-policy")(iam_policy.iam_policy)
app.add_typer(sandbox.app, name="sandbox")


@app.callback(invoke_without_command=True)
def _main(version: bool = typer.Option(False, "--version", help="Show the version.", is_eager=True)) -> None:
    if version:
        from mlops_env import __version__  # noqa: PLC0415

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    app()
