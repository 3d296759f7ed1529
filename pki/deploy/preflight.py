"""Check a release as a whole before anything of it leaves: keys, chains, dates, names, CRLs.

Servers do not detect most of these faults: they start, and fail later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from pki.common import pem
from pki.common.errors import PkiError
from pki.config.fields import CA_NAME
from pki.deploy import crl_files
from pki.deploy.crl_files import ParsedCrl
from pki.deploy.payload import Payload
from pki.deploy.protocol import PATH
from pki.deploy.release import File
from pki.x509 import canonical
from pki.x509.canonical import fingerprint, is_ca
from pki.x509.certificate_names import alternative_names
from pki.x509.certificate_signing import ca_public_key
from pki.x509.keys import public_der

KEYS = tuple(f"{kind}PRIVATE KEY" for kind in ("", "EC ", "RSA ", "DSA ", "ENCRYPTED ", "OPENSSH "))


@dataclass
class Trust:
    """The facts that a release is checked against.

    `roots`, `authorities` and `adopted` (CAs of which only CRLs are delivered) are PEM. `is_revoked` answers for a
    serial number. `has_expired` returns whether the certificate with a serial number is known and has expired: only such
    entries may leave a CRL.
    """

    roots: bytes
    authorities: bytes
    is_revoked: Callable[[int], bool] = field(default=lambda _: False)
    has_expired: Callable[[int], bool] = field(default=lambda _: False)
    adopted: bytes = b""
    _judged: dict[bytes, bool] = field(default_factory=dict)
    _roots: dict[bytes, x509.Certificate | None] = field(default_factory=dict)

    @cached_property
    def cas_by_subject(self) -> dict[bytes, list[x509.Certificate]]:
        """The CAs of the project, by subject (DER)."""
        return _by_subject(self.roots + b"\n" + self.authorities)

    @cached_property
    def crl_signers_by_subject(self) -> dict[bytes, list[x509.Certificate]]:
        """The CAs whose CRLs are accepted, by subject (DER)."""
        return _by_subject(self.roots + b"\n" + self.authorities + b"\n" + self.adopted)

    @cached_property
    def anchors(self) -> set[bytes]:
        """The roots (DER)."""
        return {certificate.public_bytes(Encoding.DER) for certificate in _certificates(self.roots)}

    def issuer(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Return the CA of the project that signed a certificate, None if there is none."""
        candidates = self.cas_by_subject.get(certificate.issuer.public_bytes(), [])
        return next((ca for ca in candidates if canonical.is_issued_by(certificate, ca)), None)

    def root_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Return the root that a certificate leads to (a root leads to itself), None if it leads to none of the project."""
        der = certificate.public_bytes(Encoding.DER)
        if der in self.anchors:
            return certificate
        if der not in self._roots:
            issuer = self.issuer(certificate)
            self._roots[der] = None  # ends a circle of cross-certificates
            self._roots[der] = self.root_of(issuer) if issuer else None
        return self._roots[der]

    def has_signed(self, crl: ParsedCrl) -> bool:
        """Return whether a known CA signed a CRL. Cached, because many hosts get the same CRL."""
        digest = crl.digest
        if digest not in self._judged:
            keys = map(ca_public_key, self.crl_signers_by_subject.get(crl.issuer, []))
            self._judged[digest] = any(canonical.is_signed_by(crl.crl, key) for key in keys)
        return self._judged[digest]


def _by_subject(text: bytes) -> dict[bytes, list[x509.Certificate]]:
    certificates: dict[bytes, list[x509.Certificate]] = {}
    for certificate in _certificates(text):
        certificates.setdefault(certificate.subject.public_bytes(), []).append(certificate)
    return certificates


@dataclass(frozen=True, slots=True)
class ReleaseContents:
    """The contents of a checked release; `leaves` by the names in them, `ends` is when the first object expires."""

    leaves: dict[str, x509.Certificate]
    ends: datetime | None
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    def lists(self, serial: int) -> bool:
        """Return whether one of the CRLs lists a serial number."""
        return any(crl.get_revoked_certificate_by_serial_number(serial) for crl in self.crls)


@dataclass(frozen=True, slots=True)
class FileContent:
    """The keys, certificates and CRLs in one file; `keys` are the public halves (SPKI, DER) of its private keys."""

    file: File
    keys: tuple[bytes, ...]
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[ParsedCrl, ...]

    @classmethod
    def of(cls, file: File, content: bytes) -> FileContent:
        """Parse the content of a file. Raises PkiError when it cannot be parsed."""
        keys = [] if file.crl else [_public_key(section.whole, file) for section in pem.sections(content, *KEYS)]
        certificates = () if file.crl or file.upstream else tuple(_certificates_of_file(content, file))
        return cls(file, tuple(keys), certificates, _crls_of_file(file, content))

    @property
    def leaves(self) -> list[x509.Certificate]:
        """The end-entity certificates of the file."""
        return [certificate for certificate in self.certificates if not is_ca(certificate)]


def read_release(payload: Payload) -> ReleaseContents:
    """Return what a release contains, without any check of signatures, keys or dates."""
    contents = [(file, payload.content(file)) for file in payload.release.files]
    certificates = [
        certificate
        for file, content in contents
        if not file.crl and not file.upstream
        for certificate in _certificates_of_file(content, file)
    ]
    leaves = {
        name: certificate
        for certificate in certificates
        if not is_ca(certificate)
        for name in alternative_names(certificate)
    }
    crls = [listed.crl for file, content in contents for listed in _crls_of_file(file, content)]
    return ReleaseContents(leaves, None, tuple(crls))


def reload_commands(payload: Payload, name: str) -> set[str]:
    """Return the commands after which a host serves a new certificate for a name."""
    files = [file for file in payload.release.files if file.reload and not file.crl and not file.upstream]
    return {
        file.reload
        for file in files
        if any(
            name in alternative_names(certificate)
            for certificate in _certificates_of_file(payload.content(file), file)
            if not is_ca(certificate)
        )
    }


def root_subjects(payload: Payload, trust: Trust) -> dict[str, str]:
    """Return the roots that the certificates of a release lead to: subject by SHA-256."""
    roots = set[x509.Certificate]()
    for file in payload.release.files:
        for section in () if file.crl else pem.sections(payload.content(file), "CERTIFICATE"):
            with suppress(ValueError):  # `check_release` reports it
                if root := trust.root_of(x509.load_pem_x509_certificate(section.whole)):
                    roots.add(root)
    return {fingerprint(root): root.subject.rfc4514_string() for root in sorted(roots, key=fingerprint)}


def has_unknown_ca(payload: Payload, trust: Trust) -> bool:
    """Return whether a release has a certificate of a doit-pki CA that is not one of this project."""
    for file in payload.release.files:
        for section in () if file.crl or file.upstream else pem.sections(payload.content(file), "CERTIFICATE"):
            with suppress(ValueError):
                certificate = x509.load_pem_x509_certificate(section.whole)
                names = [
                    str(attribute.value) for attribute in certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
                ]
                if any(map(CA_NAME.search, names)) and trust.root_of(certificate) is None:
                    return True
    return False


def check_release(payload: Payload, trust: Trust, names: Sequence[str], now: datetime) -> ReleaseContents:
    """Check a release and return what it contains.

    One of its certificates must be valid for each of `names`, unless it has none at all. Raises PkiError with all
    faults.
    """
    contents = [FileContent.of(file, payload.content(file)) for file in payload.release.files]
    certificates = [certificate for content in contents for certificate in content.certificates]
    leaves = {name: leaf for content in contents for leaf in content.leaves for name in alternative_names(leaf)}
    faults = [
        *(
            f"{file.path!r} contains characters that a target must not have"
            for file in _files_with_invalid_paths(payload)
        ),
        *_key_faults(contents, certificates),
        *(fault for content in contents for fault in _leaf_faults(content, trust, now, certificates)),
        *(fault for content in contents for fault in _crl_faults(content, trust, now)),
        *(f"no certificate is valid for {name}" for name in names if leaves and name not in leaves),
    ]
    if faults:
        raise PkiError(
            f"nothing was sent: {'; '.join(dict.fromkeys(faults))}", "fix what it comes from, then: ./run doit"
        )
    ends = [leaf.not_valid_after_utc for content in contents for leaf in content.leaves]
    ends += [end for content in contents for listed in content.crls if (end := listed.crl.next_update_utc)]
    return ReleaseContents(
        leaves, min(ends, default=None), tuple(listed.crl for content in contents for listed in content.crls)
    )


def _files_with_invalid_paths(payload: Payload) -> list[File]:
    return [file for file in payload.release.files if not PATH.fullmatch(file.path)]


# -- keys -------------------------------------------------------------------------------------------------------------


def _key_faults(contents: list[FileContent], certificates: list[x509.Certificate]) -> Iterator[str]:
    """Yield keys without a certificate. A key beside certificates must belong to the first of them."""
    public_keys = {public_der(certificate.public_key()) for certificate in certificates}
    for content in contents:
        path = content.file.path
        if (
            content.keys
            and content.certificates
            and public_der(content.certificates[0].public_key()) not in content.keys
        ):
            yield f"the key in {path} does not match the certificate beside it"
        elif any(key not in public_keys for key in content.keys):
            yield f"the key in {path} matches no certificate"


def _public_key(text: bytes, file: File) -> bytes:
    """Return the public half of a private key as certificates contain it (SPKI, DER)."""
    try:
        public = load_pem_private_key(text, None).public_key()
    except (ValueError, TypeError):
        raise PkiError(f"nothing was sent: the key in {file.path} cannot be read", "deliver keys unencrypted") from None
    return public_der(public)


# -- certificates -----------------------------------------------------------------------------------------------------


def _leaf_faults(
    content: FileContent, trust: Trust, now: datetime, everything: list[x509.Certificate]
) -> Iterator[str]:
    """Yield the faults of the leaves in a file. Their intermediate must be in the same file.

    For a single certificate without a key, the intermediate may be in any file of the release.
    """
    is_bundle = content.keys or len(content.certificates) > 1
    beside = content.certificates if is_bundle else everything
    for leaf in content.leaves:
        leaf_text = f"{leaf.subject.rfc4514_string() or ', '.join(alternative_names(leaf))} in {content.file.path}"
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            yield f"{leaf_text} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d} only"
        if trust.is_revoked(leaf.serial_number):
            yield f"{leaf_text} is revoked"
        issuer = trust.issuer(leaf)
        if issuer is None:
            yield f"{leaf_text} is not signed by an authority of this project"
        elif issuer not in beside and not any(is_ca(other) and canonical.is_issued_by(leaf, other) for other in beside):
            yield f"{leaf_text} is delivered without its intermediate"


def _certificates_of_file(content: bytes, file: File) -> list[x509.Certificate]:
    """Return the certificates of a file, each parsed completely: a template may contain anything."""
    try:
        certificates = _certificates(content)
        for certificate in certificates:
            certificate.public_key()
            alternative_names(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = f"nothing was sent: a certificate in {file.path} cannot be read"
        raise PkiError(what, "fix what it comes from, then: ./run doit") from None
    return certificates


def _certificates(content: bytes) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(section.whole) for section in pem.sections(content, "CERTIFICATE")]


# -- CRLs -------------------------------------------------------------------------------------------------------------


def _crls_of_file(file: File, content: bytes) -> tuple[ParsedCrl, ...]:
    crls = crl_files.parse_crls(content) if file.crl else ()
    if file.crl and not crls:
        raise PkiError(f"nothing was sent: {file.path} holds no CRL", "./run doit")
    return crls


def _crl_faults(content: FileContent, trust: Trust, now: datetime) -> Iterator[str]:
    for listed in content.crls:
        what, crl = listed.describe(content.file.path), listed.crl
        if not trust.has_signed(listed):
            yield f"{what} is not signed by an authority of this project"
        if crl.last_update_utc > now:
            yield f"{what} has a thisUpdate in the future: servers would refuse every client"
        if crl.next_update_utc is None or crl.next_update_utc <= now:
            yield f"{what} has expired: servers would refuse every client"


def revokes_more(payload: Payload, delivered: Payload, canary: int) -> bool:
    """Return whether the CRLs of a release list serial numbers that those of another do not, besides the canary."""

    def listed(release_payload: Payload) -> frozenset[int]:
        files = [file for file in release_payload.release.files if file.crl]
        serials = (crl.serials for file in files for crl in _crls_of_file(file, release_payload.content(file)))
        return frozenset[int]().union(*serials)

    return bool(listed(payload) - listed(delivered) - {canary})
