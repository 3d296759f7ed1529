"""How TLS begins in each protocol of `speaks`, and what a client asks then.

Every question has the same contract: it gets the stream and the account (the CN of the client's certificate), and
whether the certificate must decide who is let in (`access: mtls`). It returns a Reply; it raises ProtocolFault and
OSError. A refusal within TLS is an alert, which is an ssl.SSLError.

This module imports only `bounded_stream`, `text_protocols` and `binary_protocols` of ours: Ansible ships all four.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from pki.deploy.binary_protocols import (
    ask_ldap,
    ask_mqtt,
    ask_mysql,
    ask_postgres,
    start_ldap,
    start_mysql,
    start_postgres,
)
from pki.deploy.bounded_stream import Reply, Stream
from pki.deploy.text_protocols import ask_imap, ask_imaps, ask_smtp, ask_smtps, start_imap, start_smtp


class Question(Protocol):
    """A function that asks a server, and returns its answer."""

    def __call__(self, stream: Stream, account: str, /, *, by_certificate: bool) -> Reply: ...


STARTS: Mapping[str, Callable[[Stream], None]] = {  # in the other protocols, TLS begins at once
    "smtp": start_smtp,
    "imap": start_imap,
    "ldap": start_ldap,
    "postgres": start_postgres,
    "mysql": start_mysql,
}
QUESTIONS: Mapping[str, Question] = {
    "smtp": ask_smtp,
    "smtps": ask_smtps,
    "imap": ask_imap,
    "imaps": ask_imaps,
    "ldap": ask_ldap,
    "ldaps": ask_ldap,
    "postgres": ask_postgres,
    "mysql": ask_mysql,
    "mqtts": ask_mqtt,
}
CLIENT_FIRST = frozenset({"ldap", "ldaps", "postgres", "mysql", "mqtts"})  # within TLS, the client speaks first
