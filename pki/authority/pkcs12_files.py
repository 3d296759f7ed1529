"""PKCS#12 files of leaves (RFC 7292), for Java, Windows and appliances: why one is out of date, and how it is made.

Each encryption has a new salt, so the same key and passphrase never give the same bytes twice. A file is therefore made
once, and stays while it opens with its passphrase and contains the present key and certificates.
"""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.authority.leaf_files import wrong_mode
from pki.common import filesystem
from pki.common.cache import Cache
from pki.common.errors import PkiError
from pki.common.reasons import Outcome, Reason, Verb, Why
from pki.config.model import Leaf
from pki.project.build_files import pkcs12_path
from pki.project.layout import Store
from pki.project.secrets import Passphrases
from pki.x509.export import pkcs12
from pki.x509.keys import LeafKey, PrivateKey, private_pem

SHORTEST = 6  # characters: keytool refuses a shorter passphrase
ALL = "p12"  # the secret for every leaf without one of its own


def secret_names(leaf: str) -> tuple[str, str]:
    """Return the names of the secrets that may protect the PKCS#12 files of a leaf: the first that exists is used."""
    return f"{ALL}-{leaf}", ALL


def passphrase_of(passphrases: Passphrases, leaf: str) -> str:
    """Return the passphrase of the PKCS#12 files of a leaf. Raises PkiError where there is none, or no usable one."""
    own_secret, shared_secret = secret_names(leaf)
    for name in (own_secret, shared_secret):
        if candidates := passphrases.candidates(name):
            passphrase = candidates[0]
            if len(passphrase.value) < SHORTEST or not re.fullmatch(r"[!-~]+", passphrase.value):
                raise PkiError(
                    f"{passphrase.source}: the passphrase {name} is not at least {SHORTEST} printable ASCII characters "
                    "without blanks",
                    "Java reads no other; change it, then: ./run doit",
                )
            return passphrase.value
    raise PkiError(
        f"no passphrase for the PKCS#12 file of {leaf}",
        f"write {own_secret}: PASSPHRASE (or {shared_secret}: PASSPHRASE, for every such file) into {passphrases.source_of(own_secret)}, "
        "or name a source under secrets in pki.yaml",
    )


class Pkcs12Files:
    """The PKCS#12 files of a project; `kind` is `p12` or `p12-legacy` in every method."""

    def __init__(self, store: Store, passphrases: Passphrases, cache: Cache) -> None:
        self._store = store
        self._passphrases = passphrases
        self._cache = cache

    def stale_reasons(self, kind: str, leaf: Leaf) -> list[Reason]:
        """Return why the file of a leaf must be made again; empty while it has the present key and passphrase.

        The answer is cached while none of its files changes. A passphrase whose source is not a file is read by every
        run.
        """
        path, name = pkcs12_path(self._store, kind, leaf.name), f"{kind}:{leaf.name}"
        sources = [self._passphrases.file_of(secret) for secret in secret_names(leaf.name)]
        files = [str(path), str(self._store.bundle(leaf)), *sorted({str(source) for source in sources if source})]
        is_cacheable = None not in sources
        if is_cacheable and self._cache.recall(name, ""):
            return []
        reasons = self.stale_reasons_without_cache(kind, leaf)
        if is_cacheable and not reasons:
            # by_state: a digest of a short passphrase would help to guess it, and the file has a checksum of its own
            self._cache.remember(name, "", files, True, by_state=True)
        return reasons

    def stale_reasons_without_cache(self, kind: str, leaf: Leaf) -> list[Reason]:
        """Return what `stale_reasons` returns, without the cache."""
        path = pkcs12_path(self._store, kind, leaf.name)
        content = filesystem.read(path)
        if content is None:
            return [Why.NOT_CREATED()]
        if filesystem.mode_of(path) != filesystem.SECRET:
            return [wrong_mode(path.name, filesystem.mode_of(path))]
        contents = pkcs12.read(content, passphrase_of(self._passphrases, leaf.name))
        key, certificates = self._sources(leaf)
        if contents is None or contents.cert is None or not isinstance(contents.key, PrivateKey):
            return [Why.NOT_FROM_SOURCES(file=path.name)]
        present_certificates = [contents.cert.certificate, *(other.certificate for other in contents.additional_certs)]
        if private_pem(contents.key) != private_pem(key) or set(present_certificates) != set(certificates):
            return [Why.NOT_FROM_SOURCES(file=path.name)]
        return []

    def make(self, kind: str, leaf: Leaf) -> Outcome:
        """Make the file of a leaf again. Raises PkiError where its passphrase or its PEM bundle is missing."""
        path = pkcs12_path(self._store, kind, leaf.name)
        passphrase = passphrase_of(self._passphrases, leaf.name)
        key, certificates = self._sources(leaf)
        verb = Verb.UPDATED if path.exists() else Verb.CREATED
        content = pkcs12.of_server(kind, leaf.name, key, certificates, passphrase)
        filesystem.write(path, content, filesystem.SECRET)
        return Outcome(verb)

    def _sources(self, leaf: Leaf) -> tuple[PrivateKey, list[x509.Certificate]]:
        """Return the key of a leaf, and its certificate with the intermediates. Raises PkiError if one is damaged."""
        bundle = filesystem.read(self._store.bundle(leaf)) or b""
        try:
            key = serialization.load_pem_private_key(bundle, None)
            certificates = x509.load_pem_x509_certificates(bundle)
        except (ValueError, TypeError):
            raise PkiError(f"{leaf.artifact}: its PEM bundle is missing or damaged", "./run doit") from None
        assert isinstance(key, LeafKey), "a leaf has a key of one of these kinds"
        return pkcs12.writable_key(key, str(leaf.artifact)), certificates
