"""What a fresh host is told at its first boot: who it is, and when to switch itself off. It installs nothing."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

_DEADLINE = "/usr/local/sbin/mlops-env-deadline"
_UNITS = "/etc/systemd/system/mlops-env-deadline"
_SERVICE = f"""\
[Unit]
Description=Power off when the deadline of this host is past

[Service]
Type=oneshot
ExecStart={_DEADLINE} check
# Not a line in the journal every 30 seconds.
LogLevelMax=notice
"""
_TIMER = """\
[Unit]
Description=Look at the deadline of this host

[Timer]
OnCalendar=*:*:0/30
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def files() -> dict[str, tuple[str, int]]:
    """What has a host end at its deadline: content and mode by path."""
    script = resources.files(__package__).joinpath("deadline.sh").read_text("utf-8")
    return {
        _DEADLINE: (script, 0o755),
        f"{_UNITS}.service": (_SERVICE, 0o644),
        f"{_UNITS}.timer": (_TIMER, 0o644),
    }


def render(*, host_key: str = "", host_key_public: str = "", ttl_seconds: int | None) -> str:
    """The cloud-config of a host with this ed25519 host key in OpenSSH format; without one the host makes its own.

    The lifetime counts from the end of the first boot. With None nothing is armed, but a deadline can be set later.
    """
    arm = [] if ttl_seconds is None else [[_DEADLINE, "arm", str(ttl_seconds)]]
    config: dict[str, Any] = {
        "ssh_deletekeys": True,
        "ssh_genkeytypes": ["ed25519"],
        "write_files": [
            {"path": path, "content": content, "permissions": f"{mode:04o}"}
            for path, (content, mode) in files().items()
        ],
        "runcmd": [*arm, ["systemctl", "enable", "--now", "mlops-env-deadline.timer"]],
    }
    if host_key:
        config["ssh_keys"] = {"ed25519_private": host_key, "ed25519_public": host_key_public}
    # JSON is YAML, and quotes what a YAML of our own making might not.
    return f"#cloud-config\n{json.dumps(config, indent=1)}\n"
