"""The images of an environment: those that we build, and the base images that they and the databases need."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import recipes
from events import say
from failures import Failure
from places import pulled_images

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from engine import Engine
    from host import Host

_FROM = re.compile(r"^FROM (\S+)", re.MULTILINE)
_pulling: dict[str, threading.Lock] = {}
_recording = threading.Lock()


def bases(host: Host, owner: str) -> list[str]:
    """The images that the owner's own one is made from."""
    return _FROM.findall(host.script(owner, "Dockerfile").read_text(encoding="utf-8"))


def pull(host: Host, engine: Engine, name: str) -> None:
    """Have a base image here; one that is here is taken as it is."""
    with _pulling.setdefault(name, threading.Lock()):  # two images may be made from it
        if engine.image(name):
            return
        with _recording, pulled_images(host.directory).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        timed(f"{name.partition(':')[0]} image", "pulling", f"pulled {name}", lambda: _pull(name))


def _pull(name: str) -> None:
    command = ["docker", "pull", "--quiet", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        code, hint = _why_not_pulled(done.stderr)
        raise Failure(f"the image {name} cannot be pulled: {_last(done.stderr, 3)}", code=code, hint=hint)


def _why_not_pulled(words: str) -> tuple[str, str]:
    if "no space left" in words.lower():
        return "disk-full", "free some space (`df -h /var/lib/docker`, `docker system df`)"
    if "toomanyrequests" in words or "rate limit" in words.lower():
        return "image-pull", "the registry's limit for this address is reached: `docker login`, or wait some hours"
    return "image-pull", "can this host reach the registry? Its proxy or mirror is a setting of the Docker daemon's"


def build(host: Host, owner: str, found: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """The owner's image, under its digest as tag; what a build says goes to a log."""
    log = host.directory / "logs" / f"build-{owner}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["docker", "compose", "--file", str(host.script(owner, "compose.yaml")), "build"]
    command += [host.services_of(owner)[0].name]
    with log.open("wb") as file:
        done = subprocess.run(command, env=dict(variables), stdout=file, stderr=file, check=False)
    if done.returncode:
        raise _not_built(recipes.image(owner, found), log)


def _not_built(image: str, log: Path) -> Failure:
    words = log.read_text(encoding="utf-8", errors="replace")
    message = f"the image {image} cannot be built:\n{_last(words, 8)}"
    if "no space left" in words.lower():
        return Failure(message, code="disk-full", hint="free some space (`df -h`, `docker system df`)")
    if "exit code: 132" in words:
        return Failure(message, code="no-avx", hint="this processor lacks instructions (AVX) that its packages need")
    return Failure(message, code="compose-build", hint=f"all that was said is in {log}")


def timed(name: str, doing: str, done: str, work: Callable[[], None]) -> None:
    """With events before and after it."""
    say("service", name, doing)
    start = time.monotonic()
    try:
        work()
    except BaseException:
        say("service", name, "failed")
        raise
    say("service", name, "changed", done, seconds=round(time.monotonic() - start, 1))


def forget_old(host: Host, engine: Engine, found: Mapping[str, str]) -> None:
    """Remove what earlier versions of these owners were made from; another orchestrator's stay for a swap back."""
    current = {recipes.image(owner, found) for owner in host.owners}
    names = {tag.partition(":")[0] for tag in current}
    for image in engine.find("images", host.identity):
        tags = [tag for tag in image.get("RepoTags") or [] if tag != "<none>:<none>"]
        for tag in tags or [image["Id"]]:
            if tag not in current and (not tags or tag.partition(":")[0] in names):
                engine.remove(f"/images/{tag}")


def _last(words: str, lines: int) -> str:
    return "\n".join(line for line in words.strip().splitlines()[-lines:])
