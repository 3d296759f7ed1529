"""Keys, certificates and CRLs in memory, and what each profile permits: the policy from the other side."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, mldsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyasn1.codec.der import decoder
from pyasn1_alt_modules import rfc5280

from pki.common.errors import ErrorCode, PkiError
from pki.config import limits
from pki.config.model import Leaf
from pki.x509 import certificate_signing, crl_signing, keys, name_constraints, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.name_constraints import PermittedNames
from pki.x509.revocation import CrlEntry
from tests.support.projects import START

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
NAMES = certificate_signing.subject_name("Example Lab", "Example Lab Root CA 1")
LEAF = Leaf(
    "media", "server", "media.lab", ("media.lab", "www.lab"), ("10.0.0.7",), (), "ec-p256", False, DAY, DAY, None, "x"
)


def made_root(days: int = 100) -> Issuer:
    key = keys.new_key("ec-p384")
    return Issuer(
        certificate_signing.sign_certificate(
            NAMES, key.public_key(), (START, START + days * DAY), profiles.root_extensions(), key
        ),
        key,
    )


@pytest.fixture(scope="module")
def root() -> Issuer:
    return made_root()


def refusal(attempt: Callable[[], object]) -> PkiError:
    with pytest.raises(PkiError) as caught:
        attempt()
    return caught.value


def found(extensions: profiles.Extensions, kind: type[Any]) -> tuple[Any, bool]:
    return next((value, critical) for value, critical in extensions if isinstance(value, kind))


# -- profiles ---------------------------------------------------------------------------------------------------------


def test_an_intermediate_without_addresses_permits_none_at_all() -> None:
    """A name constraint on DNS names alone leaves all addresses free (RFC 5280 §4.2.1.10)."""
    constraints = name_constraints.build_name_constraints(("lab", "lan"), ())
    assert [one.value for one in constraints.permitted_subtrees or ()] == ["lab", "lan"]
    assert [one.value for one in constraints.excluded_subtrees or ()] == [ip_network("0.0.0.0/0"), ip_network("::/0")]


def test_an_intermediate_with_addresses_permits_these_and_no_ipv6_in_use() -> None:
    network = IPv4Network("10.0.0.0/8")
    constraints = name_constraints.build_name_constraints(("lab",), (network,))
    assert [one.value for one in constraints.permitted_subtrees or ()] == ["lab", network, IPv6Network("100::/64")]
    assert constraints.excluded_subtrees is None


@pytest.mark.parametrize(
    ("permitted", "constraints"),
    [
        (["fc00::/7"], ["fc00::/7", "192.0.0.8/32"]),
        (["10.0.0.0/8", "fc00::/7"], ["10.0.0.0/8", "fc00::/7"]),
    ],
)
def test_a_family_of_addresses_that_is_not_wanted_gets_an_unused_block(
    root: Issuer, permitted: list[str], constraints: list[str]
) -> None:
    """GnuTLS takes IPv4 and IPv6 for two types of name: without a block of a family it would accept all of it."""
    blocks = tuple(map(ip_network, permitted))
    extension = name_constraints.build_name_constraints(("lab",), blocks)
    assert [str(one.value) for one in extension.permitted_subtrees or ()] == ["lab", *constraints]
    assert extension.excluded_subtrees is None
    key = keys.new_key("ec-p256").public_key()
    extensions = profiles.intermediate_extensions("server", ("lab",), blocks)
    ca = certificate_signing.sign_certificate(NAMES, key, (START, START + DAY), extensions, root)
    names = PermittedNames.of_ca(ca)
    assert names.networks == blocks
    assert [names.permits(name) for name in ("fd00::1", "2001:db8::1", "192.0.0.8")] == [True, False, False]


@pytest.mark.parametrize(("extensions", "path_length"), [
    (profiles.root_extensions(), None), (profiles.cross_certificate_extensions(), 1), (profiles.intermediate_extensions("server", ("lab",), ()), 0),
])  # fmt: skip
def test_a_ca_signs_certificates_and_crls_and_nothing_else(
    extensions: profiles.Extensions, path_length: int | None
) -> None:
    basic, is_critical = found(extensions, x509.BasicConstraints)
    assert (basic.ca, basic.path_length, is_critical) == (True, path_length, True)
    usage, is_critical = found(extensions, x509.KeyUsage)
    assert (usage.key_cert_sign, usage.crl_sign, is_critical) == (True, True, True)
    assert not any((usage.digital_signature, usage.key_encipherment, usage.content_commitment, usage.key_agreement))


def test_an_intermediate_has_one_purpose_and_constraints_that_nobody_may_ignore() -> None:
    for authority, purpose in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        extensions = profiles.intermediate_extensions(authority, ("lab",), ())
        assert list(found(extensions, x509.ExtendedKeyUsage)[0]) == [purpose]
        assert found(extensions, x509.NameConstraints)[1] is True


@pytest.mark.parametrize(
    ("kind", "enciphers"), [("ec-p256", False), ("ed25519", False), ("ml-dsa-65", False), ("rsa-2048", True)]
)
def test_a_leaf_signs_and_only_an_rsa_key_enciphers(kind: str, enciphers: bool) -> None:
    extensions = profiles.leaf_extensions(LEAF, keys.new_leaf_key(kind).public_key())
    usage, is_critical = found(extensions, x509.KeyUsage)
    assert (usage.digital_signature, usage.key_encipherment, is_critical) == (True, enciphers, True)
    assert not any((usage.key_cert_sign, usage.crl_sign))
    assert not any((usage.content_commitment, usage.data_encipherment, usage.key_agreement))
    basic, is_critical = found(extensions, x509.BasicConstraints)
    assert (basic.ca, is_critical) == (False, True)
    purposes, is_critical = found(extensions, x509.ExtendedKeyUsage)
    assert (list(purposes), is_critical) == ([ExtendedKeyUsageOID.SERVER_AUTH], False)
    names, is_critical = found(extensions, x509.SubjectAlternativeName)
    assert ([str(name.value) for name in names], is_critical) == (["media.lab", "www.lab", "10.0.0.7"], False)


def test_a_client_may_have_its_common_name_alone_or_addresses_of_mail() -> None:
    key = keys.new_key("ec-p256").public_key()
    bare = profiles.leaf_extensions(replace(LEAF, profile="client", dns=(), addresses=()), key)
    assert [value for value, _ in bare if isinstance(value, x509.SubjectAlternativeName)] == []
    mail = profiles.leaf_extensions(replace(LEAF, profile="client", dns=(), addresses=(), emails=("a@lab",)), key)
    assert found(mail, x509.SubjectAlternativeName)[0].get_values_for_type(x509.RFC822Name) == ["a@lab"]
    assert list(found(mail, x509.ExtendedKeyUsage)[0]) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_what_an_intermediate_admits_is_read_from_its_certificate(root: Issuer) -> None:
    networks = (IPv4Network("10.0.0.0/8"), IPv4Network("192.168.7.0/24"))
    key = keys.new_key("ec-p256")
    extensions = profiles.intermediate_extensions("server", ("lab", "corp.lan"), networks)
    ca = certificate_signing.sign_certificate(NAMES, key.public_key(), (START, START + DAY), extensions, root)
    permitted = PermittedNames.of_ca(ca)
    assert permitted == PermittedNames((".lab", ".corp.lan"), networks)
    names = ("lab", "a.lab", "a.b.lab", "corp.lan", "x.corp.lan", "10.1.2.3", "192.168.7.255")
    assert [permitted.permits(name) for name in names] == [True] * 7
    others = ("slab", "lan", "acorp.lan", "lab.com", "11.0.0.1", "192.168.8.0")
    assert [permitted.permits(name) for name in others] == [False] * 6
    assert not PermittedNames((".lab",), ()).permits("10.1.2.3")


def test_addresses_of_crl_and_issuer_are_those_of_the_generation() -> None:
    points, access = (value for value, _ in profiles.publication_extensions("http://pki.lab", "server-2"))
    assert isinstance(points, x509.CRLDistributionPoints)
    assert isinstance(access, x509.AuthorityInformationAccess)
    assert [name.value for name in points[0].full_name or ()] == ["http://pki.lab/crl/server-2.crl"]
    assert access[0].access_location.value == "http://pki.lab/ca/server-2.crt"


def test_no_root_and_none_of_its_crls_lives_longer_than_this() -> None:
    assert (limits.ROOT_LIMIT.days, limits.PRESIGNED_CRL_LIMIT.days) == (25 * 365, 3 * 365)


# -- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "ed25519", "rsa-2048", "ml-dsa-65"])
def test_a_key_is_of_the_kind_that_was_asked_for(kind: str) -> None:
    key = keys.new_leaf_key(kind)
    assert keys.key_kind(key) == keys.key_kind(key.public_key()) == kind
    opened = keys.open_leaf_key(keys.private_pem(key), "x")
    assert keys.public_der(opened.public_key()) == keys.public_der(key.public_key())
    if kind == "rsa-2048":
        assert key.public_key().public_numbers().e == 65537  # type: ignore[union-attr]


def test_other_kinds_have_names_too_and_sign_nothing() -> None:
    other = ec.generate_private_key(ec.SECP521R1())
    curve = ec.generate_private_key(ec.SECP256K1())
    assert (keys.key_kind(other), keys.key_kind(curve)) == ("ec-p521", "ec-secp256k1")
    parameters = dsa.generate_private_key(1024)  # noqa: S505 - is refused
    data = parameters.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert refusal(lambda: keys.open_key(data, None, "x", "y")).message == "x: its key is of a kind that cannot sign"


def test_an_ml_dsa_key_is_for_leaves_alone() -> None:
    """No CA has one yet: neither the generator of its keys nor the reader of its key file accepts the kind."""
    with pytest.raises(KeyError):
        keys.new_key("ml-dsa-65")
    pem = keys.private_pem(keys.new_leaf_key("ml-dsa-65"))
    refused = refusal(lambda: keys.open_key(pem, None, "legacy", "y"))
    assert refused.message == "legacy: a key of kind ml-dsa-65 is for leaves only"


@pytest.mark.parametrize(
    ("generate", "kind"),
    [(mldsa.MLDSA44PrivateKey.generate, "ml-dsa-44"), (mldsa.MLDSA87PrivateKey.generate, "ml-dsa-87")],
)
def test_other_sizes_of_ml_dsa_are_named_and_refused(generate: Callable[[], Any], kind: str) -> None:
    key = generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    assert keys.key_kind(key) == keys.key_kind(key.public_key()) == kind
    assert refusal(lambda: keys.open_leaf_key(pem, "box")).message == f"box: a key of kind {kind}"
    refused = refusal(lambda: keys.require_certifiable_key(key.public_key(), "box.csr"))
    assert refused.message == f"box.csr: a key of kind {kind}"
    assert refused.hint == "use RSA, P-256, P-384, Ed25519 or ML-DSA-65"


def test_the_spki_of_an_ml_dsa_key_has_its_oid_and_no_parameters() -> None:
    """RFC 9881 §4: the AlgorithmIdentifier is the OID alone; §6: the private key is the seed of 32 bytes."""
    key = keys.new_leaf_key("ml-dsa-65")
    public, rest = decoder.decode(keys.public_der(key.public_key()), asn1Spec=rfc5280.SubjectPublicKeyInfo())
    assert (str(public["algorithm"]["algorithm"]), bytes(rest)) == ("2.16.840.1.101.3.4.3.18", b"")
    assert not public["algorithm"]["parameters"].hasValue()
    assert len(public["subjectPublicKey"]) == 1952 * 8
    der = b64decode(b"".join(keys.private_pem(key).splitlines()[1:-1]))
    assert der[:-32].hex() == "3034020100300b060960864801650304031204228020"


def test_a_key_that_does_not_open_says_why() -> None:
    key = keys.new_key("ec-p256")
    plain, closed = keys.private_pem(key), keys.encrypted_pem(key, "secret")
    assert keys.public_der(keys.open_key(closed, "secret", "x", "y").public_key()) == keys.public_der(key.public_key())
    wrong = refusal(lambda: keys.open_key(closed, "other", "server-1", "secrets.yaml"))
    assert (wrong.code, wrong.message) == (ErrorCode.KEY_NOT_OPENED, "server-1: its key cannot be opened")
    assert "secrets.yaml" in wrong.hint
    none = refusal(lambda: keys.open_key(closed, None, "server-1", "secrets.yaml"))
    assert none.code == ErrorCode.KEY_NOT_OPENED
    assert none.message == "server-1: its key is encrypted and secrets.yaml holds no passphrase for it"
    surplus = refusal(lambda: keys.open_key(plain, "secret", "server-1", "y"))
    assert (surplus.code, surplus.message) == (ErrorCode.OTHER, "server-1: its key is not encrypted")
    assert refusal(lambda: keys.open_key(b"junk", None, "x", "y")).code == ErrorCode.KEY_NOT_OPENED


def test_an_rsa_key_has_the_older_form_too_and_others_do_not() -> None:
    rsa = keys.new_key("rsa-2048")
    assert (keys.pkcs1_pem(keys.private_pem(rsa)) or b"").startswith(b"-----BEGIN RSA PRIVATE KEY-----")
    assert keys.pkcs1_pem(keys.private_pem(keys.new_key("ec-p256"))) is None


def test_pem_has_lines_of_64_letters() -> None:
    assert pem_encoding.encode_pem("X", bytes(49)).splitlines()[1:3] == [b"A" * 64, b"AA=="]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("rsa-2047", "an RSA key of 2047 bits"), ("rsa-2048", ""), ("rsa-4096", ""), ("rsa-4097", "an RSA key of 4097 bits"),
        ("ec-p256", ""), ("ec-p384", ""), ("ed25519", ""), ("ml-dsa-65", ""), ("ec-p521", "a key of kind ec-p521"), ("DSAPublicKey", "a key of kind"),
    ],
)  # fmt: skip
def test_only_keys_that_are_strong_and_understood_are_certified(
    monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    monkeypatch.setattr(keys, "key_kind", lambda _: kind)
    if said:
        fault = refusal(lambda: keys.require_certifiable_key(None, "printer"))  # type: ignore[arg-type]
        assert fault.message.startswith(f"printer: {said}")
        assert fault.hint
    else:
        keys.require_certifiable_key(None, "printer")  # type: ignore[arg-type]


def test_a_request_is_believed_only_under_its_own_signature() -> None:
    key = keys.new_key("ec-p256")
    made = x509.CertificateSigningRequestBuilder().subject_name(NAMES).sign(key, hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM)
    assert keys.public_der(keys.read_request_key(pem, "x")) == keys.public_der(key.public_key())
    der = made.public_bytes(serialization.Encoding.DER)
    forged = pem_encoding.encode_pem("CERTIFICATE REQUEST", der[:-1] + bytes([der[-1] ^ 1]))
    assert refusal(lambda: keys.read_request_key(forged, "x")).message == "x: the request's signature does not verify"
    assert refusal(lambda: keys.read_request_key(b"junk", "x")).message.startswith("x: not a PEM certificate request")
    odd = ec.generate_private_key(ec.SECP521R1())
    big = x509.CertificateSigningRequestBuilder().subject_name(NAMES).sign(odd, hashes.SHA256())
    data = big.public_bytes(serialization.Encoding.PEM)
    assert refusal(lambda: keys.read_request_key(data, "x")).message == "x: a key of kind ec-p521"


# -- certificates -----------------------------------------------------------------------------------------------------


def test_dates_are_whole_days_back_dated_and_within_the_issuers(root: Issuer) -> None:
    now = START + 10 * DAY
    start, end = certificate_signing.validity_dates(now, 30 * DAY, root.certificate)
    assert (start, end) == (now - HOUR, now - HOUR + 30 * DAY - SECOND)
    assert certificate_signing.validity_dates(now, 30 * DAY, None) == (start, end)
    assert certificate_signing.validity_dates(START, 30 * DAY, root.certificate)[0] == START, (
        "never before the issuer began"
    )
    assert (
        certificate_signing.validity_dates(now, 300 * DAY, root.certificate)[1] == root.certificate.not_valid_after_utc
    )
    assert certificate_signing.validity_dates(START, 300 * DAY, None)[0] == START - HOUR


def test_a_certificate_is_signed_by_the_key_of_its_issuer_or_not_at_all(root: Issuer) -> None:
    key = keys.new_key("ec-p256")
    dates = START, START + DAY
    extensions = profiles.leaf_extensions(LEAF, key.public_key())
    made = certificate_signing.sign_certificate(NAMES, key.public_key(), dates, extensions, root)
    assert made.issuer == root.certificate.subject
    assert isinstance(made.signature_hash_algorithm, hashes.SHA384)
    identifier = made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    assert identifier.value.key_identifier == certificate_signing.key_identifier(root.certificate)
    assert (identifier.value.authority_cert_issuer, identifier.critical) == (None, False)
    assert made.serial_number.bit_length() > 64
    assert not made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).critical
    wrong = Issuer(root.certificate, keys.new_key("ec-p384"))
    said = refusal(
        lambda: certificate_signing.sign_certificate(NAMES, key.public_key(), dates, extensions, wrong)
    ).message
    assert said.endswith("the signing key does not belong to the issuer's certificate")
    with pytest.raises(x509.ExtensionNotFound):
        root.certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)


def test_a_certificate_whose_extensions_cannot_be_read_is_not_returned(root: Issuer) -> None:
    key = keys.new_key("ec-p256")
    junk: profiles.Extensions = [(x509.UnrecognizedExtension(x509.BasicConstraints.oid, b"junk"), True)]
    with pytest.raises(ValueError, match="asn1"):
        certificate_signing.sign_certificate(NAMES, key.public_key(), (START, START + DAY), junk, root)


def test_a_subject_has_the_organisation_and_a_common_name_where_there_is_one() -> None:
    def parts(name: x509.Name) -> list[tuple[Any, Any]]:
        return [(one.oid, one.value) for one in name]

    assert parts(certificate_signing.subject_name("Lab", "x")) == [
        (NameOID.ORGANIZATION_NAME, "Lab"),
        (NameOID.COMMON_NAME, "x"),
    ]
    assert parts(certificate_signing.subject_name("Lab", "")) == [(NameOID.ORGANIZATION_NAME, "Lab")]


@pytest.mark.parametrize(("kind", "expected"), [
    ("ec-p256", hashes.SHA256), ("ec-p384", hashes.SHA384), ("rsa-2048", hashes.SHA256), ("ed25519", type(None)),
])  # fmt: skip
def test_each_kind_of_key_signs_with_its_hash(kind: str, expected: type[Any]) -> None:
    assert isinstance(keys.signature_hash(keys.new_key(kind)), expected)


# -- CRLs -------------------------------------------------------------------------------------------------------------


def test_a_crl_lists_what_it_is_given_and_what_it_keeps(root: Issuer) -> None:
    entries = [CrlEntry(5, START, "unspecified"), CrlEntry(6, START, "keyCompromise"), CrlEntry(7, START + HOUR, "keyCompromise"), CrlEntry(8, START + HOUR, "superseded")]  # fmt: skip
    first = crl_signing.sign_crl(root, 3, START, START + DAY, entries)
    listed = {one.serial_number: (one.revocation_date_utc, [extension.value.reason.value for extension in one.extensions]) for one in first}  # type: ignore[attr-defined]  # fmt: skip
    assert listed == {
        5: (START, []), 6: (START, ["keyCompromise"]), 7: (START + HOUR, ["keyCompromise"]), 8: (START + HOUR, ["superseded"]),
    }  # fmt: skip
    assert all(not extension.critical for one in first for extension in one.extensions)
    second = crl_signing.sign_crl(root, 4, START, START + DAY, [CrlEntry(9, START, "superseded")], list(first))
    assert [one.serial_number for one in second] == [5, 6, 7, 8, 9]
    number = second.extensions.get_extension_for_class(x509.CRLNumber)
    assert (number.value.crl_number, number.critical) == (4, False)
    assert {extension.oid for extension in second.extensions} == {x509.CRLNumber.oid, x509.AuthorityKeyIdentifier.oid}
    assert not any(extension.critical for extension in second.extensions)


def test_a_crl_is_signed_by_the_key_of_its_ca_or_not_at_all(root: Issuer) -> None:
    wrong = Issuer(root.certificate, keys.new_key("ec-p384"))
    said = refusal(lambda: crl_signing.sign_crl(wrong, 3, START, START + DAY, [])).message
    assert said.endswith("the signing key does not belong to the CA's certificate")
    good = crl_signing.sign_crl(root, 3, START, START + DAY, [])
    other_name = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Lab", "x"),
        root.key.public_key(),
        (START, START + DAY),
        profiles.root_extensions(),
        root.key,
    )
    for ca in (made_root().certificate, other_name):
        assert refusal(lambda ca=ca: crl_signing.verify_crl(good, ca))
    crl_signing.verify_crl(good, root.certificate)


def test_a_ca_without_a_key_identifier_gets_crls_without_one(root: Issuer) -> None:
    builder = x509.CertificateBuilder().subject_name(NAMES).issuer_name(NAMES).public_key(root.key.public_key())
    builder = builder.serial_number(5).not_valid_before(START).not_valid_after(START + DAY)
    bare = Issuer(builder.sign(root.key, hashes.SHA384()), root.key)
    made = crl_signing.sign_crl(bare, 3, START, START + DAY, [])
    assert [extension.oid for extension in made.extensions] == [x509.CRLNumber.oid]


def test_a_ca_with_a_key_that_signs_nothing_is_refused() -> None:
    key = dsa.generate_private_key(1024)  # noqa: S505 - is refused
    builder = x509.CertificateBuilder().subject_name(NAMES).issuer_name(NAMES).public_key(key.public_key())
    odd = builder.serial_number(5).not_valid_before(START).not_valid_after(START + DAY).sign(key, hashes.SHA256())
    assert refusal(lambda: certificate_signing.ca_public_key(odd)).message.endswith("cannot sign CRLs")
