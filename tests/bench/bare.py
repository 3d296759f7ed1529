"""The least that the same work can cost: loops of `cryptography` and plain files, each run in a process of its own.

python -m tests.bench.bare issue LIST FOLDER    new keys and certificates, in every file that LIST names
python -m tests.bench.bare look LIST FOLDER     parse each cert.pem of LIST, stat every other file
python -m tests.bench.bare revoke LIST FOLDER   a CRL of the serial numbers and instants in LIST
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from itertools import groupby

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

START = datetime.now(UTC).replace(microsecond=0)
PUBLISHED = "http://pki.lab.internal"


def issue(names: list[str], folder: str) -> None:
    """One pair for each host of the list, written to each of the host's files; the rest gets the issuer."""
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = _sign(_builder("Bare CA", key.public_key(), 730), "Bare CA", key)
    chain = issuer.public_bytes(serialization.Encoding.PEM)
    for host, files in groupby(sorted(names, key=_host), key=_host):
        content = _pair(host, issuer, key) + chain if host else chain
        for name in files:
            _write(f"{folder}/{name}", content)


def look(names: list[str], folder: str) -> None:
    """A content check without a plan: is every certificate readable and in date, and every file there."""
    late = START + timedelta(days=30)
    for name in names:
        path = f"{folder}/{name}"
        if name.endswith("/cert.pem"):
            with open(path, "rb", buffering=0) as file:
                cert = x509.load_pem_x509_certificate(file.read())
            names_of = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            if cert.not_valid_after_utc < late or not len(names_of):
                sys.exit(f"{name} is due")
        else:
            os.stat(path)


def revoke(lines: list[str], folder: str) -> None:
    """All entries built, the CRL signed, verified and written in both forms."""
    key, reason = ec.generate_private_key(ec.SECP384R1()), x509.CRLReason(x509.ReasonFlags.superseded)
    entries = []
    for line in lines:
        serial, at = line.split()
        builder = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
        builder = builder.revocation_date(datetime.fromtimestamp(int(at), UTC)).add_extension(reason, critical=False)
        entries.append(builder.build())
    draft = x509.CertificateRevocationListBuilder(revoked_certificates=entries).issuer_name(_name("Bare CA"))
    draft = draft.last_update(START).next_update(START + timedelta(days=21))
    crl = draft.add_extension(x509.CRLNumber(1), critical=False).sign(key, hashes.SHA384())
    if not crl.is_signature_valid(key.public_key()):
        sys.exit("the signature does not hold")
    _write(f"{folder}/client.crl", crl.public_bytes(serialization.Encoding.DER))
    _write(f"{folder}/client.pem", crl.public_bytes(serialization.Encoding.PEM))


def _host(name: str) -> str:
    return next((part.removesuffix(".json") for part in name.split("/") if part.startswith("host-")), "")


def _pair(host: str, issuer: x509.Certificate, signer: ec.EllipticCurvePrivateKey) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(f"{host}.lab.internal", key.public_key(), 90)
    for value, critical in _leaf_extensions(f"{host}.lab.internal", issuer):
        builder = builder.add_extension(value, critical=critical)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    cert = _sign(builder, "Bare CA", signer)
    return private + cert.public_bytes(serialization.Encoding.PEM)


def _builder(name: str, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _leaf_extensions(name: str, issuer: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
    """What our server profile puts into a leaf."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign"), False
    )
    crl = x509.UniformResourceIdentifier(f"{PUBLISHED}/crl/server-1.crl")
    address = x509.UniformResourceIdentifier(f"{PUBLISHED}/ca/server-1.crt")
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, address)
    return [
        (x509.AuthorityKeyIdentifier(identifier, None, None), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.KeyUsage(True, **usage, crl_sign=False, encipher_only=False, decipher_only=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([x509.DNSName(name)]), False),
        (x509.CRLDistributionPoints([x509.DistributionPoint([crl], None, None, None)]), False),
        (x509.AuthorityInformationAccess([access]), False),
    ]


def _sign(builder: x509.CertificateBuilder, issuer: str, signer: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.issuer_name(_name(issuer)).sign(signer, hashes.SHA384())


def _name(text: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example Lab"),
            x509.NameAttribute(NameOID.COMMON_NAME, text),
        ]
    )


def _write(path: str, content: bytes) -> None:
    """Beside, to the disk, into place."""
    beside = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        handle = os.open(beside, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle = os.open(beside, flags, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(beside, path)


if __name__ == "__main__":
    with open(sys.argv[2]) as listing:
        {"issue": issue, "look": look, "revoke": revoke}[sys.argv[1]](listing.read().splitlines(), sys.argv[3])
