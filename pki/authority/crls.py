"""Why a CRL is out of date, and how it is issued or published.

A CRL is recorded in the ledger before it is in any file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pki.authority import recover_revocations
from pki.authority.ca_state import check_begun
from pki.common import filesystem
from pki.common.cache import Cache, digest_of
from pki.common.durations import backdate, in_common_unit
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined_past
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project.generations import Generation, PresignedCrl
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical, crl_signing, pem_encoding
from pki.x509.certificate_signing import ca_public_key
from pki.x509.pem_encoding import encode_pem
from pki.x509.revocation import CrlEntry, crl_number

EPOCH = datetime.fromtimestamp(0, UTC)  # before every certificate's end: revoked_serials(EPOCH) includes expired ones


@dataclass(frozen=True, slots=True)
class Crls:
    """The CRLs of a project: why each is out of date, and how it is issued or published."""

    project: Project

    def stale_reasons(self, generation: str, *, missing: int | None = None) -> list[Reason]:
        """Return why an intermediate's CRL must be issued again.

        `missing`: how many revocations the published CRL lacks, if the caller has counted them. Then the reverse (listed
        but not in the ledger) is not examined: `issue` has just recovered those.
        """
        issuer = self.project.authorities.generation(generation)
        cached = _cached(self.project.cache, generation, issuer)
        if cached is not None and self.project.ledger_view.is_unchanged_now():
            return self._date_reasons(generation, *(datetime.fromtimestamp(at, UTC) for at in cached[:2]))
        der, text = (filesystem.read(self.project.store.crl(generation, form)) for form in ("crl", "pem"))
        if der is None or text is None:
            return [Why.NOT_CREATED()]
        crl = self.signed(generation, der)
        if issuer is None or crl is None or crl.next_update_utc is None:
            return [Why.CRL_DAMAGED(generation=generation)]
        if cached is None and text != encode_pem("X509 CRL", der):
            return [Why.CRL_FORMS()]
        dates = crl.last_update_utc, crl.next_update_utc
        reasons = self._date_reasons(generation, *dates) or self._ledger_differences(generation, crl, missing)
        if not reasons:
            files = [str(self.project.store.crl(generation, form)) for form in ("crl", "pem")]
            facts = [*(int(at.timestamp()) for at in dates), crl_number(crl)]
            self.project.cache.remember(ArtifactId("crl", generation), digest_of(issuer.fingerprint), files, facts)
        return reasons

    def _date_reasons(self, generation: str, start: datetime, end: datetime) -> list[Reason]:
        """Return why a CRL from `start` (thisUpdate) to `end` (nextUpdate) must be issued again for its dates."""
        age = self.project.now - start
        refresh = self.project.inventory.authorities.crl_rule(generation).refresh
        if end <= self.project.now:
            return [Why.EXPIRED(date=f"{end:%Y-%m-%d}")]
        if age < timedelta(0):
            return [Why.NOT_YET_VALID(time=f"{start:%Y-%m-%d %H:%M}")]
        if age < refresh or not self.project.signing_keys.can_sign(generation):
            return []  # without the key it stays in use until it expires
        (old, every), unit = in_common_unit(age, refresh)
        return [Why.CRL_AGE(age=f"{old} {unit}".rstrip(), every=every)]

    def _ledger_differences(
        self, generation: str, crl: x509.CertificateRevocationList, missing: int | None
    ) -> list[Reason]:
        """Return what the ledger records and a CRL lacks, or the reverse; `missing` as for `stale_reasons`."""
        if not self.project.ledger_view.has_ledger:
            return []
        last = self.project.ledger.last_crl(generation)
        number = crl_number(crl)
        if last is not None and number < last[0]:
            return [Why.CRL_NUMBER(number=number, last=last[0])]
        if missing is not None:
            return [Why.CRL_LACKS(count=_new_revocations(missing))] if missing else []
        listed = {entry.serial_number for entry in crl}
        revoked = self.project.ledger.revoked_serials(self.project.now, issuer=generation)
        if lacking := len(revoked - listed):
            return [Why.CRL_LACKS(count=_new_revocations(lacking))]
        return self._unrecorded_reasons(generation, listed - revoked)

    def _unrecorded_reasons(self, generation: str, serials: frozenset[int] | set[int]) -> list[Reason]:
        """Return one reason if the ledger does not record some of `serials`, which a CRL lists, as revoked; else none."""
        unrecorded = len(serials - self.project.ledger.revoked_serials(EPOCH, issuer=generation)) if serials else 0
        return [Why.CRL_UNRECORDED(count=_revoked_certificates(unrecorded))] if unrecorded else []

    def stale_external_reasons(self, name: str) -> list[Reason]:
        """Return why the CRL of an adopted CA must be issued again; empty once the CA itself has expired."""
        ca = self.project.authorities.generation(name)
        return [] if ca and ca.not_after < self.project.now else self.stale_reasons(name)

    def published(self, generation: str, *, again: bool = False) -> x509.CertificateRevocationList | None:
        """Return the published CRL of a generation, if there is one that the generation signed; `again` as for `signed`."""
        der = filesystem.read(self.project.store.crl(generation))
        return self.signed(generation, der, again=again) if der else None

    def signed(self, generation: str, der: bytes, *, again: bool = False) -> x509.CertificateRevocationList | None:
        """Return the CRL `der`, the content of the published file of a generation, if that generation signed it.

        The signature is verified once for the same bytes, because that takes 0.1 s for a large CRL. With `again` the
        results of earlier runs are not used.
        """
        issuer, run = self.project.authorities.generation(generation), self.project.run
        if issuer is None:
            return None
        digest = hashlib.sha256(issuer.fingerprint.encode() + der).digest()
        is_cached = not again and _cached(self.project.cache, generation, issuer) is not None
        if digest in run.verified or is_cached:
            return x509.load_der_x509_crl(der)
        crl = canonical.read_crl(der, serialization.Encoding.DER)
        if crl is None or not canonical.is_signed_by(crl, ca_public_key(issuer.certificate)):
            return None
        run.mark_verified(digest)
        return crl

    def unrecorded(self, generation: str) -> frozenset[int]:
        """Return the serial numbers that the published CRL of a generation lists and the ledger does not."""
        crl = self.published(generation)
        listed = frozenset(entry.serial_number for entry in crl) if crl is not None else frozenset[int]()
        if not listed or not self.project.ledger_view.has_ledger:
            return listed
        return listed - self.project.ledger.revoked_serials(EPOCH, issuer=generation)

    def due_presigned(self, root: str) -> x509.CertificateRevocationList | None:
        """Return the newest pre-signed CRL of a root, if it is valid now and lists every recorded revocation; else None.

        An older pre-signed CRL is never taken: if it lacked a revocation it would undo it, because servers follow the
        newest thisUpdate and not the CRL number.
        """
        if not (valid_now := self._presigned_valid_now(root)):
            return None
        newest = valid_now[-1]
        name, key = f"pre-signed CRL:{root}", digest_of(newest.crl.fingerprint(hashes.SHA256()))
        if self.project.ledger_view.is_settled and self.project.cache.recall(name, key):
            return newest.crl
        if self.missing_serials(root, newest):
            return None
        self.project.cache.remember(name, key, [], True)
        return newest.crl

    def _presigned_valid_now(self, root: str) -> list[PresignedCrl]:
        """Return the pre-signed CRLs that are valid now, lowest number first; thisUpdate rises with the number.

        Where the file of a pre-signed CRL is damaged, the published CRL counts too, so that no older one replaces it.
        """
        presigned_crls = self.project.authorities.presigned_crls(root)
        if len(presigned_crls) < len(self.project.store.presigned_crls(root)):
            published = self.published(root)
            if published is not None and published.next_update_utc:
                number = crl_number(published)
                in_place = PresignedCrl(number, published, frozenset(entry.serial_number for entry in published))
                presigned_crls = sorted([*presigned_crls, in_place], key=lambda presigned_crl: presigned_crl.number)
        return [
            presigned_crl
            for presigned_crl in presigned_crls
            if presigned_crl.crl.last_update_utc <= self.project.now < _next_update(presigned_crl.crl)
        ]

    def missing_serials(self, root: str, presigned_crl: PresignedCrl) -> list[str]:
        """Return the serial numbers, in hexadecimal, that a pre-signed CRL lacks.

        It must list what the ledger records as revoked under the root, and what the published CRL lists.
        """
        revoked = (
            self.project.ledger.revoked_entries(root, presigned_crl.crl.last_update_utc)
            if self.project.ledger_view.has_ledger
            else []
        )
        serials = dict.fromkeys([*(entry.serial for entry in revoked), *sorted(self.unrecorded(root))])
        return [f"{serial:x}" for serial in serials if serial not in presigned_crl.serials]

    def stale_root_reasons(self, root: str) -> list[Reason]:
        """Return why the published root CRL is not the pre-signed CRL that is due."""
        if self.project.authorities.generation(root) is None:
            return [Why.NOT_CREATED()]
        presigned_crl = self.due_presigned(root)
        if presigned_crl is None:
            return [self.no_presigned_reason(root)]
        published = filesystem.read(self.project.store.crl(root))
        if published != presigned_crl.public_bytes(serialization.Encoding.DER):
            return [Why.NOT_CREATED() if published is None else Why.OTHER_PRESIGNED()]
        if (
            self.project.ledger_view.has_ledger
            and not self.project.ledger_view.is_settled
            and (serials := self.unrecorded(root))
        ):
            return self._unrecorded_reasons(root, serials)
        return (
            []
            if filesystem.read(self.project.store.crl(root, "pem")) == encode_pem("X509 CRL", published)
            else [Why.CRL_NO_PEM()]
        )

    def no_presigned_reason(self, root: str) -> Reason:
        """Return why no pre-signed CRL of a root can be published."""
        valid_now = self._presigned_valid_now(root)
        missing = self.missing_serials(root, valid_now[-1]) if valid_now else []
        if missing:
            return Why.PRESIGNED_LACKS(number=valid_now[-1].number, serials=", ".join(missing))
        return Why.NO_PRESIGNED()

    def issue(self, generation: str) -> Outcome:
        """Issue an intermediate's CRL, record it in the ledger and publish it.

        Its number is higher than the last one's whatever the clock says (RFC 5280 §5.2.3), and so is its thisUpdate. Only
        if the last thisUpdate is in the future, because the clock was ahead, does it go back: servers refuse every client
        over a CRL from the future. It is dated back a little (`backdate`), for clients whose clock is behind.

        Raises PkiError when the authority is missing or not yet valid, or its key cannot be opened.
        """
        issuing = self.project.authorities.generation(generation)
        if issuing is None:
            raise self.project.authorities.missing_authority(GenerationName.parse(generation).authority)
        check_begun(self.project.inventory, self.project.authorities, self.project.clock, issuing)
        issuer = self.project.signing_keys.crl_issuer(issuing)
        recovered = self._recover(generation)
        last = self.project.ledger.last_crl(generation)
        number = max(int(self.project.now.timestamp()), last[0] + 1 if last else 0)
        new, unchanged = self._entries(generation)
        reasons = (*recovered, *self.stale_reasons(generation, missing=len(new))) or (Why.REQUESTED(),)
        this_update = max(
            self.project.now - backdate(self.project.inventory.authorities.crl_rule(generation).refresh),
            min(last[1] + timedelta(seconds=1), self.project.now) if last else EPOCH,
        )
        end = this_update + self.project.inventory.authorities.crl_rule(generation).lifetime
        crl = crl_signing.sign_crl(issuer, number, this_update, end, new, unchanged)
        der = crl.public_bytes(serialization.Encoding.DER)
        text = pem_encoding.encode_pem("X509 CRL", der)
        self.project.ledger.record_crl(
            crl, issuer=generation, reason=joined_past(reasons), at=self.project.now, der=der
        )
        _publish_crl(self.project.store, generation, der, text)
        return Outcome(Verb.ISSUED, reasons)

    def _entries(self, generation: str) -> tuple[list[CrlEntry], list[x509.RevokedCertificate]]:
        """Return the entries of an intermediate's next CRL: new ones, and those of the present CRL that stay as they are.

        An entry stays until one CRL was issued after its certificate expired (RFC 5280 §3.3). A CRL dated in the future is
        not counted as that CRL. Entries of an adopted CA never leave, as with `openssl ca`. A revocation that was recorded while the clock was ahead gets the present date: some
        clients ignore entries from the future.
        """
        last = (
            None
            if self.project.inventory.authorities.is_adopted(generation)
            else self.project.ledger.last_crl(generation, begun=self.project.now)
        )
        previous_start = last[1] if last else EPOCH
        present = self.published(generation) or ()
        listed = {entry.serial_number: entry for entry in present if entry.revocation_date_utc <= self.project.now}
        revoked = self.project.ledger.revoked_serials(previous_start, issuer=generation)
        new = self.project.ledger.revoked_entries(generation, previous_start, only=revoked - listed.keys())
        dated = [entry._replace(revoked_at=min(entry.revoked_at, self.project.now)) for entry in new]
        return dated, [entry for serial, entry in listed.items() if serial in revoked]

    def _recover(self, generation: str) -> list[Reason]:
        """Record the revocations that our published CRL lists and the ledger lacks, and return them as reasons.

        A revocation is never undone.
        """
        reasons = self._unrecorded_reasons(generation, self.unrecorded(generation))
        if reasons:
            shown = self.project.store.shown(self.project.store.crl(generation))
            recover_revocations.recover_from_crl(
                self.project, x509.load_der_x509_crl(filesystem.read(self.project.store.crl(generation)) or b""), shown
            )
            self.project.revocations.forget()
        return reasons

    def issue_external(self, name: str) -> Outcome:
        """Issue the CRL of an adopted CA.

        Raises PkiError while its issuance records are not imported: a CRL without the old revocations would undo them.
        """
        if not self.project.ledger_view.has_ledger or not self.project.ledger.has_issuance_records(name):
            raise PkiError(
                f"the ledger contains no issuance records of {name}",
                f"./run invoke ledger.import DIR --authority {name}, where DIR holds its index.txt or its certificates",
            )
        return self.issue(name)

    def publish_root(self, root: str) -> Outcome:
        """Publish the pre-signed CRL of a root that is due now.

        Raises PkiError when there is none, or when the CRL changes while the clock cannot be trusted: the clock decides
        which one is due.
        """
        if self.project.ledger_view.has_ledger and not self.project.ledger_view.fault:
            self._recover(root)
        presigned_crl = self.due_presigned(root)
        if presigned_crl is None:
            self.project.clock.check()
            if ca := self.project.authorities.generation(root):
                check_begun(self.project.inventory, self.project.authorities, self.project.clock, ca)
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


def _cached(cache: Cache, generation: str, issuer: Generation | None) -> Any:
    """Return thisUpdate, nextUpdate and number of the present CRL from the cache; None when its files changed.

    Times are seconds since 1970.
    """
    return cache.recall(ArtifactId("crl", generation), digest_of(issuer.fingerprint)) if issuer else None


def _revoked_certificates(number: int) -> str:
    return f"{number} revoked certificate{'s' if number > 1 else ''}"


def _new_revocations(number: int) -> str:
    return f"{number} new revocation{'s' if number > 1 else ''}"


def _next_update(crl: x509.CertificateRevocationList) -> datetime:
    assert crl.next_update_utc is not None
    return crl.next_update_utc


def _publish_crl(store: Store, generation: str, der: bytes, text: bytes) -> None:
    filesystem.write(store.crl(generation), der)
    filesystem.write(store.crl(generation, "pem"), text)
