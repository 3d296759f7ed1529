"""Why a CRL is out of date, and how it is issued (intermediates, adopted CAs) or published (roots).

The program records a CRL in the ledger before it writes any file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pki.authority import recover_revocations
from pki.authority.ca_state import check_valid_yet
from pki.common import filesystem
from pki.common.cache import Cache, digest_of
from pki.common.durations import backdate, in_common_unit
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined_past
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.leaf_certificates import CANARY
from pki.ledger.types import RecordedCrl
from pki.project.generations import Generation, PresignedCrl
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical, crl_signing, pem_encoding
from pki.x509.certificate_signing import ca_public_key
from pki.x509.pem_encoding import encode_pem
from pki.x509.revocation import CrlEntry, crl_number

# In place of a date: every certificate expires after it, so the ledger returns the revocations of expired ones, too.
EVER = datetime.fromtimestamp(0, UTC)


class CrlDates(NamedTuple):
    """thisUpdate and nextUpdate of a CRL."""

    this_update: datetime
    next_update: datetime


@dataclass(frozen=True, slots=True)
class Crls:
    """The CRLs of a project: why each is out of date, and how it is issued or published."""

    project: Project

    def stale_reasons(self, generation: str, *, missing_serials: Collection[int] | None = None) -> list[Reason]:
        """Return why an intermediate's CRL must be issued again.

        `missing_serials` are the revoked serial numbers that the published CRL lacks. Without them, this method compares
        the CRL with the ledger itself. (Only `issue` gives them: it has made both agree before.)
        """
        issuer = self.project.authorities.generation(generation)
        cached_dates = _cached_dates(self.project.cache, generation, issuer)
        # asked now, and not at the start of the run: another process of this run may have revoked a certificate since
        if cached_dates is not None and self.project.ledger_view.is_unchanged_now():
            return self._date_reasons(generation, cached_dates)
        der, text = (filesystem.read(self.project.store.crl(generation, form)) for form in ("crl", "pem"))
        if der is None or text is None:
            return [Why.NOT_CREATED()]
        crl = self.read_signed(generation, der)
        if issuer is None or crl is None or crl.next_update_utc is None:
            return [Why.CRL_DAMAGED(generation=generation)]
        # the cache watches both files, so dates from the cache show that the two forms still agree
        if cached_dates is None and text != encode_pem("X509 CRL", der):
            return [Why.CRL_FORMS()]
        dates = CrlDates(crl.last_update_utc, crl.next_update_utc)
        reasons = self._date_reasons(generation, dates) or self._ledger_differences(generation, crl, missing_serials)
        if not reasons:
            files = [str(self.project.store.crl(generation, form)) for form in ("crl", "pem")]
            facts = [*(int(date.timestamp()) for date in dates), crl_number(crl)]
            self.project.cache.remember(ArtifactId("crl", generation), digest_of(issuer.fingerprint), files, facts)
        return reasons

    def _date_reasons(self, generation: str, dates: CrlDates) -> list[Reason]:
        """Return why the dates of a CRL require that it is issued again."""
        age = self.project.now - dates.this_update
        refresh = self.project.inventory.authorities.crl_rule(generation).refresh
        if dates.next_update <= self.project.now:
            return [Why.EXPIRED(date=f"{dates.next_update:%Y-%m-%d}")]
        if age < timedelta(0):
            return [Why.NOT_YET_VALID(time=f"{dates.this_update:%Y-%m-%d %H:%M}")]
        if age < refresh or not self.project.signing_keys.can_sign(generation):
            return []  # without the key, the present CRL stays in use until it expires
        (age_count, refresh_count), unit = in_common_unit(age, refresh)
        return [Why.CRL_AGE(age=f"{age_count} {unit}".rstrip(), every=refresh_count)]

    def _ledger_differences(
        self, generation: str, crl: x509.CertificateRevocationList, missing_serials: Collection[int] | None
    ) -> list[Reason]:
        """Return what the ledger records and a CRL lacks, or what a CRL lists and the ledger does not record.

        With `missing_serials` (see `stale_reasons`), only the first of the two is reported.
        """
        if not self.project.ledger_view.has_ledger:
            return []  # nothing to compare with; the guard of the ledger decides whether a ledger is lost
        last_crl = self.project.ledger.last_crl(generation)
        number = crl_number(crl)
        if last_crl is not None and number < last_crl.number:
            return [Why.CRL_NUMBER(number=number, last=last_crl.number)]
        if missing_serials is not None:
            return self._missing_reasons(missing_serials)
        listed_serials = {entry.serial_number for entry in crl}
        revoked_serials = self.project.ledger.revoked_serials(expiring_after=self.project.now, issuer=generation)
        missing_reasons = self._missing_reasons(revoked_serials - listed_serials)
        return missing_reasons or self._unrecorded_reasons(generation, listed_serials - revoked_serials)

    def _missing_reasons(self, serials: Collection[int]) -> list[Reason]:
        """Return one reason with the number of revocations that a CRL lacks, none for no `serials`.

        The reason names the canary, because its revocation is no alarm: each new canary is revoked on purpose.
        """
        if not serials:
            return []
        canaries = self.project.ledger.certificates(artifact=ArtifactId("cert", CANARY))
        canary_count = sum(certificate.serial in serials for certificate in canaries)
        return [Why.CRL_LACKS(count=_new_revocations(len(serials), canary_count))]

    def _unrecorded_reasons(self, generation: str, serials: frozenset[int] | set[int]) -> list[Reason]:
        """Return one reason if a CRL lists `serials` and the ledger does not record all of them as revoked; else none."""
        if not serials:
            return []  # without a query of the ledger
        unrecorded_serials = serials - self.project.ledger.revoked_serials(expiring_after=EVER, issuer=generation)
        return [Why.CRL_UNRECORDED(count=_revoked_certificates(len(unrecorded_serials)))] if unrecorded_serials else []

    def stale_adopted_reasons(self, name: str) -> list[Reason]:
        """Return why the CRL of an adopted CA must be issued again; empty once the CA itself has expired."""
        ca = self.project.authorities.generation(name)
        has_expired = ca is not None and ca.not_after < self.project.now
        return [] if has_expired else self.stale_reasons(name)

    def published_crl(self, generation: str, *, ignore_cache: bool = False) -> x509.CertificateRevocationList | None:
        """Return the published CRL of a generation; None if there is none, or if the generation did not sign it.

        `ignore_cache` is the parameter of `read_signed`.
        """
        der = filesystem.read(self.project.store.crl(generation))
        return self.read_signed(generation, der, ignore_cache=ignore_cache) if der else None

    def read_signed(
        self, generation: str, der: bytes, *, ignore_cache: bool = False
    ) -> x509.CertificateRevocationList | None:
        """Return the CRL `der`, the content of the published file of a generation, if that generation signed it.

        A run verifies the signature once for the same bytes, because that takes 0.1 s for a large CRL. With
        `ignore_cache` it does not use the results of earlier runs.
        """
        issuer, run = self.project.authorities.generation(generation), self.project.run
        if issuer is None:
            return None
        digest = hashlib.sha256(issuer.fingerprint.encode() + der).digest()
        is_cached = not ignore_cache and _cached_dates(self.project.cache, generation, issuer) is not None
        if digest in run.verified or is_cached:
            return x509.load_der_x509_crl(der)
        crl = canonical.read_crl(der, serialization.Encoding.DER)
        if crl is None or not canonical.is_signed_by(crl, ca_public_key(issuer.certificate)):
            return None
        run.mark_verified(digest)
        return crl

    def unrecorded_serials(self, generation: str) -> frozenset[int]:
        """Return the serial numbers that the published CRL of a generation lists and the ledger does not record as revoked."""
        crl = self.published_crl(generation)
        listed_serials = frozenset(entry.serial_number for entry in crl) if crl is not None else frozenset[int]()
        if not listed_serials or not self.project.ledger_view.has_ledger:
            return listed_serials
        return listed_serials - self.project.ledger.revoked_serials(expiring_after=EVER, issuer=generation)

    def due_presigned(self, root: str) -> x509.CertificateRevocationList | None:
        """Return the newest pre-signed CRL of a root that is valid now, if it lists every recorded revocation; else None.

        An older pre-signed CRL never takes its place: it could lack a revocation, which would then be undone.
        """
        valid_now = self._presigned_valid_now(root)
        if not valid_now:
            return None
        newest = valid_now[-1]
        name, key = f"pre-signed CRL:{root}", digest_of(newest.crl.fingerprint(hashes.SHA256()))
        if self.project.ledger_view.was_unchanged_at_start and self.project.cache.recall(name, key):
            return newest.crl  # an earlier run compared it with the same ledger
        if self.serials_not_presigned(root, newest):
            return None
        # [] is: no file that could change. True is: this CRL was compared with the ledger and lists everything.
        self.project.cache.remember(name, key, [], True)
        return newest.crl

    def _presigned_valid_now(self, root: str) -> list[PresignedCrl]:
        """Return the pre-signed CRLs that are valid now, lowest number first; thisUpdate rises with the number.

        If the file of a pre-signed CRL is damaged, the published CRL counts too, so that no older CRL replaces it.
        """
        presigned_crls = self.project.authorities.presigned_crls(root)
        if self.project.authorities.has_lost_crls(root):
            published_crl = self.published_crl(root)
            if published_crl is not None and published_crl.next_update_utc is not None:
                serials = frozenset(entry.serial_number for entry in published_crl)
                substitute = PresignedCrl(crl_number(published_crl), published_crl, serials)
                presigned_crls = sorted([*presigned_crls, substitute], key=lambda presigned: presigned.number)
        now = self.project.now
        return [presigned for presigned in presigned_crls if presigned.this_update <= now < presigned.next_update]

    def serials_not_presigned(self, root: str, presigned_crl: PresignedCrl) -> list[str]:
        """Return the serial numbers, in hexadecimal, that a pre-signed CRL lacks.

        A pre-signed CRL must list the revocations of the root that are in the ledger, and those on the published CRL.
        """
        recorded_entries = list[CrlEntry]()
        if self.project.ledger_view.has_ledger:
            recorded_entries = self.project.ledger.revoked_entries(root, expiring_after=presigned_crl.this_update)
        # in the order of the ledger, each serial number once
        serials = dict.fromkeys([*(entry.serial for entry in recorded_entries), *sorted(self.unrecorded_serials(root))])
        return [f"{serial:x}" for serial in serials if serial not in presigned_crl.serials]

    def stale_root_reasons(self, root: str) -> list[Reason]:
        """Return why the published root CRL is not the pre-signed CRL that is due."""
        ledger_view = self.project.ledger_view
        if self.project.authorities.generation(root) is None:
            return [Why.NOT_CREATED()]
        presigned_crl = self.due_presigned(root)
        if presigned_crl is None:
            return [self.no_presigned_reason(root)]
        published_der = filesystem.read(self.project.store.crl(root))
        if published_der != presigned_crl.public_bytes(serialization.Encoding.DER):
            return [Why.NOT_CREATED() if published_der is None else Why.OTHER_PRESIGNED()]
        if ledger_view.has_ledger and not ledger_view.was_unchanged_at_start:
            unrecorded_reasons = self._unrecorded_reasons(root, self.unrecorded_serials(root))
            if unrecorded_reasons:
                return unrecorded_reasons
        if filesystem.read(self.project.store.crl(root, "pem")) != encode_pem("X509 CRL", published_der):
            return [Why.CRL_NO_PEM()]
        return []

    def no_presigned_reason(self, root: str) -> Reason:
        """Return why no pre-signed CRL of a root can be published."""
        valid_now = self._presigned_valid_now(root)
        missing_serials = self.serials_not_presigned(root, valid_now[-1]) if valid_now else []
        if missing_serials:
            return Why.PRESIGNED_LACKS(number=valid_now[-1].number, serials=", ".join(missing_serials))
        return Why.NO_PRESIGNED()

    def issue(self, generation: str) -> Outcome:
        """Issue an intermediate's CRL, record it in the ledger and publish it.

        The number of the new CRL is higher than that of the last CRL, also if the clock was set back since.

        Raises PkiError when the authority is missing or not yet valid, or its key cannot be opened.
        """
        issuer = self.project.authorities.generation(generation)
        if issuer is None:
            raise self.project.authorities.missing_authority(GenerationName.parse(generation).authority)
        check_valid_yet(self.project.inventory, self.project.authorities, self.project.clock, issuer)
        issuer_with_key = self.project.signing_keys.crl_issuer(issuer)
        recovery_reasons = self._recover(generation)  # first: the new entries are counted in the ledger
        last_crl = self.project.ledger.last_crl(generation)
        # Numbers must rise (RFC 5280 §5.2.3). Seconds since 1970 are above those that a lost ledger had recorded, too.
        number = max(int(self.project.now.timestamp()), last_crl.number + 1 if last_crl else 0)
        new_entries, unchanged_entries = self._entries(generation)
        reasons = (
            *recovery_reasons,
            *self.stale_reasons(generation, missing_serials={entry.serial for entry in new_entries}),
        ) or (Why.REQUESTED(),)
        this_update = self._next_this_update(generation, last_crl)
        next_update = this_update + self.project.inventory.authorities.crl_rule(generation).lifetime
        crl = crl_signing.sign_crl(issuer_with_key, number, this_update, next_update, new_entries, unchanged_entries)
        der = crl.public_bytes(serialization.Encoding.DER)
        text = pem_encoding.encode_pem("X509 CRL", der)
        self.project.ledger.record_crl(
            crl, issuer=generation, reason=joined_past(reasons), at=self.project.now, der=der
        )
        _publish_crl(self.project.store, generation, der, text)
        return Outcome(Verb.ISSUED, reasons)

    def _next_this_update(self, generation: str, last_crl: RecordedCrl | None) -> datetime:
        """Return thisUpdate of the next CRL: a little in the past (`backdate`), for clients whose clock is behind.

        It is later than thisUpdate of the last CRL. There is one exception: where the last thisUpdate is in the future,
        because the clock was ahead, the new one is now. Servers refuse every client while a CRL is from the future.
        """
        now = self.project.now
        backdated_now = now - backdate(self.project.inventory.authorities.crl_rule(generation).refresh)
        if last_crl is None:
            return backdated_now
        return max(backdated_now, min(last_crl.this_update + timedelta(seconds=1), now))

    def _entries(self, generation: str) -> tuple[list[CrlEntry], list[x509.RevokedCertificate]]:
        """Return the entries of an intermediate's next CRL: new ones, and those of the present CRL that stay as they are.

        - An entry stays until one CRL listed it after its certificate had expired (RFC 5280 §3.3). Example: the certificate
          expires on 3 May, and CRLs are issued on 1, 8 and 15 May. The CRL of 8 May still lists it, that of 15 May does not.
        - A last CRL from the future does not count.
        - Entries of an adopted CA always stay, as with `openssl ca`.
        - A revocation that was recorded while the clock was ahead gets the present date, because some clients ignore
          entries from the future.
        """
        now, ledger = self.project.now, self.project.ledger
        last_crl = None
        if not self.project.inventory.authorities.is_adopted(generation):
            last_crl = ledger.last_crl(generation, this_update_until=now)
        last_this_update = last_crl.this_update if last_crl else EVER
        present_crl = self.published_crl(generation) or ()
        # an entry from the future is left out here: it gets a new date below
        present_entries = {entry.serial_number: entry for entry in present_crl if entry.revocation_date_utc <= now}
        revoked_serials = ledger.revoked_serials(expiring_after=last_this_update, issuer=generation)
        unlisted_serials = revoked_serials - present_entries.keys()
        new_entries = ledger.revoked_entries(generation, expiring_after=last_this_update, only=unlisted_serials)
        dated_entries = [entry._replace(revoked_at=min(entry.revoked_at, now)) for entry in new_entries]
        return dated_entries, [entry for serial, entry in present_entries.items() if serial in revoked_serials]

    def _recover(self, generation: str) -> list[Reason]:
        """Record the revocations that our published CRL lists and the ledger lacks, and return them as reasons.

        A revocation is never undone.
        """
        reasons = self._unrecorded_reasons(generation, self.unrecorded_serials(generation))
        if reasons:
            path = self.project.store.crl(generation)
            published_crl = x509.load_der_x509_crl(filesystem.read(path) or b"")
            recover_revocations.recover_from_crl(self.project, published_crl, self.project.store.shown(path))
            self.project.revocations.read_again()
        return reasons

    def issue_adopted(self, name: str) -> Outcome:
        """Issue the CRL of an adopted CA.

        Raises PkiError while its issuance records are not imported: a CRL without the old revocations would undo them.
        """
        if not self.project.ledger_view.has_ledger or not self.project.ledger.has_issuance_records(name):
            raise PkiError(f"the ledger contains no issuance records of {name}", import_remedy(name))
        return self.issue(name)

    def publish_root(self, root: str) -> Outcome:
        """Publish the pre-signed CRL of a root that is due now.

        Raises PkiError when there is none. Raises PkiError also when another CRL than the published one is due while the
        clock cannot be trusted, because the clock decides which one is due.
        """
        if self.project.ledger_view.has_ledger and not self.project.ledger_view.fault:
            self._recover(root)  # a root CRL is published even if nothing may be recorded
        presigned_crl = self.due_presigned(root)
        if presigned_crl is None:
            # a wrong clock is the likely reason that no CRL is valid now: the two checks raise PkiError for that
            self.project.clock.check()
            if ca := self.project.authorities.generation(root):
                check_valid_yet(self.project.inventory, self.project.authorities, self.project.clock, ca)
            from pki.ceremony.online.ceremony_archive import new_crls_remedy  # noqa: PLC0415 - slow to import, rarely needed

            raise PkiError(
                f"{self.no_presigned_reason(root)}; every client will be refused once the present one expires",
                f"{new_crls_remedy(self.project.store, root)}; if you restored ca/ from a backup, check its crl/ folder",
            )
        der = presigned_crl.public_bytes(serialization.Encoding.DER)
        if der != filesystem.read(self.project.store.crl(root)):
            self.project.clock.check()
        _publish_crl(self.project.store, root, der, pem_encoding.encode_pem("X509 CRL", der))
        return Outcome(Verb.PUBLISHED)


def import_remedy(name: str) -> str:
    """Return how the issuance records of an adopted CA come into the ledger."""
    return f"./run invoke ledger.import DIR --authority {name}, where DIR holds its index.txt or its certificates"


def _cached_dates(cache: Cache, generation: str, issuer: Generation | None) -> CrlDates | None:
    """Return the dates of the published CRL from the cache; None when its files changed or nothing was cached."""
    facts = cache.recall(ArtifactId("crl", generation), digest_of(issuer.fingerprint)) if issuer else None
    if facts is None:
        return None
    this_update, next_update, _ = facts  # the monitor reads the number
    return CrlDates(datetime.fromtimestamp(this_update, UTC), datetime.fromtimestamp(next_update, UTC))


def _revoked_certificates(number: int) -> str:
    return f"{number} revoked certificate{'s' if number > 1 else ''}"


def _new_revocations(number: int, of_canaries: int) -> str:
    text = f"{number} new revocation{'s' if number > 1 else ''}"
    if not of_canaries:
        return text
    return f"{text} ({'' if of_canaries == number else f'{of_canaries} of '}{CANARY}, on purpose)"


def _publish_crl(store: Store, generation: str, der: bytes, text: bytes) -> None:
    filesystem.write(store.crl(generation), der)
    filesystem.write(store.crl(generation, "pem"), text)
