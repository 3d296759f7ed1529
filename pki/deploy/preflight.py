"""A release is looked at as a whole before anything of it leaves: servers' own tests miss most of this.

Keys match, chains are complete up to a root, dates and names are right, CRLs are signed and valid (what servers miss is
measured in docs/deploy.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
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
from pki.x509.certificate_signing import ca_public_key

KEYS = tuple(f"{kind}PRIVATE KEY" for kind in ("", "EC ", "RSA ", "DSA ", "ENCRYPTED ", "OPENSSH "))


@dataclass
class Trust:
    """What a release is held against: `authorities` and `roots` are PEM, `is_revoked` answers for a serial number.

    `has_ended` tells whether the certificate with a serial number is known and ran out: such ones may leave a CRL.
    Of `adopted` CAs, PEM too, CRLs alone are sent.
    """

    roots: bytes
    authorities: bytes
    is_revoked: Callable[[int], bool] = field(default=lambda _: False)
    has_ended: Callable[[int], bool] = field(default=lambda _: False)
    adopted: bytes = b""
    _judged: dict[bytes, bool] = field(default_factory=dict)
    _roots: dict[bytes, x509.Certificate | None] = field(default_factory=dict)

    @cached_property
    def cas_by_subject(self) -> dict[bytes, list[x509.Certificate]]:
        """Every CA by its subject."""
        return _by_subject(self.roots + b"\n" + self.authorities)

    @cached_property
    def crl_signers_by_subject(self) -> dict[bytes, list[x509.Certificate]]:
        """Every CA that may sign a CRL, by its subject."""
        return _by_subject(self.roots + b"\n" + self.authorities + b"\n" + self.adopted)

    @cached_property
    def anchors(self) -> set[bytes]:
        return {certificate.public_bytes(Encoding.DER) for certificate in _certificates(self.roots)}

    def issuer(self, signed: x509.Certificate) -> x509.Certificate | None:
        """The known CA that signed a certificate."""
        candidates = self.cas_by_subject.get(signed.issuer.public_bytes(), [])
        return next((one for one in candidates if canonical.is_issued_by(signed, one)), None)

    def root_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """The root that a certificate leads to, itself included; None for one that is none of this project's."""
        der = certificate.public_bytes(Encoding.DER)
        if der in self.anchors:
            return certificate
        if der not in self._roots:
            issuer = self.issuer(certificate)
            self._roots[der] = None  # a circle leads nowhere
            self._roots[der] = self.root_of(issuer) if issuer else None
        return self._roots[der]

    def has_signed(self, listed: ParsedCrl) -> bool:
        """Whether a known CA signed a CRL; remembered, because many hosts get the same."""
        digest = listed.digest
        if digest not in self._judged:
            keys = map(ca_public_key, self.crl_signers_by_subject.get(listed.issuer, []))
            self._judged[digest] = any(canonical.is_signed_by(listed.crl, key) for key in keys)
        return self._judged[digest]


def _by_subject(text: bytes) -> dict[bytes, list[x509.Certificate]]:
    found: dict[bytes, list[x509.Certificate]] = {}
    for certificate in _certificates(text):
        found.setdefault(certificate.subject.public_bytes(), []).append(certificate)
    return found


@dataclass(frozen=True, slots=True)
class Findings:
    """What a sound release holds: leaves by the names that they are for, CRLs, when the first thing in it runs out."""

    leaves: dict[str, x509.Certificate]
    ends: datetime | None
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    def lists(self, serial: int) -> bool:
        """Whether one of its CRLs lists a serial number."""
        return any(crl.get_revoked_certificate_by_serial_number(serial) for crl in self.crls)


@dataclass(frozen=True, slots=True)
class FileContent:
    """What cryptography is in one file; `keys` are the public halves of the private ones."""

    file: File
    keys: tuple[bytes, ...]
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[ParsedCrl, ...]

    @classmethod
    def of(cls, file: File, content: bytes) -> FileContent:
        keys = [] if file.crl else [_public_key(one.whole, file) for one in pem.sections(content, *KEYS)]
        certificates = () if file.crl or file.upstream else tuple(_certificates_of_file(content, file))
        return cls(file, tuple(keys), certificates, _crls_of_file(file, content))

    @property
    def leaves(self) -> list[x509.Certificate]:
        return [certificate for certificate in self.certificates if not _is_ca(certificate)]


def read_release(payload: Payload) -> Findings:
    """What a release holds, whatever is wrong with it: no signature is looked at, and no key."""
    contents = [(file, payload.content(file)) for file in payload.release.files]
    everything = [
        one
        for file, content in contents
        if not file.crl and not file.upstream
        for one in _certificates_of_file(content, file)
    ]
    leaves = {name: one for one in everything if not _is_ca(one) for name in _names(one)}
    found = [one.crl for file, content in contents for one in _crls_of_file(file, content)]
    return Findings(leaves, None, tuple(found))


def reload_commands(payload: Payload, name: str) -> set[str]:
    """Return the commands after which a host serves a new certificate for a name."""
    files = [file for file in payload.release.files if file.reload and not file.crl and not file.upstream]
    return {
        file.reload
        for file in files
        if any(name in _names(one) for one in _certificates_of_file(payload.content(file), file) if not _is_ca(one))
    }


def root_subjects(payload: Payload, trust: Trust) -> dict[str, str]:
    """The roots that the certificates of a release lead to: SHA-256 and subject of each."""
    found = set[x509.Certificate]()
    for file in payload.release.files:
        for one in () if file.crl else pem.sections(payload.content(file), "CERTIFICATE"):
            with suppress(ValueError):  # `look` tells of it
                if root := trust.root_of(x509.load_pem_x509_certificate(one.whole)):
                    found.add(root)
    return {fingerprint(one): one.subject.rfc4514_string() for one in sorted(found, key=fingerprint)}


def has_unknown_ca(payload: Payload, trust: Trust) -> bool:
    """Whether a release holds a certificate of a CA that is named as those of a project, and is not known here."""
    for file in payload.release.files:
        for one in () if file.crl or file.upstream else pem.sections(payload.content(file), "CERTIFICATE"):
            with suppress(ValueError):
                certificate = x509.load_pem_x509_certificate(one.whole)
                names = [str(one.value) for one in certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)]
                if any(map(CA_NAME.search, names)) and trust.root_of(certificate) is None:
                    return True
    return False


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(SHA256()).hex()


def check_release(payload: Payload, trust: Trust, names: Sequence[str], now: datetime) -> Findings:
    """Look at a release. `names` must be served by one of its certificates, unless it holds none at all.

    Raises PkiError with everything that is wrong with it.
    """
    contents = [FileContent.of(file, payload.content(file)) for file in payload.release.files]
    everything = [certificate for content in contents for certificate in content.certificates]
    leaves = {name: leaf for content in contents for leaf in content.leaves for name in _names(leaf)}
    faults = [
        *(f"{file.path!r} holds characters that no target may have" for file in _files_with_invalid_paths(payload)),
        *_key_faults(contents, everything),
        *(fault for content in contents for fault in _leaf_faults(content, trust, now, everything)),
        *(fault for content in contents for fault in _crl_faults(content, trust, now)),
        *(f"no certificate is for {name}" for name in names if leaves and name not in leaves),
    ]
    if faults:
        raise PkiError(
            f"nothing was sent: {'; '.join(dict.fromkeys(faults))}", "fix what it comes from, then: ./run doit"
        )
    ends = [leaf.not_valid_after_utc for content in contents for leaf in content.leaves]
    ends += [end for content in contents for one in content.crls if (end := one.crl.next_update_utc)]
    return Findings(leaves, min(ends, default=None), tuple(one.crl for content in contents for one in content.crls))


def _files_with_invalid_paths(payload: Payload) -> list[File]:
    return [file for file in payload.release.files if not PATH.fullmatch(file.path)]


# -- keys -------------------------------------------------------------------------------------------------------------


def _key_faults(contents: list[FileContent], everything: list[x509.Certificate]) -> Iterator[str]:
    """Keys without their certificates; one with certificates beside it belongs to the first of them."""
    known = {_spki(certificate.public_key()) for certificate in everything}
    for content in contents:
        path = content.file.path
        if content.keys and content.certificates and _spki(content.certificates[0].public_key()) not in content.keys:
            yield f"the key in {path} does not match the certificate beside it"
        elif any(key not in known for key in content.keys):
            yield f"the key in {path} matches no certificate"


def _public_key(text: bytes, file: File) -> bytes:
    """The public half of a private key, as certificates have it."""
    try:
        public = load_pem_private_key(text, None).public_key()
    except (ValueError, TypeError):
        raise PkiError(f"nothing was sent: the key in {file.path} cannot be read", "deliver keys unencrypted") from None
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# -- certificates -----------------------------------------------------------------------------------------------------


def _leaf_faults(
    content: FileContent, trust: Trust, now: datetime, everything: list[x509.Certificate]
) -> Iterator[str]:
    """What is wrong with the leaves of a file; their intermediate must be beside them, or anywhere beside a lone one."""
    is_whole = content.keys or len(content.certificates) > 1
    beside = content.certificates if is_whole else everything
    for leaf in content.leaves:
        what = f"{leaf.subject.rfc4514_string() or ', '.join(_names(leaf))} in {content.file.path}"
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            yield f"{what} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d} only"
        if trust.is_revoked(leaf.serial_number):
            yield f"{what} is revoked"
        issuer = trust.issuer(leaf)
        if issuer is None:
            yield f"{what} was signed by no authority of this project"
        elif issuer not in beside and not any(
            _is_ca(other) and canonical.is_issued_by(leaf, other) for other in beside
        ):
            yield f"{what} comes without its intermediate"


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def _spki(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _certificates_of_file(content: bytes, file: File) -> list[x509.Certificate]:
    """The certificates of a file, each of them whole: a template may hold anything."""
    try:
        found = _certificates(content)
        for certificate in found:
            certificate.public_key()
            _names(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = f"nothing was sent: a certificate in {file.path} cannot be read"
        raise PkiError(what, "fix what it comes from, then: ./run doit") from None
    return found


def _certificates(content: bytes) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(one.whole) for one in pem.sections(content, "CERTIFICATE")]


# -- CRLs -------------------------------------------------------------------------------------------------------------


def _crls_of_file(file: File, content: bytes) -> tuple[ParsedCrl, ...]:
    found = crl_files.parse_crls(content) if file.crl else ()
    if file.crl and not found:
        raise PkiError(f"nothing was sent: {file.path} holds no CRL", "./run doit")
    return found


def _crl_faults(content: FileContent, trust: Trust, now: datetime) -> Iterator[str]:
    for listed in content.crls:
        what, crl = listed.describe(content.file.path), listed.crl
        if not trust.has_signed(listed):
            yield f"{what} was signed by no authority of this project"
        if crl.last_update_utc > now:
            yield f"{what} is from the future: servers would refuse every client"
        if crl.next_update_utc is None or crl.next_update_utc <= now:
            yield f"{what} has run out: servers would refuse every client"


def revokes_more(payload: Payload, delivered: Payload, canary: int) -> bool:
    """Whether the CRLs of a release list something that those of another do not, besides the canary."""

    def listed(one: Payload) -> frozenset[int]:
        files = [file for file in one.release.files if file.crl]
        found = (crl.serials for file in files for crl in _crls_of_file(file, one.content(file)))
        return frozenset[int]().union(*found)

    return bool(listed(payload) - listed(delivered) - {canary})
