"""Mail: build the message, and send it over verified TLS or write it to the outbox."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Mapping
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from pathlib import Path
from urllib.parse import urlsplit

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.timestamps import COMPACT
from pki.common.visible import visible_line
from pki.config.ip_addresses import url_host
from pki.config.model import EmailAlert
from pki.monitor.alerts.mail_text import MailText

TIMEOUT = 30  # seconds for each answer of the server
PORTS = {"smtp": 25, "smtps": 465}
SUBMISSION = 587  # with a login: RFC 6409
OUTBOX_SIZE = 200  # messages: perhaps nobody collects them, and one comes every week
LOCAL = {"localhost", "127.0.0.1"}


def message(mail_text: MailText, email: EmailAlert, now: datetime) -> EmailMessage:
    """Return the mail text as a multipart message, plain text and HTML."""
    message = EmailMessage(policy=SMTP)
    message["From"] = email.from_
    message["To"] = ", ".join(email.to)
    message["Subject"] = mail_text.subject
    message["Date"] = format_datetime(now)
    message["Message-ID"] = make_msgid(domain=email.from_.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # no automatic replies: RFC 3834
    message.set_content(mail_text.text)
    message.add_alternative(mail_text.html, subtype="html")
    return message


def put(message: EmailMessage, outbox: Path, now: datetime) -> Path:
    """Write a message to the outbox, where another program may collect it. Return its path.

    Removes what a killed run left, and the oldest messages beyond OUTBOX_SIZE.
    """
    for leftover in outbox.glob(filesystem.temporary_path(outbox / "*.eml").name):
        leftover.unlink(missing_ok=True)
    suffixes = ("", *(f"-{number}" for number in range(2, 1000)))  # for several messages in one second
    names = (f"{now:{COMPACT}}{suffix}.eml" for suffix in suffixes)
    path = next(candidate for name in names if not (candidate := outbox / name).exists())
    filesystem.write(path, message.as_bytes())
    other_messages = sorted(message_file for message_file in outbox.glob("*.eml") if message_file != path)
    for surplus in other_messages[: 1 - OUTBOX_SIZE]:
        surplus.unlink(missing_ok=True)
    return path


def send(message: EmailMessage, email: EmailAlert, password: str | None, roots: bytes) -> PkiError | None:
    """Send a message to its server, whose certificate must verify against the roots of the system or of the project (`roots`).

    `roots` is PEM. Returns an error if the server accepted the message for some recipients only. Raises PkiError if the
    server accepted it for none. Both contain the answer of the server and never the password.
    """
    address = urlsplit(email.smtp)
    host, port = address.hostname or "", address.port or (SUBMISSION if email.user else PORTS[address.scheme])
    server = f"{url_host(host)}:{port}"
    try:
        refused_recipients = _deliver(message, email, password, _context(roots), host, port)
    except ssl.SSLCertVerificationError as error:
        raise PkiError(
            f"{server}: its certificate does not verify: {error.verify_message}",
            "give the server a certificate for that name, from a public CA or from this PKI",
        ) from None
    except smtplib.SMTPAuthenticationError as error:
        raise PkiError(
            f"{server}: refuses {email.user}: {_answer(error)}", "correct the secret smtp: docs/how-to/alerts.md"
        ) from None
    except smtplib.SMTPNotSupportedError as error:
        raise PkiError(f"{server}: {visible_line(str(error))}", f"{address.scheme}: docs/how-to/alerts.md") from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _refusal(server, error.recipients) from None
    except smtplib.SMTPResponseException as error:
        raise PkiError(
            f"{server}: does not accept the message: {_answer(error)}", "ask the administrator of that server"
        ) from None
    except (OSError, smtplib.SMTPException, ValueError) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PkiError(
            f"{server}: cannot be reached: {visible_line(cause)}", "check alerts.email.smtp in pki.yaml"
        ) from None
    return _refusal(server, refused_recipients) if refused_recipients else None


def _refusal(server: str, refused: Mapping[str, tuple[int, bytes]]) -> PkiError:
    recipient, (code, text) = next(iter(refused.items()))
    answer = visible_line(text.decode(errors="replace"))
    return PkiError(
        f"{server}: accepts no mail for {recipient}: {code} {answer}", "correct alerts.email.to in pki.yaml"
    )


def _deliver(
    message: EmailMessage, email: EmailAlert, password: str | None, context: ssl.SSLContext, host: str, port: int
) -> dict[str, tuple[int, bytes]]:
    if email.smtp.startswith("smtps:"):
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT, context=context)
    else:
        client = smtplib.SMTP(host, port, timeout=TIMEOUT)
    with client:
        is_plain = email.smtp.startswith("smtp:")
        if is_plain and (host not in LOCAL or email.user):  # plain text stays on this machine
            client.starttls(context=context)
        if email.user:
            client.login(email.user, password or "")
        return client.send_message(message, email.from_, list(email.to))


def _context(roots: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if roots:
        context.load_verify_locations(cadata=roots.decode("ascii"))
    return context


def _answer(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    return f"{error.smtp_code} {re.sub(r' +', ' ', visible_line(text))}"[:300]
