"""The policy: what a request may ask a root to do. A request with a fault is refused, whatever the operator says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
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
from pki.ceremony.vault import PastCeremony
from pki.common.errors import PkiError
from pki.config.fields import SANDBOX
from pki.config.identifiers import GenerationName
from pki.config.limits import PRESIGNED_CRL_LIMIT, ROOT_LIMIT
from pki.x509 import keys
from pki.x509.canonical import fingerprint
from pki.x509.weak_keys import find_weakness

MAX_NUMBER_GAP = 100  # numbers that a request may skip: without a limit, one request could use up all of them
KEY_KINDS = ("ec-p256", "ec-p384", "rsa-3072", "rsa-4096")


@dataclass(frozen=True, slots=True)
class VaultContents:
    """The root certificates in a vault by name, and its past ceremonies, the oldest first."""

    roots: dict[str, x509.Certificate]
    history: list[PastCeremony]

    @property
    def last(self) -> PastCeremony | None:
        """Return the last ceremony, or None before the first one."""
        return self.history[-1] if self.history else None

    @property
    def issued(self) -> list[tuple[str, str, x509.Certificate]]:
        """Return the name, issuer and certificate of everything that was ever signed."""
        return [
            (certificate.name, certificate.issuer, certificate.certificate)
            for past in self.history
            for certificate in past.response.certificates
        ]

    def is_ahead_of(self, request: Request) -> bool:
        """Return whether a request follows an earlier ceremony than the last one: its project lost the later ones."""
        before = [NO_RESPONSE, *(past.response_digest for past in self.history)]
        return request.previous in before[:-1]

    def is_behind(self, request: Request) -> bool:
        """Return whether a request follows a ceremony that the vault does not have: it is an older drive, or another vault."""
        return bool(self.history) and request.previous not in [
            NO_RESPONSE,
            *(past.response_digest for past in self.history),
        ]

    def last_series(self, root: str) -> RequestedSeries | None:
        """Return the series of pre-signed CRLs that was requested last for a root, or None."""
        all_series = [series for past in self.history for series in past.request.crl_series if series.root == root]
        return all_series[-1] if all_series else None

    def highest_number(self, root: str) -> int:
        """Return the highest CRL number of a root, or 0."""
        return max(
            (
                presigned_crl.number
                for past in self.history
                for presigned_crl in past.response.presigned_crls
                if presigned_crl.root == root
            ),
            default=0,
        )


def common_name(organisation: str, generation: str, *, sandbox: bool) -> str:
    """Return the common name of a CA, different for each generation: `Example Lab Server CA 1`."""
    name = GenerationName.parse(generation)
    return f"{organisation} {f'{SANDBOX} ' if sandbox else ''}{name.authority.capitalize()} CA {name.number}"


def faults(request: Request, contents: VaultContents, *, roots_are_made: bool) -> list[str]:
    """Return every fault of a request; empty when it may be signed. With `roots_are_made`, new roots must be in the vault."""
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
    """Yield a fault unless the request follows the last ceremony in the vault."""
    last = contents.last
    if request.previous != (last.response_digest if last else NO_RESPONSE):
        expected = (
            f"the ceremony {last.number}, which is the last one here" if last else "no ceremony: none was held here"
        )
        yield f"it does not follow {expected}; accept that ceremony's response first, then make a new request"
    if last and request.number <= last.number:
        yield f"its number {request.number} is not above that of the last ceremony, {last.number}"
    if request.number > (last.number if last else 0) + MAX_NUMBER_GAP:
        yield f"its number {request.number} leaps far ahead of the last ceremony, {last.number if last else 0}"
    if last and request.organisation != last.request.organisation:
        yield f"it speaks of {request.organisation}, the vault is that of {last.request.organisation}"
    if last and request.sandbox != last.request.sandbox:
        yield "a sandbox and a real project never share a root"
    for name in _twice(series.root for series in request.crl_series):
        yield f"{name} would have two series of pre-signed CRLs"


def _root_faults(request: Request, contents: VaultContents, *, roots_are_made: bool) -> Iterator[str]:
    """Yield where the roots of the request and of the vault differ."""
    new_roots = {root.name: root for root in request.roots}
    for name, fingerprint_in_request in request.pinned.items():
        if name not in contents.roots:
            yield f"{name} is not in this vault"
        elif fingerprint(contents.roots[name]) != fingerprint_in_request:
            yield f"{name} in this vault is not the {name} of the request"
    for name, certificate in contents.roots.items():
        if name not in request.pinned:
            yield from _vault_faults(request, new_roots.get(name), name, certificate)
    for name, root in new_roots.items():
        yield from _new_root_faults(request, root)
        if roots_are_made and name not in contents.roots:
            yield f"{name} is not on this drive; is this the vault on which ceremony.root made it?"
    for name in request.root_names:
        if name not in contents.roots and name not in new_roots:
            yield f"{name} is needed, and neither in the vault nor requested"


def _vault_faults(
    request: Request, requested: RequestedRoot | None, name: str, certificate: x509.Certificate
) -> Iterator[str]:
    """Check a root in the vault that the request does not pin: it must be a root that this request asks to create."""
    if requested is None:
        yield f"the vault has {name}, which the request does not mention"
    elif differences := list(drafts.draft_root(request, requested, certificate.public_key()).differences(certificate)):
        yield f"{name} in the vault was made for another request: {'; '.join(differences)}"


def _new_root_faults(request: Request, root: RequestedRoot) -> Iterator[str]:
    if root.name in request.pinned:
        yield f"{root.name} is requested and exists already"
    if not root.not_before < root.not_after <= root.not_before + ROOT_LIMIT:
        yield f"{root.name} would be valid from {root.not_before:%Y-%m-%d} to {root.not_after:%Y-%m-%d}"
    if abs(root.not_before - request.prepared) > timedelta(days=2):
        yield f"{root.name} would begin on {root.not_before:%Y-%m-%d}, far from the day of the request"
    if all(series.root != root.name for series in request.crl_series):
        yield f"{root.name} would have no CRL, and servers refuse every client of a root without one"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _name_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    used = {name for name, _, _ in contents.issued}
    names = [*((root.name, root.common_name) for root in request.roots)]
    names += [(intermediate.name, intermediate.common_name) for intermediate in request.intermediates]
    for name, cn in names:
        if name in used:
            yield f"{name}: was created in an earlier ceremony; every generation needs a new name"
        if cn != common_name(request.organisation, name, sandbox=request.sandbox):
            yield f"{name}: would be called {cn!r}"
        used.add(name)


def _intermediate_faults(request: Request, requested: RequestedIntermediate, contents: VaultContents) -> Iterator[str]:
    try:
        key = keys.read_request_key(requested.request.encode(), f"the request of {requested.name}")
        weak = find_weakness(key)
    except PkiError as error:
        yield error.message
        return
    if weak:
        yield f"its key is weak: {weak}"
    if keys.key_kind(key) not in KEY_KINDS:
        yield f"a key of kind {keys.key_kind(key)}; expected one of {', '.join(KEY_KINDS)}"
    if any(keys.public_der(certificate.public_key()) == keys.public_der(key) for _, _, certificate in contents.issued):
        yield "its key is that of an earlier certificate; a new generation needs a new key"
    twins = [
        intermediate.name
        for intermediate in request.intermediates
        if intermediate.name != requested.name and _has_key(intermediate, key)
    ]
    if twins:
        yield f"its key is also that of {twins[0]}; every generation needs its own key"
    yield from _date_faults(request, requested.not_before, requested.not_after, requested.issuer, contents)


def _has_key(requested: RequestedIntermediate, key: CertificatePublicKeyTypes) -> bool:
    with suppress(PkiError):
        return keys.public_der(keys.read_request_key(requested.request.encode(), requested.name)) == keys.public_der(
            key
        )
    return False


def _date_faults(
    request: Request, start: datetime, end: datetime, issuer: str, contents: VaultContents
) -> Iterator[str]:
    """Check that dates are in order, begin about now, and are within those of the issuer (RFC 5280 §6.1.3)."""
    periods = {root.name: (root.not_before, root.not_after) for root in request.roots}
    certificate = contents.roots.get(issuer)
    first, last = (
        (certificate.not_valid_before_utc, certificate.not_valid_after_utc) if certificate else periods[issuer]
    )
    if not start < end:
        yield f"would end on {end:%Y-%m-%d}, before it begins"
    if abs(start - request.prepared) > timedelta(days=2):
        yield f"would begin on {start:%Y-%m-%d}, far from the day of the request"
    if start < first or end > last:
        yield f"would be valid outside the lifetime of {issuer}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _cross_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    for requested in request.cross_certificates:
        if requested.name == requested.issuer:
            yield f"{requested.name} cannot certify itself"
            continue
        if all(root.name != requested.name for root in request.roots):
            yield f"{requested.name} by {requested.issuer}: {requested.name} is not a root that this ceremony creates"
        for fault in _date_faults(request, requested.not_before, requested.not_after, requested.issuer, contents):
            yield f"{requested.name} by {requested.issuer}: {fault}"


def _series_faults(request: Request, series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    root_ends = {root.name: root.not_after for root in request.roots}
    ends = root_ends.get(series.root) or contents.roots[series.root].not_valid_after_utc
    before = None
    for presigned_crl in series.presigned_crls:
        if (
            not presigned_crl.this_update < presigned_crl.next_update <= presigned_crl.this_update + PRESIGNED_CRL_LIMIT
            or presigned_crl.this_update >= ends
        ):
            yield f"CRL {presigned_crl.number} would be valid from {presigned_crl.this_update:%Y-%m-%d} to {presigned_crl.next_update:%Y-%m-%d}"
        if before and not before.this_update < presigned_crl.this_update <= before.next_update:
            yield f"CRL {presigned_crl.number} would leave a gap after CRL {before.number}"
        before = presigned_crl
    yield from _number_faults(request, series, contents)
    if series.presigned_crls[0].this_update > request.prepared:
        yield "its first CRL would begin in the future"
    yield from _revocation_faults(series, contents)
    if earlier := contents.last_series(series.root):
        yield from _replacement_faults(request, series, earlier, contents)


def _number_faults(request: Request, series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    """Check that CRL numbers rise without large gaps, so that later ceremonies have numbers left (RFC 5280 §5.2.3)."""
    above, is_rehearsal = contents.highest_number(series.root), bool(request.pinned) and not contents.history
    for presigned_crl in series.presigned_crls:
        if presigned_crl.number <= above:
            yield f"CRL {presigned_crl.number} does not have a higher number than {above}"
        if not is_rehearsal and presigned_crl.number > max(
            int(presigned_crl.this_update.timestamp()), above + MAX_NUMBER_GAP
        ):
            yield f"CRL {presigned_crl.number} is far above {above}"
        above = presigned_crl.number


def _revocation_faults(series: RequestedSeries, contents: VaultContents) -> Iterator[str]:
    """Check that name and serial number belong to one certificate: the operator sees the name, the CRL has the number."""
    signed = {
        (name, certificate.serial_number) for name, issuer, certificate in contents.issued if issuer == series.root
    }
    for entry in series.revoked:
        if contents.history and (entry.generation, entry.serial) not in signed:  # a rehearsal has no history
            yield f"{entry.generation} with the serial number {entry.serial:x} was never signed by {series.root}"
    for name in _twice(entry.generation for entry in series.revoked):
        yield f"{name} is listed twice"


def _replacement_faults(
    request: Request, series: RequestedSeries, earlier: RequestedSeries, contents: VaultContents
) -> Iterator[str]:
    """Check that a new series of pre-signed CRLs keeps earlier entries and replaces every earlier CRL.

    An entry may be left out after its certificate has expired. RFC 5280 §5.2.3: a newer CRL has a higher number.
    """
    listed = {entry.serial for entry in series.revoked}
    ends = {certificate.serial_number: certificate.not_valid_after_utc for _, _, certificate in contents.issued}
    for entry in earlier.revoked:
        end = ends.get(entry.serial)
        if entry.serial not in listed and (end is None or end >= request.prepared - CLOCK_TOLERANCE):
            yield f"{entry.generation} (serial number {entry.serial:x}) was revoked in an earlier ceremony and is not listed"
    for old in earlier.presigned_crls:
        if old.next_update > request.prepared and not _is_replaced(old.this_update, series, request.prepared):
            yield f"nothing replaces CRL {old.number} of an earlier ceremony, which begins on {old.this_update:%Y-%m-%d}"
    last = max(old.next_update for old in earlier.presigned_crls)
    if series.presigned_crls[-1].next_update < last:
        yield f"it ends on {series.presigned_crls[-1].next_update:%Y-%m-%d}, before the one that it replaces, {last:%Y-%m-%d}"


def _is_replaced(begins: datetime, series: RequestedSeries, prepared: datetime) -> bool:
    """Return whether a new CRL begins at most an hour after the earlier one: many servers prefer the newest thisUpdate."""
    latest = max(begins, prepared) + timedelta(hours=1)
    return any(begins < presigned_crl.this_update <= latest for presigned_crl in series.presigned_crls)


def _destruction_faults(request: Request, contents: VaultContents) -> Iterator[str]:
    """Check that no root key is destroyed that is still needed."""
    for root in request.destroy:
        if root not in contents.roots:
            yield f"{root} is to be destroyed and is not in this vault"
            continue
        if (
            root
            == [
                *contents.roots,
                *(root_request.name for root_request in request.roots if root_request.name not in contents.roots),
            ][-1]
        ):
            yield f"{root} is the root that signs; there must be another one before its key is destroyed"
        end = max(
            (series.presigned_crls[-1].next_update for series in request.crl_series if series.root == root),
            default=None,
        )
        for name, issuer, certificate in contents.issued:
            lives = certificate.not_valid_after_utc > request.prepared  # also a revoked one: it must stay on the CRLs
            if issuer == root and name != root and lives and (end is None or end < certificate.not_valid_after_utc):
                yield f"{root} must first sign CRLs until {name} expires on {certificate.not_valid_after_utc:%Y-%m-%d}"
