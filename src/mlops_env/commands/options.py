"""The options that several verbs share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops_env.config import default_orchestrator

Name = Annotated[str | None, typer.Option("--name", "-n", help="The environment. [default: default]", metavar="NAME")]
Target = Annotated[str | None, typer.Option(help="Where it lives: local, or ssh with --host.", metavar="TARGET")]
Host = Annotated[str | None, typer.Option(help="For ssh: me@box, or a name of ~/.ssh/config.", metavar="HOST")]
Identity = Annotated[str | None, typer.Option("--identity", "-i", help="The private key for it.", metavar="FILE")]
AcceptNewHostKey = Annotated[
    bool, typer.Option("--accept-new-host-key", help="Trust the key of a host not seen before, and show it.")
]
Orchestrator = Annotated[
    str | None,
    typer.Option(help=f"What runs the pipeline. [default: {default_orchestrator()}]", metavar="NAME"),
]
Runtime = Annotated[
    str | None,
    typer.Option(help="venv, or compose (Docker), which ssh has by default.", metavar="RUNTIME"),
]
Workspace = Annotated[
    str | None,
    typer.Option(
        help="The folder with the pipeline. [default: that of the nearest mlops-env.toml, else ~/mlops-env/NAME]",
        metavar="DIR",
    ),
]
Params = Annotated[list[str] | None, typer.Option("--param", "-p", help="A parameter of the run.", metavar="KEY=VALUE")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Events and the result as NDJSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Tools' own output, and a traceback on errors.")]
