"""What the program reports to the user besides errors: a notice, with what to type."""

from __future__ import annotations

from dataclasses import dataclass

from pki.common.remedies import for_this_project


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to the user: its subject, a text, and the command or change that it asks for."""

    subject: str
    text: str
    remedy: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "remedy", for_this_project(str(self.remedy)))
