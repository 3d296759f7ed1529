"""Check whether a service accepts a client with a given certificate, in a new handshake and in resumed sessions.

Of our modules this one imports only `tls_client`: Ansible ships both.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from pki.deploy.tls_client import NO_ENTRY, Endpoint, NotVerified, Unreached, client_context, is_refusal, request

TRIES = 3


@dataclass(frozen=True, slots=True)
class ResumableSession:
    """The sessions that a server gave to a client, each with the only context in which Python can resume it."""

    tickets: tuple[tuple[ssl.SSLContext, ssl.SSLSession], ...]


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
            raise Unreached(f"could not be reached: {error}") from None
        tickets += [(context, ticket)] if ticket else []
    return ResumableSession(tuple(tickets)) if tickets else None


def improper_access(endpoint: Endpoint, roots: Path, identity: Path, session: ResumableSession | None = None) -> str:
    """Return how a client that must be refused was accepted, as a phrase after the service's name; "" if it was refused.

    Tries a new handshake with `identity` (a PEM file with key and certificate), the session that the server gave in
    it, and `session`, which was opened before. A refusal is a TLS alert about the certificate, or HTTP 400, 403, 495
    or 496. Raises Unreached where neither was seen: connection errors, timeouts, a server certificate that does not
    verify, no HTTP.
    """
    admitted = admission(endpoint, client_context(roots, identity), session)
    return f"lets it {admitted}" if admitted else ""


def admission(endpoint: Endpoint, context: ssl.SSLContext, session: ResumableSession | None = None) -> str:
    """Return how a client is accepted (`in with 200`), "" if it is refused in every handshake. Raises Unreached."""
    status, ticket = _request(endpoint, context)
    if status not in NO_ENTRY:
        return f"in with {status}"
    tickets = session.tickets if session else ()
    for resuming_context, old_ticket in (*tickets, *([(context, ticket)] if ticket else [])):
        status, _ = _request(endpoint, resuming_context, old_ticket)
        if status not in NO_ENTRY:
            return f"in with {status}, in a resumed session"
    return ""


def _request(
    endpoint: Endpoint, context: ssl.SSLContext, ticket: ssl.SSLSession | None = None
) -> tuple[int, ssl.SSLSession | None]:
    """Return the status of an answer (403 for a TLS alert that refuses the client), and a session ticket."""
    failure = ""
    for _ in range(TRIES):  # a server that closes the connection at once may lose its alert
        try:
            answer = request(endpoint, context, ticket=ticket)
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves a certificate that does not verify: {error.verify_message}") from None
        except ssl.SSLError as error:
            if is_refusal(error):
                return 403, None
            failure = f"aborts the handshake: {error.reason or error}"
        except NotVerified as error:
            failure = str(error)
        except TimeoutError as error:  # another try would take as long
            raise Unreached(f"could not be reached: {error}") from None
        except OSError as error:
            failure = f"could not be reached: {error}"
        else:
            return answer.status, answer.session
    raise Unreached(failure)
