"""The guard of the ledger, for every database: decides whether anything may be signed or recorded.

If a ledger lost events, the next CRLs would let revoked clients in. The guard therefore compares the head of the ledger
with the heads that earlier runs stored (in the cache, in `ca/`, at the last backup). It also compares the ledger with
the CRLs in `build/` that this project signed.
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
    FILE_MISSING_TEXT,
    MISSING,
    OLDER,
    RESTORE_DATABASE,
    RESTORE_FILE_OR_ACCEPT_LOSS,
    RESTORE_NEWEST_FILE,
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
    """Compares the ledger with what earlier runs observed of it, and decides whether it can be trusted.

    The ledger must contain the `observed_heads`, the certificates of the `issuing` generations (those that sign), and the
    CRLs in `build/`. `ledger` opens the ledger when it is called, and `generation` returns a generation by its name.
    """

    store: Store
    is_sqlite: bool
    ledger: Callable[[], Ledger]
    observed_heads: Sequence[Head]
    issuing: Sequence[Generation]
    generation: Callable[[str], Generation | None]

    @property
    def cache_key(self) -> str:
        """Return a digest that changes with everything that the ledger is compared with."""
        return digest_of(
            [tuple(head) for head in self.observed_heads],
            [generation.fingerprint for generation in self.issuing],
            file_state(map(str, self._crl_files())),
        )

    def fault(self) -> LedgerFault | None:
        """Return why nothing may be signed or recorded; None where the ledger can be trusted."""
        try:
            if self.is_missing:
                return self._missing_fault()
            self.ledger().newest_event()  # raises where the newest events are missing
            return self._older_fault() or self._unknown_authorities_fault()
        except PkiError as error:
            return fault_of(error)

    def _missing_fault(self) -> LedgerFault | None:
        """Return why a missing ledger is a lost one; None in a new project, which has no ledger yet."""
        require_file(self.store.ca / "ledger.db")  # raises for a folder or another thing with that name
        is_lost = self.store.is_initialised or last_seen.observed_heads(self.store.ca)
        return LedgerFault(MISSING, FILE_MISSING_TEXT, RESTORE_FILE_OR_ACCEPT_LOSS) if is_lost else None

    @property
    def is_missing(self) -> bool:
        """Return whether the file of an SQLite ledger is missing."""
        return self.is_sqlite and not (self.store.ca / "ledger.db").exists()

    @property
    def _place(self) -> str:
        return "ca/ledger.db" if self.is_sqlite else "the ledger's database"

    def _older_fault(self) -> LedgerFault | None:
        evidence = [f"event {head.seq}, which {head.where} records" for head in self.lost_heads()]
        evidence += [f"CRL {number} of {name}, which is in build/crl/" for name, number in self._unrecorded()]
        if not evidence:
            return None
        text = f"{self._place}: is older than a state that was seen before; it lacks {'; '.join(evidence)}"
        return LedgerFault(OLDER, text, self._remedy)

    def lost_heads(self) -> list[Head]:
        """Return the observed heads that the ledger lacks, oldest first.

        Several files may name the same event; only the first of them is returned, so that a message names it once.
        """
        missing = self.ledger().missing_heads(self.observed_heads)
        first_by_event = {(head.seq, head.hash): head for head in reversed(missing)}  # the last one in this order wins
        return sorted(first_by_event.values(), key=lambda head: head.seq)

    @property
    def has_unrecorded_crls(self) -> bool:
        """Return whether a published CRL is newer than the newest one in the ledger."""
        return next(self._unrecorded(), None) is not None

    def _unrecorded(self) -> Iterator[tuple[str, int]]:
        """Yield generation and number of each CRL in `build/` that this project signed and that the ledger lacks.

        A CRL with a lower number than the last recorded one is left out: a run replaces it.
        """
        for path in self._crl_files():
            # a CRL that is damaged, or of an authority that is, proves nothing about the ledger
            with suppress(PkiError, ValueError, UnsupportedAlgorithm, x509.ExtensionNotFound):
                der, issuer = filesystem.read(path) or b"", self.generation(path.stem)
                if issuer is None or self.ledger().has_recorded(issuer.name, der):
                    continue
                crl = x509.load_der_x509_crl(der)
                # `crl_number` returns 0 for a CRL without a number; here that is an error, which is suppressed
                number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
                last = self.ledger().last_crl(issuer.name)
                is_newer = last is None or number > last.number
                if is_newer and canonical.is_signed_by(crl, ca_public_key(issuer.certificate)):
                    yield issuer.name, number

    def _crl_files(self) -> list[Path]:
        return sorted((self.store.build / "crl").glob("*.crl"))

    def _unknown_authorities_fault(self) -> LedgerFault | None:
        unknown = self.unknown_authorities()
        if not unknown:
            return None
        text = (
            f"{self._place}: does not contain {', '.join(unknown)}: it was created again, or belongs to another project"
        )
        return LedgerFault(UNKNOWN_AUTHORITIES, text, self._remedy)

    def unknown_authorities(self) -> list[str]:
        """Return the names of the `issuing` generations whose certificates the ledger lacks."""
        ledger = self.ledger()
        serials = {generation.name: generation.certificate.serial_number for generation in self.issuing}
        return [name for name, serial in serials.items() if not ledger.certificates(serial=serial)]

    @property
    def _remedy(self) -> str:
        return RESTORE_NEWEST_FILE if self.is_sqlite else RESTORE_DATABASE


def fault_of(error: PkiError) -> LedgerFault:
    """Return why the ledger cannot be used, from the error that opening or reading it raised.

    The error can also be that a root is missing (`LedgerView.check_roots`).
    """
    kind = error.kind if isinstance(error, LedgerError) else ""
    return LedgerFault(kind or UNREADABLE, error.message, error.hint)
