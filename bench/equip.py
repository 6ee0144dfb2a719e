"""Our way of the work that bench/peers has others do, as one command: python bench/equip.py FOLDER DESTINATION.

FOLDER keeps what an environment keeps between two commands.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mlops_env import bootstrap
from mlops_env.commands import connecting
from mlops_env.environment import Environment, Record


def main(folder: Path, destination: str) -> None:
    host = {"destination": destination, "identity": None}
    record = Record("bench", "bench", "ssh", "mage", "compose", str(folder / "workspace"), created=0, host=host)
    environment = Environment("bench", folder, record)
    with connecting.connect(environment, lambda _: None) as connection:
        environment = connecting.introduced(connection, environment)
        bootstrap.bring(connection, environment, print, until="tools")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
