from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def ssh(
    command: Annotated[list[str] | None, typer.Argument(help="What to run there; else a shell.")] = None,
    name: options.Name = None,
    debug: options.Debug = False,
) -> None:
    """Open a shell on the host, or run one command there.

    It starts in the workspace and ends with the exit code of what ran.

    \b
      mlops-env ssh
      mlops-env ssh -- docker ps
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config, environment  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415
        from mlops_env.connection import become, quoted  # noqa: PLC0415
        from mlops_env.errors import UsageError  # noqa: PLC0415
        from mlops_env.ssh_config import ssh_command, write_config  # noqa: PLC0415

        env = environment.need(config.called(name))
        if not env.is_remote:
            raise UsageError(
                f"environment {env.name!r} is on this machine",
                code="no-remote",
                hint=f"its workspace is {env.workspace}",
            )
        host = connecting.found(env, emit)
        write_config(host)
        start = ["sh", "-c", 'cd "$1" 2>/dev/null; shift; exec "$@"', "sh", str(env.host_workspace)]
        shell = ["sh", "-c", 'exec "${SHELL:-sh}" -l']
        terminal = ["-t"] if not command and sys.stdin.isatty() else []
        become(ssh_command(host, *terminal, remote=[quoted([*start, *(command or shell)])]))

    reporting.run("ssh", body, as_json=False, debug=debug)
