"""Services behind a jump host: one ssh connection, with a Unix socket on this machine for each of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from pki.common.visible import visible_line
from pki.deploy.process import DisconnectedError, LimitError, Limits, Process
from pki.deploy.ssh import Transport, tunnel_fault
from pki.deploy.tls_client import TIMEOUT, Endpoint

START_TIMEOUT = 2 * TIMEOUT  # seconds for a login
MAX_LINES = 2000  # of `ssh -G`: about 100, and one for each identity and environment variable
FORWARDINGS = {"localforward": "LocalForward", "remoteforward": "RemoteForward", "dynamicforward": "DynamicForward"}


class Tunnel:
    """Forwards ports to some endpoints while the `with` block runs.

    `endpoints` are the endpoints with the sockets through which they are reached. `fault` is why the jump host forwards
    nothing, as the rest of a sentence that begins with the name of the jump host. A jump host that refuses all forwardings
    sets it only at the end of the block. If the ssh configuration adds a forwarding, the tunnel is not started:
    ClearAllForwardings, which would remove that forwarding, would also remove ours.
    """

    def __init__(self, transport: Transport, endpoints: Sequence[Endpoint]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="doit-pki-")
        folder = Path(self._folder.name)
        self.endpoints = tuple(replace(endpoint, tunnel=str(folder / str(n))) for n, endpoint in enumerate(endpoints))
        self.fault = ""
        self._transport = transport
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.fault = _configured_forwards(self._transport)
        if self.fault:
            return self
        forwards = {endpoint.tunnel: endpoint.socket_address for endpoint in self.endpoints}
        try:
            self._process = Process(
                self._transport.tunnel_command(forwards, int(TIMEOUT)), Limits(START_TIMEOUT, START_TIMEOUT)
            )
            self._process.read_line()  # ssh prints it once the forwardings work (LocalCommand)
        except DisconnectedError as error:
            self.fault = tunnel_fault(self._transport, self._disconnect() or str(error))
        return self

    def __exit__(self, *_: object) -> None:
        errors = self._disconnect() if self._process else ""
        if "prohibited" in errors:
            self.fault = tunnel_fault(self._transport, errors)
        self._folder.cleanup()

    def _disconnect(self) -> str:
        """End the connection and return its error output."""
        assert self._process
        process, self._process = self._process, None
        with process:
            process.terminate()
            _, errors = process.finish()
            return errors


def _configured_forwards(transport: Transport) -> str:
    """Return which forwardings the ssh configuration adds for a jump host, as a phrase; "" if none."""
    forwards = []
    try:
        with Process(transport.config_command(), Limits(START_TIMEOUT, START_TIMEOUT)) as process:
            for _ in range(MAX_LINES):
                keyword, _, value = process.read_line().decode(errors="replace").partition(" ")
                if keyword in FORWARDINGS:  # `remoteforward 9000 [localhost]:22`
                    forwards.append(f"{FORWARDINGS[keyword]} {visible_line(value)}")
    except LimitError as limit:
        return tunnel_fault(transport, str(limit))
    except DisconnectedError:
        pass  # the end of ssh's output
    except FileNotFoundError as error:
        return tunnel_fault(transport, f"{error.filename}: not found")
    if not forwards:
        return ""
    return f"remove from the ssh configuration for it: {'; '.join(forwards)} (no port may be forwarded to this machine)"
