"""The eyes: why an artifact must be made anew.

Each function returns reasons, phrases that read well after the artifact's name; none means that it is fresh. They
look at the thing itself, held against the inventory, its issuer and `now`. They change nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes, PrivateKeyTypes

from pki import profiles, store
from pki.house import Generation, House, Rung
from pki.issue import ca_public_key, key_kind, pem, public_der, subject, validity
from pki.memo import token
from pki.model import Leaf

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Held:
    """What a leaf's truth says: its dates and serial number, once everything else in it is as wanted."""

    not_before: datetime
    not_after: datetime
    serial: int


# -- leaves -----------------------------------------------------------------------------------------------------------


def leaf(house: House, wanted: Leaf) -> list[str]:
    """Why a leaf must be issued again, or its files cut again from its truth."""
    name = f"cert:{wanted.name}"
    if name in house.withheld:
        return [] if store.read(house.store.truth(wanted)) else [withheld(house, name)]
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


def withheld(house: House, name: str) -> str:
    """Since when nothing replaces a revoked leaf, as a phrase after its name; empty when that is not so."""
    since = house.withheld.get(name)
    return f"was revoked, and its replacement is withheld since {since:%Y-%m-%d}" if since else ""


def _recalled(house: House, name: str, known: str) -> Held | None:
    kept = house.memo.recall(name, known)
    if kept is None:
        return None
    return Held(datetime.fromtimestamp(kept[0], UTC), datetime.fromtimestamp(kept[1], UTC), int(kept[2], 16))


def held(house: House, wanted: Leaf) -> Held | None:
    """What a leaf has that is as pki.yaml wants it, dates aside; None when it must be issued at once."""
    known = _leaf_token(house, wanted, house.issuing(wanted.authority))
    found = _recalled(house, f"cert:{wanted.name}", known) or examine(house, wanted)
    return None if isinstance(found, list) or _revocation(house, wanted, found.serial, seen_before=True) else found


def must_issue(house: House, wanted: Leaf) -> list[str]:
    """Why a leaf must be issued again, whatever the files that are cut from it look like."""
    held = examine(house, wanted)
    return held if isinstance(held, list) else _dated(house, wanted, held, house.issuing(wanted.authority))


def some_authority_ages(house: House) -> bool:
    """Whether any renewal could be clamped at all: an issuing authority has less left than its leaves live."""
    rules = house.inventory.profiles
    return any(
        issuer.certificate.not_valid_after_utc - house.now <= rule.lifetime
        for name, rule in (("server", rules.server), ("client", rules.client))
        if (issuer := house.issuing(name)) is not None
    )


def leaf_waits(house: House, wanted: Leaf) -> str:
    """Why a leaf that is due is left as it is, and which ceremony is missing; empty when nothing keeps it."""
    issuer = house.issuing(wanted.authority)
    if issuer is None:
        return ""
    held = examine(house, wanted)
    if isinstance(held, list) or house.now < held.not_after - wanted.renew_before:
        return ""
    if _would_end(house, wanted, issuer) >= held.not_after + DAY:
        return ""
    end = issuer.certificate.not_valid_after_utc
    return (
        f"{_days_left(house, held.not_after)} days left, and a renewal would gain nothing: {issuer.name} itself ends "
        f"on {end:%Y-%m-%d}; needs a ceremony: a new generation of {wanted.authority}"
    )


def examine(house: House, wanted: Leaf) -> Held | list[str]:
    """What a leaf's truth says, or why it is not what the inventory wants, dates aside."""
    path = house.store.truth(wanted)
    data = store.read(path)
    if data is None:
        return ["has no certificate yet"]
    truth = _parsed(data, house.verified)
    if truth is None:
        return [f"{path.name} is damaged"]
    reasons = [*_key_faults(house, wanted, truth)]
    if wanted.request is None and store.mode_of(path) != store.SECRET:
        reasons.append(f"{path.name} has mode {store.mode_of(path) or 0:04o}, expected 0600")
    names = truth.extensions.get(x509.SubjectAlternativeName, (None, False))[0]
    if names != profiles.subject_alternative_name(wanted):
        reasons.append(_name_difference(names, wanted))
    if issuer := house.issuing(wanted.authority):
        reasons += _profile_faults(house, wanted, truth, issuer, compare=not reasons)
    cert = truth.certificate
    reasons += _revocation(house, wanted, cert.serial_number, seen_before=False)
    return reasons or Held(cert.not_valid_before_utc, cert.not_valid_after_utc, cert.serial_number)


def _revocation(house: House, wanted: Leaf, serial: int, *, seen_before: bool) -> list[str]:
    """A leaf is revoked that should not be; or is not, and should be: the canary is."""
    if not wanted.is_revoked:
        return ["is revoked"] if house.is_revoked(serial, seen_before=seen_before) else []
    is_known = seen_before and house.ledger_is_settled
    return [] if is_known or house.is_revoked(serial, seen_before=False) else ["is not revoked"]


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
    key_pem, mark, rest = data.partition(store.CERTIFICATE_MARK)
    leaf_pem, _, chain = rest.partition(store.CERTIFICATE_MARK)
    try:
        cert = x509.load_pem_x509_certificate(mark + leaf_pem)
        return _Truth(
            verified=seen,
            certificate=cert,
            extensions={type(extension.value): (extension.value, extension.critical) for extension in cert.extensions},
            public=cert.public_key(),
            key=serialization.load_pem_private_key(key_pem, None) if key_pem and not seen else None,
            chain=store.CERTIFICATE_MARK + chain,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _key_faults(house: House, wanted: Leaf, truth: _Truth) -> Iterator[str]:
    if wanted.request is not None:
        if difference := _request_difference(house, wanted, public_der(truth.public)):
            yield difference
        return
    own = truth.verified or (truth.key is not None and public_der(truth.public) == public_der(truth.key.public_key()))  # type: ignore[arg-type]
    if not own:
        yield "its key does not belong to its certificate"
    if key_kind(truth.public) != wanted.key:
        yield f"has a key of kind {key_kind(truth.public)}, pki.yaml says {wanted.key}"


def _profile_faults(house: House, wanted: Leaf, truth: _Truth, issuer: Generation, *, compare: bool) -> Iterator[str]:
    """Faults in issuer and subject; where these are sound and nothing else was found (`compare`), in the extensions."""
    cert, said = truth.certificate, house.inventory
    if cert.issuer != issuer.certificate.subject or not truth.chain.startswith(issuer.pem):
        yield f"is not issued by {issuer.name}, which issues now"
    elif truth.chain != issuer.chain:
        yield f"its chain is not that of {issuer.name} as it is now"
    elif not truth.verified and not _is_signed_by(cert, issuer):
        yield f"its signature is not that of {issuer.name}"
    elif cert.subject != subject(said.organisation, wanted.common_name):
        yield "its subject is not what pki.yaml says"
    elif compare:
        expected = profiles.leaf(wanted, truth.public) + profiles.addresses_of(said.publish.url, issuer.name)
        if any(truth.extensions.get(type(value)) != (value, critical) for value, critical in expected):
            yield "its extensions are not what the profile and the publishing address say"


def _is_signed_by(cert: x509.Certificate, issuer: Generation) -> bool:
    try:
        cert.verify_directly_issued_by(issuer.certificate)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def leaf_files(house: House, wanted: Leaf) -> list[str]:
    """Every file of a leaf, its truth first."""
    names = ("fullchain", "cert", "chain") if wanted.request else ("tls", "key", "cert", "chain", "fullchain")
    return [house.store.leaf_file(wanted, f"{name}.pem") for name in names]


def _leaf_token(house: House, wanted: Leaf, issuer: Generation | None) -> str:
    said = house.inventory
    request = store.read(house.store.home / wanted.request) if wanted.request else None
    return token(
        *(wanted.common_name, wanted.dns, wanted.addresses, wanted.emails, wanted.key, request),
        *(issuer.chain_digest if issuer else "", said.organisation, said.publish.url),
    )


def _dated(house: House, wanted: Leaf, held: Held, issuer: Generation | None) -> list[str]:
    if held.not_before > house.now:
        return [f"is not valid before {held.not_before:%Y-%m-%d %H:%M}"]
    if house.now < held.not_after - wanted.renew_before:
        return []
    if issuer is not None and _would_end(house, wanted, issuer) < held.not_after + DAY:
        return []
    if held.not_after < house.now:
        return [f"ended on {held.not_after:%Y-%m-%d}"]
    life = (held.not_after - held.not_before + timedelta(seconds=1)) // DAY
    left = _days_left(house, held.not_after)
    return [f"{left} of {life} days left, renewal starts at {wanted.renew_before // DAY}"]


def _would_end(house: House, wanted: Leaf, issuer: Generation) -> datetime:
    return validity(house.now, wanted.lifetime, issuer.certificate)[1]


def _days_left(house: House, end: datetime) -> int:
    return (end - house.now) // DAY


def _request_difference(house: House, wanted: Leaf, public: bytes) -> str:
    data = store.read(house.store.home / (wanted.request or ""))
    try:
        requested = public_der(x509.load_pem_x509_csr(data or b"").public_key())
    except (ValueError, UnsupportedAlgorithm):
        return f"{wanted.request} is not a certificate request that can be used"
    return "" if requested == public else f"{wanted.request} holds another key"


def _name_difference(found: x509.ExtensionType | None, wanted: Leaf) -> str:
    has = {str(name.value) for name in found} if isinstance(found, x509.SubjectAlternativeName) else set[str]()
    lacks = [name for name in wanted.names if name not in has]
    surplus = sorted(has - set(wanted.names))
    parts = [f"lacks {', '.join(lacks)}"] if lacks else []
    parts += [f"still names {', '.join(surplus)}"] if surplus else []
    return " and ".join(parts) or "names are in another order"


def _cuts(house: House, wanted: Leaf) -> list[str]:
    reasons = []
    parts = store.cut(store.read(house.store.truth(wanted)) or b"")
    for name, content in parts.items():
        path = house.store.leaf_file(wanted, name)
        if store.read(path) != content:
            reasons.append(f"{name} does not follow from its truth")
        elif name == "key.pem" and store.mode_of(path) != store.SECRET:
            reasons.append(f"key.pem has mode {store.mode_of(path) or 0:04o}, expected 0600")
    return reasons


# -- authorities ------------------------------------------------------------------------------------------------------


def authority(house: House, name: str) -> list[str]:
    """Why an authority cannot be used. Only the sandbox can make one."""
    found = house.issuing(name)
    if found is None:
        return ["does not exist yet"]
    if found.certificate.not_valid_after_utc < house.now:
        return [f"{found.name} ended on {found.certificate.not_valid_after_utc:%Y-%m-%d}"]
    in_token = house.store.authority_file(found.name, "key.uri").exists()
    if (
        name != "root"
        and not in_token
        and store.mode_of(house.store.authority_file(found.name, "key.pem")) != store.SECRET
    ):
        return [f"the key of {found.name} is not there, or its mode is not 0600"]
    root = house.root_of(found.certificate)
    if name != "root" and (root is None or not _is_signed_by(found.certificate, root)):
        return [f"{found.name} is not signed by {root.name if root else 'a root in ca/root/'}"]
    return []


# -- CRLs -------------------------------------------------------------------------------------------------------------


def crl(house: House, generation: str, *, missing: int | None = None) -> list[str]:
    """Why an intermediate's CRL must be made anew; `missing` is how many entries it lacks, where that is known."""
    issuer, name = house.generation(generation), f"crl:{generation}"
    known = token(issuer.fingerprint if issuer else "")
    kept = house.memo.recall(name, known)
    if kept is not None and house.is_ledger_as_it_was():
        return _crl_dated(house, generation, *(datetime.fromtimestamp(at, UTC) for at in kept[:2]))
    der, text = (store.read(house.store.crl(generation, form)) for form in ("crl", "pem"))
    if der is None or text is None:
        return ["has no CRL yet"]
    found = signed_crl(house, issuer, der)
    if found is None or found.next_update_utc is None:
        return [f"is damaged, or not signed by {generation}"]
    if text != pem("X509 CRL", der):
        return ["its PEM form does not follow from the DER form"]
    dates = found.last_update_utc, found.next_update_utc
    reasons = _crl_dated(house, generation, *dates) or _behind_ledger(house, generation, found, missing)
    if not reasons:
        files = [str(house.store.crl(generation, form)) for form in ("crl", "pem")]
        number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        house.memo.remember(name, known, files, [*(int(at.timestamp()) for at in dates), number])
    return reasons


def adopted_crl(house: House, name: str) -> list[str]:
    """Why the CRL of an adopted CA must be made anew: never, once the CA itself has ended."""
    found = house.generation(name)
    return [] if found and found.certificate.not_valid_after_utc < house.now else crl(house, name)


def signed_crl(house: House, issuer: Generation | None, der: bytes) -> x509.CertificateRevocationList | None:
    """The CRL in a file if a generation signed it; whether it did is asked once in a run: it takes 0.1 s for a large one."""
    if issuer is None:
        return None
    seen = hashlib.sha256(issuer.fingerprint.encode() + der).digest()
    try:
        found = x509.load_der_x509_crl(der)
        signed = seen in house.verified or found.is_signature_valid(ca_public_key(issuer.certificate))
    except (ValueError, UnsupportedAlgorithm):
        return None
    if signed:
        house.verified.add(seen)
    return found if signed else None


def _crl_dated(house: House, generation: str, start: datetime, end: datetime) -> list[str]:
    age, refresh = house.now - start, house.crl_rule(generation).refresh
    if end <= house.now:
        return [f"ended on {end:%Y-%m-%d}"]
    if age < timedelta(0):
        return [f"is not valid before {start:%Y-%m-%d %H:%M}"]
    return [f"is {age // DAY} days old, a new one comes every {refresh // DAY}"] if age >= refresh else []


def _behind_ledger(
    house: House, generation: str, found: x509.CertificateRevocationList, missing: int | None
) -> list[str]:
    if not house.has_ledger:
        return []
    last = house.ledger.last_crl(generation)
    number = found.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    if last is not None and number < last[0]:
        return [f"has number {number}, and the last one had {last[0]}"]
    if missing is None:
        listed = {entry.serial_number for entry in found}
        missing = len(house.ledger.revoked_serials(house.now, issuer=generation) - listed)
    return [f"lacks {missing} revoked certificate{'s' if missing > 1 else ''}"] if missing else []


def due_rung(house: House, root: str) -> x509.CertificateRevocationList | None:
    """The newest rung of a root's ladder that has begun and not ended, and lists all that the ledger says is revoked.

    An older rung that lacks a revocation would take it back: servers believe the newest thisUpdate, not the number.
    """
    begun = [rung for rung in house.rungs(root) if rung.crl.last_update_utc <= house.now < _end(rung.crl)]
    if not begun:
        return None
    newest = begun[-1]
    name, known = f"rung:{root}", token(newest.crl.fingerprint(hashes.SHA256()))
    if house.ledger_is_settled and house.memo.recall(name, known):  # of the rung that was looked at last, and no other
        return newest.crl
    if lacking(house, root, newest):
        return None
    house.memo.remember(name, known, [], True)
    return newest.crl


def lacking(house: House, root: str, rung: Rung) -> list[str]:
    """Certificates that the ledger knows as revoked and a rung does not list, by serial number in hexadecimal."""
    if not house.has_ledger:
        return []
    revoked = house.ledger.revoked(root, rung.crl.last_update_utc)
    return [f"{entry.serial:x}" for entry in revoked if entry.serial not in rung.serials]


def _end(crl: x509.CertificateRevocationList) -> datetime:
    assert crl.next_update_utc is not None
    return crl.next_update_utc


def root_crl(house: House, root: str) -> list[str]:
    """Why the published root CRL is not the rung that is due."""
    if house.generation(root) is None:
        return ["has no CRL yet"]
    rung = due_rung(house, root)
    if rung is None:
        return [no_rung(house, root)]
    published = store.read(house.store.crl(root))
    if published != rung.public_bytes(serialization.Encoding.DER):
        return ["has no CRL yet" if published is None else "another rung of its ladder is due"]
    return [] if store.read(house.store.crl(root, "pem")) == pem("X509 CRL", published) else ["its PEM form is missing"]


def no_rung(house: House, root: str) -> str:
    """Why no rung can be published."""
    begun = [rung for rung in house.rungs(root) if rung.crl.last_update_utc <= house.now < _end(rung.crl)]
    missing = lacking(house, root, begun[-1]) if begun else []
    if missing:
        return f"its rung {begun[-1].number} lacks the revoked {', '.join(missing)}, and is never published"
    return "no rung of its ladder is valid now; needs a ceremony"


# -- derived files ----------------------------------------------------------------------------------------------------


def derived(house: House, expected: dict[str, bytes]) -> list[str]:
    """Why files that are a pure function of others must be written; `expected` maps paths below the home to contents."""
    found = {path: store.read(house.store.home / path) for path in expected}
    if all(content is None for content in found.values()):
        return ["is not there yet"]
    return [
        f"{path} {'is missing' if found[path] is None else 'does not follow from its sources'}"
        for path, content in expected.items()
        if found[path] != content
    ]


def remembered(
    house: House, name: str, known: str, files: list[str], expected: Callable[[], dict[str, bytes]]
) -> list[str]:
    """The same for what is costly to make: it is spared while `known` and `files`, what is made among them, are as they were."""
    if house.memo.recall(name, known):
        return []
    reasons = derived(house, expected())
    if not reasons:
        house.memo.remember(name, known, files, True)
    return reasons
