"""One TLS connection to a service, as any client makes it: the certificate that is served, and the answer.

Of our modules this one imports only `questions` and `bounded_stream`: Ansible ships all three.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import ssl
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pki.deploy.bounded_stream import ProtocolFault, Reply, Stream
from pki.deploy.questions import CLIENT_FIRST, QUESTIONS, STARTS

TIMEOUT = 5.0  # seconds for one handshake or answer
WATCHED = 1.0  # seconds in which a server of an unknown protocol (`tls`) may refuse a client
PROBE_ACCOUNT = "doit-pki-probe"  # of a client without a certificate, where a protocol asks for an account
STRICT = ssl.VERIFY_X509_TRUSTED_FIRST  # as ssl.create_default_context() sets them
if sys.version_info >= (3, 13):
    STRICT |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
COMMON_NAME = bytes.fromhex("0603550403")  # the OID of the CN in DER
NO_ENTRY = {400, 403, 495, 496}  # a refused client certificate; nginx answers 400 within TLS
READS_ML_DSA = ssl.OPENSSL_VERSION_INFO >= (3, 5)
NO_UPSTREAM = {502, 503, 504}  # the proxy answers, its upstream does not (RFC 9110 §15.6)
ALERTS = (
    "CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "HANDSHAKE_FAILURE",
)  # about the client's certificate (RFC 8446 §6.2)


class NotVerified(Exception):  # noqa: N818 - a finding that callers always catch
    """A service that does not behave as deployed.

    The message is the rest of a sentence that begins with the name of the service, such as `does not answer`.
    """


class Unreached(Exception):  # noqa: N818 - a finding that callers always catch
    """A service that could not be asked, which proves nothing. The message is as that of NotVerified."""


class NotVerifiable(Unreached):
    """A service that answers, and whose answer does not show whether the certificate decided who is let in."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service as clients reach it; `name` is the SNI and the name in its certificate, `access` is tls or mtls.

    `speaks` is its protocol as in pki.yaml, `is_proxied` whether a proxy of ours answers, `revokes` whether the proxy or
    server can refuse revoked certificates. `tunnel` is a Unix socket that leads to it, ""
    where address and port are reached directly. A service of a host with several addresses has an endpoint for each of
    them, all with `is_one_of_several`. `has_ml_dsa_key` is whether the key of its certificate is ml-dsa-65.
    """

    service: str
    name: str
    address: str
    port: int
    access: str
    revokes: bool = True
    tunnel: str = ""
    is_one_of_several: bool = False
    speaks: str = "https"
    is_proxied: bool = True
    has_ml_dsa_key: bool = False

    @property
    def socket_address(self) -> str:
        """Return address and port as one text: an IPv6 address is in brackets."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def located(self, phrase: str) -> str:
        """Return a phrase that follows the name of the service, with the address if the service has several."""
        return f"at {self.address} {phrase}" if self.is_one_of_several else phrase


class ClientContext(ssl.SSLContext):
    """A client; `account` is the CN of its certificate, which some protocols ask for as the account."""

    account: str = PROBE_ACCOUNT


@dataclass
class Prober:
    """The clients of a verification; `roots` is a PEM file, `probe` and `canary` are PEM files with key and certificate."""

    roots: Path
    probe: Path | None
    canary: Path | None = None

    @cached_property
    def without_certificate(self) -> ClientContext:
        """A client without a certificate."""
        return client_context(self.roots)

    @cached_property
    def as_probe(self) -> ClientContext:
        """A client with the probe's certificate."""
        return client_context(self.roots, self.probe)

    @cached_property
    def as_canary(self) -> ClientContext:
        """A client with the certificate of the canary, which is revoked."""
        return client_context(self.roots, self.canary)

    @cached_property
    def unverified(self) -> ssl.SSLContext:
        """A client with the probe's certificate that accepts any server certificate."""
        return _unverified_context(self.probe)

    @cached_property
    def legacy_tls(self) -> ssl.SSLContext:
        """A client that accepts any server certificate and speaks at most TLS 1.1."""
        context = _unverified_context(self.probe)
        context.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL 3 allows TLS 1.1 only at this level
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        return context

    def load_contexts(self) -> None:
        """Create every context now, for use by threads. Raises OSError with the file's name."""
        for path in (self.roots, self.probe, self.canary):
            if path and path.exists() and not path.is_file():
                raise OSError(errno.EINVAL, "is not a file", str(path))  # opening a pipe would block
            if path:
                path.open("rb").close()
        for _ in (self.without_certificate, self.as_probe, self.as_canary, self.unverified, self.legacy_tls):
            pass


class Answer(NamedTuple):
    """The answer to a small request: what was answered, served certificate (DER), TLS version, session."""

    reply: Reply
    certificate: bytes
    version: str
    session: ssl.SSLSession | None

    @property
    def status(self) -> int:
        """Return the HTTP status; in other protocols 200 for a client that is let in, 403 for one that is refused."""
        return self.reply.status

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of a certificate (DER) in hexadecimal."""
        return fingerprint(self.certificate)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER)."""
    return hashlib.sha256(certificate).hexdigest()


def client_context(roots: Path, identity: Path | None = None) -> ClientContext:
    """Return a client that verifies names and chains, with the key and certificate of a PEM file."""
    context = ClientContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= STRICT
    context.load_verify_locations(roots)
    if identity:
        context.load_cert_chain(identity)
        context.account = _common_name(identity.read_text("ascii")) or PROBE_ACCOUNT
    return context


def _common_name(pem: str) -> str:
    """Return the CN of the first certificate of a PEM file that this program wrote; "" without any."""
    start, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    if start not in pem:
        return ""
    der = ssl.PEM_cert_to_DER_cert(f"{start}{pem.partition(start)[2].partition(end)[0]}{end}\n")
    value = der.rpartition(COMMON_NAME)[2] if COMMON_NAME in der else b"\0\0"  # the subject follows the issuer
    return value[2 : 2 + value[1]].decode("utf-8", "replace")


def _unverified_context(identity: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity:
        context.load_cert_chain(identity)
    return context


def is_reachable(endpoint: Endpoint) -> bool:
    """Return whether something accepts connections at an endpoint."""
    try:
        with _connect_tcp(endpoint):
            return True
    except OSError:
        return False


def fetch_certificate(endpoint: Endpoint, context: ssl.SSLContext) -> tuple[bytes, str]:
    """Return the certificate (DER) and TLS version of a new handshake. Raises OSError, NotVerified and NotVerifiable."""
    with _connect_tls(endpoint, context) as connection:
        return connection.getpeercert(binary_form=True) or b"", connection.version() or ""


def request(
    endpoint: Endpoint,
    context: ClientContext,
    host: str = "",
    ticket: ssl.SSLSession | None = None,
    pause: float = 0.0,
) -> Answer:
    """Send a small request and return the answer; `host` is sent as Host instead of the endpoint's name.

    `pause` are the seconds in which a server may send an alert before the request: one that closes the connection while
    the request is sent may lose its alert. Raises OSError, NotVerified when the answer is not of the protocol, and
    NotVerifiable when the TLS library of this machine does not support the key of the server.
    """
    with _connect_tls(endpoint, context, ticket) as connection:
        certificate, version = connection.getpeercert(binary_form=True) or b"", connection.version() or ""
        if endpoint.speaks == "https":
            reply = _ask_http(connection, endpoint, host)
        elif endpoint.speaks in QUESTIONS:
            reply = _ask(connection, endpoint, context, pause)
        else:
            reply = _watch(connection)
        new_session = connection.session
    session = new_session if new_session and (new_session.has_ticket or new_session.id) else None
    return Answer(reply, certificate, version, session)


def _ask_http(connection: ssl.SSLSocket, endpoint: Endpoint, host: str) -> Reply:
    port = "" if endpoint.port == 443 else f":{endpoint.port}"
    with suppress(ConnectionError, ssl.SSLEOFError):  # a server that closes the connection sends its answer first
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: {host or endpoint.name}{port}\r\n"
            "User-Agent: doit-pki\r\nConnection: close\r\n\r\n".encode()
        )
    start = connection.recv(64)
    parts = start.split(b" ", 2)
    if not start.startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1][:3].isdigit():
        raise NotVerified("does not answer as an HTTP server")
    status = int(parts[1][:3])
    return Reply(status, str(status))


def _ask(connection: ssl.SSLSocket, endpoint: Endpoint, context: ClientContext, pause: float) -> Reply:
    stream = Stream(connection, TIMEOUT)
    try:
        if pause and endpoint.speaks in CLIENT_FIRST:
            stream.listen(pause)
        ask = QUESTIONS[endpoint.speaks]
        return ask(stream, context.account, by_certificate=endpoint.access == "mtls")
    except ProtocolFault as fault:
        raise NotVerified(str(fault)) from None


def _watch(connection: ssl.SSLSocket) -> Reply:
    """Return whether a server of an unknown protocol keeps the connection open for a while.

    In TLS 1.3 a server judges the client's certificate after the client's handshake is complete. Silence alone does not
    show that it has done so; data, a session ticket and, in TLS 1.2, the end of the handshake do (RFC 8446 §4.6.1).
    """
    if Stream(connection, TIMEOUT).listen(WATCHED):
        return Reply(200, "sends data")
    session, is_old = connection.session, connection.version() != "TLSv1.3"
    is_certain = bool(is_old or connection.session_reused or (session and session.has_ticket))
    return Reply(200, f"keeps the connection open (watched for {WATCHED:g} s)", is_certain)


def legacy_version(endpoint: Endpoint, prober: Prober) -> str:
    """Return the TLS version that a service speaks with a client of at most TLS 1.1; "" if it refuses, as it should."""
    try:
        return fetch_certificate(endpoint, prober.legacy_tls)[1]
    except (OSError, NotVerified):
        return ""


def request_reply(endpoint: Endpoint, context: ClientContext, host: str = "") -> Reply:
    """Return the answer, with status 0 if the server closed an established connection. Raises OSError."""
    try:
        return request(endpoint, context, host).reply
    except (TimeoutError, ConnectionRefusedError):
        raise
    except (ssl.SSLError, ConnectionError, NotVerified):
        return Reply(0, "")


def error_text(error: OSError) -> str:
    """Return the message of an error without its number and source location."""
    return "timed out" if isinstance(error, TimeoutError) else str(error.strerror or error)


def is_refusal(error: ssl.SSLError) -> bool:
    """Return whether a TLS alert is about the client's certificate."""
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
    connection = _connect_tcp(endpoint)
    try:
        _require_supported_key(endpoint)
        _start_tls(connection, endpoint)
        return context.wrap_socket(connection, server_hostname=endpoint.name, session=ticket)
    except BaseException:
        connection.close()
        raise


def _require_supported_key(endpoint: Endpoint) -> None:
    """Raise NotVerifiable if the TLS library of this machine does not support the key of the server.

    Such a server answers with the alert handshake_failure, which looks like a refusal of the client's certificate.
    """
    if endpoint.has_ml_dsa_key and not READS_ML_DSA:
        raise NotVerifiable(f"its key is ml-dsa-65, which OpenSSL 3.5 or newer reads; here: {ssl.OPENSSL_VERSION}")


def _start_tls(connection: socket.socket, endpoint: Endpoint) -> None:
    """Say what begins TLS in the endpoint's protocol. Raises NotVerified, and OSError when time is up."""
    start = STARTS.get(endpoint.speaks)
    if start is None:
        return
    stream = Stream(connection, TIMEOUT)
    try:
        start(stream)
        stream.expect_nothing()
    except ProtocolFault as fault:
        raise NotVerified(str(fault)) from None
    except ConnectionError:
        raise NotVerified("closes the connection before TLS begins") from None
    connection.settimeout(TIMEOUT)
