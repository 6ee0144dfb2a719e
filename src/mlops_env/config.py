"""What the user asked for: flag > environment variable > mlops-env.toml > default, resolved in one place."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_env.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE = "mlops-env.toml"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TARGETS = ("local", "ssh", "ec2")
RUNTIMES = ("venv", "compose")
IMAGES = ("debian12", "debian12-arm64", "ubuntu24.04")
TTL_ACTIONS = ("stop", "terminate")
_OF_CLOUD = ("region", "profile", "instance_type", "image", "disk", "ttl", "ttl_action", "allow")
_SETTINGS = ("name", "target", "host", "identity", "orchestrator", "runtime", *_OF_CLOUD)
_SWITCHES = ("sandbox", "no_host")
_DEFAULT_NAME = "default"
_DEFAULT_ORCHESTRATOR = "mage"
_DEFAULT_RUNTIME = {"local": "venv", "ssh": "compose", "ec2": "compose"}
_SMALLEST_DISK = 30
_HOST = re.compile(r"[^-\s]\S*")
_CIDR = re.compile(r"(\d{1,3}\.){3}\d{1,3}/32")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Local:
    """This machine."""


@dataclass(frozen=True)
class Ssh:
    """A machine that ssh reaches. `destination` is what `ssh` takes: user@host, a name of ~/.ssh/config, or a URI.

    `identity`, a private key file, is None where ~/.ssh/config, the agent or ssh's defaults decide.
    """

    destination: str
    identity: Path | None = None


@dataclass(frozen=True)
class Ec2:
    """A machine rented from AWS, or one that a sandbox of our own plays. What nobody asked for is None.

    `disk` is in GiB, `ttl` in seconds: after these it stops itself, 0 for never. `allow` is from where ssh is let in,
    instead of from where we are. `no_host`: of a sandbox, no machine.
    """

    region: str | None = None
    profile: str | None = None
    instance_type: str | None = None
    image: str | None = None
    disk: int | None = None
    ttl: int | None = None
    ttl_action: str | None = None
    allow: str | None = None
    sandbox: bool = False
    no_host: bool = False


Target = Local | Ssh | Ec2


@dataclass(frozen=True)
class Config:
    """One request. `workspace` is None where none was named or found: the environment's own default then.

    `target`, `orchestrator` and `runtime` are None where nobody asked: what the record says, else the default.
    """

    name: str
    target: Target | None
    workspace: Path | None
    orchestrator: str | None
    runtime: str | None
    params: Mapping[str, str] = field(default_factory=dict)


def called(flag: str | None) -> str:
    """The name of the environment that a command with only `--name` is about."""
    return resolve({"name": flag}, [], os.environ, Path.cwd()).name


def parameters(items: list[str]) -> dict[str, str]:
    """KEY=VALUE texts as a table; a `UsageError` lists those that are none."""
    problems: list[str] = []
    table = _overrides(items, problems)
    if problems:
        raise UsageError("\n".join(problems), code="configuration", hint="a parameter is KEY=VALUE")
    return table


def orchestrator_names() -> list[str]:
    """The orchestrators that can be chosen: those that know how to trigger a run."""
    from mlops_env.bundle import bundled  # noqa: PLC0415 - `--help` needs of this module only the defaults

    return sorted(path.parent.name for path in bundled("orchestrators").glob("*/project.py"))


def resolve(flags: Mapping[str, str | None], params: list[str], environ: Mapping[str, str], cwd: Path) -> Config:
    """Merge the four sources; a `UsageError` lists every problem at once, each with its source."""
    problems: list[str] = []
    workspace = _workspace(flags.get("workspace"), environ, cwd)
    table: Mapping[str, Any] = {}
    if workspace and (workspace / FILE).is_file():
        table = _document(workspace / FILE, problems).get("environment", {})
        if not isinstance(table, dict):
            problems.append(f"{workspace / FILE}: environment: must be a table, not {table!r}")
            table = {}
        problems += [f"{workspace / FILE}: environment.{key}: unknown setting" for key in table if key not in _SETTINGS]
    values: dict[str, str | None] = {}
    for key in _SETTINGS:
        variable = f"MLOPS_ENV_{key.upper()}"
        sources = (
            (_flag(key), flags.get(key)),
            (variable, environ.get(variable)),
            (f"{FILE}: environment.{key}", table.get(key)),
        )
        source, value = next(((s, v) for s, v in sources if v), ("", None))
        values[key] = value
        if value is not None:
            problems += _check(key, value, source)
    if flags.get("target") == "local" and flags.get("host"):
        problems.append(f"target local is this machine, so --host {flags['host']} means nothing")
    values |= {key: flags.get(key) for key in _SWITCHES}
    if not values["target"] and any(flags.get(key) for key in (*_OF_CLOUD, *_SWITCHES)):
        values["target"] = "ec2"
    target = _target(values, cwd, problems)
    overrides = _overrides(params, problems)
    if problems:
        raise UsageError(
            "\n".join(problems),
            code="configuration",
            hint="nothing was changed; mend the above and run again",
        )
    return Config(
        name=values["name"] or _DEFAULT_NAME,
        target=target,
        workspace=workspace,
        orchestrator=values["orchestrator"],
        runtime=values["runtime"],
        params=overrides,
    )


def _target(values: Mapping[str, str | None], cwd: Path, problems: list[str]) -> Target | None:
    """A host alone means ssh."""
    kind, host, identity = (values[key] for key in ("target", "host", "identity"))
    if kind == "ssh" and not host:
        problems.append("target ssh needs a host: --host me@box, or a name of ~/.ssh/config")
    if kind == "ec2" and host:
        problems.append(f"target ec2 makes its own host, so --host {host} means nothing")
    if values["no_host"] and not values["sandbox"]:
        problems.append("--no-host is for --sandbox: a machine that is rented is there")
    if problems:
        return None
    if kind == "ec2":
        return _ec2(values)
    if host and kind != "local":
        key_file = (cwd / Path(identity).expanduser()).absolute() if identity else None
        return Ssh(host, key_file)
    return Local() if kind == "local" else None


def _ec2(values: Mapping[str, str | None]) -> Ec2:
    disk, ttl = values["disk"], values["ttl"]
    return Ec2(
        values["region"],
        values["profile"],
        values["instance_type"],
        values["image"],
        int(disk) if disk else None,
        duration(ttl) if ttl else None,
        values["ttl_action"],
        values["allow"],
        sandbox=bool(values["sandbox"]),
        no_host=bool(values["no_host"]),
    )


def duration(text: str) -> int | None:
    """Seconds of such as 90s, 30m, 8h or 2d; 0 of `none`, and None of what is no duration."""
    if text == "none":
        return 0
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def default_orchestrator() -> str:
    return _DEFAULT_ORCHESTRATOR


def default_runtime(target: str) -> str:
    return _DEFAULT_RUNTIME[target]


def find_workspace(directory: Path) -> Path | None:
    """The nearest directory at or above this one that has a mlops-env.toml."""
    return next((d for d in (directory, *directory.parents) if (d / FILE).is_file()), None)


def _workspace(flag: str | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    asked = flag or environ.get("MLOPS_ENV_WORKSPACE")
    return (cwd / Path(asked).expanduser()).resolve() if asked else find_workspace(cwd.resolve())


def _check(key: str, value: object, source: str) -> list[str]:
    if not isinstance(value, str):
        return [f"{source}: must be text, not {value!r}"]
    fits, what = _RULES.get(key, (None, ""))
    if fits and not fits(value):
        return [f"{source}: {value!r} is {what}"]
    choices = _choices(key)
    if choices and value not in choices:
        return [f"{source}: {key} {value!r} is unknown; there are: {', '.join(choices)}"]
    return []


_RULES: Mapping[str, tuple[Callable[[str], object], str]] = {
    "name": (_NAME.fullmatch, "no name: lower-case letters, digits and dashes, at most 40"),
    "host": (_HOST.fullmatch, "no host: user@host, ssh://user@host:port, or a name of ~/.ssh/config"),
    "ttl": (lambda text: duration(text) is not None, "no duration: such as 30m, 8h or 2d, or `none` for no limit"),
    "allow": (_CIDR.fullmatch, "not one IPv4 address such as 203.0.113.7/32"),
    "disk": (
        lambda text: text.isdecimal() and int(text) >= _SMALLEST_DISK,
        f"no size: whole GiB, {_SMALLEST_DISK} at least",
    ),
}


def _choices(key: str) -> tuple[str, ...]:
    """The values that a setting can have, where they are known."""
    if key == "orchestrator":
        return tuple(orchestrator_names())
    known = {"target": TARGETS, "runtime": RUNTIMES, "image": IMAGES, "ttl_action": TTL_ACTIONS}
    return known.get(key, ())


def _overrides(params: list[str], problems: list[str]) -> dict[str, str]:
    overrides = {}
    for item in params:
        key, equals, value = item.partition("=")
        if not equals or not _PARAMETER.fullmatch(key):
            problems.append(f"-p {item}: must be KEY=VALUE")
        overrides[key] = value
    return overrides


def _document(path: Path, problems: list[str]) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - as above

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(f"{path}: no such file")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        problems.append(f"{path}: {error}")
    return {}
