"""Holding a ceremony: making roots, and signing what a request asks for."""

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
from pki.ceremony.offline.session import Ceremony
from pki.ceremony.request_response import AskedRoot, SignedCertificate, SignedCrl
from pki.ceremony.vault import fingerprint, probe, write_folder
from pki.common.errors import PkiError
from pki.x509 import keys, pem_encoding
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import PrivateKey

SIGN = "sh run invoke ceremony.sign REQUEST --vault DIR --output DIR"
AGAIN = 'if its paper is lost, and nothing is signed yet: the same line with --again "the paper is lost"'
Secrets = Callable[[str], str]  # the passphrase or PIN of a root, by its name


# -- making roots -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewKey:
    """A root's key that was just made, and what opens it: what is written to the vault is `file`, called `name`."""

    key: PrivateKey
    passphrase: str
    name: str  # key.pem or key.uri
    file: bytes
    kept: str  # how, as the transcript says it


def make_roots(ceremony: Ceremony, new_key: Callable[[str, str], NewKey], lost: Sequence[str] = ()) -> list[str]:
    """Make every root that the request asks for and the vault does not hold yet; returns their names.

    `new_key(name, kind)` makes a key, in memory or in a token; it discards the root of that name where that is `lost`,
    once nothing more is asked. What was written is opened again from the drive before anything is believed.
    """
    request, vault = ceremony.request, ceremony.vault
    with ceremony.refusing():
        _refuse(policy.faults(request, ceremony.known, roots_are_made=False))
        missing = _missing(ceremony, lost)
        for asked in missing:
            made = new_key(asked.name, asked.key)
            ceremony.forbid(made.passphrase)
            ceremony.transcript.record("key", name=asked.name, kind=keys.key_kind(made.key), kept=made.kept)
            cert = _certificate(ceremony, drafts.root(request, asked, made.key.public_key()), made.key)
            vault.place_root(asked.name, cert, {made.name: made.file})
            vault.open_key(asked.name, made.passphrase, "this ceremony")
            ceremony.transcript.record("opened-key", name=asked.name, sha256=fingerprint(cert))
            ceremony.known.roots[asked.name] = cert
    return [asked.name for asked in missing]


def insist_on_missing(ceremony: Ceremony) -> None:
    """Raise PkiError, before anything is asked, where every root of a sound request is made already."""
    if not policy.faults(ceremony.request, ceremony.known, roots_are_made=False):
        _missing(ceremony)


def _missing(ceremony: Ceremony, lost: Sequence[str] = ()) -> list[AskedRoot]:
    """The roots that are to be made, those that are `lost` among them. Raises PkiError where there is none."""
    there = ceremony.known.roots.keys() - set(lost)
    missing = [asked for asked in ceremony.request.roots if asked.name not in there]
    if not missing:
        names = ", ".join(asked.name for asked in ceremony.request.roots)
        raise PkiError(
            f"{names} was made here already, for this request" if names else "the request asks for no root",
            f"go on with the signatures: {SIGN}\n{AGAIN}" if names else f"go on: {SIGN}",
        )
    return missing


def unused_roots(ceremony: Ceremony) -> list[str]:
    """The roots that the request asks for, that are made and have signed nothing."""
    signed = {issuer for _, issuer, _ in ceremony.known.issued}
    return [root.name for root in ceremony.request.roots if root.name in ceremony.known.roots.keys() - signed]


def lost_roots(ceremony: Ceremony) -> list[str]:
    """The roots that the request asks for and whose paper may be lost. Raises PkiError for none, and for one that signed."""
    names = [root.name for root in ceremony.request.roots if root.name in ceremony.known.roots]
    with ceremony.refusing():
        if not names:
            raise PkiError("there is no root on this drive that the request asks for", "leave --again out")
        if used := sorted(set(names) - set(unused_roots(ceremony))):
            raise PkiError(
                f"{', '.join(used)} has signed, and is not made again",
                "ceremony.sign writes its response once more; a new root is asked for at the online machine",
            )
    return names


def discard_roots(ceremony: Ceremony, secret_of: Secrets, reason: str) -> list[str]:
    """Destroy the roots that the request asks for and that signed nothing: their paper is lost. Returns their names.

    A root of an earlier request that was never signed is destroyed likewise.
    """
    names, vault = lost_roots(ceremony), ceremony.vault
    with ceremony.refusing():
        ceremony.transcript.settle()
        for name in names:
            for destroyed in vault.discard_root(name, secret_of(name) if vault.token_of(name) else ""):
                ceremony.transcript.record("destroyed", name=destroyed, reason=reason)
            del ceremony.known.roots[name]
    return names


# -- signing ----------------------------------------------------------------------------------------------------------


def sign(ceremony: Ceremony, secret_of: Secrets, out: Path) -> Path:
    """Sign everything that the request asks for; returns the folder of the response below `out`.

    A request that was answered here before is not signed again: its response is written once more, also where it is.
    """
    with ceremony.refusing():
        probe(out)
        target = out / f"response-{ceremony.request.number:04}"
        if ceremony.answered is None:
            _refuse(policy.faults(ceremony.request, ceremony.known, roots_are_made=True))
        response_export.insist_on_place(ceremony, target)
        if ceremony.answered is None:
            keys = _open_keys(ceremony, secret_of)
            ceremony.transcript.settle()
            certificates, presigned_crls = _signed_certificates(ceremony, keys), _signed_crls(ceremony, keys)
            _verify_paths(ceremony, certificates, presigned_crls)
            files = response_export.response(ceremony, certificates, presigned_crls)
            response_export.search(files, [*ceremony.forbidden, *response_export.private_forms(keys.values())])
            write_folder(ceremony.vault.ceremony(ceremony.request.number), files)
        elif ceremony.answered != ceremony.known.last:
            again = response_export.line_of_last(ceremony.vault, shlex.quote(str(out)))
            raise PkiError(
                f"the request was answered in ceremony {ceremony.answered.number}, and ceremony "
                f"{ceremony.known.history[-1].number} was held since",
                f"take the newest request of the online machine; the last response once more: {again}",
            )
        ceremony.transcript.settle()
        response_export.destroy_superseded(ceremony)
        response_export.destroy_keys(ceremony, secret_of)
        return response_export.hand_out(ceremony, target)


def _refuse(faults: list[str]) -> None:
    if faults:
        raise PkiError("\n".join(f"the request is refused: {fault}" for fault in faults), "nothing was signed")


def _open_keys(ceremony: Ceremony, secret_of: Secrets) -> dict[str, PrivateKey]:
    """The key of every root that has something to sign."""
    keys = {}
    for name, passphrase in [(name, secret_of(name)) for name in ceremony.request.root_names]:
        ceremony.forbid(passphrase)
        keys[name] = ceremony.vault.open_key(name, passphrase, "the operator")
        ceremony.transcript.record("opened-key", name=name, sha256=fingerprint(ceremony.known.roots[name]))
    return keys


def _signed_certificates(ceremony: Ceremony, keys: dict[str, PrivateKey]) -> list[SignedCertificate]:
    request, roots = ceremony.request, ceremony.known.roots
    made = [_said(root.name, root.name, roots[root.name]) for root in request.roots]
    for asked in request.intermediates:
        draft = drafts.intermediate(request, asked, roots[asked.issuer])
        for tried in negative_tests.trials(draft, asked.authority, asked.domains, asked.addresses):
            said = f"under {asked.name}, {tried.what} is {'refused' if tried.must_fail else 'accepted'}"
            ceremony.transcript.record("negative-test", text=said, by=[*tried.answers])
        made.append(_said(asked.name, asked.issuer, _certificate(ceremony, draft, keys[asked.issuer])))
    for cross in request.cross_certificates:
        crossed = drafts.cross(request, cross, roots[cross.name], roots[cross.issuer])
        made.append(_said(cross.name, cross.issuer, _certificate(ceremony, crossed, keys[cross.issuer])))
    return made


def _signed_crls(
    ceremony: Ceremony, keys: dict[str, PrivateKey]
) -> list[tuple[SignedCrl, x509.CertificateRevocationList]]:
    made = []
    for series in ceremony.request.crl_series:
        issuer = Issuer(ceremony.known.roots[series.root], keys[series.root])
        for draft in drafts.series(series, issuer.certificate):
            crl = _signed(ceremony, draft, issuer)
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
                text=texts.of_crl(crl),
            )
            made.append((presigned_crl, crl))
    return made


def _verify_paths(
    ceremony: Ceremony,
    certificates: list[SignedCertificate],
    presigned_crls: list[tuple[SignedCrl, x509.CertificateRevocationList]],
) -> None:
    """Every certificate of the day, and every earlier one that is revoked, before OpenSSL with the new CRLs."""
    at, roots = ceremony.request.prepared, ceremony.known.roots
    first = {presigned_crl.root: crl for presigned_crl, crl in reversed(presigned_crls)}
    revoked = {one.serial for series in ceremony.request.crl_series for one in series.revoked}
    made = [(one.name, one.issuer, one.certificate) for one in certificates]
    for name, issuer, cert in (*made, *ceremony.known.issued):
        is_today = (name, issuer, cert) in made
        if name == issuer or issuer not in first or not (is_today or cert.serial_number in revoked):
            continue
        fault = second_opinion.openssl_fault([cert], [roots[issuer]], [first[issuer]], at)
        if bool(fault) == is_today:
            raise PkiError(
                f"{name} by {issuer}: OpenSSL {f'refuses it: {fault}' if fault else 'accepts it, and it is revoked'}",
                "nothing was written; stop the ceremony",
            )
        verdict = f"refused, as it must be: {fault}" if fault else "accepted"
        ceremony.transcript.record(
            "verified", name=f"{name} by {issuer} under its CRL", by=["OpenSSL"], verdict=verdict
        )


def _certificate(ceremony: Ceremony, draft: CertificateDraft, key: PrivateKey) -> x509.Certificate:
    signed = _signed(ceremony, draft, Issuer(draft.issuer, key) if draft.issuer else key)
    assert isinstance(signed, x509.Certificate)
    text = texts.of_certificate(signed)
    issuer = draft.issuer.subject.rfc4514_string() if draft.issuer else "its own key"
    valid = f"{signed.not_valid_before_utc:%Y-%m-%d} to {signed.not_valid_after_utc:%Y-%m-%d}"
    digest = fingerprint(signed)
    ceremony.transcript.record("signed", name=draft.what, issuer=issuer, valid=valid, sha256=digest, text=text)
    return signed


def _signed(ceremony: Ceremony, draft: Draft, issuer: Issuer | PrivateKey) -> Signed:
    """One thing signed: linted under a throw-away key, signed for real, verified and linted again."""
    key = issuer.key if isinstance(issuer, Issuer) else issuer
    linted = checked_signing.lint_draft(draft, key)
    digest = request_response.digest(linted.to_be_signed)
    ceremony.transcript.record("linted", name=draft.what, to_be_signed=digest, findings=[])
    signed = checked_signing.sign(linted, issuer)
    ceremony.transcript.record("verified", name=draft.what, by=["cryptography", "PyCryptodome", "pkilint"])
    return signed


def _said(name: str, issuer: str, cert: x509.Certificate) -> SignedCertificate:
    return SignedCertificate(name=name, issuer=issuer, pem=pem_encoding.pem_of([cert]).decode())
