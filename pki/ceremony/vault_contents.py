"""What a vault contains from earlier ceremonies: its roots, and everything that they signed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cryptography import x509

from pki.ceremony.request_response import NO_RESPONSE, Request, RequestedSeries
from pki.ceremony.vault import PastCeremony


class PastCertificate(NamedTuple):
    """A certificate that an earlier ceremony signed; the issuer of a cross-certificate is another root."""

    name: str
    issuer: str
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class VaultContents:
    """The root certificates in a vault by name, and its past ceremonies, the oldest first."""

    roots: dict[str, x509.Certificate]
    history: list[PastCeremony]

    @property
    def last(self) -> PastCeremony | None:
        """Return the last ceremony, or None before the first one."""
        return self.history[-1] if self.history else None

    @property
    def issued(self) -> list[PastCertificate]:
        """Return every certificate that was ever signed."""
        return [
            PastCertificate(certificate.name, certificate.issuer, certificate.certificate)
            for past in self.history
            for certificate in past.response.certificates
        ]

    @property
    def _possible_predecessors(self) -> list[str]:
        """Return what a request can follow: NO_RESPONSE, then the SHA-256 of each response, the oldest first."""
        return [NO_RESPONSE, *(past.response_digest for past in self.history)]

    def is_ahead_of(self, request: Request) -> bool:
        """Return whether a request follows a ceremony before the last one in the vault.

        Then the project of the request lost the ceremonies after it, for example because a backup was restored.
        """
        return request.previous in self._possible_predecessors[:-1]

    def is_behind(self, request: Request) -> bool:
        """Return whether a request follows a ceremony that the vault does not have.

        Then this drive is an older copy of the vault, or another vault. An empty drive is neither of them.
        """
        return bool(self.history) and request.previous not in self._possible_predecessors

    def last_series(self, root: str) -> RequestedSeries | None:
        """Return the series of pre-signed CRLs that was requested last for a root, or None."""
        all_series = [series for past in self.history for series in past.request.crl_series if series.root == root]
        return all_series[-1] if all_series else None

    def highest_number(self, root: str) -> int:
        """Return the highest CRL number of a root, or 0."""
        return max(
            (
                presigned_crl.number
                for past in self.history
                for presigned_crl in past.response.presigned_crls
                if presigned_crl.root == root
            ),
            default=0,
        )
