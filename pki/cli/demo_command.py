"""The command demo.vlans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from invoke.context import Context
from invoke.exceptions import Exit

from pki.cli.decorator import command
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.demo import vlans as vlan_demo
from pki.demo.namespace_machine import NamespaceMachine


@command
def vlans(context: Context, keep: bool = False) -> None:
    """Show which client reaches which service: VLANs, a firewall, real proxies, sshd and doit, in network namespaces.

    Nothing outside the namespaces is changed. Needs root, and a few Debian packages, which it names. --keep opens a shell
    on the admin's laptop at the end.
    """
    screen = Screen()
    if keep and not sys.stdin.isatty():
        raise PkiError("there is no terminal for the shell", "start it at a terminal, or without --keep")
    with vlan_demo.demo(screen) as demo:
        responses = demo.run()
        vlan_demo.show(screen, responses)
        if keep:
            _shell(screen, demo.admin)
    if unexpected_responses := [response for response in responses if not response.is_expected]:
        raise Exit(f"{len(unexpected_responses)} of {len(responses)} results are not as expected", code=1)
    screen.line(f"all {len(responses)} results are as expected; the machines were removed")


def _shell(screen: Screen, machine: NamespaceMachine) -> None:
    screen.line(f"a shell on {machine.name}; try:  {' '.join(vlan_demo.EXAMPLE)}")
    screen.line("exit ends it and removes the machines")
    env = {"TERM": os.environ.get("TERM", "dumb"), "PS1": f"{machine.name}# "}
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the shell's
    try:
        subprocess.run(machine.inside("bash", "--norc", cwd="/root", env=env), check=False)
    finally:
        signal.signal(signal.SIGINT, before)
