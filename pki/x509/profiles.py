"""The certificate profiles: the extensions of each kind of certificate (RFC 5280 §4.2).

Each function returns the extensions of one profile, each with its criticality. `certificate_signing.draft_certificate`
adds the subject and authority key identifiers. docs/reference/profiles.md gives the reason for each extension.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ObjectIdentifier

from pki.config.ip_addresses import IpNetwork
from pki.config.model import Leaf
from pki.x509.name_constraints import build_name_constraints

Extensions = list[tuple[x509.ExtensionType, bool]]

PURPOSES: dict[str, tuple[ObjectIdentifier, ...]] = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "peer": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}


def root_extensions(domains: Sequence[str] = (), addresses: Sequence[IpNetwork] = ()) -> Extensions:
    """Return the extensions of a root. With `domains`, it is that of clusters, and limited to these names and `addresses`.

    Basic constraints and key usage of a CA are critical (RFC 5280 §4.2.1.9, §4.2.1.3). There is no path length, because
    a root may later cross-sign a new root. The path is then: old root, cross-certificate, intermediate, leaf. It has two
    CAs below the old root, and a path length of 1 would allow only one.
    """
    extensions: Extensions = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
    ]
    return [*extensions, (build_name_constraints(domains, addresses), True)] if domains else extensions


def cross_certificate_extensions() -> Extensions:
    """Return the extensions of a cross-certificate: the old root certifies the key of the new root.

    Path length 1 (RFC 5280 §4.2.1.9) permits intermediates below it, and no CA below those.
    """
    return [
        (x509.BasicConstraints(ca=True, path_length=1), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def name_constraints_of(root: x509.Certificate) -> Extensions:
    """Return the name constraints of a root, for a certificate with the same limits; empty for a root without any."""
    return [(each.value, each.critical) for each in root.extensions if each.oid == x509.NameConstraints.oid]


def intermediate_extensions(purpose: str, domains: Sequence[str], addresses: Sequence[IpNetwork]) -> Extensions:
    """Return the extensions of an intermediate for `server`, `client` or `peer` certificates.

    The extended key usage keeps a server certificate from being accepted as a client certificate, and the reverse; a peer
    certificate is for both. The name constraints are critical (RFC 5280 §4.2.1.10) and limit names to `domains` and `addresses`. Path length 0: no CA
    below it.
    """
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
        (x509.ExtendedKeyUsage(PURPOSES[purpose]), False),
        (build_name_constraints(domains, addresses), True),
    ]


def leaf_extensions(leaf: Leaf, public_key: CertificatePublicKeyTypes) -> Extensions:
    """Return the extensions of a server, client or peer certificate.

    Only RSA keys get keyEncipherment (RFC 5480 §3 and RFC 8410 §5 exclude it for others). The alternative names are not
    critical, because the subject is never empty: it has an O (RFC 5280 §4.2.1.6).
    """
    is_rsa = isinstance(public_key, RSAPublicKey)
    extensions: Extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=True, key_encipherment=is_rsa), True),
        (x509.ExtendedKeyUsage(PURPOSES[leaf.profile]), False),
    ]
    names = subject_alternative_name(leaf)
    return [*extensions, (names, False)] if names else extensions


def publication_extensions(publish_url: str, generation: str) -> Extensions:
    """Return the extensions with the addresses of the issuing generation's CRL and certificate (RFC 5280 §4.2.1.13 and §4.2.2.1)."""
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url(publish_url, generation))], None, None, None)
    certificate = x509.UniformResourceIdentifier(certificate_url(publish_url, generation))
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, certificate)
    return [(x509.CRLDistributionPoints([crl]), False), (x509.AuthorityInformationAccess([access]), False)]


def crl_url(publish_url: str, generation: str) -> str:
    """Return the address of the CRL of a generation."""
    return f"{publish_url}/crl/{generation}.crl"


def certificate_url(publish_url: str, generation: str) -> str:
    """Return the address of the CA certificate of a generation."""
    return f"{publish_url}/ca/{generation}.crt"


def subject_alternative_name(leaf: Leaf) -> x509.SubjectAlternativeName | None:
    """Return the alternative names of a leaf, or None if it has none: RFC 5280 §4.2.1.6 forbids an empty extension."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in leaf.dns]
    names += [x509.IPAddress(ip_address(address)) for address in leaf.addresses]
    names += [x509.RFC822Name(email) for email in leaf.emails]
    names += [x509.UniformResourceIdentifier(uri) for uri in leaf.uris]
    return x509.SubjectAlternativeName(names) if names else None


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
