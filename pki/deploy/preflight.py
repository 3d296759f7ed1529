"""Check a release as a whole before any file of it is sent: keys, chains, dates, names, CRLs.

Servers do not detect most of these faults: they start, and fail later.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
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
from pki.x509.export import pkcs12
from pki.x509.keys import public_der

KEYS = tuple(f"{kind}PRIVATE KEY" for kind in ("", "EC ", "RSA ", "DSA ", "ENCRYPTED ", "OPENSSH "))
FIX_SOURCE = "correct the template, or the file in build/ that it delivers, then: ./run doit"


@dataclass
class Trust:
    """The facts that a release is checked against.

    `roots_pem`, `authorities_pem` and `adopted_pem` are CA certificates (PEM). The CAs in `adopted_pem` sign CRLs of a
    release, and no certificates. `is_revoked` returns whether the certificate with a serial number is revoked.
    `has_expired` returns whether the certificate with a serial number is known and has expired: only the entry of such a
    certificate may leave a CRL. `pkcs12_passphrase` returns the passphrase of a leaf's PKCS#12 files, and raises PkiError
    without one.
    """

    roots_pem: bytes
    authorities_pem: bytes
    is_revoked: Callable[[int], bool] = field(default=lambda _: False)
    has_expired: Callable[[int], bool] = field(default=lambda _: False)
    adopted_pem: bytes = b""
    pkcs12_passphrase: Callable[[str], str] = field(default=lambda _: "")
    _signature_results: dict[bytes, bool] = field(default_factory=dict)  # by the SHA-256 of the CRL
    _root_by_certificate: dict[bytes, x509.Certificate | None] = field(default_factory=dict)  # by the DER

    @cached_property
    def cas_by_subject(self) -> dict[bytes, list[x509.Certificate]]:
        """The CAs of the project, by subject (DER)."""
        return _by_subject(self.roots_pem + b"\n" + self.authorities_pem)

    @cached_property
    def crl_signers_by_subject(self) -> dict[bytes, list[x509.Certificate]]:
        """The CAs whose CRLs are accepted, by subject (DER)."""
        return _by_subject(self.roots_pem + b"\n" + self.authorities_pem + b"\n" + self.adopted_pem)

    @cached_property
    def root_ders(self) -> set[bytes]:
        """The roots (DER)."""
        return {certificate.public_bytes(Encoding.DER) for certificate in _certificates(self.roots_pem)}

    def issuer(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Return the CA of the project that signed a certificate, None if there is none."""
        candidates = self.cas_by_subject.get(certificate.issuer.public_bytes(), [])
        return next((ca for ca in candidates if canonical.is_issued_by(certificate, ca)), None)

    def root_of(self, certificate: x509.Certificate) -> x509.Certificate | None:
        """Return the root of the project at the end of a certificate's chain; None without one. A root is its own root."""
        der = certificate.public_bytes(Encoding.DER)
        if der in self.root_ders:
            return certificate
        if der not in self._root_by_certificate:
            self._root_by_certificate[der] = None  # two CAs may have certified each other: the search ends here then
            issuer = self.issuer(certificate)
            if issuer:
                self._root_by_certificate[der] = self.root_of(issuer)
        return self._root_by_certificate[der]

    def has_signed(self, crl: ParsedCrl) -> bool:
        """Return whether a known CA signed a CRL. Cached, because many hosts get the same CRL."""
        if crl.digest not in self._signature_results:
            keys = map(ca_public_key, self.crl_signers_by_subject.get(crl.issuer, []))
            self._signature_results[crl.digest] = any(canonical.is_signed_by(crl.crl, key) for key in keys)
        return self._signature_results[crl.digest]


def _by_subject(cas_pem: bytes) -> dict[bytes, list[x509.Certificate]]:
    certificates: dict[bytes, list[x509.Certificate]] = {}
    for certificate in _certificates(cas_pem):
        certificates.setdefault(certificate.subject.public_bytes(), []).append(certificate)
    return certificates


@dataclass(frozen=True, slots=True)
class ReleaseContents:
    """The certificates and CRLs of a release.

    `leaves` maps each name to the leaf certificate that has it. `first_expiry` is when the first leaf or CRL expires;
    None if the release has none of both, or if it was not checked.
    """

    leaves: dict[str, x509.Certificate]
    first_expiry: datetime | None
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    def lists(self, serial: int) -> bool:
        """Return whether one of the CRLs lists a serial number."""
        return any(crl.get_revoked_certificate_by_serial_number(serial) for crl in self.crls)


@dataclass(frozen=True, slots=True)
class ParsedReleaseFile:
    """The keys, certificates and CRLs in one file; `public_keys` are those of its private keys (SPKI, DER)."""

    file: File
    public_keys: tuple[bytes, ...]
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[ParsedCrl, ...]

    @classmethod
    def of(cls, file: File, content: bytes, trust: Trust) -> ParsedReleaseFile:
        """Parse the content of a file. Raises PkiError when it cannot be parsed."""
        if file.crl:
            return cls(file, (), (), _crls_of_file(file, content))
        if file.pkcs12:
            return cls(file, *_pkcs12_content(file, content, trust), ())
        public_keys = [_public_key(section.whole, file) for section in pem.sections(content, *KEYS)]
        return cls(file, tuple(public_keys), tuple(_own_certificates(file, content)), ())

    @property
    def leaves(self) -> list[x509.Certificate]:
        """The end-entity certificates of the file."""
        return _leaves(self.certificates)


def read_contents(payload: Payload) -> ReleaseContents:
    """Return what a release contains, without any check of signatures, keys or dates."""
    leaves = dict[str, x509.Certificate]()
    crls = list[x509.CertificateRevocationList]()
    for file in payload.release.files:
        content = payload.content(file)
        crls += [parsed_crl.crl for parsed_crl in _crls_of_file(file, content)]
        for leaf in _leaves(_own_certificates(file, content)):
            leaves |= dict.fromkeys(alternative_names(leaf), leaf)
    return ReleaseContents(leaves, first_expiry=None, crls=tuple(crls))


def reload_commands(payload: Payload, name: str) -> set[str]:
    """Return the commands after which a host serves a new certificate for a name."""
    commands = set[str]()
    for file in payload.release.files:
        if file.reload and not file.crl and not file.upstream:
            leaves = _leaves(_own_certificates(file, payload.content(file)))
            if any(name in alternative_names(leaf) for leaf in leaves):
                commands.add(file.reload)
    return commands


def root_subjects(payload: Payload, trust: Trust) -> dict[str, str]:
    """Return the roots at the end of the chains of a release's certificates: the subject of each, by its SHA-256."""
    roots = set[x509.Certificate]()
    for file in payload.release.files:
        for certificate in _readable_certificates(payload, file):
            root = trust.root_of(certificate)
            if root:
                roots.add(root)
    return {fingerprint(root): root.subject.rfc4514_string() for root in sorted(roots, key=fingerprint)}


def has_unknown_ca(payload: Payload, trust: Trust) -> bool:
    """Return whether a release has a certificate whose issuer is named as a doit-pki CA, but is none of this project."""
    for file in payload.release.files:
        for certificate in () if file.upstream else _readable_certificates(payload, file):
            attributes = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
            is_named_as_ours = any(CA_NAME.search(str(attribute.value)) for attribute in attributes)
            if is_named_as_ours and trust.root_of(certificate) is None:
                return True
    return False


def _readable_certificates(payload: Payload, file: File) -> Iterator[x509.Certificate]:
    """Yield the certificates of a file that can be read; none of a CRL file. `check_release` reports the others."""
    for section in () if file.crl else pem.sections(_certificate_text(file, payload.content(file)), "CERTIFICATE"):
        with suppress(ValueError):
            yield x509.load_pem_x509_certificate(section.whole)


def check_release(
    payload: Payload, trust: Trust, names: Sequence[str], now: datetime, *, without_root: Container[str] = ()
) -> ReleaseContents:
    """Check a release and return what it contains.

    One of its certificates must be valid for each of `names`, unless the release has no certificate. `without_root` are
    managed files that must not contain a root: those of GnuTLS servers. Raises PkiError with all faults.
    """
    parsed_files = [ParsedReleaseFile.of(file, payload.content(file), trust) for file in payload.release.files]
    certificates = [certificate for parsed in parsed_files for certificate in parsed.certificates]
    leaves = {name: leaf for parsed in parsed_files for leaf in parsed.leaves for name in alternative_names(leaf)}
    faults = [
        *_path_faults(payload),
        *_key_faults(parsed_files, certificates),
        *(fault for parsed in parsed_files for fault in _leaf_faults(parsed, trust, now, certificates)),
        *(fault for parsed in parsed_files for fault in _crl_faults(parsed, trust, now)),
        *_root_faults([parsed for parsed in parsed_files if parsed.file.managed in without_root], trust),
        *(f"no certificate is valid for {name}" for name in names if leaves and name not in leaves),
    ]
    if faults:
        raise PkiError(f"nothing was sent: {'; '.join(dict.fromkeys(faults))}", FIX_SOURCE)
    crls = tuple(parsed_crl.crl for parsed in parsed_files for parsed_crl in parsed.crls)
    expiries = [leaf.not_valid_after_utc for parsed in parsed_files for leaf in parsed.leaves]
    expiries += [crl.next_update_utc for crl in crls if crl.next_update_utc is not None]
    return ReleaseContents(leaves, first_expiry=min(expiries, default=None), crls=crls)


def _path_faults(payload: Payload) -> Iterator[str]:
    for file in payload.release.files:
        if not PATH.fullmatch(file.path):
            yield f"{file.path!r} contains characters that a target must not have"


def _root_faults(files_for_gnutls: Iterable[ParsedReleaseFile], trust: Trust) -> Iterator[str]:
    for parsed in files_for_gnutls:
        if any(certificate.public_bytes(Encoding.DER) in trust.root_ders for certificate in parsed.certificates):
            yield f"{parsed.file.path} has the root, and is for a server that uses GnuTLS: it would accept a server's certificate as a client"


# -- keys -------------------------------------------------------------------------------------------------------------


def _key_faults(parsed_files: list[ParsedReleaseFile], certificates: list[x509.Certificate]) -> Iterator[str]:
    """Yield the faults of private keys.

    A key in a file with certificates must belong to the first certificate, because most servers take that for their own;
    with `any_order` to any of them. Any other key must belong to one of `certificates`, which are all of the release.
    """
    certified_keys = {public_der(certificate.public_key()) for certificate in certificates}
    for parsed in parsed_files:
        path = parsed.file.path
        if not parsed.public_keys:
            continue
        own_certificates = parsed.certificates if parsed.file.any_order else parsed.certificates[:1]
        own_keys = {public_der(certificate.public_key()) for certificate in own_certificates}
        if own_certificates and own_keys.isdisjoint(parsed.public_keys):
            yield f"the key in {path} does not match the certificate beside it"
        elif not certified_keys.issuperset(parsed.public_keys):
            yield f"the key in {path} matches no certificate"


def _public_key(text: bytes, file: File) -> bytes:
    """Return the public half of a private key as certificates contain it (SPKI, DER)."""
    try:
        public = load_pem_private_key(text, None).public_key()
    except (ValueError, TypeError):
        raise PkiError(f"nothing was sent: the key in {file.path} cannot be read", "deliver keys unencrypted") from None
    return public_der(public)


def _pkcs12_content(file: File, content: bytes, trust: Trust) -> tuple[tuple[bytes, ...], tuple[x509.Certificate, ...]]:
    """Return the public half of the key in a PKCS#12 file, and its certificates. Raises PkiError if it does not open."""
    archive = pkcs12.read(content, trust.pkcs12_passphrase(file.pkcs12))
    if archive is None or archive.cert is None or archive.key is None:
        what = (
            f"nothing was sent: {file.path} does not open with the present passphrase of {file.pkcs12}, "
            "or its key belongs to none of its certificates"
        )
        raise PkiError(what, "a release with an earlier passphrase cannot be deployed: ./run doit")
    certificates = (archive.cert.certificate, *(other.certificate for other in archive.additional_certs))
    if set(certificates) != set(_own_certificates(file, content)):
        raise PkiError(f"nothing was sent: {file.path} contains other certificates than its manifest", "./run doit")
    return (public_der(archive.key.public_key()),), certificates


# -- certificates -----------------------------------------------------------------------------------------------------


def _leaf_faults(
    parsed: ParsedReleaseFile, trust: Trust, now: datetime, release_certificates: list[x509.Certificate]
) -> Iterator[str]:
    """Yield the faults of the leaves in a file. Their intermediate must be in the same file.

    If the file has one certificate and no key, the intermediate may be in any file: some programs read it from another
    file.
    """
    is_bundle = bool(parsed.public_keys) or len(parsed.certificates) > 1
    candidates = parsed.certificates if is_bundle else release_certificates
    for leaf in parsed.leaves:
        leaf_text = f"{leaf.subject.rfc4514_string() or ', '.join(alternative_names(leaf))} in {parsed.file.path}"
        if not leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc:
            yield f"{leaf_text} is valid from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d} only"
        if trust.is_revoked(leaf.serial_number):
            yield f"{leaf_text} is revoked"
        issuer = trust.issuer(leaf)
        if issuer is None:
            yield f"{leaf_text} is not signed by an authority of this project"
        elif issuer not in candidates and not any(
            # another certificate of the same intermediate, such as one that another root signed
            is_ca(candidate) and canonical.is_issued_by(leaf, candidate)
            for candidate in candidates
        ):
            yield f"{leaf_text} is delivered without its intermediate"


def _own_certificates(file: File, content: bytes) -> list[x509.Certificate]:
    """Return the certificates of a file that must be from this project. Raises PkiError for an unreadable one.

    Returns none of an `upstream` file, because other CAs issued its certificates, and none of a CRL file.
    """
    if file.crl or file.upstream:
        return []
    try:
        certificates = _certificates(_certificate_text(file, content))
        for certificate in certificates:
            # cryptography parses these two parts on first use, and a template may contain a damaged certificate
            certificate.public_key()
            alternative_names(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        what = f"nothing was sent: a certificate in {file.path} cannot be read"
        raise PkiError(what, FIX_SOURCE) from None
    return certificates


def _certificate_text(file: File, content: bytes) -> bytes:
    """Return the certificates of a file as PEM: the manifest has those of a PKCS#12 file, which is encrypted."""
    return file.certificates.encode() if file.pkcs12 else content


def _certificates(content: bytes) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(section.whole) for section in pem.sections(content, "CERTIFICATE")]


def _leaves(certificates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    return [certificate for certificate in certificates if not is_ca(certificate)]


# -- CRLs -------------------------------------------------------------------------------------------------------------


def _crls_of_file(file: File, content: bytes) -> tuple[ParsedCrl, ...]:
    crls = crl_files.parse_crls(content) if file.crl else ()
    if file.crl and not crls:
        raise PkiError(f"nothing was sent: {file.path} holds no CRL", "./run doit")
    return crls


def _crl_faults(parsed: ParsedReleaseFile, trust: Trust, now: datetime) -> Iterator[str]:
    for parsed_crl in parsed.crls:
        what, crl = parsed_crl.describe(parsed.file.path), parsed_crl.crl
        if not trust.has_signed(parsed_crl):
            yield f"{what} is not signed by an authority of this project"
        if crl.last_update_utc > now:
            yield f"{what} has a thisUpdate in the future: servers would refuse every client"
        if crl.next_update_utc is None or crl.next_update_utc <= now:
            yield f"{what} has expired: servers would refuse every client"


def revokes_more(payload: Payload, delivered: Payload, canary: int) -> bool:
    """Return whether the CRLs of a release list a serial number that the CRLs of the delivered release do not list.

    `canary` does not count: each new canary is revoked, which is no reason to hurry.
    """
    return bool(_listed_serials(payload) - _listed_serials(delivered) - {canary})


def _listed_serials(payload: Payload) -> frozenset[int]:
    """Return the serial numbers on all CRLs of a release."""
    files = [file for file in payload.release.files if file.crl]
    serials = (crl.serials for file in files for crl in _crls_of_file(file, payload.content(file)))
    return frozenset[int]().union(*serials)
