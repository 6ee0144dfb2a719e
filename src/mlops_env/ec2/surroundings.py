"""Where AWS is, and who the engine: the real ones, or those of the sandbox."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_env.ec2.aws import Aws
from mlops_env.environment import state_root
from mlops_env.errors import MlopsEnvError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_env.environment import Environment
    from mlops_env.events import Emit

_CALLERS_ADDRESS = "https://checkip.amazonaws.com"
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_SANDBOX_REGION = "us-east-1"


@dataclass(frozen=True)
class Surroundings:
    """`variables` are for the engine's processes and our clients; none in the real world, where the user's count.

    `address_url` answers with the address that its caller has to others. `pulumi` is the root of the engine, which is
    `bin/pulumi` in it; `engine` is what people call it, and empty until `with_engine`.
    """

    variables: Mapping[str, str]
    address_url: str
    pulumi: Path = Path()
    engine: str = ""

    def aws(self, environment: Environment) -> Aws:
        cloud = environment.record.cloud
        return Aws(cloud["region"], cloud["profile"], self.variables)


def sandbox_directory() -> Path:
    """Where the sandbox of this machine is; `MLOPS_ENV_SANDBOX` overrides."""
    override = os.environ.get("MLOPS_ENV_SANDBOX")
    return Path(override).expanduser().absolute() if override else state_root() / ".sandbox"


def of(environment: Environment, emit: Emit, *, start: bool = False) -> Surroundings:
    """Where this environment's AWS is. A sandbox that does not run is started, or is an error."""
    cloud = environment.record.cloud
    if not cloud["sandbox"]:
        return Surroundings({}, _CALLERS_ADDRESS)
    from mlops_env.sandbox import control  # noqa: PLC0415 - nothing else of the real path knows the sandbox

    directory = sandbox_directory()
    if start:
        running = control.ensure(directory, emit, with_hosts=not cloud["no_host"])
    else:
        found = control.running(directory)
        if found is None:
            raise MlopsEnvError(
                f"the sandbox in which environment {environment.name!r} lives does not run any more",
                code="sandbox-gone",
                hint="its AWS was in memory only: "
                f"`mlops-env down --name {environment.name} --discard`, then `up` again",
            )
        running = found
    return Surroundings(running.variables(), running.address_url)


def with_engine(around: Surroundings, environment: Environment, emit: Emit) -> Surroundings:
    """With the engine that made the environment, or for a new one the real Pulumi; a sandbox can do without."""
    from mlops_env.ec2 import pulumi_cli  # noqa: PLC0415 - it looks for programs

    cloud = environment.record.cloud
    if not cloud["sandbox"]:
        root = pulumi_cli.find(emit)
        return replace(around, pulumi=root, engine=pulumi_cli.title(root))
    from mlops_env.sandbox import control, engine  # noqa: PLC0415 - as above

    running = control.running(sandbox_directory())
    variables = {**around.variables, **(running.provider_variables(environment.record.id) if running else {})}
    found = None if cloud.get("engine") == engine.TITLE else pulumi_cli.installed()
    if found:
        return replace(around, variables=variables, pulumi=found, engine=pulumi_cli.title(found))
    root = sandbox_directory() / "engine"
    engine.shim(root)
    return replace(around, variables=variables, pulumi=root, engine=engine.TITLE)


def rehearse(environment: Environment, faults: Sequence[str]) -> None:
    """Tell the sandbox what is to go wrong, and whether the environment has a machine."""
    if not environment.record.cloud["sandbox"]:
        return
    from mlops_env.sandbox import control  # noqa: PLC0415 - as above

    running = control.running(sandbox_directory())
    if running and environment.record.cloud["no_host"]:
        running.without_host(environment.record.id)
    if running:
        running.break_(faults)


def region(wanted: str, profile: str, *, is_sandbox: bool) -> str:
    """The region asked for, else that of the AWS variables, else that of the profile in ~/.aws/config."""
    if wanted or is_sandbox:
        return wanted or _SANDBOX_REGION
    if by_variable := next((os.environ[name] for name in _REGION_VARIABLES if os.environ.get(name)), ""):
        return by_variable
    found = Aws("", profile, {}).configured_region()
    if not found:
        raise MlopsEnvError(
            "no region is named",
            code="region-missing",
            hint="name one that is near you: --region eu-central-1; or `aws configure set region eu-central-1`",
        )
    return found
