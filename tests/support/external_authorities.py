"""The other side of an external authority: the server that has its key, makes requests, and issues certificates."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.projects import Home

RULE = "{external: requests/acme.csr, domains: [acme.lab.internal]}"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

Key = ec.EllipticCurvePrivateKey


def declare(home: Home, rule: str = RULE, name: str = "acme") -> None:
    """Write an external authority into the pki.yaml of the example."""
    home.edit("  client: {lifetime: 2y,", f"  {name}: {rule}\n  client: {{lifetime: 2y,")


def make_request(home: Home, file: str = "requests/acme.csr", curve: ec.EllipticCurve | None = None) -> Key:
    """Make a new key and a request that asks for more than anybody gets; return the key."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name("Everything Root CA 1"))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=9), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.example")]), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    home.write(file, pem.decode())
    return key


def issue(
    ca: x509.Certificate, key: Key, host: str, at: datetime, purpose: x509.ObjectIdentifier = SERVER
) -> tuple[x509.Certificate, Key]:
    """Issue a certificate of 30 days for a host, as the other server does; return it with its key."""
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(host), ca.subject, leaf_key, at)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    identifier = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return builder.add_extension(issuer, critical=False).sign(key, hashes.SHA256()), leaf_key


def certify_authority(ca: x509.Certificate, key: Key, at: datetime) -> tuple[x509.Certificate, Key]:
    """Make a CA below an authority, as a thief of its key might; return it with its key."""
    lower_key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name("Lower CA"), ca.subject, lower_key, at)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    subject_key = x509.SubjectKeyIdentifier.from_public_key(lower_key.public_key())
    return builder.add_extension(subject_key, critical=False).sign(key, hashes.SHA256()), lower_key


def empty_crl(ca: x509.Certificate, key: Key, at: datetime) -> x509.CertificateRevocationList:
    """Return a CRL of 30 days of the other server, without entries."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
    builder = builder.last_update(at - timedelta(hours=1)).next_update(at + timedelta(days=30))
    return builder.add_extension(x509.CRLNumber(1), critical=False).sign(key, hashes.SHA256())


def write_pem(path: Path, *parts: x509.Certificate | x509.CertificateRevocationList) -> str:
    """Write certificates or CRLs into one file; return its path."""
    path.write_bytes(b"".join(part.public_bytes(serialization.Encoding.PEM) for part in parts))
    return str(path)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, at: datetime) -> x509.CertificateBuilder:
    dates = at - timedelta(hours=1), at + timedelta(days=30)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    return builder.not_valid_before(dates[0]).not_valid_after(dates[1])
