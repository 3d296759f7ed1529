"""Rehearse a ceremony: perform the real request with throw-away keys in a temporary folder."""

from __future__ import annotations

import re
import tempfile
from datetime import datetime
from pathlib import Path

from cryptography import x509

from pki.ceremony import plan_text, request_response, texts
from pki.ceremony.offline import key_storage, session, steps
from pki.ceremony.online.ceremony_archive import OpenRequest
from pki.ceremony.request_response import NO_RESPONSE, Request
from pki.ceremony.vault import Vault
from pki.config.identifiers import GenerationName
from pki.project.authorities import Authorities
from pki.x509 import certificate_signing, keys, profiles
from pki.x509.canonical import fingerprint

THROW_AWAY = "throw-away-key-of-a-rehearsal"
PLACEHOLDER = "(made on the day)"
MASKS = (  # what only the real ceremony determines: serial numbers, signatures, the root's key
    (re.compile(r"(Serial Number:)\s*\n?\s*[0-9a-f:]+( \(0x[0-9a-f]+\))?"), rf"\1 {PLACEHOLDER}"),
    (re.compile(r"(Signature Value:)\n(?:\s+[0-9a-f:]+\n?)+"), rf"\1 {PLACEHOLDER}\n"),
    (re.compile(r"(X509v3 Authority Key Identifier: )\n\s+[0-9A-F:]+"), rf"\1\n                {PLACEHOLDER}"),
    (re.compile(r"(SHA-256:) [0-9a-f]{64}"), rf"\1 {PLACEHOLDER}"),
)
KEY_MASKS = (
    (re.compile(r"(pub:|Modulus:)\n(?:\s+[0-9a-f:]+\n)+"), rf"\1 {PLACEHOLDER}\n"),
    (re.compile(r"(X509v3 Subject Key Identifier: )\n\s+[0-9A-F:]+"), rf"\1\n                {PLACEHOLDER}"),
)


def rehearse(now: datetime, authorities: Authorities, open_request: OpenRequest) -> dict[str, bytes]:
    """Return the texts of everything that the ceremony will sign, by file name. Raises PkiError as the ceremony would."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
        vault, out = Path(temporary) / "vault", Path(temporary) / "out"
        vault.mkdir(0o700)
        out.mkdir(0o700)
        request = _with_substitutes(authorities, Vault(vault), open_request.request)
        ceremony = session.open_session(
            Vault(vault), request_response.dump(request), str(open_request.path), lambda: now
        )
        if request.roots:
            steps.make_roots(ceremony, lambda _, kind: key_storage.store_in_file(keys.new_key(kind), THROW_AWAY))
        files = {
            "plan.txt": "\n".join(
                [*plan_text.root_lines(request), *plan_text.signature_lines(request, ceremony.contents)]
            )
            + "\n"
        }
        folder = steps.sign(ceremony, lambda _: THROW_AWAY, out)
        for path in sorted(folder.glob("*.pem")):
            files[path.with_suffix(".txt").name] = _masked(texts.crl_text(x509.load_pem_x509_crl(path.read_bytes())))
        response = request_response.load(
            (folder / "response.yaml").read_bytes(), "response.yaml", request_response.Response
        )
        for certificate in response.certificates:
            is_of_root = GenerationName.parse(certificate.name).is_root
            is_cross_certificate = is_of_root and certificate.issuer != certificate.name
            name = f"{certificate.name}-by-{certificate.issuer}" if is_cross_certificate else certificate.name
            # The key of an intermediate is in the request already; the key of a root is created in the ceremony.
            files[f"{name}.txt"] = _masked(texts.certificate_text(certificate.certificate), masks_key=is_of_root)
    return {name: text.encode() for name, text in files.items()}


def _with_substitutes(authorities: Authorities, vault: Vault, request: Request) -> Request:
    """Return the request for an empty vault: existing roots are replaced by substitutes with throw-away keys."""
    pinned = {}
    for name in request.pinned:
        generation = authorities.generation(name)
        assert generation is not None
        real_root = generation.certificate
        key = keys.new_key(keys.key_kind(real_root.public_key()))
        dates = real_root.not_valid_before_utc, real_root.not_valid_after_utc
        extensions = profiles.root_extensions() + profiles.name_constraints_of(real_root)
        substitute = certificate_signing.sign_certificate(real_root.subject, key.public_key(), dates, extensions, key)
        vault.place_root(name, substitute, {"key.pem": key_storage.key_file(key, THROW_AWAY)})
        pinned[name] = fingerprint(substitute)
    return request.model_copy(update={"pinned": pinned, "previous": NO_RESPONSE})


def _masked(text: str, *, masks_key: bool = False) -> str:
    for pattern, replacement in (*MASKS, *(KEY_MASKS if masks_key else ())):
        text = pattern.sub(replacement, text)
    return text
