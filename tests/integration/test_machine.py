"""The look at the machine inside real network namespaces, made by `unshare`."""

from __future__ import annotations

import os
import sys

from tests.integration.conftest import run
from tests.support.projects import PROJECT

LOOK = "from pki.ceremony.offline import machine_check; print(*machine_check.interfaces_up())"


def inside(script: str) -> list[str]:
    """The interfaces that are up in a new namespace in which a script ran."""
    unshare = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-Urn"]
    return run(*unshare, "sh", "-euc", f'{script}\nexec "$0" -c "$1"', sys.executable, LOOK, cwd=PROJECT).split()


def test_a_namespace_without_interfaces_is_fit() -> None:
    assert inside(":") == []


def test_loopback_is_no_network() -> None:
    assert inside("ip link set lo up") == []


def test_an_interface_is_found_while_it_is_up() -> None:
    add = "ip link add cable type veth peer name socket"
    assert inside(add) == []
    assert inside(f"{add}; ip link set cable up") == ["cable"]
    assert inside(f"{add}; ip link set cable up; ip link set socket up") == ["cable", "socket"]
    assert inside(f"{add}; ip link set cable up; ip link set cable down") == []
