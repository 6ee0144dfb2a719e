"""The work of by_hand.sh, as pyinfra wants it. `trixie` is the source of Debian 13, `locks` the folder of the locks."""

from __future__ import annotations

import io

from pyinfra import host  # type: ignore[import-not-found]  # it has a venv of its own
from pyinfra.facts.files import File  # type: ignore[import-not-found]
from pyinfra.operations import apt, files, pip, server, systemd  # type: ignore[import-not-found]

OWNER = host.data.ssh_user
HOME = f"/home/{OWNER}"
VENVS = f"{HOME}/pyinfra"
LIST = "/etc/apt/sources.list.d/trixie.list"
ONE_LIST = f"-o Dir::Etc::sourcelist={LIST} -o Dir::Etc::sourceparts=/dev/null -o APT::Get::List-Cleanup=0"
PINS = """Package: *
Pin: release n=trixie
Pin-Priority: -1

Package: docker-compose docker-buildx
Pin: release n=trixie
Pin-Priority: 990
"""

base = ["ca-certificates", "git", "python3-venv"]
apt.packages(packages=base, update=True, cache_time=3600, no_recommends=True, _sudo=True)
files.put(src=io.StringIO(PINS), dest="/etc/apt/preferences.d/trixie", mode="644", _sudo=True)
source = files.put(src=io.StringIO(f"{host.data.trixie}\n"), dest=LIST, mode="644", _sudo=True)
server.shell(commands=[f"apt-get -q update {ONE_LIST}"], _sudo=True, _if=source.did_change)
apt.packages(packages=["docker.io", "docker-compose", "docker-buildx"], no_recommends=True, _sudo=True)
systemd.service(service="docker.service", running=True, enabled=True, _sudo=True)
server.user(user=OWNER, groups=["docker"], append=True, ensure_home=False, _sudo=True)

identity = f"[user]\n\tname = {host.data.git_name}\n\temail = {host.data.git_email}\n"
files.put(src=io.StringIO(identity), dest=f"{HOME}/.gitconfig", mode="644")

files.directory(path=VENVS)
files.put(src=f"{host.data.locks}/uv-requirements.lock", dest=f"{VENVS}/uv.lock")
pip.venv(path=f"{VENVS}/uv", python="python3")
uv = f"{VENVS}/uv/bin/uv"
if not host.get_fact(File, path=uv):
    install = "-m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: --require-hashes"
    server.shell(commands=[f"{VENVS}/uv/bin/python {install} --requirement {VENVS}/uv.lock"])
lock = files.put(src=f"{host.data.locks}/tools.lock", dest=f"{VENVS}/tools.lock")
tools = f"{VENVS}/tools"
if not host.get_fact(File, path=f"{tools}/pyvenv.cfg"):
    server.shell(commands=[f"{uv} venv --quiet --no-project --python '>=3.11' {tools}"])
sync = f"{uv} pip sync --quiet --require-hashes --python {tools}/bin/python {VENVS}/tools.lock"
server.shell(commands=[sync], _if=lock.did_change)
