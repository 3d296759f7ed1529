"""Why a leaf certificate is out of date, and how it is issued.

A certificate is recorded in the ledger before it is in any file, and the PEM bundle is written before the files that
are split from it. A run that is killed at any point therefore leaves nothing that misleads the next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.authority.ca_state import check_begun
from pki.authority.leaf_bundle import Bundle, is_pair, parse_bundle
from pki.authority.leaf_files import file_faults, file_names, stopped_damage, stopped_reasons, wrong_mode
from pki.authority.renewal import Current, gains_time, renewal_reasons
from pki.common import filesystem
from pki.common.cache import Cache, digest_of
from pki.common.durations import in_words
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined, joined_past
from pki.common.remedies import here
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory, Leaf
from pki.project.authorities import Authorities
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.ledger_revocations import Revocations
from pki.project.ledger_view import LedgerView
from pki.project.project import Project
from pki.x509 import canonical, certificate_signing, keys, pem_encoding, profiles
from pki.x509.certificate_names import common_name
from pki.x509.certificate_signing import subject_name
from pki.x509.device_requests import read_device_key, read_unverified_key
from pki.x509.keys import key_kind, public_der
from pki.x509.weak_keys import find_weakness


@dataclass(frozen=True, slots=True)
class LeafCertificates:
    """The leaf certificates of a project: why each is out of date, and how it is issued."""

    project: Project

    def stale_reasons(self, leaf: Leaf) -> list[Reason]:
        """Return why a leaf must be issued again, or its files split again from its PEM bundle."""
        name = leaf.artifact
        if name in self.project.revocations.replacement_stopped:
            return stopped_damage(
                self.project.store, self.project.authorities, self.project.revocations, leaf
            ) or file_faults(self.project.store, leaf)
        issuer = self.project.authorities.issuing(leaf.authority)
        cache_key = _cache_key(self.project.inventory, self.project.store, leaf, issuer)
        cached = _cached(self.project.cache, name, cache_key)
        if cached is not None:
            return _revocation(
                self.project.ledger_view, self.project.revocations, leaf, cached.serial, unchanged=True
            ) or renewal_reasons(self.project.now, self.project.signing_keys, leaf, cached, issuer)
        result = self.examine(leaf)
        if isinstance(result, list):
            return result
        damaged = file_faults(self.project.store, leaf)
        if not damaged:
            dates = int(result.not_before.timestamp()), int(result.not_after.timestamp())
            self.project.cache.remember(
                name, cache_key, file_names(self.project.store, leaf), [*dates, f"{result.serial:x}"]
            )
        return renewal_reasons(self.project.now, self.project.signing_keys, leaf, result, issuer) or damaged

    def delivery_faults(self, leaf: Leaf) -> list[Reason]:
        """Return why the files of a leaf cannot be delivered; empty when they are intact.

        The files are read again: the cache is not used.
        """
        if leaf.artifact in self.project.revocations.replacement_stopped:
            return stopped_damage(
                self.project.store, self.project.authorities, self.project.revocations, leaf
            ) or file_faults(self.project.store, leaf)
        result = self.examine(leaf)
        return result if isinstance(result, list) else file_faults(self.project.store, leaf)

    def current(self, leaf: Leaf) -> Current | None:
        """Return dates and serial number of the certificate of a leaf; None when it must be issued again at once.

        Its content is as pki.yaml declares it, and it is not revoked. Its dates are not checked.
        """
        cache_key = _cache_key(
            self.project.inventory, self.project.store, leaf, self.project.authorities.issuing(leaf.authority)
        )
        result = _cached(self.project.cache, leaf.artifact, cache_key) or self.examine(leaf)
        return (
            None
            if isinstance(result, list)
            or _revocation(self.project.ledger_view, self.project.revocations, leaf, result.serial, unchanged=True)
            else result
        )

    def issue_reasons(self, leaf: Leaf) -> list[Reason]:
        """Return why a leaf must be issued again; the files that are split from its PEM bundle do not count."""
        result = self.examine(leaf)
        return (
            result
            if isinstance(result, list)
            else renewal_reasons(
                self.project.now,
                self.project.signing_keys,
                leaf,
                result,
                self.project.authorities.issuing(leaf.authority),
            )
        )

    def blocked_by(self, leaf: Leaf) -> Reason | None:
        """Return why a leaf that is due cannot be renewed with any gain; None when nothing prevents it.

        Its issuer expires so soon that a renewed certificate would not last longer: a ceremony is needed first.
        """
        issuer = self.project.authorities.issuing(leaf.authority)
        if issuer is None:
            return None
        result = self.examine(leaf)
        if isinstance(result, list) or self.project.now < leaf.renewal_start(result.not_after):
            return None
        if gains_time(self.project.now, leaf, result, issuer):
            return None
        end = issuer.certificate.not_valid_after_utc
        return Why.NO_GAIN(
            left=in_words(result.not_after - self.project.now),
            issuer=issuer.name,
            date=f"{end:%Y-%m-%d}",
            authority=leaf.authority,
        )

    def examine(self, leaf: Leaf) -> Current | list[Reason]:
        """Return dates and serial number from a leaf's PEM bundle, or why its content is not what pki.yaml declares.

        Dates are not checked.
        """
        path = self.project.store.bundle(leaf)
        data = filesystem.read(path)
        if data is None:
            return [Why.NOT_CREATED()]
        bundle = parse_bundle(data, self.project.run.verified)
        if bundle is None:
            return [Why.DAMAGED(file=path.name)]
        reasons = [*_key_faults(self.project.store, leaf, bundle)]
        if leaf.request is None and filesystem.mode_of(path) != filesystem.SECRET:
            reasons.append(wrong_mode(path.name, filesystem.mode_of(path)))
        names = bundle.extensions.get(x509.SubjectAlternativeName, (None, False))[0]
        if names != profiles.subject_alternative_name(leaf):
            reasons.append(Why.OTHER_NAMES(difference=_name_difference(names, leaf)))
        reasons += _changed_common_name(leaf, bundle.certificate)
        if issuer := self.project.authorities.issuing(leaf.authority):
            reasons += _profile_faults(self.project.inventory, leaf, bundle, issuer, compare=not reasons)
        cert = bundle.certificate
        reasons += _revocation(
            self.project.ledger_view, self.project.revocations, leaf, cert.serial_number, unchanged=False
        )
        return reasons or Current(cert.not_valid_before_utc, cert.not_valid_after_utc, cert.serial_number)

    def issue_if_due(self, leaf: Leaf) -> Outcome:
        """Issue a leaf if that is necessary, and split its PEM bundle into its other files.

        Raises PkiError when its replacement is stopped and its PEM bundle is damaged.
        """
        if stopped := stopped_reasons(self.project.revocations, _id(leaf)):
            if damaged := stopped_damage(self.project.store, self.project.authorities, self.project.revocations, leaf):
                raise PkiError(joined(dict.fromkeys([*damaged, *stopped])), here("invoke", "renew", leaf.name))
            reasons = []
        else:
            reasons = self.issue_reasons(leaf)
        if reasons:
            self.issue(leaf, reasons)
            return Outcome(_verb(reasons), tuple(reasons))
        bundle = filesystem.read(self.project.store.bundle(leaf)) or b""
        filesystem.write_all(filesystem.changed_files(_files_from(self.project.store, leaf, bundle)))
        return Outcome(Verb.UPDATED)

    def issue(self, leaf: Leaf, reasons: Iterable[Reason]) -> None:
        """Issue a leaf now. Its key and certificate replace the old pair in one rename.

        Raises PkiError, with the old pair in place, when the authority, its passphrase or the request is missing.
        """
        issuer = self.project.signing_keys.issuer(leaf.authority)
        generation = self.project.authorities.issuing(leaf.authority)
        assert generation is not None
        if generation.certificate.not_valid_after_utc <= self.project.now:
            raise PkiError(
                f"{generation.name} expired on {generation.certificate.not_valid_after_utc:%Y-%m-%d}",
                here("invoke", "ceremony.request", "--new", leaf.authority, before="needs a ceremony: "),
            )
        check_begun(self.project.inventory, self.project.authorities, self.project.clock, generation)
        key = None if leaf.request else self._leaf_key(leaf)
        public = key.public_key() if key else _requested_key(self.project.store, leaf)
        cert = certificate_signing.sign_certificate(
            certificate_signing.subject_name(self.project.inventory.organisation, leaf.common_name),
            public,
            certificate_signing.validity_dates(self.project.now, leaf.lifetime, generation.certificate),
            profiles.leaf_extensions(leaf, public)
            + profiles.publication_extensions(self.project.inventory.publish.url, generation.name),
            issuer,
        )
        bundle = (keys.private_pem(key) if key else b"") + pem_encoding.pem_of([cert]) + generation.chain
        mode = filesystem.SECRET if key else filesystem.PUBLIC
        with filesystem.StagedFiles(
            {self.project.store.bundle(leaf): (bundle, mode), **_files_from(self.project.store, leaf, bundle)}
        ) as waiting:
            waiting.flush_meanwhile()
            self.project.ledger.record_certificate(
                cert,
                issuer=generation.name,
                artifact=_id(leaf),
                profile=leaf.profile,
                reason=joined_past(reasons),
                at=self.project.now,
            )
            if leaf.is_canary:
                _revoke_all(self.project.now, self.project.ledger_view, self.project.revocations, _id(leaf))
            waiting.place()
        self.project.run.mark_verified(hashlib.sha256(bundle).digest())

    def _leaf_key(self, leaf: Leaf) -> keys.PrivateKey:
        """Return a new key; with `rekey: keep` the present one, if it is intact, of the declared kind and not revoked."""
        if not leaf.rekey:
            result = self.examine(leaf)
            revoked = isinstance(result, list) and any(reason.code is Why.REVOKED for reason in result)
            key_pem = canonical.split_bundle(filesystem.read(self.project.store.bundle(leaf)) or b"").get("key.pem")
            if key_pem and not revoked:
                try:
                    key = keys.open_key(key_pem, None, leaf.name, "")
                except PkiError:
                    return keys.new_key(leaf.key)
                if keys.key_kind(key) == leaf.key:
                    return key
        return keys.new_key(leaf.key)


def _cached(cache: Cache, name: str, cache_key: str) -> Current | None:
    """Return dates and serial number of the leaf `name` as cached under `cache_key`; None when its files changed since."""
    cached = cache.recall(name, cache_key)
    if cached is None:
        return None
    return Current(datetime.fromtimestamp(cached[0], UTC), datetime.fromtimestamp(cached[1], UTC), int(cached[2], 16))


def is_cached(inventory: Inventory, store: Store, authorities: Authorities, cache: Cache, leaf: Leaf) -> bool:
    """Return whether an earlier check found that the content of a leaf is as pki.yaml declares it.

    Dates and revocation are not part of that.
    """
    cache_key = _cache_key(inventory, store, leaf, authorities.issuing(leaf.authority))
    return _cached(cache, leaf.artifact, cache_key) is not None


def _revocation(
    ledger_view: LedgerView, revocations: Revocations, leaf: Leaf, serial: int, *, unchanged: bool
) -> list[Reason]:
    """Return why the revocation status of a leaf is wrong: it is revoked, or it is the canary and is not revoked."""
    if not leaf.is_canary:
        return [Why.REVOKED()] if revocations.is_revoked(serial, unchanged=unchanged) else []
    is_settled = unchanged and ledger_view.is_settled
    if is_settled or revocations.is_revoked(serial, unchanged=False) or ledger_view.fault:
        return []  # a ledger that lost events cannot show that it was not revoked
    return [Why.NOT_REVOKED()]


def _key_faults(store: Store, leaf: Leaf, bundle: Bundle) -> Iterator[Reason]:
    if leaf.request is not None:
        yield from _request_difference(store, leaf, public_der(bundle.public))
        return
    if not (bundle.verified or is_pair(bundle)):
        yield Why.OTHER_PAIR()
    if key_kind(bundle.public) != leaf.key:
        yield Why.OTHER_KIND(kind=key_kind(bundle.public), expected=leaf.key)


def _profile_faults(
    inventory: Inventory, leaf: Leaf, bundle: Bundle, issuer: Generation, *, compare: bool
) -> Iterator[Reason]:
    """Yield faults of issuer and subject; with `compare`, where these have none, faults of the extensions.

    `compare` is set where no other fault was found: a difference in the names would be reported twice otherwise.
    """
    cert, config = bundle.certificate, inventory
    if cert.issuer != issuer.certificate.subject or not bundle.chain.startswith(issuer.pem):
        yield Why.OTHER_ISSUER(issuer=issuer.name)
    elif bundle.chain != issuer.chain:
        yield Why.OTHER_CHAIN(issuer=issuer.name)
    elif not bundle.verified and not canonical.is_issued_by(cert, issuer.certificate):
        yield Why.OTHER_SIGNATURE(issuer=issuer.name)
    elif cert.subject != subject_name(config.organisation, leaf.common_name) and not any(
        _changed_common_name(leaf, cert)
    ):
        yield Why.OTHER_SUBJECT()
    elif compare:
        expected = profiles.leaf_extensions(leaf, bundle.public) + profiles.publication_extensions(
            config.publish.url, issuer.name
        )
        if any(bundle.extensions.get(type(value)) != (value, critical) for value, critical in expected):
            yield Why.OTHER_EXTENSIONS()


def _changed_common_name(leaf: Leaf, cert: x509.Certificate) -> Iterator[Reason]:
    """Yield that the CN of a client changed.

    A service that lists permitted CNs must list the new one before the certificate is installed.
    """
    present = common_name(cert.subject)
    if leaf.profile == "client" and present != leaf.common_name:
        yield Why.OTHER_COMMON_NAME(before=present or "none", after=leaf.common_name)


def _cache_key(inventory: Inventory, store: Store, leaf: Leaf, issuer: Generation | None) -> str:
    """Return the cache key of a leaf: a digest of all that decides what its certificate must contain.

    The profiles are not part of it: they are code, and a change of the code empties the cache.
    """
    request = filesystem.read(store.home / leaf.request) if leaf.request else None
    return digest_of(
        *(leaf.common_name, leaf.dns, leaf.addresses, leaf.emails, leaf.key, request),
        *(issuer.chain_digest if issuer else "", inventory.organisation, inventory.publish.url),
    )


def _request_difference(store: Store, leaf: Leaf, public: bytes) -> list[Reason]:
    data = filesystem.read(store.home / (leaf.request or ""))
    try:
        requested = public_der(read_unverified_key(data or b"", ""))
    except PkiError:
        return [Why.REQUEST_UNUSABLE(file=leaf.request or "")]
    return [] if requested == public else [Why.REQUEST_KEY(file=leaf.request or "")]


def _name_difference(extension: x509.ExtensionType | None, leaf: Leaf) -> str:
    present = (
        {str(name.value) for name in extension} if isinstance(extension, x509.SubjectAlternativeName) else set[str]()
    )
    missing = [name for name in leaf.names if name not in present]
    surplus = sorted(present - set(leaf.names))
    parts = [f"lacks {', '.join(missing)}"] if missing else []
    parts += [f"still names {', '.join(surplus)}"] if surplus else []
    return " and ".join(parts) or "names are in another order"


NEW_KEY = "make a new key and request on the device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"


def _id(leaf: Leaf) -> ArtifactId:
    return ArtifactId("cert", leaf.name)


def _verb(reasons: Iterable[Reason]) -> Verb:
    """Return how an issuance is reported: a renewal has new dates and nothing else that is new."""
    codes = {reason.code for reason in reasons}
    if Why.NOT_CREATED in codes:
        return Verb.ISSUED
    return Verb.RENEWED if codes <= {Why.DUE, Why.EXPIRED} else Verb.REISSUED


def _revoke_all(now: datetime, ledger_view: LedgerView, revocations: Revocations, artifact: ArtifactId) -> None:
    """Revoke every certificate of a leaf that must be revoked (the canary), before its files are in place."""
    for issued in ledger_view.ledger.certificates(artifact=artifact, since=now):
        if not issued.revoked:
            ledger_view.ledger.record_revocation(issued, reason="superseded", at=now)
    revocations.forget()


def _files_from(store: Store, leaf: Leaf, bundle: bytes) -> dict[Path, tuple[bytes, int]]:
    return {
        Path(store.leaf_file(leaf, name)): (
            content,
            filesystem.SECRET if name == "key.pem" else filesystem.PUBLIC,
        )
        for name, content in canonical.split_bundle(bundle).items()
    }


def _requested_key(store: Store, leaf: Leaf) -> CertificatePublicKeyTypes:
    data = filesystem.read(store.home / (leaf.request or ""))
    if data is None:
        raise PkiError(f"{leaf.declared}.request: {leaf.request} is not there", "put the device's request there")
    key = read_device_key(data, leaf.request or "")
    if fault := find_weakness(key):
        raise PkiError(f"{leaf.request}: its key is weak: {fault}", NEW_KEY)
    return key
