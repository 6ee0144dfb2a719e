"""What a fresh host is told, and the script on it that ends it at its deadline, run for real in bash."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from mlops_env_infra import userdata

if TYPE_CHECKING:
    from pathlib import Path

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA:#'\"\\\n-----END OPENSSH PRIVATE KEY-----\n"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0iYxwHn1Ci4Zf2e3Wm6zH7zHxPz1bM0l0xK1mE3b0S host"
SCRIPT = resources.files("mlops_env_infra") / "deadline.sh"
INSTALLED = "/usr/local/sbin/mlops-env-deadline"


def config(**changes: Any) -> Any:
    text = userdata.render(**{"host_key": KEY, "host_key_public": PUBLIC, "ttl_seconds": 28_800, **changes})
    assert text.startswith("#cloud-config\n")
    return yaml.safe_load(text)


def written() -> dict[str, dict[str, str]]:
    return {file["path"]: file for file in config()["write_files"]}


def test_the_host_key_is_the_one_that_we_know() -> None:
    assert config()["ssh_keys"] == {"ed25519_private": KEY, "ed25519_public": PUBLIC}


def test_the_image_brings_no_other_host_key() -> None:
    for told in (config(), config(host_key="", host_key_public="")):
        assert told["ssh_deletekeys"] is True
        assert told["ssh_genkeytypes"] == ["ed25519"]


def test_without_a_key_the_host_makes_its_own() -> None:
    assert "ssh_keys" not in config(host_key="", host_key_public="")


def test_nothing_is_installed() -> None:
    told = {"ssh_deletekeys", "ssh_genkeytypes", "ssh_keys", "write_files", "runcmd"}
    assert config().keys() == told


def test_the_first_boot_arms_the_deadline_and_has_it_looked_at() -> None:
    assert config()["runcmd"] == [
        [INSTALLED, "arm", "28800"],
        ["systemctl", "enable", "--now", "mlops-env-deadline.timer"],
    ]


def test_without_a_lifetime_a_deadline_can_be_set_later() -> None:
    assert config(ttl_seconds=None)["runcmd"] == [["systemctl", "enable", "--now", "mlops-env-deadline.timer"]]


def test_the_script_arrives_as_it_is_and_the_service_starts_it() -> None:
    files = written()
    assert files[INSTALLED]["content"] == SCRIPT.read_text("utf-8")
    assert files[INSTALLED]["permissions"] == "0755"
    service = files["/etc/systemd/system/mlops-env-deadline.service"]["content"]
    assert f"ExecStart={INSTALLED} check\n" in service
    assert "OnCalendar=*:*:0/30\n" in files["/etc/systemd/system/mlops-env-deadline.timer"]["content"]


def test_it_fits_what_ec2_takes() -> None:
    assert len(userdata.render(host_key=KEY, host_key_public=PUBLIC, ttl_seconds=86_400).encode()) < 16 * 1024


@dataclass(frozen=True)
class Host:
    """A directory in which the script finds its deadline, its /proc, and a `systemctl` that only notes its words."""

    directory: Path

    @property
    def deadline(self) -> Path:
        return self.directory / "state" / "deadline"

    @property
    def proc(self) -> Path:
        return self.directory / "proc"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}",
            "DEADLINE_FILE": str(self.deadline),
            "DEADLINE_PROC": str(self.proc),
        }
        command = ["bash", str(SCRIPT), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)

    def check(self) -> str:
        """What `systemctl` was told by one look at the deadline."""
        done = self.run("check")
        assert (done.returncode, done.stderr) == (0, "")
        said = self.directory / "said"
        return said.read_text().strip() if said.exists() else ""

    def booted(self, seconds_ago: float) -> None:
        """Have PID 1 look started so long ago, on a machine that has run for an hour more."""
        hour = 3600
        (self.proc / "1").mkdir(parents=True)
        ticks = hour * os.sysconf("SC_CLK_TCK")
        numbers = " ".join(["0"] * 18)
        (self.proc / "1" / "stat").write_text(f"1 (a (strange) name) S {numbers} {ticks} 7 7\n")
        since = int(time.time() - seconds_ago - hour)
        (self.proc / "stat").write_text(f"cpu  1 2 3\nintr 4 5\nbtime {since}\nprocesses 9\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/said\n')
    program.chmod(0o755)
    return Host(tmp_path)


def in_seconds(host: Host) -> float:
    return int(host.deadline.read_text()) - time.time()


def test_a_deadline_is_armed_once(host: Host) -> None:
    assert host.run("arm", "3600").returncode == 0
    assert in_seconds(host) == pytest.approx(3600, abs=10)
    assert host.run("arm", "7200").returncode == 0
    assert in_seconds(host) == pytest.approx(3600, abs=20)


def test_a_deadline_is_moved_and_shown(host: Host) -> None:
    assert host.run("show").stdout == ""
    assert host.run("set", "1900000000").returncode == 0
    assert host.run("show").stdout == "1900000000\n"
    assert host.run("set", "1800000000").returncode == 0
    assert host.run("show").stdout == "1800000000\n"
    assert [path.name for path in host.deadline.parent.iterdir()] == ["deadline"]


def test_a_host_without_a_deadline_stays(host: Host) -> None:
    assert host.check() == ""


@pytest.mark.parametrize(
    ("past", "booted", "told"),
    [
        (-30, 7200, ""),  # still to come
        (1, 7200, "poweroff"),
        (60, 120, "poweroff"),  # a boot just before it had its time
        (7200, 5, ""),  # started again after it: time to extend it
        (7200, 580, ""),
        (7200, 620, "poweroff"),  # which nobody did
    ],
)
def test_when_a_host_powers_itself_off(host: Host, past: int, booted: int, told: str) -> None:
    host.booted(booted)
    host.run("set", str(int(time.time()) - past))
    assert host.check() == told


def test_an_extended_deadline_counts(host: Host) -> None:
    host.booted(7200)
    host.run("set", str(int(time.time()) - 60))
    host.run("set", str(int(time.time()) + 60))
    assert host.check() == ""


def test_the_boot_is_the_start_of_pid_1(host: Host) -> None:
    """With a process of now in its place, and the real /proc: in a container PID 1 is younger than the machine."""
    host.proc.mkdir()
    (host.proc / "stat").symlink_to("/proc/stat")
    (host.proc / "1").symlink_to("/proc/self")
    host.run("set", str(int(time.time()) - 3600))
    assert host.check() == ""


@pytest.mark.parametrize(
    "words",
    [(), ("arm",), ("arm", "8h"), ("arm", "-5"), ("set", ""), ("set", "010"), ("check", "now"), ("stop",)],
    ids=" ".join,
)
def test_what_it_does_not_understand_changes_nothing(host: Host, words: tuple[str, ...]) -> None:
    host.run("set", "1900000000")
    done = host.run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("mlops-env-deadline: ")
    assert host.run("show").stdout == "1900000000\n"


def test_a_deadline_that_is_no_time_is_an_error_and_no_power_cut(host: Host) -> None:
    host.booted(7200)
    host.deadline.parent.mkdir()
    host.deadline.write_text("tomorrow\n")
    done = host.run("check")
    assert (done.returncode, done.stderr) == (2, "mlops-env-deadline: 'tomorrow' is not a number of seconds\n")
    assert not (host.directory / "said").exists()


def test_a_full_disk_keeps_the_deadline(host: Host) -> None:
    host.run("set", "1900000000")
    host.deadline.with_name("deadline.part").symlink_to("/dev/full")
    assert host.run("set", "1800000000").returncode != 0
    assert host.run("show").stdout == "1900000000\n"
