"""One connection to a service, as any client makes it: what is served there, and what comes back.

This module imports nothing of ours: Ansible carries it along.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import ssl
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

TIMEOUT = 5.0  # seconds for one handshake or answer
NO_ENTRY = {400, 403, 495, 496}  # nginx says it within TLS
NO_UPSTREAM = {502, 503, 504}  # the proxy answers, what is behind it does not (RFC 9110 §15.6)
ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")  # those that are about who asks


class NotVerified(Exception):  # noqa: N818 - a finding, caught within this room
    """What was seen, as a phrase that reads well after the service's name."""


class Unreached(Exception):  # noqa: N818 - no fault of ours either
    """A service that could not be asked: why, as a phrase that reads well after its name. It proves nothing."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service as it is reached: `name` is in the handshake and the certificate, `access` is tls or mtls.

    `revokes` says whether its proxy can refuse what a CRL lists. `tunnel` is a socket of this machine that leads there,
    empty where address and port are reached from here.
    """

    service: str
    name: str
    address: str
    port: int
    access: str
    revokes: bool = True
    tunnel: str = ""


@dataclass
class Prober:
    """What looks: `roots` is the file with the roots, the others are those with the test identities' keys."""

    roots: Path
    probe: Path | None
    canary: Path | None = None

    @cached_property
    def without_certificate(self) -> ssl.SSLContext:
        return client_context(self.roots)

    @cached_property
    def as_probe(self) -> ssl.SSLContext:
        """As somebody with a client certificate of the project."""
        return client_context(self.roots, self.probe)

    @cached_property
    def as_canary(self) -> ssl.SSLContext:
        """As the canary."""
        return client_context(self.roots, self.canary)

    @cached_property
    def unverified(self) -> ssl.SSLContext:
        """As one who takes whatever is served."""
        return _unverified_context(self.probe)

    @cached_property
    def legacy_tls(self) -> ssl.SSLContext:
        """The same, as one who speaks nothing newer than TLS 1.1."""
        context = _unverified_context(self.probe)
        context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL 3 has none for them otherwise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        return context

    def load_contexts(self) -> None:
        """Make every context now, for threads that are to share them. Raises OSError that names the file."""
        for path in (self.roots, self.probe, self.canary):
            if path and path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "is no file", str(path))  # to open a pipe would wait
            if path:
                path.open("rb").close()
        for _ in (self.without_certificate, self.as_probe, self.as_canary, self.unverified, self.legacy_tls):
            pass


class Answer(NamedTuple):
    """What a small request brought: its status, the certificate that was served (DER), the version, the session."""

    status: int
    certificate: bytes
    version: str
    session: ssl.SSLSession | None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER)."""
    return hashlib.sha256(certificate).hexdigest()


def client_context(roots: Path, identity: Path | None = None) -> ssl.SSLContext:
    """A client that verifies names and chains, and has the key and certificate of a file."""
    context = ssl.create_default_context(cafile=str(roots))
    if identity:
        context.load_cert_chain(identity)
    return context


def _unverified_context(identity: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity:
        context.load_cert_chain(identity)
    return context


def is_reachable(endpoint: Endpoint) -> bool:
    """Whether anything answers there, from here."""
    try:
        with _connect_tcp(endpoint):
            return True
    except OSError:
        return False


def fetch_certificate(endpoint: Endpoint, context: ssl.SSLContext) -> tuple[bytes, str]:
    """The certificate (DER) that a fresh handshake gets, and its version. Raises OSError."""
    with _connect_tls(endpoint, context) as connection:
        return connection.getpeercert(binary_form=True) or b"", connection.version() or ""


def request(
    endpoint: Endpoint, context: ssl.SSLContext, host: str = "", ticket: ssl.SSLSession | None = None
) -> Answer:
    """What a small request brings, for another `host` than the endpoint's name perhaps.

    Raises OSError, and Unproven when the answer is none of HTTP.
    """
    port = "" if endpoint.port == 443 else f":{endpoint.port}"
    with _connect_tls(endpoint, context, ticket) as connection:
        certificate, version = connection.getpeercert(binary_form=True) or b"", connection.version() or ""
        with suppress(ConnectionError, ssl.SSLEOFError):  # a server that hangs up says first why
            connection.sendall(
                f"GET / HTTP/1.1\r\nHost: {host or endpoint.name}{port}\r\n"
                "User-Agent: doit-pki\r\nConnection: close\r\n\r\n".encode()
            )
        first = connection.recv(64)
        given = connection.session
    parts = first.split(b" ", 2)
    if not first.startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1][:3].isdigit():
        raise NotVerified("does not answer as an HTTP server")
    session = given if given and (given.has_ticket or given.id) else None
    return Answer(int(parts[1][:3]), certificate, version, session)


def legacy_version(endpoint: Endpoint, prober: Prober) -> str:
    """The version that is spoken with who knows none newer than TLS 1.1; empty when that is refused, as it should be."""
    try:
        return fetch_certificate(endpoint, prober.legacy_tls)[1]
    except OSError:
        return ""


def request_status(endpoint: Endpoint, context: ssl.SSLContext, host: str = "") -> int:
    """The status of an answer, 0 when the server broke the connection off once it was there. Raises OSError."""
    try:
        return request(endpoint, context, host).status
    except (TimeoutError, ConnectionRefusedError):
        raise
    except (ssl.SSLError, ConnectionError, NotVerified):
        return 0


def error_text(error: OSError) -> str:
    """What an error says, without its number and the place in a program where it came up."""
    return "timed out" if isinstance(error, TimeoutError) else str(error.strerror or error)


def is_refusal(error: ssl.SSLError) -> bool:
    """Whether a TLS alert is about the certificate of who asks."""
    alert = error.reason or ""  # OpenSSL's own name for it: TLSV13_ALERT_CERTIFICATE_REQUIRED
    return "ALERT" in alert and any(word in alert for word in ALERTS)


def _connect_tcp(endpoint: Endpoint) -> socket.socket:
    if not endpoint.tunnel:
        return socket.create_connection((endpoint.address, endpoint.port), TIMEOUT)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(TIMEOUT)
        connection.connect(endpoint.tunnel)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_tls(endpoint: Endpoint, context: ssl.SSLContext, ticket: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = _connect_tcp(endpoint)
    try:
        return context.wrap_socket(plain, server_hostname=endpoint.name, session=ticket)
    except BaseException:
        plain.close()
        raise
