"""What a root may be asked: everything in a request that the operator need not judge, because it is never right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.ceremony import drafts
from pki.ceremony.request_response import NOTHING, SLACK, AskedIntermediate, AskedRoot, Request, RequestedSeries
from pki.ceremony.vault import Past, fingerprint
from pki.common.errors import PkiError
from pki.config.fields import SANDBOX
from pki.config.identifiers import GenerationName
from pki.config.limits import PRESIGNED_CRL_LIMIT, ROOT_LIMIT
from pki.x509 import keys
from pki.x509.weak_keys import find_weakness

LEAP = 100  # numbers that a request may skip: without a bound, one request could use up all that there are
KEYS = ("ec-p256", "ec-p384", "rsa-3072", "rsa-4096")


@dataclass(frozen=True, slots=True)
class Known:
    """What the vault knows: roots by name, and the ceremonies that were held with them."""

    roots: dict[str, x509.Certificate]
    history: list[Past]

    @property
    def last(self) -> Past | None:
        return self.history[-1] if self.history else None

    @property
    def issued(self) -> list[tuple[str, str, x509.Certificate]]:
        """Name, issuer and certificate of all that was ever signed."""
        return [(one.name, one.issuer, one.certificate) for past in self.history for one in past.response.certificates]

    def is_ahead_of(self, request: Request) -> bool:
        """Whether a request follows an earlier ceremony than the last one, or none: its project lost the later ones."""
        before = [NOTHING, *(past.digest for past in self.history)]
        return request.previous in before[:-1]

    def is_behind(self, request: Request) -> bool:
        """Whether a request follows a ceremony that the vault does not know: it is an older drive, or another vault."""
        return bool(self.history) and request.previous not in [NOTHING, *(past.digest for past in self.history)]

    def last_series(self, root: str) -> RequestedSeries | None:
        found = [series for past in self.history for series in past.request.crl_series if series.root == root]
        return found[-1] if found else None

    def highest_number(self, root: str) -> int:
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
    """The CN of a CA, a name of its own for each generation: `Example Lab Server CA 1`."""
    name = GenerationName.parse(generation)
    return f"{organisation} {f'{SANDBOX} ' if sandbox else ''}{name.authority.capitalize()} CA {name.number}"


def faults(request: Request, known: Known, *, roots_are_made: bool) -> list[str]:
    """Everything in a request that must not be signed. `roots_are_made` says that new roots lie in the vault by now."""
    found = [*_sequence_faults(request, known), *_root_faults(request, known, roots_are_made=roots_are_made)]
    if found:
        return found
    found += _name_faults(request, known)
    for asked in request.intermediates:
        found += [f"{asked.name}: {fault}" for fault in _intermediate_faults(request, asked, known)]
    found += _cross_faults(request, known)
    for series in request.crl_series:
        found += [
            f"the series of pre-signed CRLs of {series.root}: {fault}"
            for fault in _series_faults(request, series, known)
        ]
    return found + list(_destruction_faults(request, known))


def _sequence_faults(request: Request, known: Known) -> Iterator[str]:
    """A request follows the ceremony that was held last, and no other."""
    last = known.last
    if request.previous != (last.digest if last else NOTHING):
        said = f"the ceremony {last.number}, which is the last one here" if last else "no ceremony: none was held here"
        yield f"it does not follow {said}; accept that ceremony's response first, then make a new request"
    if last and request.number <= last.number:
        yield f"its number {request.number} is not above that of the last ceremony, {last.number}"
    if request.number > (last.number if last else 0) + LEAP:
        yield f"its number {request.number} leaps far ahead of the last ceremony, {last.number if last else 0}"
    if last and request.organisation != last.request.organisation:
        yield f"it speaks of {request.organisation}, the vault is that of {last.request.organisation}"
    if last and request.sandbox != last.request.sandbox:
        yield "a sandbox and a real project never share a root"
    for name in _twice(series.root for series in request.crl_series):
        yield f"{name} would have two series of pre-signed CRLs"


def _root_faults(request: Request, known: Known, *, roots_are_made: bool) -> Iterator[str]:
    """The request and the vault must mean the same roots."""
    asked = {root.name: root for root in request.roots}
    for name, pinned in request.pinned.items():
        if name not in known.roots:
            yield f"{name} is not in this vault"
        elif fingerprint(known.roots[name]) != pinned:
            yield f"{name} in this vault is not the {name} that the request means"
    for name, cert in known.roots.items():
        if name not in request.pinned:
            yield from _vault_faults(request, asked.get(name), name, cert)
    for name, root in asked.items():
        yield from _new_root_faults(request, root)
        if roots_are_made and name not in known.roots:
            yield f"{name} is not on this drive; is this the vault on which ceremony.root made it?"
    for name in request.root_names:
        if name not in known.roots and name not in asked:
            yield f"{name} is needed, and neither in the vault nor asked for"


def _vault_faults(request: Request, asked: AskedRoot | None, name: str, cert: x509.Certificate) -> Iterator[str]:
    """A root that the vault holds and the request does not pin must be the one that it asks for."""
    if asked is None:
        yield f"the vault holds {name}, which the request does not know"
    elif differences := list(drafts.root(request, asked, cert.public_key()).differences(cert)):
        yield f"{name} in the vault was made for another request: {'; '.join(differences)}"


def _new_root_faults(request: Request, root: AskedRoot) -> Iterator[str]:
    if root.name in request.pinned:
        yield f"{root.name} is asked for and exists already"
    if not root.not_before < root.not_after <= root.not_before + ROOT_LIMIT:
        yield f"{root.name} would live from {root.not_before:%Y-%m-%d} to {root.not_after:%Y-%m-%d}"
    if abs(root.not_before - request.prepared) > timedelta(days=2):
        yield f"{root.name} would begin on {root.not_before:%Y-%m-%d}, far from the day of the request"
    if all(series.root != root.name for series in request.crl_series):
        yield f"{root.name} would have no CRL, and servers refuse every client of a root without one"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _name_faults(request: Request, known: Known) -> Iterator[str]:
    used = {name for name, _, _ in known.issued}
    asked = [*((root.name, root.common_name) for root in request.roots)]
    asked += [(one.name, one.common_name) for one in request.intermediates]
    for name, cn in asked:
        if name in used:
            yield f"{name}: was made in an earlier ceremony; every generation has a name of its own"
        if cn != common_name(request.organisation, name, sandbox=request.sandbox):
            yield f"{name}: would be called {cn!r}"
        used.add(name)


def _intermediate_faults(request: Request, asked: AskedIntermediate, known: Known) -> Iterator[str]:
    try:
        key = keys.read_request_key(asked.request.encode(), f"the request of {asked.name}")
        weak = find_weakness(key)
    except PkiError as error:
        yield error.message
        return
    if weak:
        yield f"its key is weak: {weak}"
    if keys.key_kind(key) not in KEYS:
        yield f"a key of kind {keys.key_kind(key)}; expected one of {', '.join(KEYS)}"
    if any(keys.public_der(cert.public_key()) == keys.public_der(key) for _, _, cert in known.issued):
        yield "its key is that of an earlier certificate; a new generation has a new key"
    twins = [one.name for one in request.intermediates if one.name != asked.name and _has_key(one, key)]
    if twins:
        yield f"its key is that of {twins[0]}; every generation has a key of its own"
    yield from _date_faults(request, asked.not_before, asked.not_after, asked.issuer, known)


def _has_key(asked: AskedIntermediate, key: CertificatePublicKeyTypes) -> bool:
    with suppress(PkiError):
        return keys.public_der(keys.read_request_key(asked.request.encode(), asked.name)) == keys.public_der(key)
    return False


def _date_faults(request: Request, start: datetime, end: datetime, issuer: str, known: Known) -> Iterator[str]:
    """Dates lie in order, begin about now, and stay within the issuer's."""
    made = {root.name: (root.not_before, root.not_after) for root in request.roots}
    cert = known.roots.get(issuer)
    first, last = (cert.not_valid_before_utc, cert.not_valid_after_utc) if cert else made[issuer]
    if not start < end:
        yield f"would end on {end:%Y-%m-%d}, before it begins"
    if abs(start - request.prepared) > timedelta(days=2):
        yield f"would begin on {start:%Y-%m-%d}, far from the day of the request"
    if start < first or end > last:
        yield f"would be valid outside the life of {issuer}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _cross_faults(request: Request, known: Known) -> Iterator[str]:
    for asked in request.cross_certificates:
        if asked.name == asked.issuer:
            yield f"{asked.name} cannot certify itself"
            continue
        if all(root.name != asked.name for root in request.roots):
            yield f"{asked.name} by {asked.issuer}: {asked.name} is not a root that is made in this ceremony"
        for fault in _date_faults(request, asked.not_before, asked.not_after, asked.issuer, known):
            yield f"{asked.name} by {asked.issuer}: {fault}"


def _series_faults(request: Request, series: RequestedSeries, known: Known) -> Iterator[str]:
    made = {root.name: root.not_after for root in request.roots}
    ends = made.get(series.root) or known.roots[series.root].not_valid_after_utc
    before = None
    for presigned_crl in series.presigned_crls:
        if (
            not presigned_crl.this_update < presigned_crl.next_update <= presigned_crl.this_update + PRESIGNED_CRL_LIMIT
            or presigned_crl.this_update >= ends
        ):
            yield f"CRL {presigned_crl.number} would live from {presigned_crl.this_update:%Y-%m-%d} to {presigned_crl.next_update:%Y-%m-%d}"
        if before and not before.this_update < presigned_crl.this_update <= before.next_update:
            yield f"CRL {presigned_crl.number} would leave a gap after CRL {before.number}"
        before = presigned_crl
    yield from _number_faults(request, series, known)
    if series.presigned_crls[0].this_update > request.prepared:
        yield "its first CRL would begin in the future"
    yield from _revocation_faults(series, known)
    if earlier := known.last_series(series.root):
        yield from _replacement_faults(request, series, earlier, known)


def _number_faults(request: Request, series: RequestedSeries, known: Known) -> Iterator[str]:
    """Numbers rise, and do not leap: they are what a later ceremony has left."""
    above, is_rehearsal = known.highest_number(series.root), bool(request.pinned) and not known.history
    for presigned_crl in series.presigned_crls:
        if presigned_crl.number <= above:
            yield f"CRL {presigned_crl.number} does not have a higher number than {above}"
        if not is_rehearsal and presigned_crl.number > max(int(presigned_crl.this_update.timestamp()), above + LEAP):
            yield f"CRL {presigned_crl.number} leaps far ahead of {above}"
        above = presigned_crl.number


def _revocation_faults(series: RequestedSeries, known: Known) -> Iterator[str]:
    """What is to be revoked is shown by its name and revoked by its serial number: the two must be of one certificate."""
    signed = {(name, cert.serial_number) for name, issuer, cert in known.issued if issuer == series.root}
    for one in series.revoked:
        if known.history and (one.generation, one.serial) not in signed:  # a rehearsal has no history
            yield f"{one.generation} with the serial {one.serial:x} was never signed by {series.root}"
    for name in _twice(one.generation for one in series.revoked):
        yield f"{name} is listed twice"


def _replacement_faults(
    request: Request, series: RequestedSeries, earlier: RequestedSeries, known: Known
) -> Iterator[str]:
    """A series of pre-signed CRLs takes nothing back before its end, and leaves no earlier CRL that servers would believe more."""
    listed = {one.serial for one in series.revoked}
    ends = {cert.serial_number: cert.not_valid_after_utc for _, _, cert in known.issued}
    for one in earlier.revoked:
        end = ends.get(one.serial)
        if one.serial not in listed and (end is None or end >= request.prepared - SLACK):
            yield f"{one.generation} (serial {one.serial:x}) was revoked in an earlier ceremony and is not listed"
    for old in earlier.presigned_crls:
        if old.next_update > request.prepared and not _is_replaced(old.this_update, series, request.prepared):
            yield f"nothing replaces the CRL {old.number} of an earlier ceremony, which begins on {old.this_update:%Y-%m-%d}"
    last = max(old.next_update for old in earlier.presigned_crls)
    if series.presigned_crls[-1].next_update < last:
        yield f"it ends on {series.presigned_crls[-1].next_update:%Y-%m-%d}, before the one that it replaces, {last:%Y-%m-%d}"


def _is_replaced(begins: datetime, series: RequestedSeries, prepared: datetime) -> bool:
    """Whether a pre-signed CRL begins after an earlier one's begin and hardly later: servers believe the newest thisUpdate."""
    latest = max(begins, prepared) + timedelta(hours=1)
    return any(begins < presigned_crl.this_update <= latest for presigned_crl in series.presigned_crls)


def _destruction_faults(request: Request, known: Known) -> Iterator[str]:
    for root in request.destroy:
        if root not in known.roots:
            yield f"{root} is to be destroyed and is not in this vault"
            continue
        if root == [*known.roots, *(made.name for made in request.roots if made.name not in known.roots)][-1]:
            yield f"{root} is the root that signs; there must be another one before it is destroyed"
        end = max(
            (series.presigned_crls[-1].next_update for series in request.crl_series if series.root == root),
            default=None,
        )
        for name, issuer, cert in known.issued:
            lives = cert.not_valid_after_utc > request.prepared  # a revoked one more than any other must stay listed
            if issuer == root and name != root and lives and (end is None or end < cert.not_valid_after_utc):
                yield f"{root} must first sign CRLs until {name} ends on {cert.not_valid_after_utc:%Y-%m-%d}"
