from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_env.commands import options, reporting

if TYPE_CHECKING:
    from mlops_env.events import Emit


def init(
    command: Annotated[
        list[str],
        typer.Option("--run", help="A step's command; several make several steps, in order.", metavar="COMMAND"),
    ],
    param: options.Params = None,
    workspace: Annotated[str, typer.Option(help="The folder with your code.", metavar="DIR")] = ".",
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Describe your own code in a mlops-env.toml.

    `up` then runs it instead of the taxi pipeline.

    \b
      mlops-env init --run "python train.py"
      mlops-env init --run "python prepare.py" --run "python train.py" -p epochs=3
    """

    def body(emit: Emit) -> reporting.Outcome:  # noqa: ARG001 - nothing to tell before the end
        from mlops_env import config  # noqa: PLC0415
        from mlops_env.errors import UsageError  # noqa: PLC0415

        folder = Path(workspace).expanduser().resolve()
        path = folder / config.FILE
        text = pipeline_file(folder.name, command, config.parameters(param or []))
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UsageError(f"{path} exists and says something else", code="file-exists", hint="edit it; it is yours")
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{path}: {error.strerror}", code="not-writable", hint="--workspace names a folder"
            ) from error
        return reporting.Outcome(f"{path}\n\n{text}\nNext: mlops-env up", {"file": str(path)})

    reporting.run("init", body, as_json=as_json, debug=debug)


def pipeline_file(folder: str, commands: list[str], params: dict[str, str]) -> str:
    """The text of a mlops-env.toml; each step is named for its script or its program."""
    steps: list[tuple[str, str]] = []
    for command in commands:
        name = _step_name(command)
        taken = sum(1 for other, _ in steps if other == name or other.startswith(f"{name}-"))
        steps.append((f"{name}-{taken + 1}" if taken else name, command))
    lines = ["[pipeline]", f"name = {_toml(_slug(folder) or 'pipeline')}", "steps = ["]
    lines += [f"  {{name = {_toml(name)}, run = {_toml(command)}}}," for name, command in steps]
    lines.append("]")
    if params:
        lines.append(f"params = {{{', '.join(f'{key} = {_toml(value)}' for key, value in params.items())}}}")
    return "\n".join(lines) + "\n"


def _step_name(command: str) -> str:
    from mlops_env.errors import UsageError  # noqa: PLC0415

    try:
        words = shlex.split(command)
    except ValueError as error:  # an open quote
        raise UsageError(f"--run {command}: {error}", code="configuration", hint="close the quote") from error
    if not words:
        raise UsageError("--run: there is no command", code="configuration", hint='--run "python train.py"')
    script = next((Path(word).stem for word in words if word.endswith((".py", ".sh"))), Path(words[0]).name)
    return _slug(script) or "step"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()


def _toml(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML basic string
