"""The embedded engine: stands in for the `pulumi` executable where none is installed, in the sandbox only.

It speaks Pulumi's own protocol to the Automation API and to providers, one step at a time. It has no parallelism, no
targets, no plugins, no policy packs, no imports and no stack configuration, and says so where it is asked for them.
What is asked most, state and outputs, is answered without importing Pulumi.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mlops_env.sandbox.engine_state import VERSION, EngineError, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TITLE = "embedded engine"
"""What output calls it."""

_SWITCHES = frozenset({
    "--non-interactive", "--yes", "--skip-preview", "--preview-only", "--refresh", "--clear-pending-creates",
    "--show-secrets", "--json", "--force", "--preserve-config", "--no-select",
    "--suppress-outputs", "--suppress-progress",
})  # fmt: skip
_VALUES = frozenset({
    "--stack", "--client", "--event-log", "--exec-kind", "--message", "--color", "--secrets-provider", "--file",
    "--page-size", "--page",
})  # fmt: skip
_GROUPS = frozenset({"stack", "plugin", "config"})


def main(arguments: Sequence[str]) -> int:
    try:
        command, operands, options = _parsed(arguments)
        return _COMMANDS[command](operands, options)
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - stderr is how a program of this kind speaks
        return error.exit_code


def _parsed(arguments: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    words: list[str] = []
    unknown: list[str] = []
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--":
            words += rest
            break
        if not word.startswith("-"):
            words.append(word)
        elif name in _SWITCHES and not equals:
            options[name] = "true"
        elif name in _VALUES and (equals or rest):
            options[name] = value if equals else rest.pop(0)
        else:
            unknown.append(name)
    length = 2 if words[:1] and words[0] in _GROUPS else 1
    command = " ".join(words[:length])
    if command not in _COMMANDS:
        raise EngineError(f"the embedded engine has no command {command!r}: install Pulumi for that", 2)
    if unknown:
        raise EngineError(f"the embedded engine has no option {unknown[0]}: install Pulumi for that", 2)
    return command, words[length:], options


def _stack(options: Mapping[str, str], operands: Sequence[str] = ()) -> Stack:
    """The one that the command is about, in the backend and the project of the working directory."""
    name = options.get("--stack") or (operands[0] if operands else "")
    if not name:
        raise EngineError("no stack selected; specify a stack name with --stack", 6)
    project = _project()
    url = os.environ.get("PULUMI_BACKEND_URL") or project.get("backend", {}).get("url", "")
    scheme, _, path = url.partition("://")
    if scheme != "file":
        raise EngineError("the embedded engine keeps its state in a directory: set PULUMI_BACKEND_URL to file://…", 2)
    return Stack(Path(unquote(path)).expanduser(), project["name"], name.rpartition("/")[2])


def _project() -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - `version` does not need it

    try:
        project: dict[str, Any] = yaml.safe_load(Path("Pulumi.yaml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EngineError("no Pulumi.yaml project file found", 2) from None
    return project


def _version(_operands: Sequence[str], _options: Mapping[str, str]) -> int:
    return _say(VERSION)


def _init(operands: Sequence[str], options: Mapping[str, str]) -> int:
    from mlops_env.sandbox.engine_secrets import Crypter  # noqa: PLC0415
    from mlops_env.sandbox.engine_snapshot import empty  # noqa: PLC0415

    if options.get("--secrets-provider", "passphrase") not in {"passphrase", "default"}:
        raise EngineError("the embedded engine has no secrets provider but the passphrase: install Pulumi for that", 2)
    stack = _stack(options, operands)
    with stack.locked():
        if stack.exists:
            raise EngineError(f"stack 'organization/{stack.project}/{stack.name}' already exists")
        stack.write(empty(Crypter.new(os.environ).provider()))
    return _say(f"Created stack '{stack.name}'")


def _select(operands: Sequence[str], options: Mapping[str, str]) -> int:
    _stack(options, operands).read()
    return 0


def _remove(operands: Sequence[str], options: Mapping[str, str]) -> int:
    stack = _stack(options, operands)
    with stack.locked():
        if stack.read().get("resources") and "--force" not in options:
            raise EngineError(
                f"'{stack.name}' still has resources; removal rejected. Possible actions:\n"
                f"- Make sure that '{stack.name}' is the stack that you want to destroy\n"
                "- Run `pulumi destroy` to delete the resources, then run `pulumi stack rm`\n"
                "- Run `pulumi stack rm --force` to override this error"
            )
        stack.remove()
    return _say(f"Stack '{stack.name}' has been removed!")


def _output(operands: Sequence[str], options: Mapping[str, str]) -> int:
    from mlops_env.sandbox.engine_secrets import Crypter, blinded  # noqa: PLC0415
    from mlops_env.sandbox.wire import SIGNATURE, plain  # noqa: PLC0415

    deployment = _stack(options).read()
    roots = [r for r in deployment.get("resources", ()) if r["type"] == "pulumi:pulumi:Stack"]
    outputs = roots[0].get("outputs", {}) if roots else {}
    if "--show-secrets" in options and SIGNATURE in json.dumps(outputs):
        outputs = plain(Crypter.of(deployment, os.environ).opened(outputs))
    outputs = blinded(outputs)
    if not operands:
        return _say(json.dumps(outputs))
    if operands[0] not in outputs:
        raise EngineError(f"current stack does not have output property '{operands[0]}'")
    value = outputs[operands[0]]
    return _say(value if isinstance(value, str) and "--json" not in options else json.dumps(value))


def _history(_operands: Sequence[str], options: Mapping[str, str]) -> int:
    stack = _stack(options)
    stack.read()
    size, page = int(options.get("--page-size", 10)), int(options.get("--page", 1))
    updates = stack.updates()[(page - 1) * size : page * size]
    return _say(json.dumps([_dated(update) for update in updates]))


def _dated(update: Mapping[str, Any]) -> dict[str, Any]:
    times = {key: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(update[key])) for key in ("startTime", "endTime")}
    return {**update, **times, "version": 0}  # such backends do not count


def _export(_operands: Sequence[str], options: Mapping[str, str]) -> int:
    from mlops_env.sandbox.engine_secrets import Crypter  # noqa: PLC0415

    deployment = _stack(options).read()
    if "--show-secrets" in options:
        deployment = Crypter.of(deployment, os.environ).shown(deployment)
    return _say(json.dumps({"version": 3, "deployment": deployment}, indent=4))


def _import(_operands: Sequence[str], options: Mapping[str, str]) -> int:
    from mlops_env.sandbox.engine_secrets import Crypter  # noqa: PLC0415

    stack = _stack(options)
    text = Path(options["--file"]).read_text(encoding="utf-8") if "--file" in options else sys.stdin.read()
    deployment = json.loads(text)["deployment"]
    foreign = [r["urn"] for r in deployment.get("resources", ()) if not r["urn"].startswith(_prefix(stack))]
    if foreign:
        raise EngineError(f"resource '{foreign[0]}' belongs to another stack than '{stack.name}'")
    with stack.locked():
        crypter = Crypter.of(stack.read(), os.environ)
        stack.write(
            {**crypter.closed(crypter.opened(deployment)), "secrets_providers": stack.read()["secrets_providers"]}
        )
    return _say("Import complete.")


def _prefix(stack: Stack) -> str:
    return f"urn:pulumi:{stack.name}::{stack.project}::"


def _cancel(operands: Sequence[str], options: Mapping[str, str]) -> int:
    stack = _stack(options, operands)
    stack.read()
    stack.unlock()
    return _say(f"The currently running update for '{stack.name}' has been canceled!")


def _nothing(_operands: Sequence[str], _options: Mapping[str, str]) -> int:
    """Plugins are not installed here: providers run already, and are attached."""
    return 0


def _operation(kind: str) -> Callable[[Sequence[str], Mapping[str, str]], int]:
    def run(_operands: Sequence[str], options: Mapping[str, str]) -> int:
        from mlops_env.sandbox import messages  # noqa: PLC0415 - as below

        messages.alone()
        from mlops_env.sandbox.engine_run import operate  # noqa: PLC0415 - gRPC takes longer than all that needs none

        return operate(kind, _stack(options), options)

    return run


def _say(text: str) -> int:
    print(text)  # noqa: T201
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str], Mapping[str, str]], int]] = {
    "version": _version,
    "stack init": _init,
    "stack select": _select,
    "stack rm": _remove,
    "stack output": _output,
    "stack history": _history,
    "stack export": _export,
    "stack import": _import,
    "plugin install": _nothing,
    "cancel": _cancel,
    "up": _operation("update"),
    "preview": _operation("preview"),
    "refresh": _operation("refresh"),
    "destroy": _operation("destroy"),
}


def shim(root: Path) -> None:
    """Write `root/bin/pulumi`, which runs this engine with the Python that runs now."""
    executable = root / "bin" / "pulumi"
    executable.parent.mkdir(parents=True, exist_ok=True)
    # -P: the working directory, which is the user's, is no place to import from.
    part = executable.with_suffix(".part")
    part.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m {__spec__.name} "$@"\n', encoding="utf-8")
    part.chmod(0o755)
    part.replace(executable)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
