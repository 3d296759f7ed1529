"""What the certificate of each kind may do: the page an auditor reads.

Each function returns the extensions of one profile, with their criticality. Subject and authority key identifiers are
added for every profile alike. Why each line is as it is: docs/profiles.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ObjectIdentifier

from pki.config.model import Leaf
from pki.x509.name_constraints import name_constraints

Extensions = list[tuple[x509.ExtensionType, bool]]

PURPOSE: dict[str, ObjectIdentifier] = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}


def root() -> Extensions:
    """A root: no path length, so that a successor it cross-certifies can have intermediates of its own."""
    return [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def cross() -> Extensions:
    """An old root's certificate for a new root's key: intermediates below it, and nothing below those."""
    return [
        (x509.BasicConstraints(ca=True, path_length=1), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def intermediate(authority: str, domains: Sequence[str], addresses: Sequence[IPv4Network]) -> Extensions:
    """A server or client intermediate: its EKU keeps the two apart, its name constraints keep it at home."""
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_key_usage(key_cert_sign=True, crl_sign=True), True),
        (x509.ExtendedKeyUsage([PURPOSE[authority]]), False),
        (name_constraints(domains, addresses), True),
    ]


def leaf(wanted: Leaf, public_key: CertificatePublicKeyTypes) -> Extensions:
    """A server or client certificate; only RSA keys encipher keys (RFC 5480, RFC 8410)."""
    is_rsa = public_key.__class__.__name__.startswith("RSA")
    extensions: Extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_key_usage(digital_signature=True, key_encipherment=is_rsa), True),
        (x509.ExtendedKeyUsage([PURPOSE[wanted.profile]]), False),
    ]
    names = subject_alternative_name(wanted)  # RFC 5280 §4.2.1.6: never empty; a client may have its CN alone
    return (
        [*extensions, (names, False)] if names else extensions
    )  # critical only beside an empty subject: there is an O


def addresses_of(issuer_url: str, issuer: str) -> Extensions:
    """Where the issuer's CRL and certificate are published, by the issuer's generation."""
    crl = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url(issuer_url, issuer))], None, None, None)
    certificate = x509.UniformResourceIdentifier(certificate_url(issuer_url, issuer))
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, certificate)
    return [(x509.CRLDistributionPoints([crl]), False), (x509.AuthorityInformationAccess([access]), False)]


def crl_url(publish_url: str, generation: str) -> str:
    return f"{publish_url}/crl/{generation}.crl"


def certificate_url(publish_url: str, generation: str) -> str:
    return f"{publish_url}/ca/{generation}.crt"


def subject_alternative_name(wanted: Leaf) -> x509.SubjectAlternativeName | None:
    """The alternative names of a leaf, in their order; None when it has its CN alone."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in wanted.dns]
    names += [x509.IPAddress(IPv4Address(address)) for address in wanted.addresses]
    names += [x509.RFC822Name(email) for email in wanted.emails]
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
