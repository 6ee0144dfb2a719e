from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def credentials(name: options.Name = None, as_json: options.Json = False, debug: options.Debug = False) -> None:
    """Show user and password of the orchestrator.

    They were made on the host and are nowhere else.
    """

    def body(emit: Emit) -> reporting.Outcome:
        from mlops_env import config, environment, orchestrators  # noqa: PLC0415
        from mlops_env.commands import connecting  # noqa: PLC0415

        env = environment.need(config.called(name))
        with connecting.connect(env, emit) as connection:
            login = orchestrators.login(connection, env)
        text = f"user      {login.user}\npassword  {login.password}\nfile      {login.file}"
        if login.prompt != login.password:
            text += f"\nThe page asks for both in one field: {login.prompt}"
        fields = {"user": login.user, "password": login.password, "prompt": login.prompt, "file": login.file}
        return reporting.Outcome(text, {"environment": env.name, **fields})

    reporting.run("credentials", body, as_json=as_json, debug=debug)
