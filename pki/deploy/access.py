"""Whether a service lets somebody in, with one certificate, whoever's it is.

This module imports nothing of ours but its neighbour `handshake`: Ansible carries both along.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from pki.deploy.tls_client import NO_ENTRY, Endpoint, NotVerified, Unreached, client_context, is_refusal, request

TRIES = 3


@dataclass(frozen=True, slots=True)
class ResumableSession:
    """What a server gave a client to come back with, each with the context that Python takes it back with alone."""

    tickets: tuple[tuple[ssl.SSLContext, ssl.SSLSession], ...]


def open_session(endpoint: Endpoint, roots: Path, identity: Path) -> ResumableSession | None:
    """A session as a client has it who came before its certificate was revoked: of TLS 1.3, 1.2 or both.

    `identity` is the file with its key and certificate. None where the server gives no sessions. Raises Unreached.
    """
    tickets = []
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        context = client_context(roots, identity)
        context.minimum_version = context.maximum_version = version
        try:
            ticket = request(endpoint, context).session
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves what does not verify: {error.verify_message}") from None
        except ssl.SSLError:
            continue  # it does not speak this version, or refuses the client already
        except NotVerified as seen:
            raise Unreached(str(seen)) from None
        except OSError as error:
            raise Unreached(f"could not be reached: {error}") from None
        tickets += [(context, ticket)] if ticket else []
    return ResumableSession(tuple(tickets)) if tickets else None


def improper_access(endpoint: Endpoint, roots: Path, identity: Path, session: ResumableSession | None = None) -> str:
    """How a service lets in who should be refused, as a phrase that reads well after its name; empty when it does not.

    Tried are a new handshake with `identity` (a file with key and certificate), the session that this may have got from
    the server, and `session`, which was opened before. Refused is a TLS alert about the certificate, or HTTP 400, 403,
    495 or 496. Raises Unreached where neither refusal nor entry was seen: nobody listens, time is up, the connection
    broke, what is served does not verify, or no HTTP server answers.
    """
    found = admission(endpoint, client_context(roots, identity), session)
    return f"lets it {found}" if found else ""


def admission(endpoint: Endpoint, context: ssl.SSLContext, session: ResumableSession | None = None) -> str:
    """How a client gets in, `in with 200`; empty when it is refused, newly and again. Raises Unreached."""
    status, ticket = _request(endpoint, context)
    if status not in NO_ENTRY:
        return f"in with {status}"
    given = session.tickets if session else ()
    for again, old in (*given, *([(context, ticket)] if ticket else [])):
        status, _ = _request(endpoint, again, old)
        if status not in NO_ENTRY:
            return f"in with {status} by a session that it resumes"
    return ""


def _request(
    endpoint: Endpoint, context: ssl.SSLContext, ticket: ssl.SSLSession | None = None
) -> tuple[int, ssl.SSLSession | None]:
    """The status of an answer, 403 for a TLS alert that refuses the client, and what it may come back with."""
    wrong = ""
    for _ in range(TRIES):  # of a server that hangs up in a hurry, the alert may get lost
        try:
            answer = request(endpoint, context, ticket=ticket)
        except ssl.SSLCertVerificationError as error:
            raise Unreached(f"serves what does not verify: {error.verify_message}") from None
        except ssl.SSLError as error:
            if is_refusal(error):
                return 403, None
            wrong = f"breaks the handshake off: {error.reason or error}"
        except NotVerified as seen:
            wrong = str(seen)
        except TimeoutError as error:  # a second one would take as long
            raise Unreached(f"could not be reached: {error}") from None
        except OSError as error:
            wrong = f"could not be reached: {error}"
        else:
            return answer.status, answer.session
    raise Unreached(wrong)
