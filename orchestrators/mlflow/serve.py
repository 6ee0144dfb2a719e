"""Serve MLflow from one folder with its database and artifacts: `python -P serve.py FOLDER PORT`.

`mlflow server` with one worker, but in one process instead of two that both import all of MLflow: half the memory
and half the start. The database is brought up to date on a copy that then takes its place, so that a kill leaves
either the old one or the new one.
"""

import os
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from importlib import import_module
from pathlib import Path

# Loopback, or in a container all of it, which is then published on the host's loopback only.
_ADDRESS = os.environ.get("MLOPS_ENV_BIND", "127.0.0.1")

_DATABASE = Path("mlflow.db")
_ARTIFACTS = "artifacts"
_SERVED = "mlflow-artifacts:/"  # clients ask the server for artifacts, not this disk

# Relative, and so free of the letters of the user's path: a `?` or `%` in it would be syntax.
_URI = f"sqlite:///{_DATABASE}"


def revision(database: Path) -> str | None:
    """The schema revision of a database; None if there is no database yet."""
    if not database.exists():
        return None
    with closing(sqlite3.connect(database)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.DatabaseError as error:
            sys.exit(
                f"{database.absolute()} is not a usable MLflow database ({error}): put a backup in its place, "
                f"or move it away to begin with an empty history"
            )
    return str(row[0]) if row else None


def prepare(database: Path) -> None:
    """Create the database, or upgrade it where another version of MLflow made it; the old one stays beside it."""
    script = import_module("alembic.script").ScriptDirectory(import_module("mlflow.store.db_migrations").__path__[0])
    found, head = revision(database), script.get_current_head()
    if found == head:
        return
    part = database.with_name(f"{database.name}.new")
    part.unlink(missing_ok=True)
    if found is None:
        import_module("mlflow.store.tracking.sqlalchemy_store").SqlAlchemyStore(f"sqlite:///{part}", _SERVED)
    else:
        if found not in {known.revision for known in script.walk_revisions()}:
            sys.exit(
                f"{database.absolute()} was made by a newer MLflow (schema {found}): run a newer mlops-env, "
                f"or move the file away to begin with an empty history"
            )
        backup = database.with_name(f"{database.name}.{found}")
        print(f"upgrading {database} from schema {found} to {head}; the old one stays as {backup}", file=sys.stderr)
        _copy(database, backup)
        _copy(database, part)
        subprocess.run([sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{part}"], check=True)
    part.replace(database)


def _copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def main() -> None:
    folder, port = sys.argv[1:]
    Path(folder, _ARTIFACTS).mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
    uvicorn = import_module("uvicorn")  # first: MLflow's server asks whether it is loaded
    constants = import_module("mlflow.server.constants")
    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = _URI
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = _URI
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = _SERVED
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = _ARTIFACTS
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    prepare(_DATABASE)
    import_module("mlflow.server.handlers").initialize_backend_stores(_URI, _URI, _SERVED)
    app = import_module("mlflow.server.fastapi_app").app
    uvicorn.run(app, host=_ADDRESS, port=int(port), access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
