"""Services behind a jump host: one ssh connection there, and for each of them a socket here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from pki.deploy.handshake import TIMEOUT, Endpoint
from pki.deploy.ssh import Way, no_tunnel
from pki.deploy.wire import SilenceError, Wire

START = 2 * TIMEOUT  # seconds for a login; ssh itself gives up on a host that does not answer


class Tunnel:
    """What forwards to some endpoints as long as the block lasts.

    `endpoints` are the same, as they are reached through it. `fault` says why the jump host forwards nothing, as a phrase
    that reads well after its name; that it does so for none of them is known when the block has ended.
    """

    def __init__(self, way: Way, endpoints: Sequence[Endpoint]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="doit-pki-")
        place = Path(self._folder.name)
        self.endpoints = tuple(replace(one, tunnel=str(place / str(n))) for n, one in enumerate(endpoints))
        self.fault = ""
        self._way = way
        self._wire: Wire | None = None

    def __enter__(self) -> Self:
        forwards = {one.tunnel: f"{one.address}:{one.port}" for one in self.endpoints}
        try:
            self._wire = Wire(self._way.tunnel(forwards, int(TIMEOUT)))
            self._wire.line(START)
        except SilenceError as silence:
            self.fault = no_tunnel(self._hung_up() or str(silence))
        return self

    def __exit__(self, *_: object) -> None:
        complaint = self._hung_up() if self._wire else ""
        if "prohibited" in complaint:
            self.fault = no_tunnel(complaint)
        self._folder.cleanup()

    def _hung_up(self) -> str:
        """What the connection complained about, which is over now."""
        assert self._wire
        wire, self._wire = self._wire, None
        with wire:
            wire.stop()
            return wire.ended()[1]
