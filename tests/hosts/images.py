"""Images for test hosts, made from the Debian archive alone: `python tests/hosts/images.py` builds what is missing.

Two base images, a bare host of each, and stand-ins for the public images that the product's Dockerfiles name. An
image bears the digest of its recipe as a label: where that is the same, nothing is built.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent / "dockerfiles"
RELEASES = {"debian12": "bookworm", "debian13": "trixie"}
STAND_INS = {"python:3.11-slim-bookworm": "python", "postgres:16-bookworm": "postgres"}
PLAIN_STAND_INS = {"debian:bookworm-slim": "debian12"}
"""Which are a base image as it is; no engine in a host needs them."""
LABEL = "mlops-env-test.recipe"

_PREFIX = "mlops-env-test"
REGISTRY = f"{_PREFIX}/registry"
SANDBOX_HOST = f"{_PREFIX}/sandbox-host"
_EMPTY_REGISTRY = f"{_PREFIX}/registry-empty"
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES = Path("/usr/local/share/ca-certificates")
# How this machine reaches registries, where its environment says it: what starts in the images reaches them so too.
_FORWARDED = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")


@dataclass(frozen=True)
class Built:
    """What became of one image."""

    tag: str
    built: bool
    seconds: float


def host_image(release: str) -> str:
    return f"{_PREFIX}/{release}"


def base_image(release: str) -> str:
    return f"{_PREFIX}/{release}-base"


def build_all() -> list[Built]:
    """Everything that is missing, or whose recipe has changed."""
    built = [_base(release) for release in RELEASES]
    for tag, release in PLAIN_STAND_INS.items():
        _run("docker", "tag", base_image(release), tag)
    built += [_image(tag, name, base_image("debian12")) for tag, name in STAND_INS.items()]
    built += [_image(host_image(release), "host", base_image(release)) for release in RELEASES]
    built.append(_image(SANDBOX_HOST, "sandbox", _sandbox_host(), _label(base_image("debian12"))))
    return [*built, _image(_EMPTY_REGISTRY, "registry", base_image("debian12")), _registry()]


def _base(release: str) -> Built:
    """A minimal Debian from this machine's own archive, with this machine's certificates."""
    tag, codename = base_image(release), RELEASES[release]
    sources, options = _sources(codename), _apt_options()
    variables = {"SSL_CERT_FILE": _BUNDLE, "REQUESTS_CA_BUNDLE": _BUNDLE, **_forwarded()}
    with tempfile.TemporaryDirectory() as name:
        machine = _machine_files(Path(name) / "machine", variables)
        recipe = _digest(codename, "\n".join([*sources, *options]), _digest_of(machine))
        if _label(tag) == recipe:
            return Built(tag, built=False, seconds=0)
        start = time.monotonic()
        archive = Path(name) / "base.tar"
        lines = [f"--aptopt={option}" for option in options]
        # The certificates come before the package that reads them.
        hook = f'--essential-hook=cp -rT {machine} "$1"'
        made = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=ca-certificates", *lines, hook]
        _run(*made, codename, str(archive), *sources)
        changes = [f"--change=ENV {key}={value}" for key, value in variables.items()]
        _run("docker", "import", *changes, f"--change=LABEL {LABEL}={recipe}", str(archive), tag)
    return Built(tag, built=True, seconds=time.monotonic() - start)


def _sandbox_host() -> str:
    """The product's own image of an instance, by its own recipe, on the stand-in."""
    from mlops_env.sandbox import host_image, traces  # noqa: PLC0415 - the rest runs where ours is not installed

    with closing(traces.docker()) as client:
        return host_image.ensure(client, lambda _: None)


def _image(tag: str, name: str, base: str, origin: str = "") -> Built:
    """`origin` is the recipe of a base that was not made here."""
    dockerfile = FOLDER / f"{name}.Dockerfile"
    parts = sorted(FOLDER.glob(f"{name}[-.]*"))
    recipe = _digest(origin or _label(base), base, *(f"{part.name}\n{part.read_text()}" for part in parts))
    if _label(tag) == recipe:
        return Built(tag, built=False, seconds=0)
    start = time.monotonic()
    command = ["docker", "build", "--quiet", f"--build-arg=BASE={base}", f"--label={LABEL}={recipe}", f"--tag={tag}"]
    # The builder that is part of every engine: the newer one needs a plugin.
    _run(*command, f"--file={dockerfile}", str(FOLDER), environment={"DOCKER_BUILDKIT": "0"})
    return Built(tag, built=True, seconds=time.monotonic() - start)


def _registry() -> Built:
    """The registry with the stand-ins in it: pushed once, then part of its image."""
    recipe = _digest(_label(_EMPTY_REGISTRY), *(_label(tag) for tag in STAND_INS))
    if _label(REGISTRY) == recipe:
        return Built(REGISTRY, built=False, seconds=0)
    start = time.monotonic()
    # An engine trusts a registry without TLS on the loopback address only.
    container = _run("docker", "run", "--detach", "--publish=127.0.0.1::5000", _EMPTY_REGISTRY).strip()
    try:
        address = _run("docker", "port", container, "5000").split()[0]
        for tag in STAND_INS:
            pushed = f"{address}/library/{tag}"
            _run("docker", "tag", tag, pushed)
            _run("docker", "push", "--quiet", pushed)
            _run("docker", "rmi", "--no-prune", pushed)
        _run("docker", "commit", f"--change=LABEL {LABEL}={recipe}", container, REGISTRY)
    finally:
        _run("docker", "rm", "--force", "--volumes", container)
    return Built(REGISTRY, built=True, seconds=time.monotonic() - start)


def _machine_files(folder: Path, variables: dict[str, str]) -> Path:
    """What an owner has set on a machine that stands where this one stands."""
    texts = {
        "etc/pip.conf": f"[global]\ncert = {_BUNDLE}\n",
        "etc/uv/uv.toml": "native-tls = true\n",
        "etc/environment": "".join(f"{key}={value}\n" for key, value in variables.items()),
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    certificates = folder / _CERTIFICATES.relative_to("/")
    if _CERTIFICATES.is_dir():
        shutil.copytree(_CERTIFICATES, certificates)
    return folder


def _sources(codename: str) -> list[str]:
    """This machine's Debian archives, as one-line sources of another release."""
    own = next(
        line.partition("=")[2].strip('"')
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    targets = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
    sources = []
    for line in dict.fromkeys(targets.splitlines()):
        uri, release, component = line.split()
        if release in {own, f"{own}-updates", f"{own}-security"} and component == "main":
            sources.append(f"deb {uri.rstrip('/')} {release.replace(own, codename)} main")
    return sources


def _apt_options() -> list[str]:
    """How this machine's apt goes out, if it is told how."""
    dump = _run("apt-config", "dump").splitlines()
    return [
        line.rstrip(";") for line in dump if line.startswith(("Acquire::http", "Acquire::https")) and '""' not in line
    ]


def _forwarded() -> dict[str, str]:
    names = [*_FORWARDED, *(name.lower() for name in _FORWARDED if name.endswith("_PROXY"))]
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _label(tag: str) -> str:
    """The recipe of an image that is there, else nothing."""
    command = ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', tag]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _digest_of(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return _digest(*(f"{path.relative_to(folder)}\n{path.read_text()}" for path in files))


def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    for one in build_all():
        print(f"{one.seconds:6.1f} s  {one.tag}" if one.built else f"   there  {one.tag}")
