"""What the program reports to the user besides errors: a notice, with what to type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to the user: its subject, a text, and the command or change that it asks for."""

    subject: str
    text: str
    remedy: str
