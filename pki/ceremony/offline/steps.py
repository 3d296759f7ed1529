"""The two steps of a ceremony: create root keys, and sign what a request asks for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from pki.ceremony import checked_signing, drafts, policy, request_response, second_opinion, texts
from pki.ceremony.drafts import CertificateDraft, Draft
from pki.ceremony.lint import Signed
from pki.ceremony.offline import negative_tests, response_export
from pki.ceremony.offline.session import CeremonySession
from pki.ceremony.request_response import RequestedRoot, SignedCertificate, SignedCrl
from pki.ceremony.vault import check_writable, write_folder
from pki.ceremony.vault_contents import PastCertificate
from pki.common.errors import PkiError
from pki.x509 import keys, pem_encoding
from pki.x509.canonical import fingerprint
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey

SIGN_COMMAND = "sh run invoke ceremony.sign REQUEST --vault DIR --output DIR"
AGAIN_HINT = 'if its paper is lost, and nothing is signed yet: the same command with --again "the paper is lost"'
SecretOf = Callable[[str], str]  # returns the passphrase or PIN of a root


# -- creating roots ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new root key with its passphrase or PIN, and the file for the vault: `name` with the content `file`."""

    key: PrivateKey
    passphrase: str
    name: str  # key.pem or key.uri
    file: bytes
    storage: str  # for the transcript, such as "encrypted on the drive, under one passphrase"


def make_roots(ceremony: CeremonySession, new_key: Callable[[str, str], NewKey], lost: Sequence[str] = ()) -> list[str]:
    """Create every root that the request asks for and the vault does not have yet. Return their names.

    `new_key(name, kind)` creates a key, in memory or in a token. If the root of that name is `lost`, `new_key` discards
    it first, but only after the operator's last prompt. Each key is opened again from the drive before the root counts as
    created. Raises PkiError if the policy refuses the request.
    """
    request, vault = ceremony.request, ceremony.vault
    with ceremony.recording_refusal():
        _refuse_faulty(policy.faults(request, ceremony.contents, roots_are_made=False))
        missing_roots = _roots_to_create(ceremony, lost)
        for requested in missing_roots:
            new_root = new_key(requested.name, requested.key)
            ceremony.forbid(new_root.passphrase)
            ceremony.transcript.record(
                "key", name=requested.name, kind=keys.key_kind(new_root.key), kept=new_root.storage
            )
            certificate = _sign_certificate(
                ceremony, drafts.draft_root(request, requested, new_root.key.public_key()), new_root.key
            )
            vault.place_root(requested.name, certificate, {new_root.name: new_root.file})
            vault.open_key(requested.name, new_root.passphrase, "this ceremony")
            ceremony.transcript.record("opened-key", name=requested.name, sha256=fingerprint(certificate))
            ceremony.contents.roots[requested.name] = certificate
    return [requested.name for requested in missing_roots]


def check_roots_to_make(ceremony: CeremonySession) -> None:
    """Raise PkiError, before any prompt, when all roots of a valid request exist already."""
    if not policy.faults(ceremony.request, ceremony.contents, roots_are_made=False):
        _roots_to_create(ceremony)


def _roots_to_create(ceremony: CeremonySession, lost: Sequence[str] = ()) -> list[RequestedRoot]:
    """Return the roots to create, including the `lost` ones. Raises PkiError when there is none."""
    present_names = ceremony.contents.roots.keys() - set(lost)
    missing_roots = [requested for requested in ceremony.request.roots if requested.name not in present_names]
    if not missing_roots:
        names = ", ".join(requested.name for requested in ceremony.request.roots)
        raise PkiError(
            f"{names} was created already, for this request" if names else "the request asks for no root",
            f"continue with the signatures: {SIGN_COMMAND}\n{AGAIN_HINT}" if names else f"continue: {SIGN_COMMAND}",
        )
    return missing_roots


def unused_roots(ceremony: CeremonySession) -> list[str]:
    """Return the roots of the request that exist and have signed nothing."""
    issuers = {certificate.issuer for certificate in ceremony.contents.issued}
    return [root.name for root in ceremony.request.roots if root.name in ceremony.contents.roots.keys() - issuers]


def replaceable_roots(ceremony: CeremonySession) -> list[str]:
    """Return the existing roots of the request. Raises PkiError when there is none, or when one has signed something."""
    names = [root.name for root in ceremony.request.roots if root.name in ceremony.contents.roots]
    with ceremony.recording_refusal():
        if not names:
            raise PkiError("this drive has no root that the request asks for", "omit --again")
        if used_roots := sorted(set(names) - set(unused_roots(ceremony))):
            raise PkiError(
                f"{', '.join(used_roots)} has signed already and cannot be replaced",
                "ceremony.sign writes its response again; request a new root at the online machine",
            )
    return names


def discard_roots(ceremony: CeremonySession, secret_of: SecretOf, reason: str) -> list[str]:
    """Destroy the roots of the request that have signed nothing, because their paper is lost. Return their names.

    This includes a root that an earlier ceremony session created for another request.
    """
    names, vault = replaceable_roots(ceremony), ceremony.vault
    with ceremony.recording_refusal():
        ceremony.transcript.settle()
        for name in names:
            for destroyed_file in vault.discard_root(name, secret_of(name) if vault.token_of(name) else ""):
                ceremony.transcript.record("destroyed", name=destroyed_file, reason=reason)
            del ceremony.contents.roots[name]
    return names


# -- signing ----------------------------------------------------------------------------------------------------------


def sign(ceremony: CeremonySession, secret_of: SecretOf, out: Path) -> Path:
    """Sign everything that the request asks for. Return the folder of the response, in `out`.

    A request that was answered before is not signed again: its response is written once more. Raises PkiError when the
    policy refuses the request, or a check of a certificate or CRL fails.
    """
    with ceremony.recording_refusal():
        check_writable(out)
        target, answered = out / f"response-{ceremony.request.number:04}", ceremony.answered
        if answered is None:
            _refuse_faulty(policy.faults(ceremony.request, ceremony.contents, roots_are_made=True))
        response_export.check_target(ceremony, target)
        if answered is None:
            _sign_into_vault(ceremony, secret_of)
        elif answered != ceremony.contents.last:
            command = response_export.last_response_command(ceremony.vault, shlex.quote(str(out)))
            raise PkiError(
                f"the request was answered in ceremony {answered.number}, and ceremony "
                f"{ceremony.contents.history[-1].number} was performed since",
                f"use the newest request of the online machine; to write the last response again: {command}",
            )
        ceremony.transcript.settle()
        response_export.destroy_superseded(ceremony)
        response_export.destroy_keys(ceremony, secret_of)
        return response_export.write_response(ceremony, target)


def _sign_into_vault(ceremony: CeremonySession, secret_of: SecretOf) -> None:
    """Sign everything that the request asks for, and write the files of the response into the vault."""
    keys = _open_keys(ceremony, secret_of)
    ceremony.transcript.settle()
    certificates, presigned_crls = _sign_certificates(ceremony, keys), _sign_crls(ceremony, keys)
    _verify_paths(ceremony, certificates, presigned_crls)
    files = response_export.response_files(ceremony, certificates, presigned_crls)
    response_export.check_no_secrets(files, [*ceremony.forbidden, *response_export.private_forms(keys.values())])
    write_folder(ceremony.vault.ceremony(ceremony.request.number), files)


def _refuse_faulty(faults: list[str]) -> None:
    """Raise PkiError with all faults of a request, if there are any."""
    if faults:
        raise PkiError("\n".join(f"the request is refused: {fault}" for fault in faults), "nothing was signed")


def _open_keys(ceremony: CeremonySession, secret_of: SecretOf) -> dict[str, PrivateKey]:
    """Open the key of every root that signs something."""
    keys = {}
    # All prompts come first: after a wrong passphrase of the second root, no key has been opened.
    passphrases = {name: secret_of(name) for name in ceremony.request.root_names}
    for name, passphrase in passphrases.items():
        ceremony.forbid(passphrase)
        keys[name] = ceremony.vault.open_key(name, passphrase, "the operator")
        ceremony.transcript.record("opened-key", name=name, sha256=fingerprint(ceremony.contents.roots[name]))
    return keys


def _sign_certificates(ceremony: CeremonySession, keys: dict[str, PrivateKey]) -> list[SignedCertificate]:
    """Return the new certificates, after the negative tests of each intermediate."""
    request, roots = ceremony.request, ceremony.contents.roots
    signed_certificates = [_in_response(root.name, root.name, roots[root.name]) for root in request.roots]
    for requested in request.intermediates:
        draft = drafts.draft_intermediate(request, requested, roots[requested.issuer])
        for test in negative_tests.run_negative_tests(draft, requested.purpose, requested.domains, requested.addresses):
            text = f"under {requested.name}, {test.what} is {'refused' if test.must_fail else 'accepted'}"
            ceremony.transcript.record("negative-test", text=text, by=[*test.answers])
        signed_certificates.append(
            _in_response(requested.name, requested.issuer, _sign_certificate(ceremony, draft, keys[requested.issuer]))
        )
    for cross in request.cross_certificates:
        draft = drafts.draft_cross_certificate(request, cross, roots[cross.name], roots[cross.issuer])
        signed_certificates.append(
            _in_response(cross.name, cross.issuer, _sign_certificate(ceremony, draft, keys[cross.issuer]))
        )
    return signed_certificates


def _sign_crls(
    ceremony: CeremonySession, keys: dict[str, PrivateKey]
) -> list[tuple[SignedCrl, x509.CertificateRevocationList]]:
    """Sign all pre-signed CRLs and record their text and SHA-256."""
    signed_crls = []
    for series in ceremony.request.crl_series:
        issuer = Issuer(ceremony.contents.roots[series.root], keys[series.root])
        for draft in drafts.draft_crl_series(series, issuer.certificate):
            crl = _sign(ceremony, draft, issuer)
            assert isinstance(crl, x509.CertificateRevocationList)
            pem = pem_encoding.pem_of([crl])
            file = f"{series.root}-crl-{draft.presigned_crl.number}.pem"
            presigned_crl = SignedCrl(
                root=series.root, number=draft.presigned_crl.number, file=file, sha256=request_response.digest(pem)
            )
            ceremony.transcript.record(
                "crl",
                number=draft.presigned_crl.number,
                issuer=series.root,
                valid=f"{draft.presigned_crl.this_update:%Y-%m-%d} to {draft.presigned_crl.next_update:%Y-%m-%d}",
                sha256=presigned_crl.sha256,
                text=texts.crl_text(crl),
            )
            signed_crls.append((presigned_crl, crl))
    return signed_crls


def _verify_paths(
    ceremony: CeremonySession,
    certificates: list[SignedCertificate],
    presigned_crls: list[tuple[SignedCrl, x509.CertificateRevocationList]],
) -> None:
    """Verify all new and all revoked certificates with OpenSSL and the new CRLs. Raises PkiError for a wrong result."""
    at, roots = ceremony.request.prepared, ceremony.contents.roots
    first_crls = {presigned_crl.root: crl for presigned_crl, crl in reversed(presigned_crls)}
    revoked_serials = {entry.serial for series in ceremony.request.crl_series for entry in series.revoked}
    new_certificates = [
        PastCertificate(certificate.name, certificate.issuer, certificate.certificate) for certificate in certificates
    ]
    for past in (*new_certificates, *ceremony.contents.issued):
        name, issuer, certificate = past
        is_new = past in new_certificates
        if name == issuer or issuer not in first_crls or not (is_new or certificate.serial_number in revoked_serials):
            continue
        fault = second_opinion.openssl_fault([certificate], [roots[issuer]], [first_crls[issuer]], at)
        if bool(fault) == is_new:  # a new certificate must be accepted, a revoked one must be refused
            raise PkiError(
                f"{name} by {issuer}: OpenSSL {f'refuses it: {fault}' if fault else 'accepts it, and it is revoked'}",
                "nothing was written; stop the ceremony",
            )
        verdict = f"refused, as it must be: {fault}" if fault else "accepted"
        ceremony.transcript.record(
            "verified", name=f"{name} by {issuer} under its CRL", by=["OpenSSL"], verdict=verdict
        )


def _sign_certificate(ceremony: CeremonySession, draft: CertificateDraft, key: PrivateKey) -> x509.Certificate:
    """Sign a certificate and record its text and SHA-256."""
    certificate = _sign(ceremony, draft, Issuer(draft.issuer, key) if draft.issuer else key)
    assert isinstance(certificate, x509.Certificate)
    text = texts.certificate_text(certificate)
    issuer = draft.issuer.subject.rfc4514_string() if draft.issuer else "its own key"
    valid = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
    digest = fingerprint(certificate)
    ceremony.transcript.record("signed", name=draft.what, issuer=issuer, valid=valid, sha256=digest, text=text)
    return certificate


def _sign(ceremony: CeremonySession, draft: Draft, issuer: Issuer | PrivateKey) -> Signed:
    """Lint a draft under a throw-away key, sign it, and verify it. Record each step."""
    key = issuer.key if isinstance(issuer, Issuer) else issuer
    linted = checked_signing.lint_draft(draft, key)
    digest = request_response.digest(linted.to_be_signed)
    ceremony.transcript.record("linted", name=draft.what, to_be_signed=digest, findings=[])
    signed = checked_signing.sign(linted, issuer)
    ceremony.transcript.record("verified", name=draft.what, by=["cryptography", "PyCryptodome", "pkilint"])
    return signed


def _in_response(name: str, issuer: str, certificate: x509.Certificate) -> SignedCertificate:
    """Return a certificate as an entry of the response."""
    return SignedCertificate(name=name, issuer=issuer, pem=pem_encoding.pem_of([certificate]).decode())
