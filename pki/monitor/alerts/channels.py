"""Telling people what health found: each channel hears what is new to it; what could not be sent is owed to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config.identifiers import ArtifactId
from pki.deploy.receipt import instant
from pki.monitor.alerts.decisions import Decision, decide
from pki.monitor.alerts.notification_history import Addresses, Channel, Record
from pki.monitor.check_result import Finding, Level
from pki.project.layout import Store
from pki.project.secrets import Passphrases

EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Telling:
    """What became of one message; `error` says why it was not taken by everybody."""

    channel: str
    subject: str
    error: PkiError | None = None


@dataclass(frozen=True, slots=True)
class News:
    """All that there is to tell: checks, which of their keys this run would have found again, the letter's facts."""

    checks: Sequence[Finding]
    looked_at: Callable[[str], bool]
    run: str
    head: str


def tell(place: Store, to: Addresses, news: News, now: datetime) -> list[Telling]:
    """Send to every channel what it has not heard, and keep what was sent."""
    folder = place.notification_folder
    with place.turn("alerts.lock", within=folder):
        before = Record.load(folder, now)
        if before.is_resting:
            return []
        sender, channels, said = Sender(place, to, news, now), dict[str, Channel](), list[Telling]()
        for name in _names(to):
            channels[name], told = sender.tell(name, before.channels.get(name, Channel()))
            said += [told] if told else []
        after = Record(to, channels)
        if after != before:
            try:
                after.save(folder, now)
            except PkiError as error:
                said.append(Telling("record", "", error))
    return said


def checks(record: Record) -> Iterator[Finding]:
    """Health of the channels themselves, as the last run left them."""
    for name, channel in record.channels.items():
        if channel.failing_since:
            text = f"messages cannot be sent: {channel.message}"
            since = datetime.fromisoformat(channel.failing_since)
            remedy = f"{channel.hint or 'docs/watching.md'}; every run tries again"
            yield Finding(ArtifactId("alerts", name), Level.WARNING, text, remedy, since=since)
        elif weekly := channel.past.digest:
            yield Finding(ArtifactId("alerts", name), Level.OK, f"the last weekly message is of {weekly:%Y-%m-%d}")


def _names(to: Addresses) -> list[str]:
    return [*([EMAIL] if to.alerts.email else []), *to.alerts.notify]


class Sender:
    """What all channels of one run share."""

    def __init__(self, place: Store, to: Addresses, news: News, now: datetime) -> None:
        self._place = place
        self._to = to
        self._news = news
        self._now = now

    def tell(self, name: str, channel: Channel) -> tuple[Channel, Telling | None]:
        """The channel as it is afterwards, and what was sent, if anything was worth it."""
        found = [one for one in self._news.checks if one.subject != ArtifactId("alerts", name)] + list(channel.owed)
        decision = decide(channel.past, found, self._news.looked_at, self._now)
        if not decision.is_worth_it:
            return replace(channel, past=decision.after), None
        mail_text = self._mail_text(decision, found, channel)
        try:
            complaint = self._send(name, mail_text)
        except PkiError as error:
            owed = tuple(one for one in found if one.passing or one in channel.owed)
            since = channel.failing_since or instant(self._now)
            failing = Channel(channel.past, owed, since, error.message, error.hint)
            return failing, Telling(name, mail_text.subject, error)
        if complaint:
            since = channel.failing_since or instant(self._now)
            failing = Channel(decision.after, (), since, complaint.message, complaint.hint)
            return failing, Telling(name, mail_text.subject, complaint)
        return Channel(decision.after), Telling(name, mail_text.subject)

    def _mail_text(self, decision: Decision, found: Sequence[Finding], channel: Channel) -> Any:
        from pki.monitor.alerts import mail_text as mail_texts  # noqa: PLC0415 - rarely needed, and so is what it imports

        late = ""
        if channel.failing_since:
            late = f"Earlier messages could not be sent since {channel.failing_since[:10]}: {channel.message}"
        place = f"{socket.gethostname()}, in {self._place.home}"
        facts = mail_texts.Facts(
            self._to.organisation, place, self._news.run, self._news.head, self._now, self._to.is_sandbox
        )
        return mail_texts.write(decision, found, facts, late)

    def _send(self, name: str, mail_text: Any) -> PkiError | None:
        """Send a letter; returns what some of those who should get it have against it."""
        secrets = Passphrases(self._place, self._to.secrets)
        if name != EMAIL:
            from pki.monitor.alerts import notify  # noqa: PLC0415 - Apprise takes long to import

            notify.send(name, _secret(secrets, name), mail_text.subject, mail_text.brief)
            return None
        from pki.monitor.alerts import smtp  # noqa: PLC0415 - smtplib takes long to import

        said = self._to.alerts.email
        assert said is not None
        made = smtp.message(mail_text, said, self._now)
        if said.smtp == "outbox":
            smtp.put(made, self._place.report("outbox"), self._now)
            return None
        password = _secret(secrets, "smtp") if said.user else None
        complaint: PkiError | None = smtp.send(made, said, password, self._roots())
        return complaint

    def _roots(self) -> bytes:
        """Our own roots, read from `ca/` itself: pki.yaml may be wrong."""
        names = self._place.generations("root")
        return b"".join(filesystem.read(self._place.authority_file(name, "cert.pem")) or b"" for name in names)


def _secret(secrets: Passphrases, name: str) -> str:
    found = secrets.candidates(name)
    if not found:
        what = "the password of alerts.email.user" if name == "smtp" else "the address of a service"
        raise PkiError(f"{secrets.source_of(name)}: holds no {name}: {what}", f"put it there, as {name}: …")
    return found[0].value
