"""What the verbs do about a host that is rented from AWS, or rehearsed; nothing for other targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlops_env.commands.up import Wishes
    from mlops_env.connection import Connection
    from mlops_env.environment import Environment
    from mlops_env.events import Emit


def switches(*, sandbox: bool, no_host: bool) -> dict[str, str | None]:
    """Flags without a value, as `config.resolve` takes them."""
    return {"sandbox": "yes" if sandbox else None, "no_host": "yes" if no_host else None}


def faults(text: str | None, *, is_sandbox: bool) -> Sequence[str]:
    from mlops_env.errors import UsageError  # noqa: PLC0415

    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    if names and not is_sandbox:
        raise UsageError(
            "--fault is for --sandbox: AWS has faults enough of its own",
            code="configuration",
            hint="nothing was changed; add --sandbox, or leave --fault out",
        )
    if names:
        from mlops_env.sandbox.faults import NAMES  # noqa: PLC0415

        if unknown := sorted(set(names) - set(NAMES)):
            raise UsageError(
                f"no fault is called {', '.join(unknown)}",
                code="configuration",
                hint=f"nothing was changed; there are: {', '.join(NAMES)}",
            )
    return names


def agreement(deed: str, *, yes: bool, as_json: bool) -> Callable[[], None]:
    """Asks whether to do that; raises a `UsageError` unless somebody is there who agrees."""

    def agree() -> None:
        from mlops_env.errors import UsageError  # noqa: PLC0415

        try:
            agreed = yes or (not as_json and typer.confirm(f"{deed[0].upper()}{deed[1:]}?", err=True))
        except typer.Abort:
            agreed = False
        if not agreed:
            raise UsageError(
                f"nobody agreed to {deed}, so nothing was done", code="not-confirmed", hint="`--yes` agrees beforehand"
            )

    return agree


def provide(env: Environment, emit: Emit, wishes: Wishes) -> Environment:
    """Have the host be there, and answer."""
    if env.record.target != "ec2":
        return env
    from mlops_env.ec2 import creation, ending  # noqa: PLC0415
    from mlops_env.environment import find  # noqa: PLC0415

    if wishes.replace_host:
        _end_host(env, emit)
    try:
        return creation.provide(env, emit, wishes.agree, wishes.faults)
    except BaseException:
        if find(env.name) is None:  # nothing was made, so nothing is kept for it
            ending.put_sandbox_away(env, emit)
        raise


def started(env: Environment, emit: Emit) -> Environment:
    """With its host running, which may have been stopped by us, its deadline or somebody else."""
    if env.record.target != "ec2":
        return env
    from mlops_env.ec2 import creation  # noqa: PLC0415

    return creation.start(env, emit)


def moved_in(connection: Connection, env: Environment, emit: Emit) -> Environment:
    """The host by a key of its own, and with the time that it is to run set; the environment, saved, with both."""
    if env.record.target != "ec2":
        return env
    from mlops_env.ec2 import host_key, lifetime  # noqa: PLC0415

    if not env.record.cloud.get("own_key"):
        host_key.replace(connection, env)
        env = env.save(cloud={**env.record.cloud, "own_key": True})
    kept = lifetime.keep(connection, env, emit)
    return kept if kept == env else kept.save()


def save_workspace(env: Environment, emit: Emit) -> str:
    """Bring what is only on the host here, as it is about to go; returns what was saved, for people.

    Any failure is an error that says that nothing was destroyed.
    """
    from mlops_env import bootstrap, exchange  # noqa: PLC0415
    from mlops_env.commands import connecting  # noqa: PLC0415
    from mlops_env.ec2 import ending  # noqa: PLC0415
    from mlops_env.errors import MlopsEnvError  # noqa: PLC0415

    try:
        if not ending.has_host_to_save(env, emit):
            return ""
        with connecting.connect(env, emit) as connection:
            saved = exchange.pull(connection, env, bootstrap.present(connection, env), emit)
    except MlopsEnvError as error:
        error.message = f"nothing was destroyed, as the workspace could not be saved: {error.message}"
        error.hint = f"{error.hint}; or give it up: `mlops-env down --name {env.name} --discard`"
        raise
    return f"{saved.text} → {env.workspace}"


def _end_host(env: Environment, emit: Emit) -> None:
    """Its workspace is here before."""
    from mlops_env.ec2 import ending  # noqa: PLC0415

    if "outputs" in env.record.cloud:
        save_workspace(env, emit)
        ending.destroy(env, emit)
