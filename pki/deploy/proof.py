"""What a host really serves, seen from outside: fresh handshakes, each judged by the certificate that was deployed.

A service is proven when several handshakes in a row serve the deployed certificate, its chain and name verify from the
root, a client without a certificate is refused, the probe is let in, the canary, which is revoked, is refused, in a
session that it resumes too, and a request whose Host is another name than that of the handshake is refused. Where the
certificate is the one that was served before a change, nothing tells the new workers of a proxy from the old ones,
which go on answering for a moment after the reload: there it is looked at twice.
This module imports nothing of ours: Ansible carries it along.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

ROUNDS = 3  # good handshakes in a row
PATIENCE = 20.0  # seconds for a service to come back
SETTLING = 2.0  # seconds in which a reload takes effect after its command ended
TIMEOUT = 5.0  # seconds for one handshake or answer
WIDTH = 8  # services of one host that are looked at at the same time
CROSSED = "crossed.invalid"
PROVEN = "proven"
PASSED_ON = "proven, and the probe is passed on to what is behind the proxy"
UNPROVEN = "unproven: could not be reached from here"
ALIKE = "unproven: the probe and the canary, which is revoked, both get"
ANSWERED = 204  # what a proxy says to the probe that answers it itself
NO_ENTRY = {400, 403, 495, 496}  # nginx says it within TLS
REFUSED = {*NO_ENTRY, 404, 421}
ALERTS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")  # those that are about who asks
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One service as it is reached: `name` is in the handshake and the certificate, `access` is tls or mtls.

    `revokes` says whether its proxy can refuse what a CRL lists.
    """

    service: str
    name: str
    address: str
    port: int
    access: str
    revokes: bool = True


@dataclass(frozen=True, slots=True)
class Promise:
    """What a release says of a service: the SHA-256 of its certificate, and what becomes of the test identities.

    `answers` is whether its proxy answers the probe itself, `revokes` whether it was told that the canary is revoked.
    """

    fingerprint: str
    answers: bool = False
    revokes: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """What a server gave a client to come back with, each with the context that Python takes it back with alone."""

    tickets: tuple[tuple[ssl.SSLContext, ssl.SSLSession], ...]


@dataclass
class Eyes:
    """What looks: `roots` is the file with the roots, the others are those with the test identities' keys."""

    roots: Path
    probe: Path | None
    canary: Path | None = None

    @cached_property
    def bare(self) -> ssl.SSLContext:
        return _client(self.roots)

    @cached_property
    def known(self) -> ssl.SSLContext:
        """As somebody with a client certificate of the house."""
        return _client(self.roots, self.probe)


@dataclass(frozen=True, slots=True)
class Before:
    """A service before a change: the status that our client certificate gets, the SHA-256 of what it serves.

    The status is 0 and the digest empty when there was no answer.
    """

    status: int = 0
    served: str = ""


UNCHANGED = Before(status=403)  # what may be the application's own word, where no change is to blame


class Unproven(Exception):  # noqa: N818 - a finding, caught within this room
    """What was seen, as a phrase that reads well after the service's name."""


class Unreached(Exception):  # noqa: N818 - no fault of ours either
    """A service that could not be asked: why, as a phrase that reads well after its name. It proves nothing."""


# -- one certificate, whoever's it is ---------------------------------------------------------------------------------


def open_session(endpoint: Endpoint, roots: Path, identity: Path) -> Session | None:
    """A session as a client has it who came before its certificate was revoked: of TLS 1.3, 1.2 or both.

    `identity` is the file with its key and certificate. None where the server gives no sessions. Raises Unreached.
    """
    tickets = []
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context = _client(roots, identity)
        context.minimum_version = context.maximum_version = version
        try:
            _, ticket = _exchange(endpoint, context, endpoint.name)
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves what does not verify: {error.verify_message}") from None
        except ssl.SSLError:
            continue  # it does not speak this version, or refuses the client already
        except Unproven as seen:
            raise Unreached(str(seen)) from None
        except OSError as error:
            raise Unreached(f"could not be reached: {error}") from None
        tickets += [(context, ticket)] if ticket else []
    return Session(tuple(tickets)) if tickets else None


def refused(endpoint: Endpoint, roots: Path, identity: Path, session: Session | None = None) -> str:
    """How a service lets in who should be refused, as a phrase that reads well after its name; empty when it does not.

    Tried are a new handshake with `identity` (a file with key and certificate), the session that this may have got from
    the server, and `session`, which was opened before. Refused is a TLS alert about the certificate, or HTTP 400, 403,
    495 or 496. Raises Unreached where neither refusal nor entry was seen: nobody listens, time is up, the connection
    broke, what is served does not verify, or no HTTP server answers.
    """
    entry = _entry(endpoint, _client(roots, identity), session)
    return f"lets it {entry}" if entry else ""


def _entry(endpoint: Endpoint, context: ssl.SSLContext, session: Session | None = None) -> str:
    """How a client gets in, `in with 200`; empty when it is refused, newly and again. Raises Unreached."""
    status, ticket = _let_in(endpoint, context)
    if status not in NO_ENTRY:
        return f"in with {status}"
    given = session.tickets if session else ()
    for again, old in (*given, *([(context, ticket)] if ticket else [])):
        status, _ = _let_in(endpoint, again, old)
        if status not in NO_ENTRY:
            return f"in with {status} by a session that it resumes"
    return ""


def _let_in(
    endpoint: Endpoint, context: ssl.SSLContext, ticket: ssl.SSLSession | None = None
) -> tuple[int, ssl.SSLSession | None]:
    """The status of an answer, 403 for a TLS alert that refuses the client, and what it may come back with."""
    wrong = ""
    for _ in range(ROUNDS):  # of a server that hangs up in a hurry, the alert may get lost
        try:
            return _exchange(endpoint, context, endpoint.name, ticket)
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves what does not verify: {error.verify_message}") from None
        except ssl.SSLError as error:
            reason = error.reason or ""
            if "ALERT" in reason and any(word in reason for word in ALERTS):
                return 403, None
            wrong = f"breaks the handshake off: {reason or error}"
        except Unproven as seen:
            wrong = str(seen)
        except OSError as error:
            wrong = f"could not be reached: {error}"
    raise Unreached(wrong)


# -- a host's services, before and after a change ---------------------------------------------------------------------


def reachable(endpoint: Endpoint) -> bool:
    """Whether anything answers there, from here."""
    try:
        with socket.create_connection((endpoint.address, endpoint.port), TIMEOUT):
            return True
    except OSError:
        return False


def look_before(endpoints: Sequence[Endpoint], eyes: Eyes) -> dict[str, Before]:
    """Service → what it was before a change, for those that can be reached."""
    found = _at_once(partial(_before, eyes=eyes), endpoints)
    return {one.service: before for one, before in zip(endpoints, found, strict=True) if before}


def _before(endpoint: Endpoint, eyes: Eyes) -> Before | None:
    if not reachable(endpoint):
        return None
    try:
        served = _served(endpoint, eyes)
        return Before(_ask(endpoint, eyes.known, endpoint.name), served)
    except (OSError, Unproven):
        return Before()


def judge(
    endpoints: Sequence[Endpoint], promises: Mapping[str, Promise], before: Mapping[str, Before] | None, eyes: Eyes
) -> dict[str, str]:
    """Service → what was seen of it; `promises` by the endpoint's name, `before` is None where nothing was changed.

    One that is out of reach, and was before a change, stays unproven.
    """
    found = _at_once(partial(_judge_one, promises=promises, before=before, eyes=eyes), endpoints)
    return {one.service: text for one, text in zip(endpoints, found, strict=True)}


def wrong(proofs: Mapping[str, str]) -> str:
    """What disproves a change, as one phrase; empty when nothing does."""
    return "; ".join(f"{name} {text}" for name, text in proofs.items() if not text.startswith((PROVEN, "unproven")))


def _judge_one(
    endpoint: Endpoint, promises: Mapping[str, Promise], before: Mapping[str, Before] | None, eyes: Eyes
) -> str:
    known, promise = before or {}, promises.get(endpoint.name)
    if endpoint.service not in known and not reachable(endpoint):
        return UNPROVEN
    if promise is None:
        return PROVEN
    was = UNCHANGED if before is None else known.get(endpoint.service, Before())
    found = _seen_until_proven(endpoint, promise, was, eyes)
    if found.startswith(PROVEN) and was.served == promise.fingerprint:
        time.sleep(SETTLING)
        found = _seen_until_proven(endpoint, promise, was, eyes)
    return found


def _seen_until_proven(endpoint: Endpoint, promise: Promise, before: Before, eyes: Eyes) -> str:
    """What is seen of a service as soon as nothing is wrong with it, or when time is up."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return _prove(endpoint, promise, before, eyes)
        except (Unproven, Unreached) as seen:
            found = str(seen)
        except OSError as error:
            found = f"does not answer: {error}"
        if time.monotonic() > deadline:
            return found
        time.sleep(0.25)


def _prove(endpoint: Endpoint, promise: Promise, before: Before, eyes: Eyes) -> str:
    for _ in range(ROUNDS):
        _handshake(endpoint, promise.fingerprint, eyes)
    found = _clients(endpoint, promise, before, eyes) if endpoint.access == "mtls" else PROVEN
    status = _ask_or_broken(endpoint, eyes.known, CROSSED)
    if status and status not in REFUSED:
        raise Unproven(f"answers {status} to a request for another name than that of the handshake")
    return found


def _clients(endpoint: Endpoint, promise: Promise, before: Before, eyes: Eyes) -> str:
    """Who is let in: nobody without a certificate, the probe, and not the canary where its proxy knows of it."""
    _without_certificate(endpoint, eyes)
    status = _ask(endpoint, eyes.known, endpoint.name)
    if promise.answers and status != ANSWERED:
        raise Unproven(f"answers {status} to the probe, and its configuration says {ANSWERED}")
    if status in {400, 421, 495, 496} or (status == 403 and before.status != 403):
        raise Unproven(f"refuses our own client certificate with {status}")
    if promise.revokes and endpoint.revokes and eyes.canary:
        if status in NO_ENTRY:
            return f"{ALIKE} {status}"
        if entry := _entry(endpoint, _client(eyes.roots, eyes.canary)):
            raise Unproven(f"lets the canary {entry}, which is revoked")
    return PROVEN if promise.answers else PASSED_ON


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


def _without_certificate(endpoint: Endpoint, eyes: Eyes) -> None:
    """Refused is an alert or a status that says so; a connection refused or a time-out proves nothing."""
    status = _ask_or_broken(endpoint, eyes.bare, endpoint.name)
    if status and status not in NO_ENTRY:
        raise Unproven(f"answers {status} to a client without a certificate")


# -- one connection ---------------------------------------------------------------------------------------------------


def _at_once(look: Callable[[Endpoint], Found], endpoints: Sequence[Endpoint]) -> list[Found]:
    """What is found at each of a host's endpoints, a few at the same time."""
    if len(endpoints) < 2:
        return [look(one) for one in endpoints]
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - brings logging along, which few runs need

    with ThreadPoolExecutor(WIDTH) as pool:
        return list(pool.map(look, endpoints))


def _client(roots: Path, identity: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(roots))
    if identity:
        context.load_cert_chain(identity)
    return context


def _served(endpoint: Endpoint, eyes: Eyes) -> str:
    """SHA-256 of the certificate that a fresh handshake gets. Raises OSError."""
    with _connect(endpoint, eyes.known) as connection:
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


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
    return _exchange(endpoint, context, host)[0]


def _exchange(
    endpoint: Endpoint, context: ssl.SSLContext, host: str, ticket: ssl.SSLSession | None = None
) -> tuple[int, ssl.SSLSession | None]:
    """The status of a small request, and the session that came with it. Raises Unproven when the answer is none of HTTP."""
    port = "" if endpoint.port == 443 else f":{endpoint.port}"
    with _connect(endpoint, context, ticket) as connection:
        with suppress(ConnectionError):  # a server that hangs up says first why
            connection.sendall(
                f"GET / HTTP/1.1\r\nHost: {host}{port}\r\nUser-Agent: doit-pki\r\nConnection: close\r\n\r\n".encode()
            )
        first = connection.recv(64)
        given = connection.session
    parts = first.split(b" ", 2)
    if not first.startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1][:3].isdigit():
        raise Unproven("does not answer as an HTTP server")
    return int(parts[1][:3]), given if given and (given.has_ticket or given.id) else None


def _connect(endpoint: Endpoint, context: ssl.SSLContext, ticket: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    plain = socket.create_connection((endpoint.address, endpoint.port), TIMEOUT)
    try:
        return context.wrap_socket(plain, server_hostname=endpoint.name, session=ticket)
    except BaseException:
        plain.close()
        raise
