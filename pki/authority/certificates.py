"""Leaf certificates: why one must be issued again, and how it is issued.

The ledger knows a certificate before any file shows it, and the PEM bundle is written before the files that are split
from it, so that a run that is killed anywhere leaves nothing that the next one would believe wrongly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from pki.authority.ca_state import insist_on_begun
from pki.authority.leaf_bundle import Bundle, is_pair, parse_bundle
from pki.authority.renewal import Current, dated_reasons, gains_time
from pki.common import filesystem
from pki.common.cache import token
from pki.common.durations import in_words
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined, joined_past
from pki.common.remedies import here
from pki.config.identifiers import ArtifactId
from pki.config.model import Leaf
from pki.project.generations import Generation
from pki.project.project import Project
from pki.x509 import canonical, certificate_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import subject_name
from pki.x509.device_requests import read_device_key, read_unverified_key
from pki.x509.keys import key_kind, public_der
from pki.x509.weak_keys import find_weakness

DAY = timedelta(days=1)


def stale_reasons(project: Project, wanted: Leaf) -> list[Reason]:
    """Why a leaf must be issued again, or its files cut again from its PEM bundle."""
    name = wanted.artifact
    if name in project.withheld:
        return stopped_damage(project, wanted) or _split_faults(project, wanted)
    issuer = project.issuing(wanted.authority)
    known = _leaf_token(project, wanted, issuer)
    held = _recalled(project, name, known)
    if held is not None:
        return _revocation(project, wanted, held.serial, seen_before=True) or dated_reasons(
            project, wanted, held, issuer
        )
    found = examine(project, wanted)
    if isinstance(found, list):
        return found
    damaged = _split_faults(project, wanted)
    if not damaged:
        dates = int(found.not_before.timestamp()), int(found.not_after.timestamp())
        project.cache.remember(name, known, file_names(project, wanted), [*dates, f"{found.serial:x}"])
    return dated_reasons(project, wanted, found, issuer) or damaged


def damage(project: Project, wanted: Leaf) -> list[Reason]:
    """Why the files of a leaf cannot be delivered, whatever was found of them before; none when they are sound."""
    if wanted.artifact in project.withheld:
        return stopped_damage(project, wanted) or _split_faults(project, wanted)
    found = examine(project, wanted)
    return found if isinstance(found, list) else _split_faults(project, wanted)


def damaged_files(project: Project, wanted: Leaf) -> list[Reason]:
    """The files of a leaf that are not as they were written, whatever pki.yaml wants now; none where there is no leaf."""
    data = filesystem.read(project.store.bundle(wanted))
    if data is None:
        return []
    return _bundle_damage(project, wanted, data) or _split_faults(project, wanted)


def stopped_damage(project: Project, wanted: Leaf) -> list[Reason]:
    """Why the PEM bundle of a revoked leaf, which nothing replaces, can be delivered no more: it is gone, or damaged."""
    data = filesystem.read(project.store.bundle(wanted))
    if data is None:
        return replacement_stopped(project, wanted.artifact)
    return _bundle_damage(project, wanted, data)


def _bundle_damage(project: Project, wanted: Leaf, data: bytes) -> list[Reason]:
    """Why a leaf's PEM bundle is not as it was written: its key, its signature and its chain, whatever pki.yaml wants now."""
    bundle = parse_bundle(data, set())
    if bundle is not None and (bundle.key is None or is_pair(bundle)):
        crosses = [
            filesystem.read(path)
            for root in project.store.generations("root")
            for path in project.store.cross_certificates(root)
        ]
        for name in project.store.generations(wanted.authority):
            issuer = project.generation(name)
            if (
                issuer
                and bundle.chain.startswith(issuer.pem)
                and canonical.is_issued_by(bundle.certificate, issuer.certificate)
            ):
                others = bundle.chain.removeprefix(issuer.pem).split(canonical.BEGIN)[1:]
                if all(canonical.BEGIN + one in crosses for one in others):
                    return []
    return [Why.DAMAGED(file=project.store.bundle(wanted).name)]


def replacement_stopped(project: Project, name: str) -> list[Reason]:
    """Since when nothing replaces a revoked leaf; empty when that is not so."""
    since = project.withheld.get(name)
    return [Why.REPLACEMENT_STOPPED(date=f"{since:%Y-%m-%d}")] if since else []


def _recalled(project: Project, name: str, known: str) -> Current | None:
    kept = project.cache.recall(name, known)
    if kept is None:
        return None
    return Current(datetime.fromtimestamp(kept[0], UTC), datetime.fromtimestamp(kept[1], UTC), int(kept[2], 16))


def is_known(project: Project, wanted: Leaf) -> bool:
    """Whether an earlier look found that a leaf has what pki.yaml wants, dates and revocation aside."""
    known = _leaf_token(project, wanted, project.issuing(wanted.authority))
    return _recalled(project, wanted.artifact, known) is not None


def current(project: Project, wanted: Leaf) -> Current | None:
    """What a leaf has that is as pki.yaml wants it, dates aside; None when it must be issued at once."""
    known = _leaf_token(project, wanted, project.issuing(wanted.authority))
    found = _recalled(project, wanted.artifact, known) or examine(project, wanted)
    return None if isinstance(found, list) or _revocation(project, wanted, found.serial, seen_before=True) else found


def issue_reasons(project: Project, wanted: Leaf) -> list[Reason]:
    """Why a leaf must be issued again, whatever the files that are cut from it look like."""
    held = examine(project, wanted)
    return held if isinstance(held, list) else dated_reasons(project, wanted, held, project.issuing(wanted.authority))


def blocked_by(project: Project, wanted: Leaf) -> Reason | None:
    """Why a leaf that is due is left as it is, and which ceremony is missing; None when nothing keeps it."""
    issuer = project.issuing(wanted.authority)
    if issuer is None:
        return None
    held = examine(project, wanted)
    if isinstance(held, list) or project.now < held.not_after - wanted.renew_before:
        return None
    if gains_time(project, wanted, held, issuer):
        return None
    end = issuer.certificate.not_valid_after_utc
    return Why.NO_GAIN(
        left=in_words(held.not_after - project.now),
        issuer=issuer.name,
        date=f"{end:%Y-%m-%d}",
        authority=wanted.authority,
    )


def examine(project: Project, wanted: Leaf) -> Current | list[Reason]:
    """What a leaf's PEM bundle says, or why it is not what the inventory wants, dates aside."""
    path = project.store.bundle(wanted)
    data = filesystem.read(path)
    if data is None:
        return [Why.NOT_CREATED()]
    bundle = parse_bundle(data, project.verified)
    if bundle is None:
        return [Why.DAMAGED(file=path.name)]
    reasons = [*_key_faults(project, wanted, bundle)]
    if wanted.request is None and filesystem.mode_of(path) != filesystem.SECRET:
        reasons.append(_mode(path.name, filesystem.mode_of(path)))
    names = bundle.extensions.get(x509.SubjectAlternativeName, (None, False))[0]
    if names != profiles.subject_alternative_name(wanted):
        reasons.append(Why.OTHER_NAMES(difference=_name_difference(names, wanted)))
    reasons += _changed_common_name(wanted, bundle.certificate)
    if issuer := project.issuing(wanted.authority):
        reasons += _profile_faults(project, wanted, bundle, issuer, compare=not reasons)
    cert = bundle.certificate
    reasons += _revocation(project, wanted, cert.serial_number, seen_before=False)
    return reasons or Current(cert.not_valid_before_utc, cert.not_valid_after_utc, cert.serial_number)


def _revocation(project: Project, wanted: Leaf, serial: int, *, seen_before: bool) -> list[Reason]:
    """A leaf is revoked that should not be; or is not, and should be: the canary is."""
    if not wanted.is_revoked:
        return [Why.REVOKED()] if project.is_revoked(serial, seen_before=seen_before) else []
    is_known = seen_before and project.ledger_is_settled
    if is_known or project.is_revoked(serial, seen_before=False) or project.ledger_fault:
        return []  # a ledger of which something is lost does not say that it was not
    return [Why.NOT_REVOKED()]


def _key_faults(project: Project, wanted: Leaf, bundle: Bundle) -> Iterator[Reason]:
    if wanted.request is not None:
        yield from _request_difference(project, wanted, public_der(bundle.public))
        return
    if not (bundle.verified or is_pair(bundle)):
        yield Why.OTHER_PAIR()
    if key_kind(bundle.public) != wanted.key:
        yield Why.OTHER_KIND(kind=key_kind(bundle.public), expected=wanted.key)


def _profile_faults(
    project: Project, wanted: Leaf, bundle: Bundle, issuer: Generation, *, compare: bool
) -> Iterator[Reason]:
    """Faults in issuer and subject; where these are sound and nothing else was found (`compare`), in the extensions."""
    cert, said = bundle.certificate, project.inventory
    if cert.issuer != issuer.certificate.subject or not bundle.chain.startswith(issuer.pem):
        yield Why.OTHER_ISSUER(issuer=issuer.name)
    elif bundle.chain != issuer.chain:
        yield Why.OTHER_CHAIN(issuer=issuer.name)
    elif not bundle.verified and not canonical.is_issued_by(cert, issuer.certificate):
        yield Why.OTHER_SIGNATURE(issuer=issuer.name)
    elif cert.subject != subject_name(said.organisation, wanted.common_name) and not any(
        _changed_common_name(wanted, cert)
    ):
        yield Why.OTHER_SUBJECT()
    elif compare:
        expected = profiles.leaf_extensions(wanted, bundle.public) + profiles.publication_extensions(
            said.publish.url, issuer.name
        )
        if any(bundle.extensions.get(type(value)) != (value, critical) for value, critical in expected):
            yield Why.OTHER_EXTENSIONS()


def _changed_common_name(wanted: Leaf, cert: x509.Certificate) -> Iterator[Reason]:
    """A client by another CN: whoever lists the CNs that may come in must list the new one before it is installed."""
    found = "".join(str(one.value) for one in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[:1])
    if wanted.profile == "client" and found != wanted.common_name:
        yield Why.OTHER_COMMON_NAME(before=found or "none", after=wanted.common_name)


def file_names(project: Project, wanted: Leaf) -> list[str]:
    """Every file of a leaf, its PEM bundle first."""
    names = ("fullchain", "cert", "chain") if wanted.request else ("tls", "key", "cert", "chain", "fullchain")
    return [project.store.leaf_file(wanted, f"{name}.pem") for name in names]


def _leaf_token(project: Project, wanted: Leaf, issuer: Generation | None) -> str:
    said = project.inventory
    request = filesystem.read(project.store.home / wanted.request) if wanted.request else None
    return token(
        *(wanted.common_name, wanted.dns, wanted.addresses, wanted.emails, wanted.key, request),
        *(issuer.chain_digest if issuer else "", said.organisation, said.publish.url),
    )


def _request_difference(project: Project, wanted: Leaf, public: bytes) -> list[Reason]:
    data = filesystem.read(project.store.home / (wanted.request or ""))
    try:
        requested = public_der(read_unverified_key(data or b"", ""))
    except PkiError:
        return [Why.REQUEST_UNUSABLE(file=wanted.request or "")]
    return [] if requested == public else [Why.REQUEST_KEY(file=wanted.request or "")]


def _name_difference(found: x509.ExtensionType | None, wanted: Leaf) -> str:
    has = {str(name.value) for name in found} if isinstance(found, x509.SubjectAlternativeName) else set[str]()
    lacks = [name for name in wanted.names if name not in has]
    surplus = sorted(has - set(wanted.names))
    parts = [f"lacks {', '.join(lacks)}"] if lacks else []
    parts += [f"still names {', '.join(surplus)}"] if surplus else []
    return " and ".join(parts) or "names are in another order"


def _mode(file: str, mode: int | None) -> Reason:
    return Why.FILE_MODE(file=file, mode=f"{mode or 0:04o}", expected=f"{filesystem.SECRET:04o}")


def _split_faults(project: Project, wanted: Leaf) -> list[Reason]:
    reasons = []
    parts = canonical.split_bundle(filesystem.read(project.store.bundle(wanted)) or b"")
    for name, content in parts.items():
        path = project.store.leaf_file(wanted, name)
        if filesystem.read(path) != content:
            reasons.append(Why.NOT_FROM_PEM(file=name))
        elif name == "key.pem" and filesystem.mode_of(path) != filesystem.SECRET:
            reasons.append(_mode(name, filesystem.mode_of(path)))
    return reasons


NEW_KEY = "make a new key and request on the device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"


def issue_if_due(project: Project, wanted: Leaf) -> Outcome:
    """Issue a leaf if it must be, and cut its files from its PEM bundle. Raises PkiError for one that is withheld."""
    if withheld := replacement_stopped(project, _id(wanted)):
        if damage := stopped_damage(project, wanted):
            raise PkiError(joined(dict.fromkeys([*damage, *withheld])), here("invoke", "renew", wanted.name))
        reasons = []
    else:
        reasons = issue_reasons(project, wanted)
    if reasons:
        issue(project, wanted, reasons)
        return Outcome(_verb(reasons), tuple(reasons))
    bundle = filesystem.read(project.store.bundle(wanted)) or b""
    filesystem.write_all(filesystem.differing(_split(project, wanted, bundle)))
    return Outcome(Verb.UPDATED)


def _id(wanted: Leaf) -> ArtifactId:
    return ArtifactId("cert", wanted.name)


def _verb(reasons: Iterable[Reason]) -> Verb:
    """Return what the issuance of a certificate is called: a renewal has other dates and nothing else."""
    codes = {one.code for one in reasons}
    if Why.NOT_CREATED in codes:
        return Verb.ISSUED
    return Verb.RENEWED if codes <= {Why.DUE, Why.EXPIRED} else Verb.REISSUED


def issue(project: Project, wanted: Leaf, reasons: Iterable[Reason]) -> None:
    """Issue a leaf now: key and certificate change together, in one rename.

    Raises PkiError, with the old pair as it was, when the authority, its passphrase or the request is not there.
    """
    issuer = project.issuer(wanted.authority)
    generation = project.issuing(wanted.authority)
    assert generation is not None
    if generation.certificate.not_valid_after_utc <= project.now:
        raise PkiError(
            f"{generation.name} ended on {generation.certificate.not_valid_after_utc:%Y-%m-%d}",
            here("invoke", "ceremony.request", "--new", wanted.authority, before="needs a ceremony: "),
        )
    insist_on_begun(project, generation)
    key = None if wanted.request else _leaf_key(project, wanted)
    public = key.public_key() if key else _requested_key(project, wanted)
    cert = certificate_signing.sign_certificate(
        certificate_signing.subject_name(project.inventory.organisation, wanted.common_name),
        public,
        certificate_signing.validity_dates(project.now, wanted.lifetime, generation.certificate),
        profiles.leaf_extensions(wanted, public)
        + profiles.publication_extensions(project.inventory.publish.url, generation.name),
        issuer,
    )
    bundle = (keys.private_pem(key) if key else b"") + pem_encoding.pem_of([cert]) + generation.chain
    mode = filesystem.SECRET if key else filesystem.PUBLIC
    with filesystem.Beside(
        {project.store.bundle(wanted): (bundle, mode), **_split(project, wanted, bundle)}
    ) as waiting:
        waiting.flush_meanwhile()
        project.ledger.record_certificate(
            cert,
            issuer=generation.name,
            artifact=_id(wanted),
            profile=wanted.profile,
            reason=joined_past(reasons),
            at=project.now,
        )
        if wanted.is_revoked:
            _revoke_all(project, _id(wanted))
        waiting.place()
    project.verified.add(hashlib.sha256(bundle).digest())


def _revoke_all(project: Project, artifact: ArtifactId) -> None:
    """Revoke what bears the name of a leaf that is revoked on purpose, before anybody can see it."""
    for issued in project.ledger.certificates(artifact=artifact, since=project.now):
        if not issued.revoked:
            project.ledger.record_revocation(issued, reason="superseded", at=project.now)
    project.look_again_at_revocations()


def _split(project: Project, wanted: Leaf, bundle: bytes) -> dict[Path, tuple[bytes, int]]:
    return {
        Path(project.store.leaf_file(wanted, name)): (
            content,
            filesystem.SECRET if name == "key.pem" else filesystem.PUBLIC,
        )
        for name, content in canonical.split_bundle(bundle).items()
    }


def _leaf_key(project: Project, wanted: Leaf) -> keys.PrivateKey:
    """A new key, or with `rekey: keep` the one in place if it is sound, of the right kind and not revoked."""
    if not wanted.rekey:
        held = examine(project, wanted)
        revoked = isinstance(held, list) and any(one.code is Why.REVOKED for one in held)
        key_pem = (filesystem.read(project.store.bundle(wanted)) or b"").partition(canonical.BEGIN)[0]
        if key_pem and not revoked:
            try:
                key = keys.open_key(key_pem, None, wanted.name, "")
            except PkiError:
                return keys.new_key(wanted.key)
            if keys.key_kind(key) == wanted.key:
                return key
    return keys.new_key(wanted.key)


def _requested_key(project: Project, wanted: Leaf) -> CertificatePublicKeyTypes:
    data = filesystem.read(project.store.home / (wanted.request or ""))
    if data is None:
        raise PkiError(f"{wanted.declared}.request: {wanted.request} is not there", "put the device's request there")
    key = read_device_key(data, wanted.request or "")
    if fault := find_weakness(key):
        raise PkiError(f"{wanted.request}: its key is weak: {fault}", NEW_KEY)
    return key
