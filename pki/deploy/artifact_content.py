"""The content of the artifacts that managed files deliver: files of build/ and ca/, some of them converted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import PkiError
from pki.config import upstreams
from pki.config.identifiers import ArtifactId
from pki.x509.export.pkcs12 import LEGACY, MODERN
from pki.x509.keys import pkcs1_pem
from pki.x509.trust_anchor import with_root

FULLCHAIN_ROOT = "fullchain-root"
PKCS12_KINDS = (MODERN, LEGACY)

# Turns the name of an artifact (`tls:media`) into its files, each with the generation that it belongs to ("" if none).
Sources = Callable[[str], list[tuple[str, Path]]]


def contents(sources: Sources, artifact: str) -> list[tuple[str, bytes]]:
    """Return what is delivered of an artifact: one content for each generation. Raises PkiError for an unknown one."""
    files = sources(artifact)
    if ArtifactId.parse(artifact).kind == FULLCHAIN_ROOT:
        (_, fullchain), (_, roots) = files
        chain = with_root(_present(fullchain, artifact), _present(roots, artifact))
        if chain is None:
            raise PkiError(f"{artifact}: no root of this project signed the end of its chain", "./run doit")
        return [("", chain)]
    return [(generation, _content(path, artifact)) for generation, path in files]


def certificates_in(sources: Sources, artifact: str) -> str:
    """Return the certificates of a PKCS#12 artifact as PEM, "" for any other artifact: this needs no passphrase."""
    kind, leaf = ArtifactId.parse(artifact).parts
    if kind not in PKCS12_KINDS:
        return ""
    [(_, path)] = sources(ArtifactId("fullchain", leaf))
    return _present(path, artifact).decode("ascii")


def digest_of_files(paths: list[Path]) -> str:
    """Return a digest of the content of some files, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(filesystem.read(path) or b"").digest())
    return digest.hexdigest()


def _content(path: Path, artifact: str) -> bytes:
    kind = ArtifactId.parse(artifact).kind
    if kind == upstreams.ARTIFACT:
        return upstreams.read_ca_certificates(filesystem.read(path), str(path))
    content = _present(path, artifact)
    if kind != "key-pkcs1":
        return content
    pkcs1 = pkcs1_pem(content)
    if pkcs1 is None:
        raise PkiError(f"{artifact}: the key is not an RSA key", "issue a new one: ./run doit")
    return pkcs1


def _present(path: Path, artifact: str) -> bytes:
    content = filesystem.read(path)
    if content is None:
        raise PkiError(f"{artifact} does not exist yet", "./run doit")
    return content
