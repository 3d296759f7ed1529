"""Keys in a token, SoftHSM's: openssl judges what they sign, pkcs11-tool what the token says of them."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from pki.common.errors import PkiError
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509 import pkcs11 as x509_pkcs11
from pki.x509.pkcs11 import sessions, token_keys
from pki.x509.revocation import CrlEntry
from tests.integration.conftest import SoftHsm, now, run

KINDS = ("ec-p256", "ec-p384", "rsa-3072", "rsa-4096")
# how a private key begins in a file: PEM, or PKCS#8 in DER with the algorithm of an EC or an RSA key
PLAIN = (
    b"PRIVATE KEY",
    bytes.fromhex("0201003013") + b"\x06\x07*\x86H\xce",
    bytes.fromhex("020100300d06092a864886f70d010101"),
)


@pytest.fixture(scope="module")
def made(softhsm: SoftHsm) -> dict[str, str]:
    """A key of each kind, made in the token."""
    for kind in KINDS:
        x509_pkcs11.generate(softhsm.uri(kind), softhsm.pin, kind)
    return {kind: kind for kind in KINDS}


@pytest.fixture(autouse=True)
def logged_out() -> Iterator[None]:
    yield
    x509_pkcs11.close()


def opened(softhsm: SoftHsm, name: str) -> x509_pkcs11.TokenKey:
    return x509_pkcs11.open_key(softhsm.uri(name), softhsm.pin, "secrets.yaml")


def authority(key: x509_pkcs11.TokenKey) -> certificate_signing.Issuer:
    """A root whose key is in the token."""
    dates = certificate_signing.validity_dates(now(), timedelta(days=30), None)
    return certificate_signing.Issuer(
        certificate_signing.sign_certificate(
            certificate_signing.subject_name("Lab", "Root"), key.public_key(), dates, profiles.root_extensions(), key
        ),
        key,
    )


def pem(path: Path, *items: x509.Certificate | x509.CertificateRevocationList) -> Path:
    path.write_bytes(pem_encoding.pem_of(items))
    return path


def signs(key: x509_pkcs11.TokenKey) -> bool:
    """Whether the key signs; it verifies by itself what the token returns."""
    if isinstance(key, rsa.RSAPrivateKey):
        return bool(key.sign(b"text", PKCS1v15(), hashes.SHA256()))
    return bool(key.sign(b"text", ec.ECDSA(hashes.SHA256())))


def refused(softhsm: SoftHsm, uri: x509_pkcs11.TokenUri, pin: str | None = None) -> str:
    with pytest.raises(PkiError) as caught:
        x509_pkcs11.open_key(uri, softhsm.pin if pin is None else pin, "secrets.yaml")
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert softhsm.pin not in str(caught.value)
    return str(caught.value)


# -- signing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_verifies_certificates_and_crls_of_an_authority_in_the_token(
    softhsm: SoftHsm, made: dict[str, str], tmp_path: Path, kind: str
) -> None:
    root = authority(opened(softhsm, made[kind]))
    dates = certificate_signing.validity_dates(now(), timedelta(days=10), root.certificate)
    leaf_key = keys.new_key("ec-p256").public_key()
    extensions = [(x509.SubjectAlternativeName([x509.DNSName("a.lab")]), False)]
    leaf = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Lab", "a.lab"), leaf_key, dates, extensions, root
    )
    crl = crl_signing.sign_crl(root, 1, now(), now() + timedelta(days=7), [])
    ca = pem(tmp_path / "ca.pem", root.certificate)
    judged = (
        "openssl",
        "verify",
        "-x509_strict",
        "-crl_check",
        "-CRLfile",
        pem(tmp_path / "crl.pem", crl),
        "-CAfile",
        ca,
    )
    assert run(*judged, pem(tmp_path / "leaf.pem", leaf)).endswith("leaf.pem: OK\n")
    assert "verify OK" in run("openssl", "crl", "-noout", "-verify", "-CAfile", ca, "-in", tmp_path / "crl.pem")
    revoking = crl_signing.sign_crl(
        root,
        2,
        now(),
        now() + timedelta(days=7),
        [CrlEntry(leaf.serial_number, now(), x509.ReasonFlags.unspecified.value)],
    )
    pem(tmp_path / "crl.pem", revoking)
    assert "certificate revoked" in run(*judged, tmp_path / "leaf.pem", ok=False)


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_verifies_requests_signed_in_the_token(
    softhsm: SoftHsm, made: dict[str, str], tmp_path: Path, kind: str
) -> None:
    key = opened(softhsm, made[kind])
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate_signing.subject_name("Lab", "CA"))
    (tmp_path / "request.pem").write_bytes(
        builder.sign(key, keys.signature_hash(key)).public_bytes(serialization.Encoding.PEM)
    )
    assert "verify OK" in run("openssl", "req", "-noout", "-verify", "-in", tmp_path / "request.pem")
    assert keys.key_kind(keys.read_request_key((tmp_path / "request.pem").read_bytes(), "request.pem")) == kind


@pytest.mark.parametrize("kind", KINDS)
def test_key_in_the_token_is_a_private_key_like_any_other(softhsm: SoftHsm, made: dict[str, str], kind: str) -> None:
    key = opened(softhsm, made[kind])
    assert isinstance(key, keys.PrivateKey)
    assert keys.key_kind(key) == keys.key_kind(key.public_key()) == kind
    with pytest.raises(PkiError, match="is in a token and cannot be exported"):
        keys.encrypted_pem(key, "passphrase")


def test_digest_longer_than_the_curve_is_signed_too(softhsm: SoftHsm, made: dict[str, str]) -> None:
    key = opened(softhsm, made["ec-p256"])
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.sign(b"text", ec.ECDSA(hashes.SHA512()))


def test_signature_that_the_public_key_does_not_verify_is_not_used(softhsm: SoftHsm) -> None:
    """The token holds the private half of one key and the public half of another under one name."""
    for name in ("mixed", "other"):
        x509_pkcs11.generate(softhsm.uri(name), softhsm.pin, "ec-p256")
    session = softhsm.session()
    public = pkcs11.ObjectClass.PUBLIC_KEY
    session.get_key(label="mixed", object_class=public).destroy()
    session.get_key(label="other", object_class=public)[pkcs11.Attribute.LABEL] = "mixed"
    with pytest.raises(PkiError, match="mixed in token doit-pki: the signature of the token does not verify"):
        authority(opened(softhsm, "mixed"))


# -- what the token says of its keys ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_made_key_is_sensitive_and_never_was_extractable(softhsm: SoftHsm, made: dict[str, str], kind: str) -> None:
    said = softhsm.tool("--list-objects", "--type", "privkey", "--label", made[kind])
    private = next(part for part in said.split("Private Key Object")[1:] if re.search(rf"label: +{kind}\n", part))
    access = re.search(r"Access: +(.*)", private)
    usage = re.search(r"Usage: +(.*)", private)
    assert access
    assert usage
    assert {"sensitive", "always sensitive", "never extractable"} <= set(access[1].split(", "))
    assert set(usage[1].split(", ")) <= {"sign", "signRecover"}


@pytest.mark.parametrize("kind", KINDS)
def test_token_shows_the_private_key_to_nobody(softhsm: SoftHsm, made: dict[str, str], kind: str) -> None:
    private = softhsm.session().get_key(label=made[kind], object_class=pkcs11.ObjectClass.PRIVATE_KEY)
    secret = pkcs11.Attribute.PRIVATE_EXPONENT if kind.startswith("rsa") else pkcs11.Attribute.VALUE
    with pytest.raises(pkcs11.AttributeSensitive):
        private[secret]
    with pytest.raises(pkcs11.PKCS11Error):
        private[pkcs11.Attribute.EXTRACTABLE] = True


def test_no_file_holds_a_private_key_in_plain(softhsm: SoftHsm, made: dict[str, str], tmp_path: Path) -> None:
    def plain(folder: Path) -> set[str]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path.name for path in files if any(sign in path.read_bytes() for sign in PLAIN)}

    for kind in made:
        encoding = serialization.Encoding.DER if kind.endswith("6") else serialization.Encoding.PEM
        arguments = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (tmp_path / kind).write_bytes(keys.new_key(kind).private_bytes(encoding, *arguments))
    assert plain(tmp_path) == set(KINDS)
    assert plain(softhsm.folder.parent) == set()


def test_key_that_the_token_would_give_away_is_destroyed_at_once(
    softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_keys, "KEY_TEMPLATE", {"PRIVATE": True, "SENSITIVE": True, "EXTRACTABLE": True})
    with pytest.raises(PkiError, match="it allows exporting the key loose"):
        x509_pkcs11.generate(softhsm.uri("loose"), softhsm.pin, "ec-p256")
    assert "loose" not in softhsm.tool("--list-objects")


def test_no_key_is_made_over_another(softhsm: SoftHsm, made: dict[str, str]) -> None:
    before = softhsm.tool("--list-objects")
    with pytest.raises(PkiError, match=f"{made['ec-p384']} exists already"):
        x509_pkcs11.generate(softhsm.uri(made["ec-p384"]), softhsm.pin, "ec-p384")
    assert softhsm.tool("--list-objects") == before


def test_destroyed_key_is_gone_and_signs_no_more(softhsm: SoftHsm) -> None:
    key = x509_pkcs11.generate(softhsm.uri("doomed"), softhsm.pin, "ec-p256")
    assert "doomed" in softhsm.tool("--list-objects")
    x509_pkcs11.destroy(softhsm.uri("doomed"), softhsm.pin)
    assert "doomed" not in softhsm.tool("--list-objects")
    with pytest.raises(PkiError, match="no private key doomed"):
        signs(key)
    with pytest.raises(PkiError, match="no private key doomed"):
        x509_pkcs11.destroy(softhsm.uri("doomed"), softhsm.pin)


def test_key_made_by_other_tools_is_opened_by_its_id(softhsm: SoftHsm) -> None:
    for number in ("0a", "0b"):
        softhsm.tool("--keypairgen", "--key-type", "EC:secp384r1", "--label", "twin", "--id", number, "--sensitive")
    assert "2 private keys are called twin" in refused(softhsm, softhsm.uri("twin"))
    with pytest.raises(PkiError, match="2 private keys are called twin"):
        x509_pkcs11.destroy(softhsm.uri("twin"), softhsm.pin)
    for number in (b"\x0a", b"\x0b"):
        uri = x509_pkcs11.TokenUri(softhsm.module, "doit-pki", object="twin", id=number)
        assert signs(x509_pkcs11.open_key(x509_pkcs11.parse(str(uri)), softhsm.pin, "secrets.yaml"))
        x509_pkcs11.destroy(uri, softhsm.pin)


@pytest.mark.parametrize(
    ("private", "complaint"),
    [
        ({"SENSITIVE": False}, "allows reading this private key with the PIN"),
        ({"SIGN": False}, "does not permit signing"),
    ],
)
def test_key_that_is_no_good_is_not_opened(softhsm: SoftHsm, private: dict[str, bool], complaint: str) -> None:
    session = softhsm.session()
    curve = {pkcs11.Attribute.EC_PARAMS: token_keys.CURVES["ec-p256"][0]}
    template = {pkcs11.Attribute[name]: value for name, value in private.items()}
    session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True).generate_keypair(
        label="bad", store=True, private_template=template
    )
    assert complaint in refused(softhsm, softhsm.uri("bad"))
    x509_pkcs11.destroy(softhsm.uri("bad"), softhsm.pin)


def test_key_on_another_curve_is_not_opened(softhsm: SoftHsm) -> None:
    softhsm.tool("--keypairgen", "--key-type", "EC:secp521r1", "--label", "p521", "--sensitive")
    assert "use RSA, P-256 or P-384" in refused(softhsm, softhsm.uri("p521"))
    x509_pkcs11.destroy(softhsm.uri("p521"), softhsm.pin)


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_wrong_pin_is_named_by_its_source_and_the_right_one_works_after_it(
    softhsm: SoftHsm, made: dict[str, str]
) -> None:
    said = refused(softhsm, softhsm.uri(made["ec-p256"]), "828182")
    assert said.startswith("token doit-pki: the PIN in secrets.yaml is wrong (")
    assert "828182" not in said
    assert signs(opened(softhsm, made["ec-p256"]))


def test_wrong_pin_is_noticed_also_when_the_token_is_open(softhsm: SoftHsm, made: dict[str, str]) -> None:
    opened(softhsm, made["ec-p256"])
    assert "the PIN in secrets.yaml differs from the one that opened it" in refused(
        softhsm, softhsm.uri("ec-p256"), "828182"
    )


@pytest.mark.parametrize("pin", ["1", "1" * 300, "\udcff"])
def test_impossible_pin_is_a_wrong_pin(softhsm: SoftHsm, made: dict[str, str], pin: str) -> None:
    assert "the PIN in secrets.yaml is wrong" in refused(softhsm, softhsm.uri(made["ec-p256"]), pin)


def test_missing_pin_is_said_before_the_token_is_asked(softhsm: SoftHsm) -> None:
    assert refused(softhsm, softhsm.uri("ec-p256", label="nowhere"), "") == (
        "token nowhere: secrets.yaml has no PIN for it (add the PIN there)"
    )


def test_missing_token_is_said_with_those_that_are_there(softhsm: SoftHsm) -> None:
    said = refused(softhsm, softhsm.uri("ec-p256", label="nowhere"))
    assert re.fullmatch(r"no token nowhere \(available: doit-pki \(serial [0-9a-f]{16}\)\)", said)


def test_tokens_of_one_name_are_told_apart_by_their_serials(softhsm: SoftHsm) -> None:
    folders = [softhsm.token("twin"), softhsm.token("twin")]
    serials = re.findall(r"serial=(\w+)", refused(softhsm, softhsm.uri("key", label="twin")))
    assert len(set(serials)) == 2
    for serial in serials:
        uri = x509_pkcs11.TokenUri(softhsm.module, "twin", serial=serial, object=serial)
        assert signs(x509_pkcs11.generate(uri, softhsm.pin, "ec-p256"))
    x509_pkcs11.close()
    for folder in folders:
        shutil.rmtree(folder)


def test_missing_key_is_said_with_those_that_are_there(softhsm: SoftHsm, made: dict[str, str]) -> None:
    said = refused(softhsm, softhsm.uri("server-2"))
    assert said.startswith("token doit-pki: no private key server-2 (it has ")
    assert set(made) <= set(re.findall(r"[\w-]+", said))


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("/usr/lib/nowhere.so", "/usr/lib/nowhere.so: no such PKCS#11 module"),
        ("/etc/passwd", "/etc/passwd: not a PKCS#11 module"),
        ("/usr/lib", "/usr/lib: not a PKCS#11 module"),
        ("libc.so.6", "not a PKCS#11 module"),
    ],
)
def test_module_that_is_none_is_said_plainly(softhsm: SoftHsm, module: str, complaint: str) -> None:
    if not module.startswith("/"):
        found = re.search(r"/\S*/libc\.so\.6", Path("/proc/self/maps").read_text())
        assert found
        module = found[0]
    assert complaint in refused(softhsm, x509_pkcs11.TokenUri(module, "doit-pki", object="key"))


def test_module_that_does_not_start_is_said_with_its_configuration(
    softhsm: SoftHsm, made: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "nowhere.conf"))
    said = refused(softhsm, softhsm.uri(made["ec-p256"]))
    assert "the PKCS#11 module does not start (GeneralError)" in said
    assert "SOFTHSM2_CONF" in said
    monkeypatch.undo()
    assert signs(opened(softhsm, made["ec-p256"]))


def test_token_taken_out_is_said_and_noticed_when_it_is_back(softhsm: SoftHsm, tmp_path: Path) -> None:
    folder = softhsm.token("travelling")
    key = x509_pkcs11.generate(softhsm.uri("key", label="travelling"), softhsm.pin, "ec-p256")
    folder.rename(tmp_path / "elsewhere")
    for complaint in ("token travelling: the operation failed", "no token travelling"):
        with pytest.raises(PkiError, match=complaint):
            signs(key)
    (tmp_path / "elsewhere").rename(folder)
    x509_pkcs11.close()
    assert signs(key)
    x509_pkcs11.close()
    shutil.rmtree(folder)


# -- processes --------------------------------------------------------------------------------------------------------


WORKER: dict[str, x509_pkcs11.TokenKey] = {}


def work(_: int) -> bool:
    return all(signs(WORKER["key"]) for _ in range(3))


def test_forked_child_logs_in_by_itself_and_the_parent_goes_on(
    softhsm: SoftHsm, made: dict[str, str], tmp_path: Path
) -> None:
    key = opened(softhsm, made["ec-p384"])
    assert signs(key)
    session = softhsm.session()
    child = os.fork()
    if not child:
        try:
            (tmp_path / "signed").write_text(str(signs(key)))
            (tmp_path / "own").write_text(str(softhsm.session() is not session))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "signed").read_text() == "True"
    assert (tmp_path / "own").read_text() == "True"
    assert signs(key)
    assert softhsm.session() is session


def test_workers_of_multiprocessing_sign_side_by_side(softhsm: SoftHsm, made: dict[str, str]) -> None:
    """As `doit -n` does: the key is opened before the fork. Without turns, one login in six goes wrong."""
    key = opened(softhsm, made["ec-p256"])
    context = multiprocessing.get_context("fork")
    with context.Pool(4, initializer=WORKER.update, initargs=({"key": key},), maxtasksperchild=1) as pool:
        assert pool.map(work, range(40), chunksize=1) == [True] * 40
    assert signs(key)


def test_wrong_pin_in_a_process_of_its_own_ends_without_a_traceback_of_ours(
    softhsm: SoftHsm, made: dict[str, str]
) -> None:
    uri = softhsm.uri(made["ec-p256"])
    program = (
        "from pki.x509 import pkcs11\nfrom pki.common.errors import PkiError\n"
        f"try: pkcs11.open_key(pkcs11.parse({str(uri)!r}), '828182', 'secrets.yaml')\n"
        "except PkiError as error: print(error)\n"
    )
    assert run(sys.executable, "-c", program) == f"{refused(softhsm, uri, '828182')}\n"


def test_one_token_is_opened_once_however_it_is_named(softhsm: SoftHsm, made: dict[str, str]) -> None:
    opened(softhsm, made["ec-p256"])
    session = softhsm.session()
    serial = bytes(session.token.serial).decode()
    real = os.path.realpath(softhsm.module)
    assert real != softhsm.module
    for module in (softhsm.module, real):
        uri = x509_pkcs11.TokenUri(module, "doit-pki", serial=serial, object=made["ec-p256"])
        assert signs(x509_pkcs11.open_key(uri, softhsm.pin, "secrets.yaml"))
        assert sessions.session_on(uri, softhsm.pin, "secrets.yaml") is session
