"""Generate the Prefect project: one flow, with one task for each step of mlops-env.toml.

python project.py          write it; what the user changed is kept and named on stderr
python project.py check    exit 0 if there is nothing to write
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import files
from workspace import Environment, UsageError

if TYPE_CHECKING:
    # This folder; when it runs, `prefect` is Prefect.
    from prefect.names import RUN_KEY, identifiers
    from workspace import Pipeline
else:
    from names import RUN_KEY, identifiers

_FLOW = '''\
"""The pipeline {name} as a Prefect flow.

It is yours to edit: the next run uses what you save here, and `mlops-env up` updates this file only while it is
as generated. Each task runs one step of mlops-env.toml in the pipeline's own venv.
"""

import os
import runpy

from prefect import flow, task
from prefect.runtime import flow_run

run_step = runpy.run_path(os.path.join(os.environ["MLOPS_ENV_TREE"], "orchestrators", "task.py"))["run_step"]
{tasks}

@flow(name={quoted}, log_prints=True)
def pipeline({signature}):
    run_key = run_key or f"prefect-{{flow_run.id}}"
    params = {{{params}}}
{calls}
'''

_TASK = """

@task(name={quoted}, task_run_name={quoted})
def {function}(run_key, params):
    run_step({quoted}, run_key, params)  # {comment}
"""


def project_files(pipeline: Pipeline) -> dict[str, bytes]:
    """The whole project, by path relative to its folder."""
    return {"flow.py": flow_text(pipeline).encode()}


def flow_text(pipeline: Pipeline) -> str:
    names = identifiers([*pipeline.params, *(f"step {step.name}" for step in pipeline.steps)])
    arguments = [f"{names[name]}: str = {_quote(value)}" for name, value in pipeline.params.items()]
    functions = {step.name: names[f"step {step.name}"] for step in pipeline.steps}
    tasks = [
        _TASK.format(quoted=_quote(step.name), function=functions[step.name], comment=" ".join(step.run.split()))
        for step in pipeline.steps
    ]
    return _FLOW.format(
        name=pipeline.name,
        quoted=_quote(pipeline.name),
        tasks="".join(tasks),
        signature=", ".join([*arguments, f"{RUN_KEY}: str | None = None"]),
        params=", ".join(f"{_quote(name)}: {names[name]}" for name in pipeline.params),
        calls="\n".join(f"    {function}(run_key, params)" for function in functions.values()),
    )


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def main() -> int:
    check = sys.argv[1:] == ["check"]
    try:
        environment = Environment.read()
        wanted = project_files(environment.pipeline())
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    ours = environment.workspace / ".mlops-env"
    project, manifest = ours / "projects" / "prefect", ours / "manifest.json"
    if check:
        return 0 if files.is_current(project, wanted, manifest, "prefect") else 1
    for change in files.write(project, wanted, manifest, "prefect"):
        if change.status == "kept":
            print(f"kept, as you changed it: {project / change.path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
