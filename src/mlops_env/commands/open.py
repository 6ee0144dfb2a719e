from __future__ import annotations

import shutil
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.connection import Connection
    from mlops_env.events import Emit

_CLIPBOARDS = (["pbcopy"], ["wl-copy"], ["xclip", "-selection", "clipboard"], ["xsel", "-ib"])


def open_(
    service: Annotated[str | None, typer.Argument(help="The page; else the orchestrator's.")] = None,
    name: options.Name = None,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Open a page in the browser.

    The password goes to the clipboard, where there is one, and is never printed.

    \b
      mlops-env open
      mlops-env open mlflow
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import bootstrap, config, environment, orchestrators  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415
        from mlops_env.connection import LocalConnection  # noqa: PLC0415
        from mlops_env.errors import MlopsEnvError, UsageError  # noqa: PLC0415

        env = environment.need(config.called(name))
        with connecting.connect(env, emit) as connection:
            services = orchestrators.status(connection, bootstrap.present(connection, env))["services"]
            pages = {row["owner"]: row for row in services if row["url"]}
            wanted = service or env.record.orchestrator
            if wanted not in pages:
                raise UsageError(
                    f"no page of {wanted!r}; there are: {', '.join(pages) or 'none'}",
                    code="unknown-service",
                    hint="`mlops-env up` starts what is down",
                )
            if not pages[wanted]["healthy"]:
                raise MlopsEnvError(
                    f"{wanted} is not healthy: {pages[wanted]['reason']}",
                    code="unhealthy",
                    hint="`mlops-env up`",
                )
            urls = {owner: row["url"] for owner, row in pages.items() if row["healthy"]}
            url, user, copied = connecting.forwarded(env, urls, emit)[wanted], "", False
            if wanted == env.record.orchestrator and orchestrators.Orchestrator.read(wanted).login:
                login = orchestrators.login(connection, env)
                user, copied = login.user, _copy(LocalConnection(), login.prompt)
        opened = webbrowser.open(url)
        lines = [url, f"user {user}" if user else "", "its password is in the clipboard" if copied else ""]
        if user and not copied:
            lines.append("its password: `mlops-env credentials`")
        if not opened:
            lines.append("no browser could be started here: open the address above yourself")
        fields = {"environment": env.name, "url": url, "user": user, "copied": copied, "opened": opened}
        return reporting.Outcome("\n".join(filter(None, lines)), fields)

    reporting.run("open", body, as_json=as_json, debug=debug)


def _copy(connection: Connection, password: str) -> bool:
    command = next((command for command in _CLIPBOARDS if shutil.which(command[0])), None)
    return bool(command) and connection.run(command or [], stdin=password.encode()).ok
