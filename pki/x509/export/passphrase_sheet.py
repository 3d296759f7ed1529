"""The printed sheet with the passphrase of an exported identity and the steps to install it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pki.common.templating import Pages
from pki.x509.export import install_guides
from pki.x509.export.client_identity import ClientIdentity

PAGES = Path(__file__).parent / "pages"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One exported file: its format, SHA-256 `digest` in hexadecimal, passphrase and date.

    `example` is the DNS name of a service to try afterwards, or "".
    """

    identity: ClientIdentity
    format: str
    file: str
    digest: str
    passphrase: str = field(repr=False)
    at: datetime
    example: str

    def page(self) -> bytes:
        """Return the sheet as HTML, for A4 paper and for a phone."""
        values = {
            "organisation": self.identity.organisation,
            "client": self.identity.name,
            "file": self.file,
            "digest": " ".join(self.digest[i : i + 4] for i in range(0, 16, 4)),
            "passphrase": self.passphrase,
            "half": len(self.passphrase) // 2 + 1,
            "made": f"{self.at:%Y-%m-%d}",
            "ends": f"{self.identity.certificate.not_valid_after_utc:%Y-%m-%d}",
            "example": self.example,
            "guides": install_guides.OF[self.format],
        }
        return Pages(PAGES).render("sheet.html", values).encode()
