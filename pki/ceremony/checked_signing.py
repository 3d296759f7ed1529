"""Sign certificates and CRLs after a lint: first with a throw-away key, then the same bytes with the real key.

`sign` takes what `lint_draft` returns, so the types enforce the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pki.ceremony import lint, second_opinion
from pki.ceremony.drafts import CertificateDraft, Draft
from pki.ceremony.lint import Signed
from pki.common.errors import PkiError
from pki.x509 import certificate_signing, crl_signing, keys
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey

Builder = x509.CertificateBuilder | x509.CertificateRevocationListBuilder

# The code of a finding that a root has only under the throw-away key, where it is not self-signed yet: RFC 5280 §4.2.1.1
# permits a certificate without this extension only if it is self-signed.
NO_AUTHORITY_KEY_ID = "pkix.authority_key_identifier_extension_absent"


@dataclass(frozen=True, slots=True)
class LintedDraft:
    """A draft that passed the linter, with its builder and the DER bytes to sign."""

    draft: Draft
    builder: Builder
    to_be_signed: bytes
    throw_away: Signed


def lint_draft(draft: Draft, real_key: PrivateKey) -> LintedDraft:
    """Sign a draft with a throw-away key of the same kind as `real_key`, and check the result.

    Raises PkiError that lists all findings of the linter and all differences from the request.
    """
    builder = draft.builder()
    throw_away = _signed(builder, keys.new_key(keys.key_kind(real_key)))
    is_root = isinstance(draft, CertificateDraft) and draft.issuer is None
    findings = lint.findings(throw_away, permitted=NO_AUTHORITY_KEY_ID if is_root else "")
    faults = [*_differences(draft, throw_away), *findings]
    if faults:
        raise PkiError(f"{draft.what}: would have faults: {'; '.join(faults)}", "nothing was signed; correct pki.yaml")
    return LintedDraft(draft, builder, _to_be_signed(throw_away), throw_away)


def sign(linted: LintedDraft, issuer: Issuer | PrivateKey) -> Signed:
    """Sign exactly the linted bytes with the real key, verify with a second implementation, and lint again.

    `issuer` is a root with its key, or only the key of a root that signs itself. Raises PkiError when a check fails.
    """
    what, key = linted.draft.what, issuer.key if isinstance(issuer, Issuer) else issuer
    certificate_or_crl = _signed(linted.builder, key)
    if _to_be_signed(certificate_or_crl) != linted.to_be_signed:
        raise PkiError(f"{what}: the signed bytes are not those that were linted", "this is a bug: stop the ceremony")
    issuer_certificate = issuer.certificate if isinstance(issuer, Issuer) else certificate_or_crl
    assert isinstance(issuer_certificate, x509.Certificate)  # for mypy: only a root is signed by its own key alone
    if faults := check(linted.draft, certificate_or_crl, issuer_certificate):
        raise PkiError(f"{what}: {'; '.join(faults)}", "nothing of it was written; stop the ceremony")
    return certificate_or_crl


def check(draft: Draft, signed: Signed, issuer: x509.Certificate) -> list[str]:
    """Return all faults of a signed certificate or CRL, compared with its draft; empty when there is none.

    The signature is verified first: without a valid signature nothing else is parsed, because the content is untrusted.
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
        faults.append(f"a second implementation reports: {fault}")
    return faults + lint.findings(signed)


def _differences(draft: Draft, signed: Signed) -> Sequence[str]:
    """Return the differences of a certificate or CRL from its draft, in sentences."""
    if isinstance(draft, CertificateDraft):
        return list(draft.differences(signed)) if isinstance(signed, x509.Certificate) else ["it is not a certificate"]
    return ["it is not a CRL"] if isinstance(signed, x509.Certificate) else list(draft.differences(signed))


def _signed(builder: Builder, key: PrivateKey) -> Signed:
    return builder.sign(key, keys.signature_hash(key))


def _to_be_signed(signed: Signed) -> bytes:
    return signed.tbs_certificate_bytes if isinstance(signed, x509.Certificate) else signed.tbs_certlist_bytes
