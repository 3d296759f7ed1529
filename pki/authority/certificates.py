"""Why a leaf certificate is out of date, and how it is issued.

The program records a certificate in the ledger before it writes any file, and it writes the PEM bundle before the files
that are split from the bundle. A run that is killed at any point therefore leaves nothing that misleads the next run.

Three words. A *difference* is where a certificate is not what pki.yaml declares; a revoked certificate always has one.
*Damage* is where a file is not what the program wrote. A *reason* is why something is done: a difference, damage or a
date. So all three have the type `Reason`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from pki.authority.ca_state import check_valid_yet
from pki.authority.leaf_bundle import Bundle, is_pair, parse_bundle
from pki.authority.leaf_files import bundle_damage, file_names, split_file_damage, stopped_reasons, wrong_mode
from pki.authority.renewal import CertificateSummary, gains_time, renewal_reasons
from pki.common import filesystem
from pki.common.cache import digest_of
from pki.common.durations import in_words
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why, joined, joined_past
from pki.common.remedies import here
from pki.config.identifiers import ArtifactId
from pki.config.model import Inventory, Leaf
from pki.project.generations import Generation
from pki.project.layout import Store
from pki.project.project import Project
from pki.x509 import canonical, certificate_signing, keys, pem_encoding, profiles
from pki.x509.certificate_names import common_name
from pki.x509.certificate_signing import subject_name
from pki.x509.device_requests import read_device_key, read_unverified_key
from pki.x509.keys import key_kind, public_der
from pki.x509.weak_keys import find_weakness

WEAK_KEY_REMEDY = (
    "make a new key and request on the device: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 …"
)


@dataclass(frozen=True, slots=True)
class Examination:
    """The result of `LeafCertificates.examine`: the summary of the certificate, or its differences from pki.yaml."""

    summary: CertificateSummary | None
    differences: list[Reason]


@dataclass(frozen=True, slots=True)
class LeafCertificates:
    """The leaf certificates of a project: why each is out of date, and how it is issued.

    The order of the checks is: the content of the PEM bundle and its revocation (`examine`), the dates
    (`renewal_reasons`), and last the files that are split from the bundle (`split_file_damage`). A result of `examine`
    without differences is cached. Until a file or a declaration changes, only revocation and dates are then checked.

    Where `revoke --no-replace` stopped the replacement of a leaf, its files are only checked for damage.
    """

    project: Project

    # -- whether a leaf is out of date --

    def stale_reasons(self, leaf: Leaf) -> list[Reason]:
        """Return why a leaf must be issued again, or why the files must be split again from its PEM bundle."""
        if leaf.artifact in self.project.revocations.replacement_stopped:
            return self._damage_while_stopped(leaf)
        issuer = self._issuer(leaf)
        cached_summary = self._cached(leaf, issuer)
        if cached_summary is not None:
            revocation = self._revocation_reasons(leaf, cached_summary.serial, certificate_unchanged=True)
            return revocation or self._renewal_reasons(leaf, cached_summary, issuer)
        examination = self.examine(leaf)
        summary = examination.summary
        if summary is None:
            return examination.differences
        damage = split_file_damage(self.project.store, leaf)
        if not damage:
            dates = int(summary.not_before.timestamp()), int(summary.not_after.timestamp())
            cached_summary_data = [*dates, f"{summary.serial:x}"]  # `_cached` reads it
            files = file_names(self.project.store, leaf)
            self.project.cache.remember(leaf.artifact, self._cache_key(leaf, issuer), files, cached_summary_data)
        return self._renewal_reasons(leaf, summary, issuer) or damage

    def issue_reasons(self, leaf: Leaf) -> list[Reason]:
        """Return why a leaf needs a new certificate. The split files are not checked: they need no new certificate."""
        examination = self.examine(leaf)
        if examination.summary is None:
            return examination.differences
        return self._renewal_reasons(leaf, examination.summary, self._issuer(leaf))

    def undeliverable_reasons(self, leaf: Leaf) -> list[Reason]:
        """Return why the files of a leaf, read again and not from the cache, cannot be delivered; the dates do not count."""
        if leaf.artifact in self.project.revocations.replacement_stopped:
            return self._damage_while_stopped(leaf)
        return self.examine(leaf).differences or split_file_damage(self.project.store, leaf)

    def usable_certificate(self, leaf: Leaf) -> CertificateSummary | None:
        """Return the summary of a leaf's certificate, whatever its dates are.

        Returns None if the certificate is missing or revoked, or if its content is not what pki.yaml declares.
        """
        summary = self._cached(leaf, self._issuer(leaf)) or self.examine(leaf).summary
        if summary is None or self._revocation_reasons(leaf, summary.serial, certificate_unchanged=True):
            return None
        return summary

    def no_gain_reason(self, leaf: Leaf) -> Reason | None:
        """Return why the renewal of a due leaf would gain no time; None if it would gain time, or no renewal is due.

        A renewal gains no time when the issuer expires so soon that the renewed certificate would not last longer. A
        ceremony is then needed first.
        """
        issuer = self._issuer(leaf)
        if issuer is None:
            return None  # the task of the authority reports it
        summary, now = self.examine(leaf).summary, self.project.now
        if summary is None or now < leaf.renewal_start(summary.not_after):
            return None
        if gains_time(now, leaf, summary, issuer):
            return None
        return Why.NO_GAIN(
            left=in_words(summary.not_after - now),
            issuer=issuer.name,
            date=f"{issuer.not_after:%Y-%m-%d}",
            authority=leaf.authority,
        )

    def examine(self, leaf: Leaf) -> Examination:
        """Compare the content of a leaf's PEM bundle with what pki.yaml declares. Does not check the dates."""
        path = self.project.store.bundle(leaf)
        data = filesystem.read(path)
        if data is None:
            return Examination(None, [Why.NOT_CREATED()])
        bundle = parse_bundle(data, self.project.run.verified)
        if bundle is None:
            return Examination(None, [Why.DAMAGED(file=path.name)])
        differences = [*_key_differences(self.project.store, leaf, bundle)]
        if leaf.request is None and filesystem.mode_of(path) != filesystem.SECRET:
            differences.append(wrong_mode(path.name, filesystem.mode_of(path)))
        names, _ = bundle.extensions.get(x509.SubjectAlternativeName, (None, False))
        if names != profiles.subject_alternative_name(leaf):
            differences += _name_differences(names, leaf)
        differences += _common_name_difference(leaf, bundle.certificate)
        if issuer := self._issuer(leaf):
            # a difference in names or key is also one in the extensions: it is reported once
            check_extensions = not differences
            differences += _profile_differences(
                self.project.inventory, leaf, bundle, issuer, check_extensions=check_extensions
            )
        cert = bundle.certificate
        differences += self._revocation_reasons(leaf, cert.serial_number, certificate_unchanged=False)
        summary = CertificateSummary(cert.not_valid_before_utc, cert.not_valid_after_utc, cert.serial_number)
        return Examination(None if differences else summary, differences)

    def _issuer(self, leaf: Leaf) -> Generation | None:
        return self.project.authorities.issuing(leaf.authority)

    def _renewal_reasons(self, leaf: Leaf, summary: CertificateSummary, issuer: Generation | None) -> list[Reason]:
        return renewal_reasons(self.project.now, self.project.signing_keys, leaf, summary, issuer)

    def _revocation_reasons(self, leaf: Leaf, serial: int, *, certificate_unchanged: bool) -> list[Reason]:
        """Return a reason if a certificate is revoked. For the canary, return a reason if it is not revoked.

        The canary is revoked on purpose. `certificate_unchanged`: an earlier run has checked this very certificate. If the
        ledger has not changed since then either, the answer needs no query (`Revocations.is_revoked`).
        """
        revocations, ledger_view = self.project.revocations, self.project.ledger_view
        if not leaf.is_canary:
            is_revoked = revocations.is_revoked(serial, certificate_unchanged=certificate_unchanged)
            return [Why.REVOKED()] if is_revoked else []
        if certificate_unchanged and ledger_view.was_unchanged_at_start:
            return []  # nothing was recorded since the last run, and the run that issued the canary also revoked it
        if revocations.is_revoked(serial, certificate_unchanged=False):
            return []
        if ledger_view.fault:
            return []  # after a loss of events, the ledger does not show whether the canary was revoked
        return [Why.NOT_REVOKED()]

    def _bundle_damage(self, leaf: Leaf) -> list[Reason]:
        """Return why the PEM bundle of a leaf whose replacement is stopped is missing or damaged."""
        return bundle_damage(self.project.store, self.project.authorities, self.project.revocations, leaf)

    def _damage_while_stopped(self, leaf: Leaf) -> list[Reason]:
        return self._bundle_damage(leaf) or split_file_damage(self.project.store, leaf)

    # -- what is cached of a leaf --

    def is_cached(self, leaf: Leaf) -> bool:
        """Return whether an earlier run found that the content of a leaf is what pki.yaml declares.

        This includes neither the dates nor revocation.
        """
        return self._cached(leaf, self._issuer(leaf)) is not None

    def _cached(self, leaf: Leaf, issuer: Generation | None) -> CertificateSummary | None:
        """Return the summary of a leaf's certificate from an earlier run; None when its files changed since."""
        cached = self.project.cache.recall(leaf.artifact, self._cache_key(leaf, issuer))
        if cached is None:
            return None
        not_before, not_after, serial = cached
        dates = datetime.fromtimestamp(not_before, UTC), datetime.fromtimestamp(not_after, UTC)
        return CertificateSummary(*dates, int(serial, 16))

    def _cache_key(self, leaf: Leaf, issuer: Generation | None) -> str:
        """Return the cache key of a leaf: a digest of all that decides what its certificate must contain.

        The extensions of `x509/profiles.py` are not part of it: they are code, and a change of the code empties the cache.
        """
        inventory = self.project.inventory
        # issuing reports a request that cannot be read
        request = filesystem.read_if_possible(self.project.store.home / leaf.request) if leaf.request else None
        return digest_of(
            *(leaf.common_name, leaf.dns, leaf.addresses, leaf.emails, leaf.uris, leaf.key, request),
            *(issuer.chain_digest if issuer else "", inventory.organisation, inventory.publish.url),
        )

    # -- issuance --

    def issue_if_due(self, leaf: Leaf) -> Outcome:
        """Issue a leaf if that is necessary, and split its PEM bundle into its other files.

        Raises PkiError when its replacement is stopped and its PEM bundle is damaged.
        """
        why_stopped = stopped_reasons(self.project.revocations, leaf.artifact)
        damage = self._bundle_damage(leaf) if why_stopped else []
        if damage:  # only a new certificate would help, and that is what the operator stopped
            raise PkiError(joined(dict.fromkeys([*damage, *why_stopped])), here("invoke", "renew", leaf.name))
        reasons = [] if why_stopped else self.issue_reasons(leaf)
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
        issuer_with_key = self.project.signing_keys.issuer(leaf.authority)
        issuer = self._issuer(leaf)
        assert issuer is not None, "signing_keys.issuer raises without one"
        if issuer.not_after <= self.project.now:
            raise PkiError(
                f"{issuer.name} expired on {issuer.not_after:%Y-%m-%d}",
                here("invoke", "ceremony.request", "--new", leaf.authority, before="needs a ceremony: "),
            )
        check_valid_yet(self.project.inventory, self.project.authorities, self.project.clock, issuer)
        key = None if leaf.request else self._leaf_key(leaf)
        public = key.public_key() if key else _requested_key(self.project.store, leaf)
        cert = certificate_signing.sign_certificate(
            subject_name(self.project.inventory.organisation, leaf.common_name),
            public,
            certificate_signing.validity_dates(self.project.now, leaf.lifetime, issuer.certificate),
            profiles.leaf_extensions(leaf, public)
            + profiles.publication_extensions(self.project.inventory.publish.url, issuer.name),
            issuer_with_key,
        )
        bundle = (keys.private_pem(key) if key else b"") + pem_encoding.pem_of([cert]) + issuer.chain
        mode = filesystem.SECRET if key else filesystem.PUBLIC
        # the bundle is the first file: `place` renames the files in this order
        files = {self.project.store.bundle(leaf): (bundle, mode), **_files_from(self.project.store, leaf, bundle)}
        # If this process is killed between two renames, the next run renames what still differs, and nothing else.
        with filesystem.StagedFiles(filesystem.changed_files(files)) as staged:
            staged.flush_meanwhile()  # the files go to disk while the ledger, which waits for the disk too, is written
            self.project.ledger.record_certificate(
                cert,
                issuer=issuer.name,
                artifact=leaf.artifact,
                profile=leaf.profile,
                reason=joined_past(reasons),
                at=self.project.now,
            )
            if leaf.is_canary:
                self._revoke_canary(leaf.artifact)
            staged.place()
        self.project.run.mark_verified(hashlib.sha256(bundle).digest())

    def _leaf_key(self, leaf: Leaf) -> keys.LeafKey:
        """Return a new key, or with `rekey: keep` the present key, if it is intact, of the declared kind and not revoked."""
        if not leaf.rekey:
            is_revoked = any(reason.code is Why.REVOKED for reason in self.examine(leaf).differences)
            key_pem = canonical.split_bundle(filesystem.read(self.project.store.bundle(leaf)) or b"").get("key.pem")
            if key_pem and not is_revoked:
                with suppress(PkiError):  # raised where the present key is damaged: a new key replaces it
                    key = keys.open_leaf_key(key_pem, leaf.name)
                    if keys.key_kind(key) == leaf.key:
                        return key
        return keys.new_leaf_key(leaf.key)

    def _revoke_canary(self, artifact: ArtifactId) -> None:
        """Revoke the canary's certificates before the new files are in place, so that no valid canary ever exists."""
        for certificate in self.project.ledger.certificates(artifact=artifact, expiring_after=self.project.now):
            if not certificate.revoked:
                # of the reasons of RFC 5280 §5.3.1 the one that raises no alarm: nobody lost a key
                self.project.ledger.record_revocation(certificate, reason="superseded", at=self.project.now)
        self.project.revocations.read_again()


def _key_differences(store: Store, leaf: Leaf, bundle: Bundle) -> Iterator[Reason]:
    if leaf.request is not None:
        yield from _request_difference(store, leaf, public_der(bundle.public))
        return
    if not (bundle.is_verified or is_pair(bundle)):
        yield Why.OTHER_PAIR()
    if key_kind(bundle.public) != leaf.key:
        yield Why.OTHER_KIND(kind=key_kind(bundle.public), expected=leaf.key)


def _profile_differences(
    inventory: Inventory, leaf: Leaf, bundle: Bundle, issuer: Generation, *, check_extensions: bool
) -> Iterator[Reason]:
    """Yield the first difference in issuer and subject; if there is none, and with `check_extensions`, in extensions."""
    cert = bundle.certificate
    expected_subject = subject_name(inventory.organisation, leaf.common_name)
    if cert.issuer != issuer.certificate.subject or not bundle.chain.startswith(issuer.pem):
        yield Why.OTHER_ISSUER(issuer=issuer.name)
    elif bundle.chain != issuer.chain:
        yield Why.OTHER_CHAIN(issuer=issuer.name)
    elif not bundle.is_verified and not canonical.is_issued_by(cert, issuer.certificate):
        yield Why.OTHER_SIGNATURE(issuer=issuer.name)
    # another CN has a reason of its own (`_common_name_difference`)
    elif cert.subject != expected_subject and not any(_common_name_difference(leaf, cert)):
        yield Why.OTHER_SUBJECT()
    elif check_extensions:
        expected_extensions = profiles.leaf_extensions(leaf, bundle.public)
        expected_extensions += profiles.publication_extensions(inventory.publish.url, issuer.name)
        if any(bundle.extensions.get(type(value)) != (value, critical) for value, critical in expected_extensions):
            yield Why.OTHER_EXTENSIONS()


def _common_name_difference(leaf: Leaf, cert: x509.Certificate) -> Iterator[Reason]:
    """Yield a reason if the CN of a client changed.

    The reason has its own code, because a service that lists permitted CNs must list the new CN before the certificate
    is installed.
    """
    present_name = common_name(cert.subject)
    if leaf.profile == "client" and present_name != leaf.common_name:
        yield Why.OTHER_COMMON_NAME(before=present_name or "none", after=leaf.common_name)


def _request_difference(store: Store, leaf: Leaf, public: bytes) -> list[Reason]:
    """Return a reason if the device's request is unreadable, or has another key than the certificate (SPKI, DER)."""
    data = filesystem.read_if_possible(store.home / (leaf.request or ""))
    try:
        requested_key = public_der(read_unverified_key(data or b"", ""))
    except PkiError:
        return [Why.REQUEST_UNUSABLE(file=leaf.request or "")]
    return [] if requested_key == public else [Why.REQUEST_KEY(file=leaf.request or "")]


def _name_differences(extension: x509.ExtensionType | None, leaf: Leaf) -> list[Reason]:
    """Return how the names of a certificate differ from those of a leaf, for an extension that is not as expected."""
    present_names = (
        {str(name.value) for name in extension} if isinstance(extension, x509.SubjectAlternativeName) else set[str]()
    )
    missing_names = [name for name in leaf.names if name not in present_names]
    surplus_names = sorted(present_names - set(leaf.names))
    differences = [Why.LACKS_NAMES(names=", ".join(missing_names))] if missing_names else []
    differences += [Why.SURPLUS_NAMES(names=", ".join(surplus_names))] if surplus_names else []
    return differences or [Why.OTHER_NAMES()]


def _verb(reasons: Iterable[Reason]) -> Verb:
    """Return the verb for an issuance: *issued*, *renewed* if only the dates are new, or *reissued*."""
    codes = {reason.code for reason in reasons}
    if Why.NOT_CREATED in codes:
        return Verb.ISSUED
    return Verb.RENEWED if codes <= {Why.DUE, Why.EXPIRED} else Verb.REISSUED


def _files_from(store: Store, leaf: Leaf, bundle: bytes) -> dict[Path, tuple[bytes, int]]:
    return {
        Path(store.leaf_file(leaf, name)): (content, filesystem.SECRET if name == "key.pem" else filesystem.PUBLIC)
        for name, content in canonical.split_bundle(bundle).items()
    }


def _requested_key(store: Store, leaf: Leaf) -> CertificatePublicKeyTypes:
    data = filesystem.read(store.home / (leaf.request or ""))
    if data is None:
        raise PkiError(f"{leaf.declared}.request: {leaf.request} is not there", "put the device's request there")
    key = read_device_key(data, leaf.request or "")
    if weakness := find_weakness(key):
        raise PkiError(f"{leaf.request}: its key is weak: {weakness}", WEAK_KEY_REMEDY)
    return key
