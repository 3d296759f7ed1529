"""What a test must leave behind as it was: processes, namespaces, interfaces."""

from __future__ import annotations

import subprocess
from pathlib import Path


def surroundings() -> list[str]:
    """What a lab could change outside itself."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return [links, rules, forward, Path("/proc/self/mounts").read_text(), *map(str, Path("/run").glob("*.pid"))]
