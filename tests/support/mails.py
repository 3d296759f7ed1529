"""Mails of alerts as people read them."""

from __future__ import annotations

from email.message import EmailMessage


def text_of(message: EmailMessage, form: str = "plain") -> str:
    part = message.get_body((form,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")
