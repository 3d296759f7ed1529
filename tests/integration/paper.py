"""What people write down at a ceremony, and what they type from it when the program asks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.integration.terminal import Answer


@dataclass
class Paper:
    """What people have written down, by hand or printed. `own` is the passphrase that they choose themselves."""

    request: str = ""
    response: str = ""
    kit: tuple[str, str] = ("", "")
    passphrase: str = ""
    cards: list[str] = field(default_factory=list)
    own: str = "paper-of-the-backup-kettle-orbit"

    def answers(self) -> dict[str, Answer]:
        """What people type when the program asks, by what it asks."""
        return {
            r"first 8 words of the request[^\n]*: ": lambda _: self.request,
            r"first 8 words of the response[^\n]*: ": lambda _: self.response,
            r"in UTC, as HH:MM: ": lambda _: f"{datetime.now(UTC):%H:%M}",
            r"nobody else looking\? \[yes\] ": lambda _: "yes",
            r"only its custodian looks now; press Enter ": lambda _: "",
            r"press Enter when it is written down; the screen is cleared then ": self._write_down,
            r"type it back[^\n]*: ": lambda _: self.passphrase,
            r"typed back[^\n]*: ": lambda _: self.cards[-1],
            r"passphrase of root-1[^\n]*: ": lambda _: self.passphrase,
            r"share [12] of 2 for root-1[^\n]*: ": self._card,
            r"(passphrase|once more)[^\n]*: ": lambda _: self.own,
            r"Proceed anyway\? \(y,N\) ": lambda _: "y",
        }

    def _write_down(self, shown: str) -> str:
        written = " ".join(word for _, word in re.findall(r"(?<!\S)(\d{1,2}) ([a-z]+)", shown))
        if len(written.split()) == 20:
            self.cards.append(written)
        else:
            self.passphrase = written
        return ""

    def _card(self, shown: str) -> str:
        """The second and the third custodian came."""
        return self.cards[int(re.findall(r"share (\d) of 2", shown)[-1])]
