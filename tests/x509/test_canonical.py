"""Strict readers: a file is what this program wrote, byte for byte, or it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pki.x509 import canonical, certificate_signing, crl_signing, keys, pem_encoding, profiles, revocation
from pki.x509.certificate_signing import Issuer
from pki.x509.revocation import CrlEntry
from tests.support.projects import START

DAY = timedelta(days=1)


def made_ca(name: str = "Root") -> Issuer:
    key = keys.new_key("ec-p256")
    subject = certificate_signing.subject_name("Example Lab", f"Example Lab {name} CA 1")
    dates = START, START + 90 * DAY
    certificate = certificate_signing.sign_certificate(
        subject, key.public_key(), dates, profiles.root_extensions(), key
    )
    return Issuer(certificate, key)


def is_even(signed: x509.Certificate | x509.CertificateRevocationList) -> bool:
    """Whether the last bit of a signature is 0, as an unused bit must be: a signature of ECDSA is a random one."""
    return signed.signature[-1] % 2 == 0


CA, OTHER = made_ca(), made_ca("Other")
PEM, OTHER_PEM = (pem_encoding.pem_of([ca.certificate]) for ca in (CA, OTHER))
KEY = keys.private_pem(CA.key)
CRL = crl_signing.sign_crl(CA, 7, START, START + DAY, [CrlEntry(5, START, "keyCompromise")])


def unused_bits(der: bytes, signature: bytes) -> bytes:
    """The same, but its signature claims to have one unused bit."""
    assert der.endswith(b"\0" + signature)
    return der[: -len(signature) - 1] + b"\1" + signature


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "text before it": lambda pem: b"hello\n" + pem,
    "text after it": lambda pem: pem + b"hello\n",
    "an empty line after it": lambda pem: pem + b"\n",
    "no end of its last line": lambda pem: pem[:-1],
    "CR LF": lambda pem: pem.replace(b"\n", b"\r\n"),
    "another damage": lambda pem: pem.replace(b"\nM", b"\nAAAA", 1),
    "nothing": lambda _: b"",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_file_with_anything_but_its_content_is_damaged(what: str) -> None:
    """Parsers differ in what they tolerate (RFC 7468 §2): nginx would read another file than this program."""
    change = CHANGES[what]
    assert canonical.read_certificate(change(PEM)) is None
    assert canonical.read_key(change(KEY)) is None
    assert canonical.read_crl(change(CRL.public_bytes(Encoding.PEM)), Encoding.PEM) is None
    assert not canonical.is_encrypted_key(change(keys.encrypted_pem(CA.key, "secret")))
    if what != "nothing":
        assert canonical.read_certificates(change(PEM + OTHER_PEM)) is None


def test_what_this_program_wrote_is_read() -> None:
    assert canonical.read_certificate(PEM) == CA.certificate
    assert canonical.read_certificates(PEM + OTHER_PEM) == [CA.certificate, OTHER.certificate]
    key = canonical.read_key(KEY)
    assert key is not None
    assert keys.public_der(key.public_key()) == keys.public_der(CA.key.public_key())  # type: ignore[arg-type]
    assert canonical.read_crl(CRL.public_bytes(Encoding.PEM), Encoding.PEM) == CRL
    assert canonical.read_crl(CRL.public_bytes(Encoding.DER), Encoding.DER) == CRL
    assert canonical.is_encrypted_key(keys.encrypted_pem(CA.key, "secret"))
    assert not canonical.is_encrypted_key(KEY)


def test_one_certificate_is_not_two_and_two_are_not_one() -> None:
    assert canonical.read_certificate(PEM + OTHER_PEM) is None
    assert canonical.read_first_certificate(KEY + PEM + OTHER_PEM) == CA.certificate
    assert canonical.read_first_certificate(PEM.replace(b"\nM", b"\nAAAA", 1) + OTHER_PEM) is None
    assert canonical.read_first_certificate(KEY) is None
    assert canonical.read_foreign_certificate(b"hello\n" + PEM) == CA.certificate
    assert canonical.read_foreign_certificate(b"hello\n") is None


def test_a_crl_in_the_other_form_is_not_read() -> None:
    assert canonical.read_crl(CRL.public_bytes(Encoding.DER), Encoding.PEM) is None
    assert canonical.read_crl(CRL.public_bytes(Encoding.PEM), Encoding.DER) is None


def test_a_key_whose_public_half_belongs_to_another_key_is_damaged() -> None:
    """OpenSSL believes the public half in the file, and would serve a certificate that does not match."""
    foreign = ec.generate_private_key(ec.SECP256R1())

    def point(key: ec.EllipticCurvePrivateKey) -> bytes:
        numbers = key.public_key().public_numbers()
        return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)

    own = ec.generate_private_key(ec.SECP256R1())
    der = own.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    mixed = pem_encoding.encode_pem("PRIVATE KEY", der.replace(point(own), point(foreign)))
    assert canonical.read_key(pem_encoding.encode_pem("PRIVATE KEY", der)) is not None
    assert canonical.read_key(mixed) is None
    for bare in (ed25519.Ed25519PrivateKey.generate(), mldsa.MLDSA65PrivateKey.generate()):
        pem = bare.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        assert canonical.read_key(pem) is not None
        assert canonical.read_key(pem + pem) is None


def test_an_encrypted_key_has_lines_of_64_letters_and_its_own_marks() -> None:
    encrypted = keys.encrypted_pem(CA.key, "secret")
    lines = encrypted.split(b"\n")
    assert not canonical.is_encrypted_key(b"\n".join([lines[0], lines[1] + lines[2], *lines[3:]]))
    assert not canonical.is_encrypted_key(encrypted.replace(lines[1], b"!" + lines[1][1:]))
    assert not canonical.is_encrypted_key(encrypted.replace(b"END ENCRYPTED", b"END"))
    assert not canonical.is_encrypted_key(encrypted.replace(b"BEGIN ENCRYPTED", b"BEGIN"))


# -- signatures --------------------------------------------------------------------------------------------------------


def test_a_signature_with_unused_bits_is_none() -> None:
    """`cryptography` ignores their number, and OpenSSL refuses the certificate or CRL on every host."""
    ca = next(one for one in iter(made_ca, None) if is_even(one.certificate))
    signed_crls = (crl_signing.sign_crl(ca, 7, START, START + DAY, []) for _ in range(1000))
    whole = next(filter(is_even, signed_crls))
    certificate = x509.load_der_x509_certificate(
        unused_bits(ca.certificate.public_bytes(Encoding.DER), ca.certificate.signature)
    )
    crl = x509.load_der_x509_crl(unused_bits(whole.public_bytes(Encoding.DER), whole.signature))
    assert not canonical.has_whole_signature(certificate)
    assert not canonical.is_issued_by(certificate, ca.certificate)
    assert canonical.read_certificate(pem_encoding.pem_of([certificate])) is None
    assert canonical.read_foreign_certificate(pem_encoding.pem_of([certificate])) is None
    assert canonical.read_certificates(pem_encoding.pem_of([certificate])) is None
    assert not canonical.is_signed_by(crl, certificate_signing.ca_public_key(ca.certificate))
    assert canonical.read_crl(crl.public_bytes(Encoding.DER), Encoding.DER) is None


def test_a_signature_is_that_of_the_issuer_alone() -> None:
    assert canonical.is_issued_by(CA.certificate, CA.certificate)
    assert not canonical.is_issued_by(CA.certificate, OTHER.certificate)
    assert not canonical.is_issued_by(CA.certificate, made_ca().certificate), "the same name, and another key"
    assert canonical.is_signed_by(CRL, certificate_signing.ca_public_key(CA.certificate))
    assert not canonical.is_signed_by(CRL, certificate_signing.ca_public_key(OTHER.certificate))


def test_a_crl_whose_extensions_cannot_be_read_is_signed_by_nobody() -> None:
    builder = x509.CertificateRevocationListBuilder().issuer_name(CA.certificate.subject)
    builder = builder.last_update(START).next_update(START + DAY)
    junk = builder.add_extension(x509.UnrecognizedExtension(x509.CRLNumber.oid, b"junk"), critical=False)
    crl = junk.sign(CA.key, keys.signature_hash(CA.key))
    assert not canonical.is_signed_by(crl, certificate_signing.ca_public_key(CA.certificate))
    assert canonical.read_crl(crl.public_bytes(Encoding.DER), Encoding.DER) is None
    assert revocation.crl_number(crl) == 0


def test_a_ca_says_so_in_its_basic_constraints() -> None:
    assert canonical.is_ca(CA.certificate)
    key = keys.new_key("ec-p256")
    dates = START, START + DAY
    for extensions in ([], [(x509.BasicConstraints(ca=False, path_length=None), True)]):
        leaf = certificate_signing.sign_certificate(
            certificate_signing.subject_name("Example Lab", "leaf"), key.public_key(), dates, extensions, CA
        )
        assert not canonical.is_ca(leaf)


# -- the bundle of a leaf ----------------------------------------------------------------------------------------------


def test_a_bundle_is_split_into_key_certificate_and_chain() -> None:
    assert canonical.split_bundle(KEY + PEM + OTHER_PEM + PEM) == {
        "key.pem": KEY,
        "cert.pem": PEM,
        "chain.pem": OTHER_PEM + PEM,
        "fullchain.pem": PEM + OTHER_PEM + PEM,
    }


def test_the_bundle_of_a_device_that_keeps_its_key_has_no_key_file() -> None:
    assert canonical.split_bundle(PEM + OTHER_PEM) == {"cert.pem": PEM, "chain.pem": OTHER_PEM}


# -- entries of CRLs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extension", "reason"),
    [
        (x509.CRLReason(x509.ReasonFlags.key_compromise), "keyCompromise"),
        (x509.CRLReason(x509.ReasonFlags.certificate_hold), "certificateHold"),
        (x509.CRLReason(x509.ReasonFlags.remove_from_crl), "unspecified"),
        (x509.UnrecognizedExtension(x509.CRLReason.oid, b"junk"), "unspecified"),
        (None, "unspecified"),
    ],
)
def test_an_entry_of_any_crl_is_read_with_a_reason_that_the_ledger_knows(extension: Any, reason: str) -> None:
    """A revocation counts whatever its reason is; a reason that cannot be read must not hide it."""
    entry = x509.RevokedCertificateBuilder().serial_number(9).revocation_date(START)
    if extension:
        entry = entry.add_extension(extension, critical=False)
    builder = crl_signing.draft_crl(CA.certificate, 7, START, START + DAY, []).add_revoked_certificate(entry.build())
    crl = x509.load_der_x509_crl(builder.sign(CA.key, keys.signature_hash(CA.key)).public_bytes(Encoding.DER))
    assert [revocation.crl_entry(one) for one in crl] == [CrlEntry(9, START, reason)]
    assert revocation.crl_number(crl) == 7
