"""Why a leaf must be issued again, or its files cut again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes
from cryptography.x509.oid import NameOID

from pki.common import filesystem
from pki.common.cache import token
from pki.common.durations import compared, in_words, least_gain
from pki.common.errors import PkiError
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from pki.project.generations import Generation
from pki.project.project import House
from pki.x509 import canonical, profiles
from pki.x509.device_requests import requested_key
from pki.x509.keys import key_kind, public_der
from pki.x509.signing import subject, validity

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Held:
    """What a leaf's truth says: its dates and serial number, once everything else in it is as wanted."""

    not_before: datetime
    not_after: datetime
    serial: int


def leaf(house: House, wanted: Leaf) -> list[Reason]:
    """Why a leaf must be issued again, or its files cut again from its truth."""
    name = wanted.artifact
    if name in house.withheld:
        return withheld_damage(house, wanted) or _cuts(house, wanted)
    issuer = house.issuing(wanted.authority)
    known = _leaf_token(house, wanted, issuer)
    held = _recalled(house, name, known)
    if held is not None:
        return _revocation(house, wanted, held.serial, seen_before=True) or _dated(house, wanted, held, issuer)
    found = examine(house, wanted)
    if isinstance(found, list):
        return found
    damaged = _cuts(house, wanted)
    if not damaged:
        dates = int(found.not_before.timestamp()), int(found.not_after.timestamp())
        house.memo.remember(name, known, leaf_files(house, wanted), [*dates, f"{found.serial:x}"])
    return _dated(house, wanted, found, issuer) or damaged


def damage(house: House, wanted: Leaf) -> list[Reason]:
    """Why the files of a leaf cannot be delivered, whatever was found of them before; none when they are sound."""
    if wanted.artifact in house.withheld:
        return withheld_damage(house, wanted) or _cuts(house, wanted)
    found = examine(house, wanted)
    return found if isinstance(found, list) else _cuts(house, wanted)


def damaged_files(house: House, wanted: Leaf) -> list[Reason]:
    """The files of a leaf that are not as they were written, whatever pki.yaml wants now; none where there is no leaf."""
    data = filesystem.read(house.store.truth(wanted))
    if data is None:
        return []
    return _truth_damage(house, wanted, data) or _cuts(house, wanted)


def withheld_damage(house: House, wanted: Leaf) -> list[Reason]:
    """Why the truth of a revoked leaf, which nothing replaces, can be delivered no more: it is gone, or damaged."""
    data = filesystem.read(house.store.truth(wanted))
    if data is None:
        return withheld(house, wanted.artifact)
    return _truth_damage(house, wanted, data)


def _truth_damage(house: House, wanted: Leaf, data: bytes) -> list[Reason]:
    """Why a leaf's truth is not as it was written: its key, its signature and its chain, whatever pki.yaml wants now."""
    truth = _parsed(data, set())
    if truth is not None and (truth.key is None or _is_pair(truth)):
        crosses = [
            filesystem.read(path)
            for root in house.store.generations("root")
            for path in house.store.cross_certificates(root)
        ]
        for name in house.store.generations(wanted.authority):
            issuer = house.generation(name)
            if (
                issuer
                and truth.chain.startswith(issuer.pem)
                and canonical.is_issued_by(truth.certificate, issuer.certificate)
            ):
                others = truth.chain.removeprefix(issuer.pem).split(canonical.BEGIN)[1:]
                if all(canonical.BEGIN + one in crosses for one in others):
                    return []
    return [Why.DAMAGED(file=house.store.truth(wanted).name)]


def withheld(house: House, name: str) -> list[Reason]:
    """Since when nothing replaces a revoked leaf; empty when that is not so."""
    since = house.withheld.get(name)
    return [Why.REPLACEMENT_STOPPED(date=f"{since:%Y-%m-%d}")] if since else []


def _recalled(house: House, name: str, known: str) -> Held | None:
    kept = house.memo.recall(name, known)
    if kept is None:
        return None
    return Held(datetime.fromtimestamp(kept[0], UTC), datetime.fromtimestamp(kept[1], UTC), int(kept[2], 16))


def is_known(house: House, wanted: Leaf) -> bool:
    """Whether an earlier look found that a leaf has what pki.yaml wants, dates and revocation aside."""
    known = _leaf_token(house, wanted, house.issuing(wanted.authority))
    return _recalled(house, wanted.artifact, known) is not None


def held(house: House, wanted: Leaf) -> Held | None:
    """What a leaf has that is as pki.yaml wants it, dates aside; None when it must be issued at once."""
    known = _leaf_token(house, wanted, house.issuing(wanted.authority))
    found = _recalled(house, wanted.artifact, known) or examine(house, wanted)
    return None if isinstance(found, list) or _revocation(house, wanted, found.serial, seen_before=True) else found


def must_issue(house: House, wanted: Leaf) -> list[Reason]:
    """Why a leaf must be issued again, whatever the files that are cut from it look like."""
    held = examine(house, wanted)
    return held if isinstance(held, list) else _dated(house, wanted, held, house.issuing(wanted.authority))


def leaf_waits(house: House, wanted: Leaf) -> Reason | None:
    """Why a leaf that is due is left as it is, and which ceremony is missing; None when nothing keeps it."""
    issuer = house.issuing(wanted.authority)
    if issuer is None:
        return None
    held = examine(house, wanted)
    if isinstance(held, list) or house.now < held.not_after - wanted.renew_before:
        return None
    if _gains(house, wanted, held, issuer):
        return None
    end = issuer.certificate.not_valid_after_utc
    return Why.NO_GAIN(
        left=in_words(held.not_after - house.now),
        issuer=issuer.name,
        date=f"{end:%Y-%m-%d}",
        authority=wanted.authority,
    )


def examine(house: House, wanted: Leaf) -> Held | list[Reason]:
    """What a leaf's truth says, or why it is not what the inventory wants, dates aside."""
    path = house.store.truth(wanted)
    data = filesystem.read(path)
    if data is None:
        return [Why.NO_CERTIFICATE()]
    truth = _parsed(data, house.verified)
    if truth is None:
        return [Why.DAMAGED(file=path.name)]
    reasons = [*_key_faults(house, wanted, truth)]
    if wanted.request is None and filesystem.mode_of(path) != filesystem.SECRET:
        reasons.append(_mode(path.name, filesystem.mode_of(path)))
    names = truth.extensions.get(x509.SubjectAlternativeName, (None, False))[0]
    if names != profiles.subject_alternative_name(wanted):
        reasons.append(Why.OTHER_NAMES(difference=_name_difference(names, wanted)))
    reasons += _changed_common_name(wanted, truth.certificate)
    if issuer := house.issuing(wanted.authority):
        reasons += _profile_faults(house, wanted, truth, issuer, compare=not reasons)
    cert = truth.certificate
    reasons += _revocation(house, wanted, cert.serial_number, seen_before=False)
    return reasons or Held(cert.not_valid_before_utc, cert.not_valid_after_utc, cert.serial_number)


def _revocation(house: House, wanted: Leaf, serial: int, *, seen_before: bool) -> list[Reason]:
    """A leaf is revoked that should not be; or is not, and should be: the canary is."""
    if not wanted.is_revoked:
        return [Why.REVOKED()] if house.is_revoked(serial, seen_before=seen_before) else []
    is_known = seen_before and house.ledger_is_settled
    if is_known or house.is_revoked(serial, seen_before=False) or house.ledger_fault:
        return []  # a ledger of which something is lost does not say that it was not
    return [Why.NOT_REVOKED()]


@dataclass(frozen=True, slots=True)
class _Truth:
    """A leaf's truth, taken apart: extensions by their type, each with its criticality.

    `verified` says that this very text was signed, verified and written by this run; its key is then not opened again.
    """

    verified: bool
    certificate: x509.Certificate
    extensions: dict[type[x509.ExtensionType], tuple[x509.ExtensionType, bool]]
    public: CertificatePublicKeyTypes
    key: PrivateKeyTypes | None
    chain: bytes


def _parsed(data: bytes, verified: set[bytes]) -> _Truth | None:
    seen = hashlib.sha256(data).digest() in verified
    key_pem, mark, rest = data.partition(canonical.BEGIN)
    leaf_pem, _, chain = rest.partition(canonical.BEGIN)
    cert = canonical.certificate(mark + leaf_pem)
    key = canonical.key(key_pem) if key_pem and not seen else None
    if cert is None or (key_pem and key is None and not seen):
        return None
    return _Truth(
        verified=seen,
        certificate=cert,
        extensions={type(extension.value): (extension.value, extension.critical) for extension in cert.extensions},
        public=cert.public_key(),
        key=key,
        chain=canonical.BEGIN + chain,
    )


def _key_faults(house: House, wanted: Leaf, truth: _Truth) -> Iterator[Reason]:
    if wanted.request is not None:
        yield from _request_difference(house, wanted, public_der(truth.public))
        return
    if not (truth.verified or _is_pair(truth)):
        yield Why.OTHER_PAIR()
    if key_kind(truth.public) != wanted.key:
        yield Why.OTHER_KIND(kind=key_kind(truth.public), wanted=wanted.key)


def _is_pair(truth: _Truth) -> bool:
    return truth.key is not None and public_der(truth.public) == public_der(truth.key.public_key())  # type: ignore[arg-type]


def _profile_faults(
    house: House, wanted: Leaf, truth: _Truth, issuer: Generation, *, compare: bool
) -> Iterator[Reason]:
    """Faults in issuer and subject; where these are sound and nothing else was found (`compare`), in the extensions."""
    cert, said = truth.certificate, house.inventory
    if cert.issuer != issuer.certificate.subject or not truth.chain.startswith(issuer.pem):
        yield Why.OTHER_ISSUER(issuer=issuer.name)
    elif truth.chain != issuer.chain:
        yield Why.OTHER_CHAIN(issuer=issuer.name)
    elif not truth.verified and not canonical.is_issued_by(cert, issuer.certificate):
        yield Why.OTHER_SIGNATURE(issuer=issuer.name)
    elif cert.subject != subject(said.organisation, wanted.common_name) and not any(_changed_common_name(wanted, cert)):
        yield Why.OTHER_SUBJECT()
    elif compare:
        expected = profiles.leaf(wanted, truth.public) + profiles.addresses_of(said.publish.url, issuer.name)
        if any(truth.extensions.get(type(value)) != (value, critical) for value, critical in expected):
            yield Why.OTHER_EXTENSIONS()


def _changed_common_name(wanted: Leaf, cert: x509.Certificate) -> Iterator[Reason]:
    """A client by another CN: whoever lists the CNs that may come in must list the new one before it is installed."""
    found = "".join(str(one.value) for one in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[:1])
    if wanted.profile == "client" and found != wanted.common_name:
        yield Why.OTHER_COMMON_NAME(before=found or "none", after=wanted.common_name)


def leaf_files(house: House, wanted: Leaf) -> list[str]:
    """Every file of a leaf, its truth first."""
    names = ("fullchain", "cert", "chain") if wanted.request else ("tls", "key", "cert", "chain", "fullchain")
    return [house.store.leaf_file(wanted, f"{name}.pem") for name in names]


def _leaf_token(house: House, wanted: Leaf, issuer: Generation | None) -> str:
    said = house.inventory
    request = filesystem.read(house.store.home / wanted.request) if wanted.request else None
    return token(
        *(wanted.common_name, wanted.dns, wanted.addresses, wanted.emails, wanted.key, request),
        *(issuer.chain_digest if issuer else "", said.organisation, said.publish.url),
    )


def unsigned(house: House, wanted: Leaf, held: Held) -> list[Reason]:
    """Why a leaf is due for renewal whose authority cannot sign; empty where that is not so."""
    issuer = house.issuing(wanted.authority)
    if issuer is None or house.can_sign(issuer.name):
        return []
    return _due(house, wanted, held, issuer)


def _dated(house: House, wanted: Leaf, held: Held, issuer: Generation | None) -> list[Reason]:
    """Why a leaf must be issued again for its dates; one that is good still, and cannot be renewed, is kept until it ends."""
    reasons = _due(house, wanted, held, issuer)
    is_good = held.not_before <= house.now <= held.not_after
    return reasons if not (reasons and is_good and issuer) or house.can_sign(issuer.name) else []


def _due(house: House, wanted: Leaf, held: Held, issuer: Generation | None) -> list[Reason]:
    if held.not_before > house.now:
        return [Why.NOT_YET_VALID(time=f"{held.not_before:%Y-%m-%d %H:%M}")]
    if house.now < held.not_after - wanted.renew_before:
        return []
    if issuer is not None and not _gains(house, wanted, held, issuer):
        return []
    if held.not_after < house.now:
        return [Why.EXPIRED(date=f"{held.not_after:%Y-%m-%d}")]
    spans = (held.not_after - house.now, held.not_after - held.not_before + timedelta(seconds=1), wanted.renew_before)
    (left, life, starts), unit = compared(*spans)
    return [Why.DUE(left=left, life=f"{life} {unit}".rstrip(), starts=starts)]


def _gains(house: House, wanted: Leaf, held: Held, issuer: Generation) -> bool:
    """Return whether a certificate that is issued now ends later than the present one by enough."""
    end = validity(house.now, wanted.lifetime, issuer.certificate)[1]
    return end >= held.not_after + least_gain(wanted.lifetime, wanted.renew_before)


def _request_difference(house: House, wanted: Leaf, public: bytes) -> list[Reason]:
    data = filesystem.read(house.store.home / (wanted.request or ""))
    try:
        requested = public_der(requested_key(data or b"", ""))
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


def _cuts(house: House, wanted: Leaf) -> list[Reason]:
    reasons = []
    parts = canonical.files_of(filesystem.read(house.store.truth(wanted)) or b"")
    for name, content in parts.items():
        path = house.store.leaf_file(wanted, name)
        if filesystem.read(path) != content:
            reasons.append(Why.NOT_FROM_PEM(file=name))
        elif name == "key.pem" and filesystem.mode_of(path) != filesystem.SECRET:
            reasons.append(_mode(name, filesystem.mode_of(path)))
    return reasons
