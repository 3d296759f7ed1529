"""What a host really serves, seen from outside: fresh handshakes, each judged by the certificate that was deployed.

A service is proven when several handshakes in a row serve the deployed certificate, its chain and name verify from the
root, clients without a certificate are refused and ours is let in, and a request whose Host is another name than that
of the handshake is refused. Where the certificate is the one that was served before the change, nothing tells the new
workers of a proxy from the old ones, which go on answering for a moment after the reload: there it is looked at twice.
This module imports nothing of ours: Ansible carries it along.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROUNDS = 3  # good handshakes in a row
PATIENCE = 20.0  # seconds for a service to come back
SETTLING = 2.0  # seconds in which a reload takes effect after its command ended
TIMEOUT = 5.0  # seconds for one handshake or answer
CROSSED = "crossed.invalid"
PROVEN, UNPROVEN = "proven", "unproven: could not be reached from here before the change"
REFUSED = {400, 403, 404, 421, 495, 496}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service as it is reached: `name` is in the handshake and the certificate, `access` is tls or mtls."""

    service: str
    name: str
    address: str
    port: int
    access: str


@dataclass
class Eyes:
    """What looks: `roots` is the file with the roots, `identity` that with the probe's key and certificate."""

    roots: Path
    identity: Path | None

    @cached_property
    def bare(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.roots))

    @cached_property
    def known(self) -> ssl.SSLContext:
        """As somebody with a client certificate of the house."""
        context = ssl.create_default_context(cafile=str(self.roots))
        if self.identity:
            context.load_cert_chain(self.identity)
        return context


@dataclass(frozen=True, slots=True)
class Before:
    """A service before a change: the status that our client certificate gets, the SHA-256 of what it serves.

    The status is 0 and the digest empty when there was no answer.
    """

    status: int = 0
    served: str = ""


class Unproven(Exception):  # noqa: N818 - a finding, caught within this room
    """What was seen, as a phrase that reads well after the service's name."""


def reachable(endpoint: Endpoint) -> bool:
    """Whether anything answers there, from here."""
    try:
        with socket.create_connection((endpoint.address, endpoint.port), TIMEOUT):
            return True
    except OSError:
        return False


def look_before(endpoints: Sequence[Endpoint], eyes: Eyes) -> dict[str, Before]:
    """Service → what it was before a change, for those that can be reached."""
    return {one.service: _before(one, eyes) for one in endpoints if reachable(one)}


def _before(endpoint: Endpoint, eyes: Eyes) -> Before:
    try:
        served = _served(endpoint, eyes)
        return Before(_ask(endpoint, eyes.known, endpoint.name), served)
    except (OSError, Unproven):
        return Before()


def judge(
    endpoints: Sequence[Endpoint], fingerprints: dict[str, str], before: dict[str, Before], eyes: Eyes
) -> dict[str, str]:
    """Service → what was seen of it. One that was out of reach before and after the change stays unproven."""
    near = [one for one in endpoints if one.service in before or reachable(one)]
    found = prove([one for one in near if one.name in fingerprints], fingerprints, before, eyes)
    return {one.service: (found.get(one.service) or PROVEN) if one in near else UNPROVEN for one in endpoints}


def wrong(proofs: Mapping[str, str]) -> str:
    """What disproves a change, as one phrase; empty when nothing does."""
    return "; ".join(f"{service} {text}" for service, text in proofs.items() if text not in {PROVEN, UNPROVEN})


def prove(
    endpoints: Sequence[Endpoint], fingerprints: dict[str, str], before: dict[str, Before], eyes: Eyes
) -> dict[str, str]:
    """Look until every service is proven or time is up.

    `fingerprints` are SHA-256 of the deployed certificates by endpoint name, `before` what was seen before the change.
    Returns service → what is wrong; empty for those proven.
    """
    found = _look(endpoints, fingerprints, before, eyes)
    again = [one for one in endpoints if not found[one.service] and _served_before(one, fingerprints, before)]
    if again:
        time.sleep(SETTLING)
        found |= _look(again, fingerprints, before, eyes)
    return found


def _served_before(endpoint: Endpoint, fingerprints: dict[str, str], before: dict[str, Before]) -> bool:
    return before.get(endpoint.service, Before()).served == fingerprints[endpoint.name]


def _look(
    endpoints: Sequence[Endpoint], fingerprints: dict[str, str], before: dict[str, Before], eyes: Eyes
) -> dict[str, str]:
    deadline = time.monotonic() + PATIENCE
    return {
        one.service: _wrong_until(deadline, one, fingerprints[one.name], before.get(one.service, Before()), eyes)
        for one in endpoints
    }


def _wrong_until(deadline: float, endpoint: Endpoint, fingerprint: str, before: Before, eyes: Eyes) -> str:
    """What is wrong with a service when time is up, empty as soon as nothing is."""
    while True:
        try:
            _prove_one(endpoint, fingerprint, before.status, eyes)
        except Unproven as seen:
            wrong = str(seen)
        except OSError as error:
            wrong = f"does not answer: {error}"
        else:
            return ""
        if time.monotonic() > deadline:
            return wrong
        time.sleep(0.25)


def _prove_one(endpoint: Endpoint, fingerprint: str, before: int, eyes: Eyes) -> None:
    for _ in range(ROUNDS):
        _handshake(endpoint, fingerprint, eyes)
    if endpoint.access == "mtls":
        _without_certificate(endpoint, eyes)
        status = _ask(endpoint, eyes.known, endpoint.name)
        if status in {400, 421, 495, 496} or (status == 403 and before != 403):
            raise Unproven(f"refuses our own client certificate with {status}")
    status = _ask_or_broken(endpoint, eyes.known, CROSSED)
    if status and status not in REFUSED:
        raise Unproven(f"answers {status} to a request for another name than that of the handshake")


def _handshake(endpoint: Endpoint, fingerprint: str, eyes: Eyes) -> None:
    try:
        digest = _served(endpoint, eyes)
    except ssl.SSLCertVerificationError as error:
        raise Unproven(f"serves what does not verify: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise Unproven(f"refuses the handshake: {error.reason}") from None
    if digest != fingerprint:
        raise Unproven(
            f"serves another certificate (SHA-256 {digest[:16]}…) than the deployed one ({fingerprint[:16]}…)"
        )


def _served(endpoint: Endpoint, eyes: Eyes) -> str:
    """SHA-256 of the certificate that a fresh handshake gets. Raises OSError."""
    with _connect(endpoint, eyes.known) as connection:
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def _without_certificate(endpoint: Endpoint, eyes: Eyes) -> None:
    """Refused is an alert or a status that says so; a connection refused or a time-out proves nothing."""
    status = _ask_or_broken(endpoint, eyes.bare, endpoint.name)
    if status and status not in {400, 403, 495, 496}:
        raise Unproven(f"answers {status} to a client without a certificate")


def _ask_or_broken(endpoint: Endpoint, context: ssl.SSLContext, host: str) -> int:
    """The status of an answer, 0 when the server broke the connection off once it was there."""
    try:
        return _ask(endpoint, context, host)
    except TimeoutError:
        raise
    except ConnectionRefusedError:
        raise
    except (ssl.SSLError, ConnectionError, Unproven):
        return 0


def _ask(endpoint: Endpoint, context: ssl.SSLContext, host: str) -> int:
    """The status of a small request. Raises Unproven when the answer is none of HTTP."""
    port = "" if endpoint.port == 443 else f":{endpoint.port}"
    with _connect(endpoint, context) as connection:
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: doit-pki\r\nConnection: close\r\n\r\n".encode()
        )
        first = connection.recv(64)
    parts = first.split(b" ", 2)
    if not first.startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1][:3].isdigit():
        raise Unproven("does not answer as an HTTP server")
    return int(parts[1][:3])


def _connect(endpoint: Endpoint, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((endpoint.address, endpoint.port), TIMEOUT)
    try:
        return context.wrap_socket(plain, server_hostname=endpoint.name)
    except BaseException:
        plain.close()
        raise
