"""Send alerts: each channel gets what is new to it, and later what could not be sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.common.remedies import commands_folder, for_commands_folder
from pki.common.timestamps import instant
from pki.config.identifiers import ArtifactId
from pki.monitor.alerts.decisions import AlertDecision, decide
from pki.monitor.alerts.notification_history import Addresses, Channel, NotificationHistory
from pki.monitor.check_result import Finding, Level
from pki.project.layout import Store
from pki.project.secrets import Passphrases

EMAIL = "email"


@dataclass(frozen=True, slots=True)
class SentMessage:
    """The result of one message; `error` is why some or all recipients did not get it."""

    channel: str
    subject: str
    error: PkiError | None = None


@dataclass(frozen=True, slots=True)
class RunFindings:
    """What a run reports: its findings, a sentence about the run, and the head of the ledger.

    `is_checked` tells whether this run would have reported the finding with a key again.
    """

    findings: Sequence[Finding]
    is_checked: Callable[[str], bool]
    run: str
    head: str


def send_alerts(store: Store, addresses: Addresses, findings: RunFindings, now: datetime) -> list[SentMessage]:
    """Send to every channel what is new to it, and save the notification history. Return the result of each message."""
    folder = store.notification_folder
    with store.hold_lock("alerts.lock", within=folder):
        history = NotificationHistory.load(folder, now)
        if history.is_resting:
            return []
        sender, channels, sent = Sender(store, addresses, findings, now), dict[str, Channel](), list[SentMessage]()
        for name in _names(addresses):
            channels[name], message = sender.send(name, history.channels.get(name, Channel()))
            sent += [message] if message else []
        new_history = NotificationHistory(addresses, channels)
        if new_history != history:
            try:
                new_history.save(folder, now)
            except PkiError as error:
                sent.append(SentMessage("record", "", error))
    return sent


def check_channels(history: NotificationHistory) -> Iterator[Finding]:
    """Report channels that failed in the last run."""
    for name, channel in history.channels.items():
        if channel.failing_since:
            text = f"messages cannot be sent: {channel.message}"
            since = datetime.fromisoformat(channel.failing_since)
            remedy = f"{channel.hint or 'docs/how-to/alerts.md'}; every run retries"
            yield Finding(ArtifactId("alerts", name), Level.WARNING, text, remedy, since=since)
        elif weekly := channel.history.weekly_sent:
            yield Finding(ArtifactId("alerts", name), Level.OK, f"last weekly message on {weekly:%Y-%m-%d}")


def _names(addresses: Addresses) -> list[str]:
    """Return the names of the configured channels."""
    return [*([EMAIL] if addresses.alerts.email else []), *addresses.alerts.notify]


class Sender:
    """Sends the messages of one run to all channels."""

    def __init__(self, store: Store, addresses: Addresses, findings: RunFindings, now: datetime) -> None:
        self._store = store
        self._addresses = addresses
        self._findings = findings
        self._now = now

    def send(self, name: str, channel: Channel) -> tuple[Channel, SentMessage | None]:
        """Send to one channel what is new to it; return the channel afterwards, and the message if there was one."""
        # A message through a channel does not report that this channel fails: a message that arrives would contradict it.
        own_subject = ArtifactId("alerts", name)
        findings = [finding for finding in self._findings.findings if finding.subject != own_subject]
        findings += channel.owed
        decision = decide(channel.history, findings, self._findings.is_checked, self._now)
        if not decision.is_worth_sending:
            return replace(channel, history=decision.new_history), None
        mail_text = self._mail_text(decision, findings, channel)
        try:
            refusal = self._send(name, mail_text)
        except PkiError as error:
            # No later run reports an event that is over, so its finding is kept until it can be sent.
            owed = tuple(finding for finding in findings if finding.is_over or finding in channel.owed)
            since = channel.failing_since or instant(self._now)
            failing_channel = Channel(channel.history, owed, since, error.message, error.hint)
            return failing_channel, SentMessage(name, mail_text.subject, error)
        if refusal:
            since = channel.failing_since or instant(self._now)
            failing_channel = Channel(decision.new_history, (), since, refusal.message, refusal.hint)
            return failing_channel, SentMessage(name, mail_text.subject, refusal)
        return Channel(decision.new_history), SentMessage(name, mail_text.subject)

    def _mail_text(self, decision: AlertDecision, findings: Sequence[Finding], channel: Channel) -> Any:
        from pki.monitor.alerts import mail_text as mail_texts  # noqa: PLC0415 - needs Jinja2, slow to import

        delay_text = ""
        if channel.failing_since:
            delay_text = f"Earlier messages could not be sent since {channel.failing_since[:10]}: {channel.message}"
        origin = f"{socket.gethostname()}, in the folder {commands_folder(self._store.home)}"
        facts = mail_texts.MailFacts(
            self._addresses.organisation,
            origin,
            self._findings.run,
            self._findings.head,
            self._now,
            self._addresses.is_sandbox,
        )
        mail = mail_texts.render_mail(decision, findings, facts, delay_text)
        return replace(mail, **{part: for_commands_folder(getattr(mail, part)) for part in ("text", "html", "brief")})

    def _send(self, name: str, mail_text: Any) -> PkiError | None:
        """Send one message; return the error of some recipients, or raise PkiError if nobody got it."""
        secrets = Passphrases(self._store, self._addresses.secrets)
        if name != EMAIL:
            from pki.monitor.alerts import notify  # noqa: PLC0415 - Apprise takes long to import

            notify.send(name, _secret(secrets, name), mail_text.subject, mail_text.brief)
            return None
        from pki.monitor.alerts import smtp  # noqa: PLC0415 - smtplib is slow to import

        email = self._addresses.alerts.email
        assert email is not None  # _names returns EMAIL only if it is configured
        message = smtp.message(mail_text, email, self._now)
        if email.smtp == "outbox":
            smtp.put(message, self._store.report("outbox"), self._now)
            return None
        password = _secret(secrets, "smtp") if email.user else None
        refusal: PkiError | None = smtp.send(message, email, password, self._roots())
        return refusal

    def _roots(self) -> bytes:
        """Return our roots as PEM, read from `ca/` because pki.yaml may be invalid."""
        names = self._store.roots()
        return b"".join(filesystem.read(self._store.authority_file(name, "cert.pem")) or b"" for name in names)


def _secret(secrets: Passphrases, name: str) -> str:
    """Return the secret of a channel: the SMTP password, or the address of a service."""
    candidates = secrets.candidates(name)
    if not candidates:
        what = "the password of alerts.email.user" if name == "smtp" else "the address of a service"
        raise PkiError(f"{secrets.source_of(name)}: has no entry {name}: {what}", f"add it there: {name}: …")
    return candidates[0].value
