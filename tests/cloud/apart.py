"""Commands in processes of their own that can be killed, without the second that each needs to import all of AWS."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_IMPORTED = [
    "__main__",
    "mlops_env.cli",
    "mlops_env.commands.up",
    "mlops_env.ec2.creation",
    "mlops_env.ec2.ending",
    "mlops_env.ec2.session",
    "mlops_env_infra.ec2",
    "boto3",
]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(_IMPORTED)


def start(arguments: Sequence[str], environ: Mapping[str, str], output: Path) -> multiprocessing.process.BaseProcess:
    """`mlops-env` with these; what it says goes to `output`."""
    process = CONTEXT.Process(target=run, args=(list(arguments), dict(environ), str(output)))
    process.start()
    return process


def run(arguments: list[str], environ: dict[str, str], output: str) -> None:
    """The command, in a process that has everything imported."""
    os.setsid()
    os.environ.update(environ)
    with open(output, "wb", buffering=0) as file:  # noqa: PTH123 - its descriptor is what is wanted
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    sys.argv = ["mlops-env", *arguments]
    from mlops_env.cli import main  # noqa: PLC0415 - imported before, in the process that this one is a copy of
    from mlops_env.ec2 import inventory  # noqa: PLC0415 - as above

    inventory._PAUSE = 0.05  # an AWS on this machine shows at once what it has
    main()
