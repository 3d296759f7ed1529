"""Check whether a service accepts a client with a given certificate, in a new handshake and in resumed sessions.

Of our modules this one imports only `tls_client`: Ansible ships both, and what that imports.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from pki.deploy.tls_client import (
    NO_ENTRY,
    Answer,
    ClientContext,
    Endpoint,
    NotVerifiable,
    NotVerified,
    Unreached,
    client_context,
    error_text,
    is_refusal,
    request,
)

TRIES = 3
PAUSE = 0.3  # seconds in which the alert of a server arrives that closes the connection
CLOSED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


@dataclass(frozen=True, slots=True)
class ResumableSession:
    """The sessions that a server gave to a client, each with the only context in which Python can resume it."""

    tickets: tuple[tuple[ClientContext, ssl.SSLSession], ...]


def open_session(endpoint: Endpoint, roots: Path, identity: Path) -> ResumableSession | None:
    """Return sessions of TLS 1.3 and 1.2, such as a client keeps that connected before its certificate was revoked.

    `identity` is a PEM file with key and certificate. None where the server gives no sessions. Raises Unreached.
    """
    tickets = []
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context = client_context(roots, identity)
        context.minimum_version = context.maximum_version = version
        try:
            ticket = request(endpoint, context).session
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves a certificate that does not verify: {error.verify_message}") from None
        except ssl.SSLError:
            continue  # it does not speak this version, or refuses the client already
        except NotVerified as error:
            raise Unreached(str(error)) from None
        except OSError as error:
            raise Unreached(f"could not be reached: {error_text(error)}") from None
        tickets += [(context, ticket)] if ticket else []
    return ResumableSession(tuple(tickets)) if tickets else None


def acceptance_text(
    endpoint: Endpoint,
    roots: Path,
    identity: Path,
    session: ResumableSession | None = None,
    witness: ClientContext | None = None,
) -> str:
    """Return how a client was accepted, as a phrase after the service's name; "" if it was refused.

    Tries a new handshake with `identity` (a PEM file with key and certificate), the session that the server gave in
    it, and `session`, which was opened before. A refusal is a TLS alert about the certificate, HTTP 400, 403, 495 or
    496, or what `admission` says of other protocols. Raises Unreached where neither was seen: connection errors,
    timeouts, a server certificate that does not verify, another protocol; NotVerifiable where the answer shows nothing.
    """
    admitted = admission(endpoint, client_context(roots, identity), session, witness)
    return f"lets it {admitted}" if admitted else ""


def admission(
    endpoint: Endpoint,
    context: ClientContext,
    session: ResumableSession | None = None,
    witness: ClientContext | None = None,
) -> str:
    """Return how a client is accepted (`in with 200`), "" if it is refused in every handshake. Raises Unreached.

    GnuTLS servers send no alert: they close the connection after the handshake. In protocols other than HTTP that is a
    refusal if it happens in all of TRIES connections, and if the server answers `witness` at once, a client that it
    must accept.
    """
    entry, ticket = _entry(endpoint, context, witness)
    if entry:
        return entry
    tickets = session.tickets if session else ()
    for resuming_context, old_ticket in (*tickets, *([(context, ticket)] if ticket else [])):
        entry, _ = _entry(endpoint, resuming_context, witness, old_ticket)
        if entry:
            return f"{entry}, in a resumed session"
    return ""


def _entry(
    endpoint: Endpoint, context: ClientContext, witness: ClientContext | None, ticket: ssl.SSLSession | None = None
) -> tuple[str, ssl.SSLSession | None]:
    """Return how a client gets in, "" if it is refused, and a session ticket."""
    failure, closed_count = "", 0
    for attempt in range(TRIES):  # a server that closes the connection at once may lose its alert
        try:
            answer = request(endpoint, context, ticket=ticket, pause=PAUSE if attempt else 0.0)
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves a certificate that does not verify: {error.verify_message}") from None
        except ssl.SSLError as error:
            if is_refusal(error):
                return "", None
            closed_count += isinstance(error, CLOSED)
            failure = f"aborts the handshake: {error.reason or error}"
        except NotVerified as error:
            failure = str(error)
        except TimeoutError as error:  # another try would take as long
            raise Unreached(f"could not be reached: {error_text(error)}") from None
        except OSError as error:
            closed_count += isinstance(error, CLOSED)
            failure = f"could not be reached: {error_text(error)}"
        else:
            return _judged(endpoint, answer), answer.session
    is_always_closed = closed_count == TRIES and endpoint.speaks != "https"  # an HTTP server answers with a status
    if is_always_closed and witness and _is_answered(endpoint, witness):
        return "", None
    raise Unreached(failure)


def _judged(endpoint: Endpoint, answer: Answer) -> str:
    """Return how an answer lets a client in, "" if it refuses it. Raises NotVerifiable if it shows neither."""
    if endpoint.speaks == "https":
        return "" if answer.status in NO_ENTRY else f"in with {answer.status}"
    if not answer.reply.is_certain:
        raise NotVerifiable(f"answers, but that does not show whether the certificate decides: {answer.reply.text}")
    return "" if answer.status in NO_ENTRY else f"in: it {answer.reply.text}"


def _is_answered(endpoint: Endpoint, witness: ClientContext) -> bool:
    try:
        return request(endpoint, witness).status not in NO_ENTRY
    except (OSError, NotVerified):
        return False
