"""Mail: a letter as a message, and the message to its server, over TLS that is verified, or into the outbox."""

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
from pki.common.visible import visible_line
from pki.config.model import EmailAlert
from pki.monitor.alerts.mail_text import MailText

PATIENCE = 30  # seconds for each answer of the server
PORTS = {"smtp": 25, "smtps": 465}
SUBMISSION = 587  # where a user logs in: https://www.rfc-editor.org/rfc/rfc6409
KEPT = 200  # messages in the outbox: nobody may take them, and a weekly one comes for ever
HERE = {"localhost", "127.0.0.1"}


def message(mail_text: MailText, said: EmailAlert, now: datetime) -> EmailMessage:
    """A letter as text and HTML, for whatever reads it."""
    made = EmailMessage(policy=SMTP)
    made["From"] = said.from_
    made["To"] = ", ".join(said.to)
    made["Subject"] = mail_text.subject
    made["Date"] = format_datetime(now)
    made["Message-ID"] = make_msgid(domain=said.from_.rpartition("@")[2])
    made["Auto-Submitted"] = "auto-generated"  # nobody's absence notice answers it: RFC 3834
    made.set_content(mail_text.text)
    made.add_alternative(mail_text.html, subtype="html")
    return made


def put(made: EmailMessage, outbox: Path, now: datetime) -> Path:
    """Write a message into the outbox, for a program of yours to take or for a look.

    Removes what a killed run began there, and the oldest messages beyond KEPT.
    """
    for begun in outbox.glob(filesystem.temporary_path(outbox / "*.eml").name):
        begun.unlink(missing_ok=True)
    names = (f"{now:%Y%m%dT%H%M%SZ}{more}.eml" for more in ("", *(f"-{number}" for number in range(2, 1000))))
    path = next(found for name in names if not (found := outbox / name).exists())
    filesystem.write(path, made.as_bytes())
    for old in sorted(one for one in outbox.glob("*.eml") if one != path)[: -KEPT + 1]:
        old.unlink(missing_ok=True)
    return path


def send(made: EmailMessage, said: EmailAlert, password: str | None, roots: bytes) -> PkiError | None:
    """Hand a message to its server, verified by the system's roots or ours (`roots`, as PEM).

    Returns a complaint when the server took it for some of the recipients. Raises PkiError when it took it for nobody;
    both hold what the server said and never the password.
    """
    address = urlsplit(said.smtp)
    host, port = address.hostname or "", address.port or (SUBMISSION if said.user else PORTS[address.scheme])
    server = f"{host}:{port}"
    try:
        refused = _deliver(made, said, password, _context(roots), host, port)
    except ssl.SSLCertVerificationError as error:
        raise PkiError(
            f"{server}: its certificate does not verify: {error.verify_message}",
            "give the server a certificate for that name, from a public CA or from this PKI",
        ) from None
    except smtplib.SMTPAuthenticationError as error:
        raise PkiError(
            f"{server}: refuses {said.user}: {_said(error)}", "correct the secret smtp: docs/watching.md"
        ) from None
    except smtplib.SMTPNotSupportedError as error:
        raise PkiError(f"{server}: {visible_line(str(error))}", f"{address.scheme}: docs/watching.md") from None
    except smtplib.SMTPRecipientsRefused as error:
        raise _refusal(server, error.recipients) from None
    except smtplib.SMTPResponseException as error:
        raise PkiError(f"{server}: does not take the message: {_said(error)}", "ask who runs that server") from None
    except (OSError, smtplib.SMTPException, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PkiError(
            f"{server}: cannot be reached: {visible_line(what)}", "look at alerts.email.smtp in pki.yaml"
        ) from None
    return _refusal(server, refused) if refused else None


def _refusal(server: str, refused: Mapping[str, tuple[int, bytes]]) -> PkiError:
    to, (code, text) = next(iter(refused.items()))
    said = visible_line(text.decode(errors="replace"))
    return PkiError(f"{server}: takes no mail for {to}: {code} {said}", "correct alerts.email.to in pki.yaml")


def _deliver(
    made: EmailMessage, said: EmailAlert, password: str | None, context: ssl.SSLContext, host: str, port: int
) -> dict[str, tuple[int, bytes]]:
    if said.smtp.startswith("smtps:"):
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=PATIENCE, context=context)
    else:
        client = smtplib.SMTP(host, port, timeout=PATIENCE)
    with client:
        if said.smtp.startswith("smtp:") and (host not in HERE or said.user):  # within one machine nobody listens
            client.starttls(context=context)
        if said.user:
            client.login(said.user, password or "")
        return client.send_message(made, said.from_, list(said.to))


def _context(roots: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if roots:
        context.load_verify_locations(cadata=roots.decode("ascii"))
    return context


def _said(error: smtplib.SMTPResponseException) -> str:
    text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else str(error.smtp_error)
    return f"{error.smtp_code} {re.sub(r' +', ' ', visible_line(text))}"[:300]
