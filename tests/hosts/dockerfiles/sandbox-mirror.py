"""Tells the engine of this host, once it is installed, of the registry at the last address of its network."""

import ipaddress
import json
import subprocess
from pathlib import Path

# The fourth word of what `ip` says is the address, such as 172.18.0.3/16.
words = ["ip", "-4", "-oneline", "address", "show", "scope", "global"]
told = subprocess.run(words, capture_output=True, check=True)
network = ipaddress.ip_interface(told.stdout.split()[3].decode()).network
where = f"{network.broadcast_address - 1}:5000"
# BuildKit heeds that a mirror has no TLS only where it is named as insecure.
settings = {"registry-mirrors": [f"http://{where}"], "insecure-registries": [where]}
Path("/etc/docker/daemon.json").write_text(json.dumps(settings))
