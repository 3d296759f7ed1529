"""Services behind a jump host: one ssh connection there, and for each of them a socket here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from pki.common.visible import plain
from pki.deploy.process import DisconnectedError, LimitError, Limits, Process
from pki.deploy.ssh import Transport, tunnel_fault
from pki.deploy.tls_client import TIMEOUT, Endpoint

START_TIMEOUT = 2 * TIMEOUT  # seconds for a login; ssh itself gives up on a host that does not answer
MAX_LINES = 2000  # of what ssh says about one host: 100, and one for each identity and environment variable
FORWARDINGS = {"localforward": "LocalForward", "remoteforward": "RemoteForward", "dynamicforward": "DynamicForward"}


class Tunnel:
    """What forwards to some endpoints as long as the block lasts.

    `endpoints` are the same, as they are reached through it. `fault` says why the jump host forwards nothing, as a phrase
    that reads well after its name; that it does so for none of them is known when the block has ended. A configuration
    with a forwarding of its own is refused: ClearAllForwardings would clear ours, too.
    """

    def __init__(self, way: Transport, endpoints: Sequence[Endpoint]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="doit-pki-")
        place = Path(self._folder.name)
        self.endpoints = tuple(replace(one, tunnel=str(place / str(n))) for n, one in enumerate(endpoints))
        self.fault = ""
        self._way = way
        self._wire: Process | None = None

    def __enter__(self) -> Self:
        self.fault = _configured_forwards(self._way)
        if self.fault:
            return self
        forwards = {one.tunnel: f"{one.address}:{one.port}" for one in self.endpoints}
        try:
            self._wire = Process(self._way.tunnel_command(forwards, int(TIMEOUT)), Limits(START_TIMEOUT, START_TIMEOUT))
            self._wire.read_line()
        except DisconnectedError as silence:
            self.fault = tunnel_fault(self._way, self._hung_up() or str(silence))
        return self

    def __exit__(self, *_: object) -> None:
        complaint = self._hung_up() if self._wire else ""
        if "prohibited" in complaint:
            self.fault = tunnel_fault(self._way, complaint)
        self._folder.cleanup()

    def _hung_up(self) -> str:
        """What the connection complained about, which is over now."""
        assert self._wire
        wire, self._wire = self._wire, None
        with wire:
            wire.terminate()
            return wire.finish()[1]


def _configured_forwards(way: Transport) -> str:
    """Which forwardings the ssh configuration adds for a jump host, as a phrase; empty when there are none."""
    found = []
    try:
        with Process(way.config_command(), Limits(START_TIMEOUT, START_TIMEOUT)) as wire:
            for _ in range(MAX_LINES):
                keyword, _, value = wire.read_line().decode(errors="replace").partition(" ")
                if keyword in FORWARDINGS:  # `remoteforward 9000 [localhost]:22`
                    found.append(f"{FORWARDINGS[keyword]} {plain(value)}")
    except LimitError as limit:
        return tunnel_fault(way, str(limit))
    except DisconnectedError:
        pass  # ssh said all
    except FileNotFoundError as error:
        return tunnel_fault(way, f"{error.filename}: not found")
    if not found:
        return ""
    return f"remove from the ssh configuration for it: {'; '.join(found)} (nothing of this machine may be lent to it)"
