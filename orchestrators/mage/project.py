"""Generate the Mage project: one pipeline, with one block for each step of mlops-env.toml.

    python project.py [check]

What the user changed, in Mage's editor or elsewhere, is kept and named on stderr; all else follows mlops-env.toml.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import files
from mage import names
from workspace import Environment, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from workspace import Pipeline, Step

LINK = "workspace"  # what Mage's file browser shows of the workspace: see serve.py

_PIPELINE = {"blocks", "name", "run_pipeline_in_one_process", "type", "uuid", "variables"}
_BLOCK = {"downstream_blocks", "executor_type", "language", "name", "type", "upstream_blocks", "uuid"}

# What Mage adds of its own accord, and to what value; None: whatever it is.
_PIPELINE_NOISE = {"executor_count": 1, "settings": {"triggers": None}, "variables_dir": None}
_BLOCK_NOISE = {"all_upstream_blocks_executed": None, "status": None}

_PROJECT_FILE = """\
project_type: standalone
project_uuid: {id}
help_improve_mage: false
variables_retention_period: 90d
"""

_BLOCK_FILE = """\
# {comment}
import os
import runpy

if "custom" not in globals():
    from mage_ai.data_preparation.decorators import custom


@custom
def run_step(*args, **kwargs):
    task = runpy.run_path(os.path.join(os.environ["MLOPS_ENV_TREE"], "orchestrators", "mage", "task.py"))
    task["run"]({step}, kwargs)
"""


def project_files(pipeline: Pipeline, environment_id: str) -> dict[str, bytes]:
    """The whole project, by path relative to its folder."""
    blocks = names.block_uuids(pipeline)
    texts = {
        "metadata.yaml": _PROJECT_FILE.format(id=environment_id),
        pipeline_file(pipeline): yaml_text(pipeline_metadata(pipeline)),
        **{f"custom/{blocks[step.name]}.py": block_text(step) for step in pipeline.steps},
    }
    return {path: text.encode() for path, text in texts.items()}


def pipeline_file(pipeline: Pipeline) -> str:
    return f"pipelines/{names.pipeline_uuid(pipeline)}/metadata.yaml"


def block_text(step: Step) -> str:
    return _BLOCK_FILE.format(comment=" ".join(step.run.split()), step=json.dumps(step.name))


def pipeline_metadata(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline in Mage's own terms, each block after the one before."""
    blocks = list(names.block_uuids(pipeline).items())
    uuids = [uuid for _, uuid in blocks]
    return {
        "blocks": [
            {
                "downstream_blocks": uuids[number + 1 : number + 2],
                "executor_type": "local_python",
                "language": "python",
                "name": name,
                "type": "custom",
                "upstream_blocks": uuids[max(number - 1, 0) : number],
                "uuid": uuid,
            }
            for number, (name, uuid) in enumerate(blocks)
        ],
        "name": pipeline.name,
        # A process for each block would wait a turn of the scheduler before each.
        "run_pipeline_in_one_process": True,
        "type": "python",
        "uuid": names.pipeline_uuid(pipeline),
        "variables": dict(pipeline.params),
    }


def as_generated(said: object) -> dict[str, Any] | None:
    """A pipeline that Mage wrote, without what Mage alone put in; None if it says more than we could have.

    Mage rewrites the whole file, in its own form, whenever something is saved in its editor.
    """
    pipeline = _without(said, _PIPELINE, _PIPELINE_NOISE)
    if pipeline is None or not isinstance(pipeline["blocks"], list) or not isinstance(pipeline["variables"], dict):
        return None
    blocks = [_without(block, _BLOCK, _BLOCK_NOISE) for block in pipeline["blocks"]]
    if None in blocks or not all(isinstance(value, str) for value in pipeline["variables"].values()):
        return None
    return {**pipeline, "blocks": blocks}


def _without(said: object, ours: AbstractSet[str], noise: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of a mapping that is ours, if it is all there and the rest is empty or noise."""
    if not isinstance(said, dict) or not ours <= said.keys():
        return None
    rest = {name: value for name, value in said.items() if name not in ours and value}
    if any(name not in noise or noise[name] not in (None, value) for name, value in rest.items()):
        return None
    return {name: said[name] for name in sorted(ours)}


def restore_form(path: Path, wanted: bytes) -> None:
    """Give a pipeline's file its generated form back where it says nothing else: so it is known for ours again."""
    if not path.is_file() or (found := path.read_bytes()) == wanted:
        return
    yaml = importlib.import_module("yaml")  # Mage's venv, whose Python runs this, has it
    try:
        generated = as_generated(yaml.safe_load(found))
    except yaml.YAMLError:
        return  # the user is in the middle of something
    if generated is not None and (text := yaml_text(generated).encode()) != found:
        part = path.with_name(f".{path.name}.mlops-env")
        part.write_bytes(text)
        part.replace(path)


def yaml_text(mapping: Mapping[str, Any]) -> str:
    return "\n".join([*_yaml_lines(mapping), ""])


def _yaml_lines(mapping: Mapping[str, Any], indent: str = "") -> list[str]:
    """YAML in block style: mappings, lists of mappings or strings, strings and truth values, names sorted."""
    lines = []
    for name, value in sorted(mapping.items()):
        key = f"{indent}{_scalar(name)}:"
        if not value or isinstance(value, str | bool):
            lines.append(f"{key} {_scalar(value) if isinstance(value, str) else json.dumps(value)}")
            continue
        lines.append(key)
        if isinstance(value, dict):
            lines += _yaml_lines(value, f"{indent}  ")
            continue
        for item in value:
            if isinstance(item, dict):
                first, *others = _yaml_lines(item, f"{indent}  ")
                lines += [f"{indent}- {first.lstrip()}", *others]
            else:
                lines.append(f"{indent}- {_scalar(item)}")
    return lines


def _scalar(text: str) -> str:
    if re.fullmatch(r"[a-z]+(_[a-z]+)*", text) and text not in {"yes", "no", "on", "off", "true", "false", "null"}:
        return text
    # A JSON string is a YAML string, but for what YAML calls a line break or not printable.
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff]", lambda match: f"\\u{ord(match[0]):04x}", quoted)


def link_workspace(project: Path) -> None:
    """Show the workspace in the project; what the user has under that name is left alone."""
    link = project / LINK
    if not os.path.lexists(link):
        link.symlink_to(Path("..", "..", ".."), target_is_directory=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="project.py", description="Generate the Mage project.")
    parser.add_argument("command", nargs="?", choices=["check"])
    check = parser.parse_args(arguments).command == "check"
    try:
        environment = Environment.read()
        pipeline = environment.pipeline()
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    ours = environment.workspace / ".mlops-env"
    project = ours / "projects" / "mage"
    wanted = project_files(pipeline, environment.id)
    metadata = pipeline_file(pipeline)
    restore_form(project / metadata, wanted[metadata])  # for a check too: it changes nothing of what is said
    if not files.bring(project, wanted, ours / "manifest.json", "mage", check=check):
        return 1
    if not check:
        link_workspace(project)
    return 0


if __name__ == "__main__":
    sys.exit(main())
