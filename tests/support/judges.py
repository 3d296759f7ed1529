"""The policy written a second time, from the other side: what a reader of our certificates and CRLs expects of them.

Nothing here imports `pki`: two programs that agree are worth more than one that agrees with itself.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa, rsa
from cryptography.x509 import verification
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from cryptography.x509.oid import ExtensionOID as Oid
from OpenSSL import SSL, crypto
from pkilint import loader, pkix
from pkilint.document import Document
from pkilint.pkix import certificate as lint_certificate
from pkilint.pkix import crl as lint_crl
from pkilint.pkix import extension, name
from pkilint.validation import ValidationFindingSeverity

PURPOSE = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}
HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", re.DOTALL)
PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\n", re.DOTALL)
PEM_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)-----END", re.DOTALL)

# what each certificate carries, and whether it is critical: this and nothing more
ROOT = {Oid.BASIC_CONSTRAINTS: True, Oid.KEY_USAGE: True, Oid.SUBJECT_KEY_IDENTIFIER: False}
ISSUED = {
    Oid.SUBJECT_KEY_IDENTIFIER: False,
    Oid.AUTHORITY_KEY_IDENTIFIER: False,
    Oid.EXTENDED_KEY_USAGE: False,
    Oid.CRL_DISTRIBUTION_POINTS: False,
    Oid.AUTHORITY_INFORMATION_ACCESS: False,
}
CROSS = {**ROOT, **{oid: False for oid in ISSUED if oid != Oid.EXTENDED_KEY_USAGE}}
INTERMEDIATE = {**ROOT, **ISSUED, Oid.NAME_CONSTRAINTS: True}
LEAF = {**ROOT, **ISSUED, Oid.SUBJECT_ALTERNATIVE_NAME: False}
CRL = {Oid.AUTHORITY_KEY_IDENTIFIER: False, Oid.CRL_NUMBER: False}

# pkilint's findings that are wrong, each with the reason why it is let pass
LET_PASS = {
    r'pkix\.invalid_domain_name_syntax: .*"\*\.[a-z0-9.-]+"': "a wildcard is no host name, and it need not be one: "
    "RFC 6125 section 6.4.3 gives it its meaning",
}


@dataclass(frozen=True)
class Identity:
    """A leaf as its files show it: its key, when it is there, its certificate, its intermediate, what is sent along above."""

    leaf: x509.Certificate
    intermediate: x509.Certificate
    key: Any
    above: tuple[x509.Certificate, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Identity:
        """From tls.pem or fullchain.pem."""
        data = path.read_bytes()
        leaf, intermediate, *above = certificates(data)
        key = serialization.load_pem_private_key(data, None) if PEM_KEY.search(data) else None
        return cls(leaf, intermediate, key, tuple(above))

    @property
    def chain(self) -> list[x509.Certificate]:
        """What is sent along below a root."""
        return [self.intermediate, *self.above]


# -- reading ----------------------------------------------------------------------------------------------------------


def certificates(data: bytes) -> list[x509.Certificate]:
    """Every PEM certificate in a text."""
    return [x509.load_pem_x509_certificate(block) for block in PEM_CERTIFICATE.findall(data)]


def crls(data: bytes) -> list[x509.CertificateRevocationList]:
    """Every PEM CRL in a text."""
    return [x509.load_pem_x509_crl(block) for block in PEM_CRL.findall(data)]


def certificate(path: Path) -> x509.Certificate:
    (certificate,) = certificates(path.read_bytes())
    return certificate


def extension_of(cert: x509.Certificate | x509.CertificateRevocationList, kind: type) -> Any:
    return cert.extensions.get_extension_for_class(kind).value


def criticalities(signed: Any) -> dict[x509.ObjectIdentifier, bool]:
    return {extension.oid: extension.critical for extension in signed.extensions}


def key_usages(cert: x509.Certificate) -> set[str]:
    """The bits of the key usage that are set."""
    usage = extension_of(cert, x509.KeyUsage)
    bits = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    bits += ("key_agreement", "key_cert_sign", "crl_sign")
    return {bit for bit in bits if getattr(usage, bit)}


def common_name(cert: x509.Certificate) -> str:
    attributes = cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(attributes[0].value) if attributes else ""


def number(crl: x509.CertificateRevocationList) -> int:
    return int(extension_of(crl, x509.CRLNumber).crl_number)


# -- profiles ---------------------------------------------------------------------------------------------------------


def assert_is_root(cert: x509.Certificate) -> None:
    """A root of its own: no path length (a successor may cross-certify), no limits, nobody above it."""
    assert criticalities(cert) == ROOT
    assert cert.subject == cert.issuer
    cert.verify_directly_issued_by(cert)
    assert extension_of(cert, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=None)
    assert key_usages(cert) == {"key_cert_sign", "crl_sign"}
    assert_names_its_key(cert)


def assert_is_ca(
    cert: x509.Certificate,
    root: x509.Certificate,
    purpose: str,
    *,
    url: str,
    domains: list[str],
    networks: list[str],
    root_name: str = "root-1",
) -> None:
    """An intermediate for one purpose and one family of names, with nothing but leaves below it."""
    assert criticalities(cert) == INTERMEDIATE
    assert extension_of(cert, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=0)
    assert key_usages(cert) == {"key_cert_sign", "crl_sign"}
    assert list(extension_of(cert, x509.ExtendedKeyUsage)) == [PURPOSE[purpose]]
    limits = extension_of(cert, x509.NameConstraints)
    trees = list(limits.permitted_subtrees)
    assert [tree.value for tree in trees if isinstance(tree, x509.DNSName)] == domains
    assert not any(domain.startswith(".") for domain in domains)
    permitted = [tree.value for tree in trees if isinstance(tree, x509.IPAddress)]
    families = {ip_network(block).version for block in networks}
    unused = [block for version, block in ((4, "192.0.0.8/32"), (6, "100::/64")) if version not in families]
    assert permitted == [ip_network(block) for block in [*networks, *unused]]
    assert len(trees) == len(domains) + len(permitted), "names of another kind in the constraints"
    assert limits.excluded_subtrees is None
    assert_is_issued_by(cert, root, root_name, url)


def assert_is_cross(
    cert: x509.Certificate, new: x509.Certificate, old: x509.Certificate, old_name: str, *, url: str
) -> None:
    """A new root's name and key, certified by an old root, with intermediates below it and no more CAs than that."""
    assert criticalities(cert) == CROSS
    assert extension_of(cert, x509.BasicConstraints) == x509.BasicConstraints(ca=True, path_length=1)
    assert key_usages(cert) == {"key_cert_sign", "crl_sign"}
    assert cert.subject.public_bytes() == new.subject.public_bytes()
    assert cert.public_key() == new.public_key()
    assert_is_issued_by(cert, old, old_name, url)


def assert_is_leaf(
    cert: x509.Certificate,
    issuer: x509.Certificate,
    purpose: str,
    *,
    url: str,
    names: list[str],
    issuer_name: str = "",
) -> None:
    """A leaf for one purpose: it certifies nobody, and names what it may be called, in this order."""
    assert criticalities(cert) == LEAF
    assert extension_of(cert, x509.BasicConstraints) == x509.BasicConstraints(ca=False, path_length=None)
    is_rsa = isinstance(cert.public_key(), rsa.RSAPublicKey)
    assert key_usages(cert) == {"digital_signature", *(["key_encipherment"] if is_rsa else [])}
    assert list(extension_of(cert, x509.ExtendedKeyUsage)) == [PURPOSE[purpose]]
    assert [str(n.value) for n in extension_of(cert, x509.SubjectAlternativeName)] == names
    if purpose == "server":
        assert common_name(cert) in names, "a name in the CN that the name constraints do not see"
    else:
        assert "." not in common_name(cert) or "@" in common_name(cert)
    assert_is_issued_by(cert, issuer, issuer_name or f"{purpose}-1", url)


def assert_is_issued_by(cert: x509.Certificate, issuer: x509.Certificate, generation: str, url: str) -> None:
    """Signed by its issuer, within its dates, with key identifiers, CDP and AIA that lead to it."""
    cert.verify_directly_issued_by(issuer)
    assert cert.issuer.public_bytes() == issuer.subject.public_bytes()
    assert issuer.not_valid_before_utc <= cert.not_valid_before_utc
    assert cert.not_valid_after_utc <= issuer.not_valid_after_utc
    assert_names_its_key(cert)
    assert_points_at_key_of(cert, issuer)
    (point,) = extension_of(cert, x509.CRLDistributionPoints)
    assert [name.value for name in point.full_name] == [f"{url}/crl/{generation}.crl"]
    assert (point.relative_name, point.reasons, point.crl_issuer) == (None, None, None)
    (access,) = extension_of(cert, x509.AuthorityInformationAccess)
    assert access.access_method == AuthorityInformationAccessOID.CA_ISSUERS
    assert access.access_location.value == f"{url}/ca/{generation}.crt"


def assert_names_its_key(cert: x509.Certificate) -> None:
    expected = x509.SubjectKeyIdentifier.from_public_key(cert.public_key())
    assert extension_of(cert, x509.SubjectKeyIdentifier) == expected
    assert cert.version is x509.Version.v3


def assert_points_at_key_of(signed: Any, issuer: x509.Certificate) -> None:
    """The issuer's key identifier alone: its name and serial would tie us to one certificate of it."""
    extension = extension_of(signed, x509.AuthorityKeyIdentifier)
    assert extension.key_identifier == extension_of(issuer, x509.SubjectKeyIdentifier).digest
    assert (extension.authority_cert_issuer, extension.authority_cert_serial_number) == (None, None)


def assert_is_crl(crl: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime) -> None:
    """A CRL that every server takes at `now`: AKI, number, nextUpdate, no IDP; entries without critical reasons."""
    assert criticalities(crl) == CRL
    assert crl.issuer.public_bytes() == issuer.subject.public_bytes()
    assert crl.is_signature_valid(issuer.public_key())
    assert_points_at_key_of(crl, issuer)
    assert crl.next_update_utc is not None
    assert crl.last_update_utc <= now < crl.next_update_utc
    serials = [entry.serial_number for entry in crl]
    assert len(serials) == len(set(serials))
    for entry in crl:
        assert [extension.oid for extension in entry.extensions] in ([], [x509.CRLEntryExtensionOID.CRL_REASON])
        assert not any(extension.critical for extension in entry.extensions)


# -- chains -----------------------------------------------------------------------------------------------------------


def x509_verification_fault(
    identity: Identity, roots: list[x509.Certificate], at: datetime, host: x509.GeneralName | None
) -> str:
    """What `cryptography.x509.verification` has against a server (`host`) or client chain; empty means nothing."""
    builder = verification.PolicyBuilder().time(at).store(verification.Store(roots))
    try:
        if host is None:
            builder.build_client_verifier().verify(identity.leaf, identity.chain)
        else:
            builder.build_server_verifier(host).verify(identity.leaf, identity.chain)
    except verification.VerificationError as error:
        return str(error)
    return ""


def openssl_fault(
    identity: Identity,
    roots: list[x509.Certificate],
    at: datetime,
    revocations: list[x509.CertificateRevocationList],
) -> str:
    """What OpenSSL has against a chain under `-x509_strict -crl_check_all`; empty means nothing."""
    store = _openssl_store(crypto.X509Store(), roots, at, revocations)
    chain = [crypto.X509.from_cryptography(cert) for cert in identity.chain]
    context = crypto.X509StoreContext(store, crypto.X509.from_cryptography(identity.leaf), chain)
    try:
        context.verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    return ""


def _openssl_store(
    store: crypto.X509Store,
    roots: list[x509.Certificate],
    at: datetime,
    revocations: list[x509.CertificateRevocationList],
) -> crypto.X509Store:
    flags = crypto.X509StoreFlags
    for root in roots:
        store.add_cert(crypto.X509.from_cryptography(root))
    for crl in revocations:
        store.add_crl(crl)
    store.set_flags(flags.X509_STRICT | (flags.CRL_CHECK | flags.CRL_CHECK_ALL if revocations else 0))
    store.set_time(at.astimezone(UTC))
    return store


def openssl_key(key: Any) -> Any:
    """A key as pyOpenSSL takes it: of an ML-DSA key it does not know the class, and reads the PEM by OpenSSL itself."""
    if not isinstance(key, mldsa.MLDSA65PrivateKey):
        return key
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return crypto.load_privatekey(crypto.FILETYPE_PEM, pem)


def handshake_fault(
    server: Identity,
    client: Identity,
    roots: list[x509.Certificate],
    at: datetime,
    revocations: list[x509.CertificateRevocationList],
) -> str:
    """A whole mutual TLS handshake in memory: what ends it; empty when both sides are content."""
    sides = []
    for identity, is_server in ((server, True), (client, False)):
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate(identity.leaf)
        for above in identity.chain:
            context.add_extra_chain_cert(above)
        context.use_privatekey(openssl_key(identity.key))
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *arguments: arguments[-1] == 1)
        _openssl_store(context.get_cert_store(), roots, at, revocations if is_server else [])
        side = SSL.Connection(context)
        (side.set_accept_state if is_server else side.set_connect_state)()
        sides.append(side)
    for _ in range(10):
        for side, other in (sides, sides[::-1]):
            try:
                side.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                return str(error)
            with suppress(SSL.WantReadError):
                other.bio_write(side.bio_read(1 << 16))
    return ""


# -- lint -------------------------------------------------------------------------------------------------------------


def lint(signed: x509.Certificate | x509.CertificateRevocationList) -> list[str]:
    """What pkilint finds from warnings upwards, LET_PASS aside."""
    der = signed.public_bytes(serialization.Encoding.DER)
    document: Document
    if isinstance(signed, x509.Certificate):
        document = loader.RFC5280CertificateDocumentLoader().load_der_document(der)
        container = lint_certificate.create_pkix_certificate_validator_container(
            lint_certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
            [
                lint_certificate.create_issuer_validator_container([]),
                lint_certificate.create_validity_validator_container(),
                lint_certificate.create_subject_validator_container([]),
                lint_certificate.create_extensions_validator_container([]),
                lint_certificate.create_spki_validator_container([]),
            ],
        )
    else:
        document = loader.RFC5280CertificateListDocumentLoader().load_der_document(der)
        container = lint_crl.create_pkix_crl_validator_container(
            [
                pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
                pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
            ],
            [
                lint_crl.create_issuer_validator_container([]),
                lint_crl.create_validity_validator_container([]),
                lint_crl.create_extensions_validator_container([]),
            ],
        )
    findings = [
        f"{description.finding.code}: {description.message}"
        for result in container.validate(document.root)
        for description in result.finding_descriptions
        if description.finding.severity <= ValidationFindingSeverity.WARNING  # FATAL is 0
    ]
    return [finding for finding in findings if not any(re.fullmatch(accepted, finding) for accepted in LET_PASS)]


# -- secrets ----------------------------------------------------------------------------------------------------------


def der_tree(data: bytes) -> list[Any]:
    """DER taken apart: (tag, content), where the content of something constructed is a list of the same."""
    findings: list[Any] = []
    while data:
        tag, length, start = data[0], data[1], 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(data[2:start])
        content = data[start : start + length]
        findings.append((tag, der_tree(content) if tag & 0x20 else content))
        data = data[start + length :]
    return findings
