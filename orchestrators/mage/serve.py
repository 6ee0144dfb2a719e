"""Start Mage's server for one project: `python -P serve.py PROJECT PORT`.

`mage start`, with what no setting of Mage 0.9.79 can do:

- It moves silently to the next port when its own is taken: here it ends with an error instead.
- Its file browser shows and saves only what lies in the project's folder: here also the workspace, behind the link
  `workspace` in the project.
- It creates the owner five seconds after the start, hoping that its scheduler has made the tables by then: here the
  tables are made first, and nobody waits.
- A run that it enqueues while its last worker is leaving waits for ever: here somebody looks again each second.
- Its editor's kernel obeys whoever connects to its ports on loopback: here only who knows the key.
- Its temporary files stay in /tmp for ever: here they go with the environment.
"""

import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

LINK = "workspace"

# Loopback, or in a container all of it, which is then published on the host's loopback only.
_ADDRESS = os.environ.get("MLOPS_ENV_BIND", "127.0.0.1")

# In the workspace, but neither the pipeline's nor small; Mage's own list has .git, venv and __pycache__.
_HIDDEN = {".mlops-env", ".venv", "node_modules", ".mypy_cache", ".ruff_cache", ".pytest_cache"}

# The longest path of a socket is 104 bytes (macOS), and multiprocessing's ends with /pymp-xxxxxxxx/listener-xxxxxxxx.
_LONGEST_FOLDER = 104 - 32


def require_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_ADDRESS, port))
        except OSError as error:
            sys.exit(f"port {port} of {_ADDRESS} cannot be used: {error.strerror}; end what listens there")


def temporary_folder(state: Path) -> Path:
    """In the state directory; where that makes the path of a socket too long, beside the supervisor's own socket."""
    folder = state / "tmp"
    if len(os.fsencode(folder)) <= _LONGEST_FOLDER:
        return folder
    return Path("/tmp", f"mlops-env-{os.getuid()}-{os.environ['MLOPS_ENV_ID'][:8]}", "mage")  # noqa: S108 - 0700, ours


def use_temporary_folder(folder: Path) -> None:
    """For this process and those it forks, not for the steps: TMPDIR stays as it was."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tempfile.tempdir = str(folder)


def sign_kernel_messages(managers: Any) -> None:
    """Without a key, every user of this machine could run code in the editor's kernel, past the login."""
    for manager in managers.values():
        manager.session.key = secrets.token_hex(32).encode()


def show_workspace(files: Any, project: Path, workspace: Path) -> None:
    """Let `mage_ai.data_preparation.models.file` follow the link to the workspace, and that link only."""
    link = str(project / LINK)
    ensure_in_project, traverse = files.ensure_file_is_in_project, files.traverse

    def ensure_in_project_or_workspace(file_path: str) -> None:
        path = Path(file_path).resolve()
        if path.is_relative_to(workspace) and not path.is_relative_to(workspace / ".mlops-env"):
            return
        ensure_in_project(file_path)

    def traverse_workspace(name: str, is_dir: bool, path: str, *args: Any, **kwargs: Any) -> Any:
        return traverse(name, is_dir or path == link, path, *args, **kwargs)

    files.ensure_file_is_in_project = ensure_in_project_or_workspace
    files.traverse = traverse_workspace
    files.BLACKLISTED_DIRS |= _HIDDEN


def keep_workers(queue: Any) -> None:
    """Have `mage_ai.orchestration.queue.process_queue.ProcessQueue` look at each tick whether anybody serves it.

    A job that is enqueued while the last worker is just leaving finds the workers alive, starts none, and from then on
    counts as queued: its run stays `running`, with no block ever started, until some other job is enqueued.
    """
    clean_up_jobs = queue.clean_up_jobs

    def clean_up_and_serve(self: Any) -> None:
        clean_up_jobs(self)
        if not self.queue.empty() and not self.is_worker_pool_alive():
            self.start_worker_pool()

    queue.clean_up_jobs = clean_up_and_serve


def main() -> None:
    project, port = sys.argv[1:]
    require_port(int(port))
    use_temporary_folder(temporary_folder(Path(os.environ["MAGE_DATA_DIR"])))
    # Before anything of Mage copies these names.
    files = import_module("mage_ai.data_preparation.models.file")
    show_workspace(files, Path(project), Path(os.environ["MLOPS_ENV_WORKSPACE"]).resolve())
    sign_kernel_messages(import_module("mage_ai.server.kernels").kernel_managers)
    keep_workers(import_module("mage_ai.orchestration.queue.process_queue").ProcessQueue)
    database = import_module("mage_ai.orchestration.db.database_manager").database_manager
    database.run_migrations(log_level=logging.WARNING)
    server: Any = import_module("mage_ai.server.server")
    server.sleep = lambda _seconds: None
    sys.argv = ["mage", "start", "--host", _ADDRESS, "--port", port, project]
    import_module("mage_ai.cli.main").app()


if __name__ == "__main__":
    main()
