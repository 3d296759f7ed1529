"""Signing so that nothing is signed unseen: with a throw-away key first, then lint, then the same bytes for real.

What the linter passed is an argument of signing, so the order is held by the types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pki.ceremony import lint, second_opinion
from pki.ceremony.drafts import CertificateDraft, CrlDraft, Draft
from pki.ceremony.lint import Signed
from pki.common.errors import PkiError
from pki.x509 import certificate_signing, crl_signing, keys
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey

Builder = x509.CertificateBuilder | x509.CertificateRevocationListBuilder

# pkilint tells a root by its signature, which is not yet its own: RFC 5280, 4.2.1.1 lets only a self-signed one go without
NOT_SELF_SIGNED = "pkix.authority_key_identifier_extension_absent"


@dataclass(frozen=True, slots=True)
class Linted:
    """A draft that a linter and the policy passed: its builder, and the bytes that are to be signed."""

    draft: Draft
    builder: Builder
    to_be_signed: bytes
    throw_away: Signed


def lint_draft(draft: Draft, like: PrivateKey) -> Linted:
    """Sign a draft with a throw-away key of the same kind as `like`, and look at the result.

    Raises PkiError with everything that the linter or the comparison with the request finds.
    """
    builder = draft.builder()
    throw_away = _signed(builder, keys.new_key(keys.key_kind(like)))
    is_root = isinstance(draft, CertificateDraft) and draft.issuer is None
    found = lint.findings(throw_away, permitted=NOT_SELF_SIGNED if is_root else "")
    faults = [*_differences(draft, throw_away), *found]
    if faults:
        raise PkiError(f"{draft.what}: would not be sound: {'; '.join(faults)}", "nothing was signed; correct pki.yaml")
    return Linted(draft, builder, _to_be_signed(throw_away), throw_away)


def sign(linted: Linted, issuer: Issuer | PrivateKey) -> Signed:
    """Sign for real exactly the bytes that were linted; then verify with a second implementation and lint again.

    `issuer` is a root, or the key of a root that signs itself.
    """
    what, key = linted.draft.what, issuer.key if isinstance(issuer, Issuer) else issuer
    signed = _signed(linted.builder, key)
    if _to_be_signed(signed) != linted.to_be_signed:
        raise PkiError(f"{what}: the signed bytes are not those that were linted", "this is a bug: stop the ceremony")
    parent = issuer.certificate if isinstance(issuer, Issuer) else signed
    assert isinstance(parent, x509.Certificate)
    if faults := check(linted.draft, signed, parent):
        raise PkiError(f"{what}: {'; '.join(faults)}", "nothing of it was written; stop the ceremony")
    return signed


def check(draft: Draft, signed: Signed, issuer: x509.Certificate) -> list[str]:
    """Everything that is wrong with a signed certificate or CRL, held against what was asked for.

    What does not bear its issuer's signature is not looked at any further: it may hold anything.
    """
    try:
        if isinstance(signed, x509.Certificate):
            certificate_signing.verify_certificate(signed, issuer)
        else:
            crl_signing.verify_crl(signed, issuer)
    except (PkiError, ValueError, TypeError, UnsupportedAlgorithm):
        return ["it is not signed by its issuer"]
    try:
        faults = list(_differences(draft, signed))
    except ValueError as error:
        return [f"it cannot be read: {error}"]
    if fault := second_opinion.signature_fault(signed, issuer):
        faults.append(f"a second implementation finds: {fault}")
    return faults + lint.findings(signed)


def _differences(draft: Draft, signed: Signed) -> Sequence[str]:
    if isinstance(draft, CertificateDraft):
        return list(draft.differences(signed)) if isinstance(signed, x509.Certificate) else ["it is no certificate"]
    assert isinstance(draft, CrlDraft)
    return list(draft.differences(signed)) if not isinstance(signed, x509.Certificate) else ["it is no CRL"]


def _signed(builder: Builder, key: PrivateKey) -> Signed:
    return builder.sign(key, keys.signature_hash(key))


def _to_be_signed(signed: Signed) -> bytes:
    return signed.tbs_certificate_bytes if isinstance(signed, x509.Certificate) else signed.tbs_certlist_bytes
