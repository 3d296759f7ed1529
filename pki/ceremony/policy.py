"""The policy: what a request may ask a root to do. A request with a fault is refused, whatever the operator says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.ceremony import drafts
from pki.ceremony.request_response import (
    CLOCK_TOLERANCE,
    NO_RESPONSE,
    Request,
    RequestedIntermediate,
    RequestedRoot,
    RequestedSeries,
)
from pki.ceremony.vault_contents import VaultContents
from pki.common.errors import PkiError
from pki.config.fields import SANDBOX
from pki.config.identifiers import GenerationName, root_authority
from pki.config.limits import PRESIGNED_CRL_LIMIT, ROOT_LIMIT
from pki.x509 import keys
from pki.x509.canonical import fingerprint
from pki.x509.weak_keys import find_weakness

# A ceremony may skip this many numbers of requests or CRLs. Without a limit, one request could take the highest number that
# there is, and no later request or CRL could have a higher one.
MAX_NUMBER_GAP = 100
MAX_START_OFFSET = timedelta(days=2)  # between the day of the request and the start of a validity period (`backdate`)
MAX_REPLACEMENT_DELAY = timedelta(hours=1)  # between the start of a CRL and the start of the CRL that replaces it
KEY_KINDS = ("ec-p256", "ec-p384", "rsa-3072", "rsa-4096")  # of intermediates; the offline machine reads no pki.yaml


def common_name(organisation: str, generation: str, *, sandbox: bool) -> str:
    """Return the common name of a CA, different for each generation: `Example Lab Server CA 1`."""
    name = GenerationName.parse(generation)
    kind = "Peer Root" if name.authority == "root-peer" else name.authority.capitalize()
    return f"{organisation} {f'{SANDBOX} ' if sandbox else ''}{kind} CA {name.number}"


def faults(request: Request, contents: VaultContents, *, roots_are_made: bool) -> list[str]:
    """Return every fault of a request; empty when the request may be signed.

    `roots_are_made` is False for `ceremony.root`, which creates the new roots of the request, and True for
    `ceremony.sign`, which needs them in the vault.
    """
    faults_found = [
        *_sequence_faults(request, contents),
        *_root_faults(request, contents, roots_are_made=roots_are_made),
    ]
    if faults_found:
        return faults_found  # the other checks need the roots
    faults_found += _name_faults(request, contents)
    for requested in request.intermediates:
        faults_found += [f"{requested.name}: {fault}" for fault in _intermediate_faults(request, requested, contents)]
    faults_found += _cross_faults(request, contents)
    for series in request.crl_series:
        faults_found += [
            f"the series of pre-signed CRLs of {series.root}: {fault}"
            for fault in _series_faults(request, series, contents)
        ]
    return faults_found + list(_destruction_faults(request, contents))


def _sequence_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    """Yield a fault unless the request is the next one for this vault: number, previous ceremony, organisation, sandbox."""
    last_ceremony = contents.last
    last_number = last_ceremony.number if last_ceremony else 0
    if last_ceremony and request.previous != last_ceremony.response_digest:
        yield (
            f"it does not follow ceremony {last_ceremony.number}, the last one in this vault; "
            f"accept the response of ceremony {last_ceremony.number} first, then make a new request"
        )
    if last_ceremony is None and request.previous != NO_RESPONSE:
        yield "it follows an earlier ceremony, and this vault has none; use the vault of that ceremony"
    if last_ceremony and request.number <= last_ceremony.number:
        yield f"its number {request.number} is not above that of the last ceremony, {last_ceremony.number}"
    if request.number > last_number + MAX_NUMBER_GAP:
        yield (
            f"its number {request.number} is far above that of the last ceremony, {last_number}; "
            f"at most {last_number + MAX_NUMBER_GAP} is possible"
        )
    if last_ceremony and request.organisation != last_ceremony.request.organisation:
        yield f"it names the organisation {request.organisation}, the vault is that of {last_ceremony.request.organisation}"
    if last_ceremony and request.sandbox != last_ceremony.request.sandbox:
        yield "a sandbox and a real project never share a root"
    for name in _twice(series.root for series in request.crl_series):
        yield f"{name} would have two series of pre-signed CRLs"


def _root_faults(request: Request, contents: VaultContents, *, roots_are_made: bool) -> Iterator[str]:
    """Yield where the roots of the request and of the vault differ.

    `pinned` of the request are the roots that exist in the project, with the SHA-256 of their certificates.
    """
    new_roots = {root.name: root for root in request.roots}
    for name, fingerprint_in_request in request.pinned.items():
        if name not in contents.roots:
            yield f"{name} is not in this vault"
        elif fingerprint(contents.roots[name]) != fingerprint_in_request:
            yield f"{name} in this vault is not the {name} of the request"
    for name, certificate in contents.roots.items():
        if name not in request.pinned:
            yield from _unpinned_root_faults(request, new_roots.get(name), name, certificate)
    for name, root in new_roots.items():
        yield from _new_root_faults(request, root)
        if roots_are_made and name not in contents.roots:
            yield f"{name} is not on this drive; is this the vault on which ceremony.root made it?"
    for name in request.root_names:
        if name not in contents.roots and name not in new_roots:
            yield f"{name} is needed, and neither in the vault nor requested"


def _unpinned_root_faults(
    request: Request, requested: RequestedRoot | None, name: str, certificate: x509.Certificate
) -> Iterator[str]:
    """Check a root in the vault that does not exist in the project: `ceremony.root` must have created it for this request.

    `requested` is the new root of that name in the request, or None.
    """
    if requested is None:
        yield f"the vault has {name}, which the request does not mention"
    elif differences := list(drafts.draft_root(request, requested, certificate.public_key()).differences(certificate)):
        yield f"{name} in the vault was made for another request: {'; '.join(differences)}"


def _new_root_faults(request: Request, root: RequestedRoot) -> Iterator[str]:
    if root.name in request.pinned:
        yield f"{root.name} is requested and exists already"
    if not root.not_before < root.not_after <= root.not_before + ROOT_LIMIT:
        yield (
            f"{root.name} would be valid from {root.not_before:%Y-%m-%d} to {root.not_after:%Y-%m-%d}; "
            f"at most {_years(ROOT_LIMIT)} are possible"
        )
    if fault := _start_fault(request, root.not_before):
        yield f"{root.name} {fault}"
    is_of_clusters, is_limited = root.authority == "root-peer", bool(root.domains)
    if is_of_clusters != is_limited:
        constraints = "name constraints" if root.domains else "no name constraints"
        yield f"{root.name} would have {constraints}; a root of clusters must have them, and every other root must not"
    if all(series.root != root.name for series in request.crl_series):
        yield f"{root.name} would have no CRL, and servers refuse every client of a root without one"


def _start_fault(request: Request, start: datetime) -> str:
    """Return the fault of a validity period that does not begin about the day of the request, or ""."""
    if abs(start - request.prepared) <= MAX_START_OFFSET:
        return ""
    return (
        f"would begin on {start:%Y-%m-%d}, far from the day of the request, {request.prepared:%Y-%m-%d}; "
        f"at most {MAX_START_OFFSET.days} days are possible"
    )


def _years(limit: timedelta) -> str:
    return f"{limit.days // 365} years"


def _twice(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def _name_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    """Check that each new CA has a new name, and the common name that belongs to it."""
    used_names = {certificate.name for certificate in contents.issued}
    new_cas: list[RequestedRoot | RequestedIntermediate] = [*request.roots, *request.intermediates]
    for requested in new_cas:
        expected = common_name(request.organisation, requested.name, sandbox=request.sandbox)
        if requested.name in used_names:
            yield f"{requested.name}: was created in an earlier ceremony; every generation needs a new name"
        if requested.common_name != expected:
            yield f"{requested.name}: would be called {requested.common_name!r}; expected {expected!r}"
        used_names.add(requested.name)


def _intermediate_faults(request: Request, requested: RequestedIntermediate, contents: VaultContents) -> Iterator[str]:
    """Check the key and the dates of an intermediate. `requested.request` is its certificate request (CSR)."""
    try:
        key = keys.read_request_key(requested.request.encode(), f"the request of {requested.name}")
        weakness = find_weakness(key)
    except PkiError as error:
        yield error.message
        return
    if weakness:
        yield f"its key is weak: {weakness}"
    if keys.key_kind(key) not in KEY_KINDS:
        yield f"a key of kind {keys.key_kind(key)}; expected one of {', '.join(KEY_KINDS)}"
    if any(keys.public_der(past.certificate.public_key()) == keys.public_der(key) for past in contents.issued):
        yield "its key is that of an earlier certificate; a new generation needs a new key"
    others_with_key = [
        intermediate.name
        for intermediate in request.intermediates
        if intermediate.name != requested.name and _has_key(intermediate, key)
    ]
    if others_with_key:
        yield f"its key is also that of {others_with_key[0]}; every generation needs its own key"
    yield from _date_faults(request, requested.not_before, requested.not_after, requested.issuer, contents)
    if root_authority(requested.authority) != GenerationName.parse(requested.issuer).authority:
        yield f"would be signed by {requested.issuer}; expected a generation of {root_authority(requested.authority)}"
    if requested.is_external and requested.addresses:
        yield f"would permit addresses: {', '.join(map(str, requested.addresses))}; an external authority has DNS names only"


def _has_key(requested: RequestedIntermediate, key: CertificatePublicKeyTypes) -> bool:
    """Return whether a requested intermediate has this public key."""
    with suppress(PkiError):  # a damaged certificate request is a fault of that intermediate
        requested_key = keys.read_request_key(requested.request.encode(), requested.name)
        return keys.public_der(requested_key) == keys.public_der(key)
    return False


def _date_faults(
    request: Request, start: datetime, end: datetime, issuer: str, contents: VaultContents
) -> Iterator[str]:
    """Check that dates are in order, begin about the day of the request, and are within those of the issuer.

    A path is valid only while all certificates in it are valid (RFC 5280 §6.1.3), so a certificate that outlives its
    issuer would be refused before it expires.
    """
    periods = {root.name: (root.not_before, root.not_after) for root in request.roots}
    certificate = contents.roots.get(issuer)
    first, last = (
        (certificate.not_valid_before_utc, certificate.not_valid_after_utc) if certificate else periods[issuer]
    )
    if not start < end:
        yield f"would end on {end:%Y-%m-%d}, before it begins on {start:%Y-%m-%d}"
    if fault := _start_fault(request, start):
        yield fault
    if start < first or end > last:
        yield f"would be valid outside the lifetime of {issuer}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _cross_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    """Check that an older root certifies a root that this ceremony creates, and the dates of the cross-certificate."""
    for requested in request.cross_certificates:
        if requested.name == requested.issuer:
            yield f"{requested.name} cannot certify itself"
            continue
        if GenerationName.parse(requested.name).authority != GenerationName.parse(requested.issuer).authority:
            yield f"{requested.name} by {requested.issuer}: clusters have a root of their own, which certifies no other root"
        if all(root.name != requested.name for root in request.roots):
            yield f"{requested.name} by {requested.issuer}: {requested.name} is not a root that this ceremony creates"
        for fault in _date_faults(request, requested.not_before, requested.not_after, requested.issuer, contents):
            yield f"{requested.name} by {requested.issuer}: {fault}"


def _series_faults(request: Request, series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    """Check the dates, the numbers and the entries of a series of pre-signed CRLs."""
    new_roots = {root.name: root.not_after for root in request.roots}
    root_expiry = new_roots.get(series.root) or contents.roots[series.root].not_valid_after_utc
    previous = None
    for presigned_crl in series.presigned_crls:
        start, end = presigned_crl.this_update, presigned_crl.next_update
        if not start < end <= start + PRESIGNED_CRL_LIMIT or start >= root_expiry:
            yield (
                f"CRL {presigned_crl.number} would be valid from {start:%Y-%m-%d} to {end:%Y-%m-%d}; at most "
                f"{_years(PRESIGNED_CRL_LIMIT)} are possible, and it must begin before {series.root} expires on {root_expiry:%Y-%m-%d}"
            )
        if previous and not previous.this_update < start <= previous.next_update:
            yield (
                f"CRL {presigned_crl.number} would leave a gap after CRL {previous.number}: it would begin on {start:%Y-%m-%d}; "
                f"expected a day from {previous.this_update:%Y-%m-%d} to {previous.next_update:%Y-%m-%d}"
            )
        previous = presigned_crl
    yield from _number_faults(request, series, contents)
    if series.presigned_crls[0].this_update > request.prepared:
        yield (
            f"its first CRL would begin in the future, on {series.presigned_crls[0].this_update:%Y-%m-%d}; "
            f"expected the day of the request, {request.prepared:%Y-%m-%d}, or earlier"
        )
    yield from _revocation_faults(request, series, contents)
    if earlier_series := contents.last_series(series.root):
        yield from _replacement_faults(request, series, earlier_series, contents)


def _number_faults(request: Request, series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    """Check that CRL numbers rise (RFC 5280 §5.2.3), and without large gaps, so that later ceremonies have numbers left."""
    previous_number = contents.highest_number(series.root)
    for presigned_crl in series.presigned_crls:
        if presigned_crl.number <= previous_number:
            yield f"CRL {presigned_crl.number} does not have a higher number than {previous_number}"
        # The usual number of a CRL is its start in seconds since 1970 (plan_presigned_crls), which rises by itself.
        highest_number = max(int(presigned_crl.this_update.timestamp()), previous_number + MAX_NUMBER_GAP)
        if not _is_rehearsal(request, contents) and presigned_crl.number > highest_number:
            yield f"CRL {presigned_crl.number} is far above {previous_number}; at most {highest_number} is possible"
        previous_number = presigned_crl.number


def _is_rehearsal(request: Request, contents: VaultContents) -> bool:
    """Return whether the vault is that of a rehearsal: substitutes for the existing roots, and no past ceremonies.

    Such a vault does not show which numbers of CRLs are in use, nor which certificates a root signed.
    """
    return bool(request.pinned) and not contents.history


def _revocation_faults(request: Request, series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    """Check that name and serial number belong to one certificate: the operator sees the name, the CRL has the number."""
    signed_serials = {
        (past.name, past.certificate.serial_number) for past in contents.issued if past.issuer == series.root
    }
    for entry in series.revoked:
        if (entry.generation, entry.serial) not in signed_serials and not _is_rehearsal(request, contents):
            yield f"{entry.generation} with the serial number {entry.serial:x} was never signed by {series.root}"
    for name in _twice(entry.generation for entry in series.revoked):
        yield f"{name} is listed twice"


def _replacement_faults(
    request: Request, series: RequestedSeries, earlier: RequestedSeries, contents: VaultContents
) -> Iterator[str]:
    """Check that a new series of pre-signed CRLs keeps earlier entries and replaces every earlier CRL.

    An entry may be left out after its certificate has expired (RFC 5280 §3.3).
    """
    new_serials = {entry.serial for entry in series.revoked}
    expiry_by_serial = {
        past.certificate.serial_number: past.certificate.not_valid_after_utc for past in contents.issued
    }
    for entry in earlier.revoked:
        expiry = expiry_by_serial.get(entry.serial)
        may_be_left_out = expiry is not None and expiry < request.prepared - CLOCK_TOLERANCE
        if entry.serial not in new_serials and not may_be_left_out:
            yield f"{entry.generation} (serial number {entry.serial:x}) was revoked in an earlier ceremony and is not listed"
    for old_crl in earlier.presigned_crls:
        if old_crl.next_update > request.prepared and not _is_replaced(old_crl.this_update, series, request.prepared):
            yield f"nothing replaces CRL {old_crl.number} of an earlier ceremony, which begins on {old_crl.this_update:%Y-%m-%d}"
    last_expiry = max(old_crl.next_update for old_crl in earlier.presigned_crls)
    new_expiry = series.presigned_crls[-1].next_update
    if new_expiry < last_expiry:
        yield f"it ends on {new_expiry:%Y-%m-%d}, before the series that it replaces, which ends on {last_expiry:%Y-%m-%d}"


def _is_replaced(old_start: datetime, series: RequestedSeries, prepared: datetime) -> bool:
    """Return whether a CRL of the new series begins after an earlier CRL, and soon enough to replace it.

    Many servers use the CRL with the newest thisUpdate, so a copy of the earlier CRL must soon have a newer one beside it:
    at most MAX_REPLACEMENT_DELAY after its own start or, if it has begun already, after the request.
    """
    latest = max(old_start, prepared) + MAX_REPLACEMENT_DELAY
    return any(old_start < presigned_crl.this_update <= latest for presigned_crl in series.presigned_crls)


def _destruction_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    """Check that no root key is destroyed that is still needed: to sign, or for the CRLs of valid certificates."""
    roots = list(dict.fromkeys([*contents.roots, *(requested.name for requested in request.roots)]))
    for root in request.destroy:
        if root not in contents.roots:
            yield f"{root} is to be destroyed and is not in this vault"
            continue
        same_authority = [
            name for name in roots if GenerationName.parse(name).authority == GenerationName.parse(root).authority
        ]
        if root == same_authority[-1]:
            yield f"{root} is the root that signs; there must be another one before its key is destroyed"
        crls_until = max(
            (series.presigned_crls[-1].next_update for series in request.crl_series if series.root == root),
            default=None,
        )
        for name, issuer, certificate in contents.issued:
            expiry = certificate.not_valid_after_utc
            needs_crls = issuer == root != name and expiry > request.prepared  # also if revoked: the CRLs must list it
            if needs_crls and (crls_until is None or crls_until < expiry):
                yield f"{root} must first sign CRLs until {name} expires on {expiry:%Y-%m-%d}"
