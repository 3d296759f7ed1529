"""CRLs: why one must be issued or published, and how it is done. The ledger knows a CRL before any file shows it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from pki.authority import recover_revocations
from pki.authority.ca_state import insist_on_begun
from pki.common import filesystem
from pki.common.cache import token
from pki.common.durations import backdate, compared
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined_past
from pki.config.identifiers import ArtifactId, GenerationName
from pki.project.generations import Generation, PresignedCrl
from pki.project.project import Project
from pki.x509 import canonical, crl_signing, pem_encoding
from pki.x509.certificate_signing import ca_public_key
from pki.x509.pem_encoding import encode_pem
from pki.x509.revocation import CrlEntry

NEVER = datetime.fromtimestamp(0, UTC)


def stale_reasons(project: Project, generation: str, *, missing: int | None = None) -> list[Reason]:
    """Why an intermediate's CRL must be made again; `missing` is how many entries it lacks, where that is known."""
    issuer = project.generation(generation)
    kept = _remembered(project, generation, issuer)
    if kept is not None and project.is_ledger_as_it_was():
        return _crl_dated(project, generation, *(datetime.fromtimestamp(at, UTC) for at in kept[:2]))
    der, text = (filesystem.read(project.store.crl(generation, form)) for form in ("crl", "pem"))
    if der is None or text is None:
        return [Why.NOT_CREATED()]
    found = signed_crl(project, generation, der)
    if issuer is None or found is None or found.next_update_utc is None:
        return [Why.CRL_DAMAGED(generation=generation)]
    if kept is None and text != encode_pem("X509 CRL", der):
        return [Why.CRL_FORMS()]
    dates = found.last_update_utc, found.next_update_utc
    reasons = _crl_dated(project, generation, *dates) or _behind_ledger(project, generation, found, missing)
    if not reasons:
        files = [str(project.store.crl(generation, form)) for form in ("crl", "pem")]
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        finding = [*(int(at.timestamp()) for at in dates), number]
        project.cache.remember(ArtifactId("crl", generation), token(issuer.fingerprint), files, finding)
    return reasons


def _remembered(project: Project, generation: str, issuer: Generation | None) -> Any:
    """thisUpdate, nextUpdate and number of the CRL in place, if its files were found sound before; None otherwise."""
    return project.cache.recall(ArtifactId("crl", generation), token(issuer.fingerprint)) if issuer else None


def stale_external_reasons(project: Project, name: str) -> list[Reason]:
    """Why the CRL of an adopted CA must be made again: never, once the CA itself has ended."""
    found = project.generation(name)
    return [] if found and found.certificate.not_valid_after_utc < project.now else stale_reasons(project, name)


def signed_crl(
    project: Project, generation: str, der: bytes, *, again: bool = False
) -> x509.CertificateRevocationList | None:
    """The CRL in place, `der`, if its generation signed it: asked once while it lies there, for it takes 0.1 s for a large one.

    With `again` what earlier runs found is not believed.
    """
    issuer = project.generation(generation)
    if issuer is None:
        return None
    seen = hashlib.sha256(issuer.fingerprint.encode() + der).digest()
    if seen in project.verified or (not again and _remembered(project, generation, issuer) is not None):
        return x509.load_der_x509_crl(der)
    found = canonical.read_crl(der, serialization.Encoding.DER)
    if found is None or not canonical.is_signed_by(found, ca_public_key(issuer.certificate)):
        return None
    project.verified.add(seen)
    return found


def _crl_dated(project: Project, generation: str, start: datetime, end: datetime) -> list[Reason]:
    age, refresh = project.now - start, project.crl_rule(generation).refresh
    if end <= project.now:
        return [Why.EXPIRED(date=f"{end:%Y-%m-%d}")]
    if age < timedelta(0):
        return [Why.NOT_YET_VALID(time=f"{start:%Y-%m-%d %H:%M}")]
    if age < refresh or not project.can_sign(generation):
        return []  # one that cannot be made again is good until it ends
    (old, every), unit = compared(age, refresh)
    return [Why.CRL_AGE(age=f"{old} {unit}".rstrip(), every=every)]


def _behind_ledger(
    project: Project, generation: str, found: x509.CertificateRevocationList, missing: int | None
) -> list[Reason]:
    if not project.has_ledger:
        return []
    last = project.ledger.last_crl(generation)
    number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    if last is not None and number < last[0]:
        return [Why.CRL_NUMBER(number=number, last=last[0])]
    if missing is not None:
        return [Why.CRL_LACKS(count=_new(missing))] if missing else []
    listed = {entry.serial_number for entry in found}
    revoked = project.ledger.revoked_serials(project.now, issuer=generation)
    if missing := len(revoked - listed):
        return [Why.CRL_LACKS(count=_new(missing))]
    return unrecorded_reason(project, generation, listed - revoked)


def _counted(number: int) -> str:
    return f"{number} revoked certificate{'s' if number > 1 else ''}"


def _new(number: int) -> str:
    return f"{number} new revocation{'s' if number > 1 else ''}"


def unrecorded_reason(project: Project, generation: str, serials: frozenset[int] | set[int]) -> list[Reason]:
    """That some of these entries of a CRL of ours are in no revocation of the ledger."""
    unrecorded = len(serials - project.ledger.revoked_serials(NEVER, issuer=generation)) if serials else 0
    return [Why.CRL_UNRECORDED(count=_counted(unrecorded))] if unrecorded else []


def unrecorded(project: Project, generation: str) -> frozenset[int]:
    """Return the serial numbers that the CRL of a generation in `build/` lists, by its signature, and the ledger lacks."""
    found = signed_crl(project, generation, filesystem.read(project.store.crl(generation)) or b"")
    listed = frozenset(entry.serial_number for entry in found) if found is not None else frozenset[int]()
    if not listed or not project.has_ledger:
        return listed
    return listed - project.ledger.revoked_serials(NEVER, issuer=generation)


def due_presigned(project: Project, root: str) -> x509.CertificateRevocationList | None:
    """The newest pre-signed CRL of a root that has begun and not ended, and lists all that the ledger says is revoked.

    An older pre-signed CRL that lacks a revocation would take it back: servers believe the newest thisUpdate, not the number.
    """
    if not (begun := _begun(project, root)):
        return None
    newest = begun[-1]
    name, known = f"pre-signed CRL:{root}", token(newest.crl.fingerprint(hashes.SHA256()))
    if project.ledger_is_settled and project.cache.recall(
        name, known
    ):  # of the pre-signed CRL that was looked at last, and no other
        return newest.crl
    if lacking(project, root, newest):
        return None
    project.cache.remember(name, known, [], True)
    return newest.crl


def _begun(project: Project, root: str) -> list[PresignedCrl]:
    """Pre-signed CRLs that have begun and not ended, lowest number first.

    Where the file of a pre-signed CRL is damaged, the CRL that is published counts too: an older one must never take its place.
    """
    presigned_crls = project.presigned_crls(root)
    if len(presigned_crls) < len(project.store.presigned_crls(root)) and (
        der := filesystem.read(project.store.crl(root))
    ):
        published = signed_crl(project, root, der)
        if published is not None and published.next_update_utc:
            number = published.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            shown = PresignedCrl(number, published, frozenset(one.serial_number for one in published))
            presigned_crls = sorted([*presigned_crls, shown], key=lambda presigned_crl: presigned_crl.number)
    return [
        presigned_crl
        for presigned_crl in presigned_crls
        if presigned_crl.crl.last_update_utc <= project.now < _end(presigned_crl.crl)
    ]


def lacking(project: Project, root: str, presigned_crl: PresignedCrl) -> list[str]:
    """Certificates that a pre-signed CRL does not list, and the ledger or the published CRL does, by serial number in hexadecimal."""
    revoked = project.ledger.revoked(root, presigned_crl.crl.last_update_utc) if project.has_ledger else []
    serials = dict.fromkeys([*(entry.serial for entry in revoked), *sorted(unrecorded(project, root))])
    return [f"{serial:x}" for serial in serials if serial not in presigned_crl.serials]


def _end(crl: x509.CertificateRevocationList) -> datetime:
    assert crl.next_update_utc is not None
    return crl.next_update_utc


def stale_root_reasons(project: Project, root: str) -> list[Reason]:
    """Why the published root CRL is not the pre-signed CRL that is due."""
    if project.generation(root) is None:
        return [Why.NOT_CREATED()]
    presigned_crl = due_presigned(project, root)
    if presigned_crl is None:
        return [no_presigned(project, root)]
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


def no_presigned(project: Project, root: str) -> Reason:
    """Why no pre-signed CRL can be published."""
    begun = _begun(project, root)
    missing = lacking(project, root, begun[-1]) if begun else []
    if missing:
        return Why.PRESIGNED_LACKS(number=begun[-1].number, serials=", ".join(missing))
    return Why.NO_PRESIGNED()


def issue_crl(project: Project, generation: str) -> Outcome:
    """Make an intermediate's CRL: its number is above the last one's whatever the clock says, its thisUpdate too.

    Only after a clock that was ahead thisUpdate goes back: servers refuse everybody over a CRL from the future.
    """
    found = project.generation(generation)
    if found is None:
        raise project.missing_authority(GenerationName.parse(generation).authority)
    insist_on_begun(project, found)
    issuer = project.crl_issuer(found)
    recovered = _recover(project, generation)
    last = project.ledger.last_crl(generation)
    number = max(int(project.now.timestamp()), last[0] + 1 if last else 0)
    new, kept = _entries(project, generation)
    reasons = (*recovered, *stale_reasons(project, generation, missing=len(new))) or (Why.REQUESTED(),)
    this_update = max(
        project.now - backdate(project.crl_rule(generation).refresh),
        min(last[1] + timedelta(seconds=1), project.now) if last else NEVER,
    )
    end = this_update + project.crl_rule(generation).lifetime
    made = crl_signing.sign_crl(issuer, number, this_update, end, new, kept)
    der = made.public_bytes(serialization.Encoding.DER)
    text = pem_encoding.encode_pem("X509 CRL", der)
    project.ledger.record_crl(made, issuer=generation, reason=joined_past(reasons), at=project.now, der=der)
    _publish_crl(project, generation, der, text)
    return Outcome(Verb.ISSUED, reasons)


def _entries(project: Project, generation: str) -> tuple[list[CrlEntry], list[x509.RevokedCertificate]]:
    """Return what an intermediate's next CRL lists: new entries, and those of the CRL in place that stay as they are.

    An entry stays until one CRL after its certificate ended (RFC 5280 §3.3): a CRL from the future ends none. What an
    adopted CA revoked stays for ever, as on the CRLs of `openssl ca`: only its imported records list it. A revocation
    that was recorded under a clock that was ahead is dated now: some clients believe no entry from the future.
    """
    last = None if project.is_adopted(generation) else project.ledger.last_crl(generation, begun=project.now)
    ended = last[1] if last else NEVER
    earlier = signed_crl(project, generation, filesystem.read(project.store.crl(generation)) or b"")
    there = {one.serial_number: one for one in earlier or () if one.revocation_date_utc <= project.now}
    wanted = project.ledger.revoked_serials(ended, issuer=generation)
    new = project.ledger.revoked(generation, ended, only=wanted - there.keys())
    dated = [entry._replace(revoked_at=min(entry.revoked_at, project.now)) for entry in new]
    return dated, [one for serial, one in there.items() if serial in wanted]


def _recover(project: Project, generation: str) -> list[Reason]:
    """Record what our own CRL in `build/` lists and the ledger lacks: a revocation never goes back. Returns why."""
    reasons = unrecorded_reason(project, generation, unrecorded(project, generation))
    if reasons:
        shown = project.store.shown(project.store.crl(generation))
        recover_revocations.take_in(
            project, x509.load_der_x509_crl(filesystem.read(project.store.crl(generation)) or b""), shown
        )
        project.look_again_at_revocations()
    return reasons


def issue_external_crl(project: Project, name: str) -> Outcome:
    """Make the CRL of an adopted CA. One without the old revocations would take them back: the books come first."""
    if not project.has_ledger or not project.ledger.has_issuance_records(name):
        raise PkiError(
            f"what {name} issued and revoked is not in the ledger",
            f"./run invoke ledger.import DIR --authority {name}, where DIR holds its index.txt or its certificates",
        )
    return issue_crl(project, name)


def publish_root_crl(project: Project, root: str) -> Outcome:
    """Publish the pre-signed CRL of the root that is due: which one it is follows from the clock, as with a signature."""
    if project.has_ledger and not project.ledger_fault:
        _recover(project, root)
    presigned_crl = due_presigned(project, root)
    if presigned_crl is None:
        project.clock.insist()
        if found := project.generation(root):
            insist_on_begun(project, found)
        from pki.ceremony.online.ceremony_archive import new_crls  # noqa: PLC0415 - which a run with nothing to tell needs not

        raise PkiError(
            f"{no_presigned(project, root)}; every client will be refused once the present one ends",
            f"{new_crls(project, root)}; if you restored ca/ from a backup, look into its crl/ folder",
        )
    der = presigned_crl.public_bytes(serialization.Encoding.DER)
    if der != filesystem.read(project.store.crl(root)):
        project.clock.insist()
    _publish_crl(project, root, der, pem_encoding.encode_pem("X509 CRL", der))
    return Outcome(Verb.PUBLISHED)


def _publish_crl(project: Project, generation: str, der: bytes, text: bytes) -> None:
    filesystem.write(project.store.crl(generation), der)
    filesystem.write(project.store.crl(generation, "pem"), text)
