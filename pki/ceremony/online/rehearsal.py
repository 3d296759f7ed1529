"""A rehearsal: the real request, held with throw-away keys in a temporary folder; its texts are what the day will bring."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from cryptography import x509

from pki.ceremony import plan_text, request_response, texts
from pki.ceremony.offline import key_storage, session, steps
from pki.ceremony.online.ceremony_archive import Open
from pki.ceremony.request_response import NOTHING, Request
from pki.ceremony.vault import Vault, fingerprint
from pki.project.project import Project
from pki.x509 import certificate_signing, keys, profiles

THROW_AWAY = "throw-away-key-of-a-rehearsal"
OF_THE_DAY = "(made on the day)"
MASKS = (  # what a rehearsal cannot know: serial numbers, signatures, the root's key
    (re.compile(r"(Serial Number:)\s*\n?\s*[0-9a-f:]+( \(0x[0-9a-f]+\))?"), rf"\1 {OF_THE_DAY}"),
    (re.compile(r"(Signature Value:)\n(?:\s+[0-9a-f:]+\n?)+"), rf"\1 {OF_THE_DAY}\n"),
    (re.compile(r"(X509v3 Authority Key Identifier: )\n\s+[0-9A-F:]+"), rf"\1\n                {OF_THE_DAY}"),
    (re.compile(r"(SHA-256:) [0-9a-f]{64}"), rf"\1 {OF_THE_DAY}"),
)
KEY_MASKS = (
    (re.compile(r"(pub:|Modulus:)\n(?:\s+[0-9a-f:]+\n)+"), rf"\1 {OF_THE_DAY}\n"),
    (re.compile(r"(X509v3 Subject Key Identifier: )\n\s+[0-9A-F:]+"), rf"\1\n                {OF_THE_DAY}"),
)


def rehearse(project: Project, asked: Open) -> dict[str, bytes]:
    """The texts of everything that a ceremony over this request will make, by file name. Raises what it would raise."""
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
        vault, out = Path(temporary) / "vault", Path(temporary) / "out"
        vault.mkdir(0o700)
        out.mkdir(0o700)
        request = _with_stand_ins(project, Vault(vault), asked.request)
        held = session.opened(Vault(vault), request_response.dump(request), str(asked.path), lambda: project.now)
        if request.roots:
            steps.make_roots(held, lambda _, kind: key_storage.in_file(keys.new_key(kind), THROW_AWAY))
        files = {"plan.txt": "\n".join([*plan_text.roots(request), *plan_text.signatures(request, held.known)]) + "\n"}
        folder = steps.sign(held, lambda _: THROW_AWAY, out)
        for path in sorted(folder.glob("*.pem")):
            files[path.with_suffix(".txt").name] = _masked(texts.of_crl(x509.load_pem_x509_crl(path.read_bytes())))
        response = request_response.load(
            (folder / "response.yaml").read_bytes(), "response.yaml", request_response.Response
        )
        for one in response.certificates:
            name = one.name if one.issuer == one.name or "root" not in one.name else f"{one.name}-by-{one.issuer}"
            files[f"{name}.txt"] = _masked(texts.of_certificate(one.certificate), with_key="root" in one.name)
    return {name: text.encode() for name, text in files.items()}


def _with_stand_ins(project: Project, vault: Vault, request: Request) -> Request:
    """The request as a vault can take it that knows no ceremony: roots that exist get a stand-in of the same name."""
    pinned = {}
    for name in request.pinned:
        found = project.generation(name)
        assert found is not None
        real = found.certificate
        key = keys.new_key(keys.key_kind(real.public_key()))
        dates = real.not_valid_before_utc, real.not_valid_after_utc
        stand_in = certificate_signing.sign_certificate(
            real.subject, key.public_key(), dates, profiles.root_extensions(), key
        )
        vault.place_root(name, stand_in, {"key.pem": key_storage.key_file(key, THROW_AWAY)})
        pinned[name] = fingerprint(stand_in)
    return request.model_copy(update={"pinned": pinned, "previous": NOTHING})


def _masked(text: str, *, with_key: bool = False) -> str:
    for pattern, replacement in (*MASKS, *(KEY_MASKS if with_key else ())):
        text = pattern.sub(replacement, text)
    return text
