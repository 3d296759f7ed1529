"""Why a CRL is out of date, and how it is issued or published.

A CRL is recorded in the ledger before it is in any file.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pki.authority import recover_revocations
from pki.authority.ca_state import check_begun
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.durations import backdate, in_common_unit
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined_past
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project.generations import Generation, PresignedCrl
from pki.project.project import Project
from pki.x509 import canonical, crl_signing, pem_encoding
from pki.x509.certificate_signing import ca_public_key
from pki.x509.pem_encoding import encode_pem
from pki.x509.revocation import CrlEntry, crl_number

NEVER = datetime.fromtimestamp(0, UTC)


def stale_reasons(project: Project, generation: str, *, missing: int | None = None) -> list[Reason]:
    """Return why an intermediate's CRL must be issued again.

    `missing` is the number of entries that it lacks, where the caller knows it already.
    """
    issuer = project.generation(generation)
    cached = _cached(project, generation, issuer)
    if cached is not None and project.is_ledger_unchanged():
        return _date_reasons(project, generation, *(datetime.fromtimestamp(at, UTC) for at in cached[:2]))
    der, text = (filesystem.read(project.store.crl(generation, form)) for form in ("crl", "pem"))
    if der is None or text is None:
        return [Why.NOT_CREATED()]
    crl = signed_crl(project, generation, der)
    if issuer is None or crl is None or crl.next_update_utc is None:
        return [Why.CRL_DAMAGED(generation=generation)]
    if cached is None and text != encode_pem("X509 CRL", der):
        return [Why.CRL_FORMS()]
    dates = crl.last_update_utc, crl.next_update_utc
    reasons = _date_reasons(project, generation, *dates) or _ledger_differences(project, generation, crl, missing)
    if not reasons:
        files = [str(project.store.crl(generation, form)) for form in ("crl", "pem")]
        number = crl_number(crl)
        finding = [*(int(at.timestamp()) for at in dates), number]
        project.cache.remember(ArtifactId("crl", generation), digest_of(issuer.fingerprint), files, finding)
    return reasons


def _cached(project: Project, generation: str, issuer: Generation | None) -> Any:
    """Return thisUpdate, nextUpdate and number of the present CRL from the cache; None when its files changed.

    Times are seconds since 1970.
    """
    return project.cache.recall(ArtifactId("crl", generation), digest_of(issuer.fingerprint)) if issuer else None


def stale_external_reasons(project: Project, name: str) -> list[Reason]:
    """Return why the CRL of an adopted CA must be issued again; empty once the CA itself has expired."""
    ca = project.generation(name)
    return [] if ca and ca.certificate.not_valid_after_utc < project.now else stale_reasons(project, name)


def signed_crl(
    project: Project, generation: str, der: bytes, *, again: bool = False
) -> x509.CertificateRevocationList | None:
    """Return the CRL `der` if the generation signed it, else None.

    The signature is verified once for the same bytes, because that takes 0.1 s for a large CRL. With `again` the
    results of earlier runs are not used.
    """
    issuer = project.generation(generation)
    if issuer is None:
        return None
    digest = hashlib.sha256(issuer.fingerprint.encode() + der).digest()
    if digest in project.verified or (not again and _cached(project, generation, issuer) is not None):
        return x509.load_der_x509_crl(der)
    crl = canonical.read_crl(der, serialization.Encoding.DER)
    if crl is None or not canonical.is_signed_by(crl, ca_public_key(issuer.certificate)):
        return None
    project.verified.add(digest)
    return crl


def _date_reasons(project: Project, generation: str, start: datetime, end: datetime) -> list[Reason]:
    """Return why a CRL from `start` to `end` must be issued again for its dates."""
    age, refresh = project.now - start, project.crl_rule(generation).refresh
    if end <= project.now:
        return [Why.EXPIRED(date=f"{end:%Y-%m-%d}")]
    if age < timedelta(0):
        return [Why.NOT_YET_VALID(time=f"{start:%Y-%m-%d %H:%M}")]
    if age < refresh or not project.can_sign(generation):
        return []  # without the key it stays in use until it expires
    (old, every), unit = in_common_unit(age, refresh)
    return [Why.CRL_AGE(age=f"{old} {unit}".rstrip(), every=every)]


def _ledger_differences(
    project: Project, generation: str, crl: x509.CertificateRevocationList, missing: int | None
) -> list[Reason]:
    """Return what the ledger records and a CRL lacks, or the reverse."""
    if not project.has_ledger:
        return []
    last = project.ledger.last_crl(generation)
    number = crl_number(crl)
    if last is not None and number < last[0]:
        return [Why.CRL_NUMBER(number=number, last=last[0])]
    if missing is not None:
        return [Why.CRL_LACKS(count=_new_revocations(missing))] if missing else []
    listed = {entry.serial_number for entry in crl}
    revoked = project.ledger.revoked_serials(project.now, issuer=generation)
    if missing := len(revoked - listed):
        return [Why.CRL_LACKS(count=_new_revocations(missing))]
    return unrecorded_reason(project, generation, listed - revoked)


def _revoked_certificates(number: int) -> str:
    return f"{number} revoked certificate{'s' if number > 1 else ''}"


def _new_revocations(number: int) -> str:
    return f"{number} new revocation{'s' if number > 1 else ''}"


def unrecorded_reason(project: Project, generation: str, serials: frozenset[int] | set[int]) -> list[Reason]:
    """Return one reason if the ledger does not record some of `serials`, which a CRL lists, as revoked; else none."""
    unrecorded = len(serials - project.ledger.revoked_serials(NEVER, issuer=generation)) if serials else 0
    return [Why.CRL_UNRECORDED(count=_revoked_certificates(unrecorded))] if unrecorded else []


def unrecorded(project: Project, generation: str) -> frozenset[int]:
    """Return the serial numbers that the published CRL of a generation lists and the ledger does not."""
    crl = signed_crl(project, generation, filesystem.read(project.store.crl(generation)) or b"")
    listed = frozenset(entry.serial_number for entry in crl) if crl is not None else frozenset[int]()
    if not listed or not project.has_ledger:
        return listed
    return listed - project.ledger.revoked_serials(NEVER, issuer=generation)


def due_presigned(project: Project, root: str) -> x509.CertificateRevocationList | None:
    """Return the newest pre-signed CRL of a root, if it is valid now and lists every recorded revocation; else None.

    An older pre-signed CRL is never taken: if it lacked a revocation it would undo it, because servers follow the
    newest thisUpdate and not the CRL number.
    """
    if not (valid_now := _presigned_valid_now(project, root)):
        return None
    newest = valid_now[-1]
    name, key = f"pre-signed CRL:{root}", digest_of(newest.crl.fingerprint(hashes.SHA256()))
    if project.ledger_is_settled and project.cache.recall(name, key):
        return newest.crl
    if missing_serials(project, root, newest):
        return None
    project.cache.remember(name, key, [], True)
    return newest.crl


def _presigned_valid_now(project: Project, root: str) -> list[PresignedCrl]:
    """Return the pre-signed CRLs that are valid now, lowest number first.

    Where the file of a pre-signed CRL is damaged, the published CRL counts too, so that no older one replaces it.
    """
    presigned_crls = project.presigned_crls(root)
    if len(presigned_crls) < len(project.store.presigned_crls(root)) and (
        der := filesystem.read(project.store.crl(root))
    ):
        published = signed_crl(project, root, der)
        if published is not None and published.next_update_utc:
            number = crl_number(published)
            in_place = PresignedCrl(number, published, frozenset(entry.serial_number for entry in published))
            presigned_crls = sorted([*presigned_crls, in_place], key=lambda presigned_crl: presigned_crl.number)
    return [
        presigned_crl
        for presigned_crl in presigned_crls
        if presigned_crl.crl.last_update_utc <= project.now < _next_update(presigned_crl.crl)
    ]


def missing_serials(project: Project, root: str, presigned_crl: PresignedCrl) -> list[str]:
    """Return the serial numbers, in hexadecimal, that a pre-signed CRL lacks.

    It must list what the ledger records as revoked under the root, and what the published CRL lists.
    """
    revoked = project.ledger.revoked_entries(root, presigned_crl.crl.last_update_utc) if project.has_ledger else []
    serials = dict.fromkeys([*(entry.serial for entry in revoked), *sorted(unrecorded(project, root))])
    return [f"{serial:x}" for serial in serials if serial not in presigned_crl.serials]


def _next_update(crl: x509.CertificateRevocationList) -> datetime:
    assert crl.next_update_utc is not None
    return crl.next_update_utc


def stale_root_reasons(project: Project, root: str) -> list[Reason]:
    """Return why the published root CRL is not the pre-signed CRL that is due."""
    if project.generation(root) is None:
        return [Why.NOT_CREATED()]
    presigned_crl = due_presigned(project, root)
    if presigned_crl is None:
        return [no_presigned_reason(project, root)]
    published = filesystem.read(project.store.crl(root))
    if published != presigned_crl.public_bytes(serialization.Encoding.DER):
        return [Why.NOT_CREATED() if published is None else Why.OTHER_PRESIGNED()]
    if project.has_ledger and not project.ledger_is_settled and (serials := unrecorded(project, root)):
        return unrecorded_reason(project, root, serials)
    return (
        []
        if filesystem.read(project.store.crl(root, "pem")) == encode_pem("X509 CRL", published)
        else [Why.CRL_NO_PEM()]
    )


def no_presigned_reason(project: Project, root: str) -> Reason:
    """Return why no pre-signed CRL of a root can be published."""
    valid_now = _presigned_valid_now(project, root)
    missing = missing_serials(project, root, valid_now[-1]) if valid_now else []
    if missing:
        return Why.PRESIGNED_LACKS(number=valid_now[-1].number, serials=", ".join(missing))
    return Why.NO_PRESIGNED()


def issue_crl(project: Project, generation: str) -> Outcome:
    """Issue an intermediate's CRL, record it in the ledger and publish it.

    Its number is higher than the last one's whatever the clock says (RFC 5280 §5.2.3), and so is its thisUpdate. Only
    if the last thisUpdate is in the future, because the clock was ahead, does it go back: servers refuse every client
    over a CRL from the future.

    Raises PkiError when the authority is missing or not yet valid, or its key cannot be opened.
    """
    issuing = project.generation(generation)
    if issuing is None:
        raise project.missing_authority(GenerationName.parse(generation).authority)
    check_begun(project, issuing)
    issuer = project.crl_issuer(issuing)
    recovered = _recover(project, generation)
    last = project.ledger.last_crl(generation)
    number = max(int(project.now.timestamp()), last[0] + 1 if last else 0)
    new, unchanged = _entries(project, generation)
    reasons = (*recovered, *stale_reasons(project, generation, missing=len(new))) or (Why.REQUESTED(),)
    this_update = max(
        project.now - backdate(project.crl_rule(generation).refresh),
        min(last[1] + timedelta(seconds=1), project.now) if last else NEVER,
    )
    end = this_update + project.crl_rule(generation).lifetime
    crl = crl_signing.sign_crl(issuer, number, this_update, end, new, unchanged)
    der = crl.public_bytes(serialization.Encoding.DER)
    text = pem_encoding.encode_pem("X509 CRL", der)
    project.ledger.record_crl(crl, issuer=generation, reason=joined_past(reasons), at=project.now, der=der)
    _publish_crl(project, generation, der, text)
    return Outcome(Verb.ISSUED, reasons)


def _entries(project: Project, generation: str) -> tuple[list[CrlEntry], list[x509.RevokedCertificate]]:
    """Return the entries of an intermediate's next CRL: new ones, and those of the present CRL that stay as they are.

    An entry stays until one CRL after its certificate expired (RFC 5280 §3.3); a CRL whose thisUpdate is in the future
    does not count as that one. An entry of an adopted CA stays for ever, as on the CRLs of `openssl ca`: only its
    imported records list it. A revocation that was recorded while the clock was ahead gets the present date: some
    clients ignore entries from the future.
    """
    last = None if project.is_adopted(generation) else project.ledger.last_crl(generation, begun=project.now)
    ended = last[1] if last else NEVER
    earlier = signed_crl(project, generation, filesystem.read(project.store.crl(generation)) or b"")
    listed = {entry.serial_number: entry for entry in earlier or () if entry.revocation_date_utc <= project.now}
    revoked = project.ledger.revoked_serials(ended, issuer=generation)
    new = project.ledger.revoked_entries(generation, ended, only=revoked - listed.keys())
    dated = [entry._replace(revoked_at=min(entry.revoked_at, project.now)) for entry in new]
    return dated, [entry for serial, entry in listed.items() if serial in revoked]


def _recover(project: Project, generation: str) -> list[Reason]:
    """Record the revocations that our published CRL lists and the ledger lacks, and return them as reasons.

    A revocation is never undone.
    """
    reasons = unrecorded_reason(project, generation, unrecorded(project, generation))
    if reasons:
        shown = project.store.shown(project.store.crl(generation))
        recover_revocations.recover_from_crl(
            project, x509.load_der_x509_crl(filesystem.read(project.store.crl(generation)) or b""), shown
        )
        project.forget_revocations()
    return reasons


def issue_external_crl(project: Project, name: str) -> Outcome:
    """Issue the CRL of an adopted CA.

    Raises PkiError while its issuance records are not imported: a CRL without the old revocations would undo them.
    """
    if not project.has_ledger or not project.ledger.has_issuance_records(name):
        raise PkiError(
            f"the ledger contains no issuance records of {name}",
            f"./run invoke ledger.import DIR --authority {name}, where DIR holds its index.txt or its certificates",
        )
    return issue_crl(project, name)


def publish_root_crl(project: Project, root: str) -> Outcome:
    """Publish the pre-signed CRL of a root that is due now.

    Raises PkiError when there is none, or when the CRL changes while the clock cannot be trusted: the clock decides
    which one is due.
    """
    if project.has_ledger and not project.ledger_fault:
        _recover(project, root)
    presigned_crl = due_presigned(project, root)
    if presigned_crl is None:
        project.clock.check()
        if ca := project.generation(root):
            check_begun(project, ca)
        from pki.ceremony.online.ceremony_archive import new_crls_remedy  # noqa: PLC0415 - slow to import, rarely needed

        raise PkiError(
            f"{no_presigned_reason(project, root)}; every client will be refused once the present one expires",
            f"{new_crls_remedy(project, root)}; if you restored ca/ from a backup, check its crl/ folder",
        )
    der = presigned_crl.public_bytes(serialization.Encoding.DER)
    if der != filesystem.read(project.store.crl(root)):
        project.clock.check()
    _publish_crl(project, root, der, pem_encoding.encode_pem("X509 CRL", der))
    return Outcome(Verb.PUBLISHED)


def _publish_crl(project: Project, generation: str, der: bytes, text: bytes) -> None:
    filesystem.write(project.store.crl(generation), der)
    filesystem.write(project.store.crl(generation, "pem"), text)
