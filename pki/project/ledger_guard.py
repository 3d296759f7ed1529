"""The guard of the ledger, for every database: decides whether anything may be signed or recorded.

A ledger that lost events would lead to CRLs that let revoked clients in. So its head is compared with those that the
cache, `ca/` and the last backup record, and with the CRLs in `build/` that this project signed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pki.common import filesystem
from pki.common.cache import digest_of, file_state
from pki.common.errors import LedgerError, PkiError
from pki.common.filesystem import require_file
from pki.ledger import last_seen
from pki.ledger.types import (
    FILE_MISSING,
    MISSING,
    NEWEST_IS_BACK,
    OLDER,
    RESTORE_DATABASE,
    RESTORE_OR_ACCEPT_LOSS,
    UNKNOWN_AUTHORITIES,
    UNREADABLE,
    Head,
    Ledger,
    LedgerFault,
)
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.x509 import canonical
from pki.x509.certificate_signing import ca_public_key


@dataclass(frozen=True, slots=True)
class Guard:
    """Compares the ledger with everything that was seen of it, and decides whether it can be trusted.

    It must contain the heads that were seen before, the certificates of the authorities that sign, and the CRLs in `build/`.
    """

    store: Store
    is_sqlite: bool
    ledger: Callable[[], Ledger]
    observed_heads: Sequence[Head]
    authorities: Sequence[Generation]
    generation: Callable[[str], Generation | None]

    @property
    def cache_key(self) -> str:
        """Return a digest that changes with everything that the ledger is compared with."""
        paths = list(map(str, self._crls()))
        return digest_of(
            [tuple(item) for item in self.observed_heads],
            [item.fingerprint for item in self.authorities],
            file_state(paths),
        )

    def fault(self) -> LedgerFault | None:
        """Return why nothing may be signed or recorded; None where the ledger can be trusted."""
        try:
            if self.is_missing:
                require_file(self.store.ca / "ledger.db")
                is_lost = self.store.is_initialised or last_seen.observed_heads(self.store.ca)
                return LedgerFault(MISSING, FILE_MISSING, RESTORE_OR_ACCEPT_LOSS) if is_lost else None
            self.ledger().newest_event()
            return self._older() or self._unknown()
        except PkiError as error:
            return fault_of(error)

    @property
    def is_missing(self) -> bool:
        """Return whether the file of an SQLite ledger is missing."""
        return self.is_sqlite and not (self.store.ca / "ledger.db").exists()

    @property
    def _place(self) -> str:
        return "ca/ledger.db" if self.is_sqlite else "the ledger's database"

    def _older(self) -> LedgerFault | None:
        evidence = [f"event {head.seq}, which {head.where} records" for head in self.lost_heads()]
        evidence += [f"CRL {number} of {name}, which is in build/crl/" for name, number in self._unrecorded()]
        if not evidence:
            return None
        text = f"{self._place}: is older than a state that was seen before; it lacks {'; '.join(evidence)}"
        return LedgerFault(OLDER, text, self._remedy)

    def lost_heads(self) -> list[Head]:
        """Return the heads that were seen and that the ledger lacks; for one event only the first record of it."""
        lost = {(head.seq, head.hash): head for head in reversed(self.ledger().missing_heads(self.observed_heads))}
        return sorted(lost.values(), key=lambda head: head.seq)

    @property
    def has_unrecorded_crls(self) -> bool:
        """Return whether a published CRL is newer than the newest one in the ledger."""
        return any(True for _ in self._unrecorded())

    def _unrecorded(self) -> Iterator[tuple[str, int]]:
        """Yield generation and number of each CRL in `build/` that is ours and newer than the ledger's newest."""
        for path in self._crls():
            with suppress(PkiError, ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound):
                der, issuer = filesystem.read(path) or b"", self.generation(path.stem)
                if issuer is None or self.ledger().has_recorded(issuer.name, der):
                    continue
                crl = x509.load_der_x509_crl(der)
                number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
                last = self.ledger().last_crl(issuer.name)
                is_newer = last is None or number > last[0]
                if is_newer and canonical.is_signed_by(crl, ca_public_key(issuer.certificate)):
                    yield issuer.name, number

    def _crls(self) -> list[Path]:
        return sorted((self.store.build / "crl").glob("*.crl"))

    def _unknown(self) -> LedgerFault | None:
        unknown = self.unknown_authorities()
        if not unknown:
            return None
        text = (
            f"{self._place}: does not contain {', '.join(unknown)}: it was created again, or belongs to another project"
        )
        return LedgerFault(UNKNOWN_AUTHORITIES, text, self._remedy)

    def unknown_authorities(self) -> list[str]:
        """Return the generations that sign here and whose certificates the ledger lacks."""
        ledger = self.ledger()
        return [ca.name for ca in self.authorities if not ledger.certificates(serial=ca.certificate.serial_number)]

    @property
    def _remedy(self) -> str:
        return NEWEST_IS_BACK if self.is_sqlite else RESTORE_DATABASE


def fault_of(error: PkiError) -> LedgerFault:
    """Return why a ledger that raised `error` cannot be used; a missing root is a reason too."""
    kind = error.kind if isinstance(error, LedgerError) else ""
    return LedgerFault(kind or UNREADABLE, error.message, error.hint)
