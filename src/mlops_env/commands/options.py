"""The options that several verbs share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops_env.config import default_orchestrator

Name = Annotated[str | None, typer.Option("--name", "-n", help="The environment. [default: default]", metavar="NAME")]
Target = Annotated[
    str | None, typer.Option(help="Where it lives: local, ssh with --host, or ec2 (beta).", metavar="TARGET")
]
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

Region = Annotated[
    str | None,
    typer.Option(help="Where on AWS. [default: as the AWS CLI has it]", metavar="REGION"),
]
Profile = Annotated[str | None, typer.Option(help="Whose credentials, as in ~/.aws.", metavar="NAME")]
InstanceType = Annotated[str | None, typer.Option(help="The machine. [default: t3.large]", metavar="TYPE")]
Image = Annotated[
    str | None, typer.Option(help="debian12; debian12-arm64 and ubuntu24.04 are not proved.", metavar="IMAGE")
]
Disk = Annotated[str | None, typer.Option(help="GiB of its disk. [default: 30]", metavar="GIB")]
Ttl = Annotated[str | None, typer.Option(help="It stops itself after: 30m, 8h, none. [default: 8h]", metavar="TIME")]
TtlAction = Annotated[str | None, typer.Option(help="stop, or terminate, disk and all.", metavar="ACTION")]
Allow = Annotated[
    str | None, typer.Option(help="Who port 22 is open to. [default: this machine's address]", metavar="CIDR")
]
Sandbox = Annotated[bool, typer.Option("--sandbox", help="Rehearse on an AWS of our own: no account, no bill.")]
NoHost = Annotated[bool, typer.Option("--no-host", help="Of a rehearsal, what AWS does only: no Docker needed.")]
Fault = Annotated[str | None, typer.Option(help="What is to go wrong in a rehearsal: a,b.", metavar="FAULTS")]
