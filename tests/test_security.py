"""Security: strong keys, secrets that stay secret from their first byte on, and failures that leave all as it was."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pkcs11
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from pki.authority import crls, intermediate_passphrase
from pki.common import filesystem
from pki.common.errors import PkiError
from pki.monitor.report.run import Run
from pki.pipeline import plan
from pki.project import secrets as sources
from pki.x509 import certificate_signing, crl_signing, keys, pkcs8, profiles
from pki.x509 import pkcs11 as x509_pkcs11
from pki.x509.pkcs11 import private_key, sessions
from tests.support import judges
from tests.support.judges import DAY
from tests.support.projects import PROJECT, ROUNDS, START, Home

AUTHORITY_KEYS = {
    "root-1": "offline/root-1/key.pem",
    "server-1": "ca/server/server-1/key.pem",
    "client-1": "ca/client/client-1/key.pem",
}
SECRET_NAMES = {"tls.pem", "key.pem", "secrets.yaml", "ledger.db"}


def files(home: Home, folder: str = ".") -> Iterator[Path]:
    """Every file below a folder of the project, templates aside: these are a person's own."""
    for path in sorted((home.path / folder).rglob("*")):
        if path.is_file() and home.path / "templates" not in path.parents:
            yield path


def certificates(home: Home) -> list[x509.Certificate]:
    return [cert for path in files(home) for cert in judges.certificates(path.read_bytes())]


def passphrases(home: Home) -> dict[str, str]:
    lines = home.read("secrets.yaml").decode().splitlines()
    return {name: value.strip(" '\"") for name, _, value in (line.partition(":") for line in lines) if value}


def secrets(home: Home) -> set[bytes]:
    """What nobody may ever read: passphrases, and every secret line of every private key."""
    found = {value.encode() for value in passphrases(home).values()}
    for path in files(home):
        for body in judges.PEM_KEY.findall(path.read_bytes()):
            found |= secret_lines(body)
    return found


def secret_lines(body: bytes) -> set[bytes]:
    """The lines of a key, encrypted or not, except those with its public key alone: a certificate may have them too."""
    lines = {line for line in body.splitlines() if len(line) >= 32}
    try:
        key = serialization.load_der_private_key(base64.b64decode(body), None)
    except TypeError:  # encrypted
        return lines
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return {line for line in lines if base64.b64decode(line) not in public}


def run(home: Home, arguments: list[str]) -> int:
    """Run doit and look at its exit status alone: it may end before it writes a report."""
    return Run(home.path, START).main(arguments)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def snapshot(home: Home, *folders: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in files(home, folder)}


# -- algorithms -------------------------------------------------------------------------------------------------------


def test_authorities_hold_p384_keys_and_leaves_p256_keys(home: Home) -> None:
    for cert in certificates(home):
        key = cert.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        is_ca = judges.extension_of(cert, x509.BasicConstraints).ca
        assert key.curve.name == ("secp384r1" if is_ca else "secp256r1")


def test_everything_is_signed_with_sha_384(home: Home) -> None:
    crls = [crl for path in files(home) for crl in judges.crls(path.read_bytes())]
    assert crls
    for signed in (*certificates(home), *crls):
        assert signed.signature_algorithm_oid == x509.SignatureAlgorithmOID.ECDSA_WITH_SHA384


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [
        ("ec-p256", x509.SignatureAlgorithmOID.ECDSA_WITH_SHA256),
        ("rsa-3072", x509.SignatureAlgorithmOID.RSA_WITH_SHA256),
    ],
)
def test_other_kinds_of_authority_keys_sign_with_sha_256(kind: str, algorithm: x509.ObjectIdentifier) -> None:
    key = keys.new_key(kind)
    name = certificate_signing.subject_name("Example Lab", "CA")
    dates = certificate_signing.validity_dates(START, DAY, None)
    root = certificate_signing.sign_certificate(name, key.public_key(), dates, profiles.root_extensions(), key)
    crl = crl_signing.sign_crl(certificate_signing.Issuer(root, key), 1, START, START + DAY, [])
    assert {root.signature_algorithm_oid, crl.signature_algorithm_oid} == {algorithm}


def test_rsa_keys_are_of_the_size_that_is_asked_for_with_exponent_65537() -> None:
    key = keys.new_key("rsa-2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert (key.key_size, key.public_key().public_numbers().e) == (2048, 65537)
    assert isinstance(keys.new_key("ed25519"), ed25519.Ed25519PrivateKey)


@pytest.mark.parametrize("kind", ["rsa-1024", "dsa-2048", "ec-p192", "md5"])
def test_weak_keys_cannot_be_asked_for(fresh: Home, kind: str) -> None:
    fresh.edit("key: ec-p256", f"key: {kind}")
    with pytest.raises(PkiError, match=f"expected ec-p256.*got '{kind}'"):
        fresh.plan()


@pytest.mark.parametrize("kind", ["rsa-2048", "ed25519"])
def test_authorities_take_only_keys_that_every_verifier_takes_for_years(fresh: Home, kind: str) -> None:
    fresh.edit("key: ec-p384", f"key: {kind}")
    with pytest.raises(PkiError, match=f"got '{kind}'"):
        fresh.plan()


def test_serial_numbers_are_random_in_all_their_bits() -> None:
    key = keys.new_key("ec-p256")
    dates, name = (
        certificate_signing.validity_dates(START, DAY, None),
        certificate_signing.subject_name("Example Lab", "CA"),
    )
    serials = [
        certificate_signing.sign_certificate(
            name, key.public_key(), dates, profiles.root_extensions(), key
        ).serial_number
        for _ in range(150)
    ]
    assert len(set(serials)) == len(serials)
    assert all(0 < serial < 1 << 159 for serial in serials), "twenty octets at most, RFC 5280 4.1.2.2"
    for bit in range(158):
        ones = sum(serial >> bit & 1 for serial in serials)
        assert 30 < ones < 120, f"bit {bit} is set {ones} times of 150"


def test_no_serial_number_is_used_twice_in_a_project(home: Home) -> None:
    home.doit(days=61)
    project = home.project()
    serials = [issued.serial for issued in project.ledger.certificates()]
    project.ledger.close()
    assert len(serials) == len(set(serials)) == 3 + 4 + 3
    assert min(serial.bit_length() for serial in serials) >= 64


def test_renewal_brings_a_new_key(home: Home) -> None:
    before = judges.Identity.read(home.path / "build/certs/media/tls.pem")
    home.doit(days=61)
    after = judges.Identity.read(home.path / "build/certs/media/tls.pem")
    assert after.leaf.public_key() != before.leaf.public_key()
    assert after.leaf.public_key() == after.key.public_key()


# -- permissions ------------------------------------------------------------------------------------------------------


def test_secret_files_are_their_owners_alone(home: Home) -> None:
    seen = {path.name for path in files(home) if path.name in SECRET_NAMES}
    assert seen == SECRET_NAMES
    for path in files(home):
        if path.name in SECRET_NAMES or path.name.startswith("ledger.db"):
            assert mode(path) == 0o600, path
        elif judges.PEM_KEY.search(path.read_bytes()):
            assert mode(path) & ~0o640 == 0, path


def test_folder_of_the_authorities_is_its_owners_alone(home: Home) -> None:
    assert mode(home.path / "ca") == 0o700


@pytest.mark.parametrize("mask", [0o000, 0o077], ids=["umask-000", "umask-077"])
def test_modes_do_not_depend_on_who_runs_doit(fresh: Home, built_once: Path, mask: int) -> None:
    home = Home(built_once)
    with umask(mask):
        assert fresh.doit().status == 0
    assert mode(fresh.path / "ca") == 0o700
    expected = {path.relative_to(home.path): mode(path) for path in files(home)}
    found = {path.relative_to(fresh.path): mode(path) for path in files(fresh)}
    for path in (path for path in expected if path.suffix != ".lock" and path.name != ".seen.json"):
        assert f"{path} {found[path]:04o}" == f"{path} {expected[path]:04o}"


def test_folders_that_are_made_for_a_secret_let_nobody_else_in_to_replace_it(tmp_path: Path) -> None:
    with umask(0):
        filesystem.write(tmp_path / "offline/root-1/key.pem", b"secret", filesystem.SECRET)
    for path in (tmp_path / "offline", tmp_path / "offline/root-1"):
        assert mode(path) & 0o022 == 0, path


def test_folders_that_are_made_for_a_public_file_let_others_read_it(tmp_path: Path) -> None:
    with umask(0o077):
        filesystem.write(tmp_path / "var/www/pki/root-1.crt", b"public")
    for path in (tmp_path / "var", tmp_path / "var/www", tmp_path / "var/www/pki"):
        assert mode(path) == 0o755, path


@pytest.mark.parametrize("mask", [0o000, 0o077], ids=["umask-000", "umask-077"])
def test_secret_is_secret_before_its_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: int) -> None:
    seen = []
    real_open, real_write = os.open, os.write

    def looking_open(*arguments: Any, **keywords: Any) -> int:
        handle = real_open(*arguments, **keywords)
        seen.append(("open", os.fstat(handle).st_mode & 0o7777))
        return handle

    def looking_write(handle: int, data: bytes) -> int:
        seen.append(("write", os.fstat(handle).st_mode & 0o7777))
        return real_write(handle, data)

    monkeypatch.setattr(os, "open", looking_open)
    monkeypatch.setattr(os, "write", looking_write)
    with umask(mask):
        filesystem.write(tmp_path / "key.pem", b"secret", filesystem.SECRET)
    assert seen == [("open", 0o600), ("write", 0o600)]
    assert mode(tmp_path / "key.pem") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_loose_mode_of_a_secret_is_mended(home: Home) -> None:
    (home.path / "build/certs/media/key.pem").chmod(0o644)
    (home.path / "build/certs/forge-mtls/tls.pem").chmod(0o640)
    made = home.doit().made
    assert made["cert:media"] == "key.pem had mode 0644, expected 0600"
    assert made["cert:forge-mtls"] == "tls.pem had mode 0640, expected 0600"
    assert mode(home.path / "build/certs/media/key.pem") == 0o600
    assert mode(home.path / "build/certs/forge-mtls/tls.pem") == 0o600


# -- encryption at rest -----------------------------------------------------------------------------------------------


def pbes2(path: Path) -> tuple[bytes, bytes, int, bytes, bytes, bytes]:
    """What RFC 8018 says of an encrypted key: scheme, KDF, rounds, PRF, cipher, salt."""
    told, mark, body = path.read_bytes().partition(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert re.fullmatch(rb"((shares|check|sha256): [0-9a-z ]+\n)*", told), "explanatory text of a root's key file"
    pem = mark + body
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    der = base64.b64decode(b"".join(pem.splitlines()[1:-1]))
    ((_, ((_, algorithm), (_, encrypted))),) = judges.der_tree(der)
    assert len(encrypted) % 16 == 0
    (_, scheme), (_, ((_, derivation), (_, cipher))) = algorithm
    (_, function), (_, ((_, salt), (_, rounds), (_, prf))) = derivation
    return scheme, function, int.from_bytes(rounds), prf[0][1], cipher[0][1], salt


def test_authority_keys_are_encrypted_with_pbes2_and_600_000_rounds(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pkcs8, "ROUNDS", ROUNDS)
    fresh.doit()
    salts = set()
    for name in AUTHORITY_KEYS.values():
        scheme, function, rounds, prf, cipher, salt = pbes2(fresh.path / name)
        assert scheme.hex() == "2a864886f70d01050d", "PBES2"
        assert function.hex() == "2a864886f70d01050c", "PBKDF2"
        assert rounds == 600_000
        assert prf.hex() == "2a864886f70d0209", "HMAC with SHA-256"
        assert cipher.hex() == "60864801650304012a", "AES-256-CBC"
        assert len(salt) >= 16
        salts.add(salt)
    assert len(salts) == 3


def test_authority_keys_open_with_their_own_passphrase_alone(home: Home) -> None:
    data, kept = home.read(AUTHORITY_KEYS["server-1"]), passphrases(home)
    assert set(kept) == set(AUTHORITY_KEYS)
    assert len(set(kept.values())) == 3
    assert all(len(passphrase) >= 32 for passphrase in kept.values()), "at least 128 bits in hex"
    with pytest.raises(TypeError):
        serialization.load_pem_private_key(data, None)
    with pytest.raises(ValueError, match=r"(?i)password|decrypt|deserialize"):
        serialization.load_pem_private_key(data, kept["client-1"].encode())
    key = serialization.load_pem_private_key(data, kept["server-1"].encode())
    assert key.public_key() == judges.certificate(home.path / "ca/server/server-1/cert.pem").public_key()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")
def test_openssl_opens_an_authority_key(home: Home) -> None:
    passphrase = passphrases(home)["client-1"]
    found = subprocess.run(
        ["openssl", "pkey", "-in", home.path / AUTHORITY_KEYS["client-1"], "-passin", "stdin", "-pubout"],
        input=passphrase.encode(),
        capture_output=True,
        check=True,
    )
    cert = judges.certificate(home.path / "ca/client/client-1/cert.pem")
    assert serialization.load_pem_public_key(found.stdout) == cert.public_key()


def test_key_of_the_root_lies_on_its_medium_and_nowhere_else(home: Home) -> None:
    encrypted = {str(p.relative_to(home.path)) for p in files(home) if b"ENCRYPTED PRIVATE KEY" in p.read_bytes()}
    assert encrypted == set(AUTHORITY_KEYS.values())
    assert [path for path in files(home, "offline") if path.name == "key.pem"] == [home.path / AUTHORITY_KEYS["root-1"]]
    plain = [path for path in files(home) if b"-----BEGIN PRIVATE KEY-----" in path.read_bytes()]
    cas = [cert for cert in certificates(home) if judges.extension_of(cert, x509.BasicConstraints).ca]
    ca_keys = {keys.public_der(cert.public_key()) for cert in cas}
    assert len(plain) >= 8
    assert len(ca_keys) == 3
    for path in plain:
        key: Any = serialization.load_pem_private_key(path.read_bytes(), None)
        assert keys.public_der(key.public_key()) not in ca_keys, path


def test_daily_run_never_needs_the_medium_of_the_root(home: Home) -> None:
    shutil.rmtree(home.path / "offline")
    assert home.doit(days=61).status == 0


def test_authority_key_that_lies_there_unencrypted_is_refused_and_said_to_be(home: Home) -> None:
    passphrase = passphrases(home)["server-1"].encode()
    path = home.path / AUTHORITY_KEYS["server-1"]
    path.write_bytes(keys.private_pem(serialization.load_pem_private_key(path.read_bytes(), passphrase)))
    home.add_service("wiki", host="forge")
    said = home.doit().failed["cert:forge-mtls"]
    assert "ca/server/server-1/key.pem" in said
    assert "not encrypted" in said


# -- passphrases that are wrong or gone -------------------------------------------------------------------------------


def without(home: Home, name: str) -> str:
    lines = home.read("secrets.yaml").decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(f"{name}:"))


LOSSES = {
    "wrong": (
        lambda home: without(home, "server-1") + "server-1: not the right one\n",
        "cannot be opened → the passphrase from secrets.yaml is wrong",
    ),
    "missing": (lambda home: without(home, "server-1"), "secrets.yaml holds no passphrase"),
    "empty": (lambda home: without(home, "server-1") + "server-1:\n", "secrets.yaml holds no passphrase"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_passphrase_that_is_wrong_or_gone_fails_only_what_it_would_sign(home: Home, loss: str) -> None:
    spoil, said = LOSSES[loss]
    whole, before = home.read("secrets.yaml"), snapshot(home, "build/certs", "build/release/forge")
    home.write("secrets.yaml", spoil(home))
    home.add_service("wiki", host="forge")
    home.edit("clients:\n", "clients:\n  other: {email: other@lab.internal}\n")
    report = home.doit()
    assert set(report.failed) == {"cert:forge-mtls"}
    assert report.failed["cert:forge-mtls"].startswith("ca/server/server-1/key.pem: ")
    assert said in report.failed["cert:forge-mtls"]
    assert {each["name"] for each in report.data["blocked"]} == {"release:forge", "deploy:forge"}
    assert "cert:client-other" in report.made
    assert report.status != 0
    assert snapshot(home, "build/certs", "build/release/forge") == before
    (home.path / "secrets.yaml").write_bytes(whole)
    assert {"cert:forge-mtls", "deploy:forge"} <= set(home.doit().made)


def test_nothing_to_sign_needs_no_passphrase_and_its_loss_is_told(home: Home) -> None:
    (home.path / "secrets.yaml").unlink()
    report = home.doit()
    assert (report.status, report.made) == (1, {})
    assert set(report.failed) == {"key:server-1", "key:client-1"}
    assert all("./run invoke restore FILE" in text for text in report.failed.values())
    assert not (home.path / "secrets.yaml").exists()


@pytest.mark.parametrize("content", [b"server-1: [\n", b"- one\n", b"\xff\n"])
def test_secrets_file_that_is_no_mapping_is_named_once(home: Home, content: bytes) -> None:
    (home.path / "secrets.yaml").write_bytes(content)
    home.add_service("wiki", host="forge")
    report = home.doit()
    assert set(report.failed) == {"cert:forge-mtls"}
    assert "secrets.yaml:" in report.failed["cert:forge-mtls"]


# -- passphrases from elsewhere --------------------------------------------------------------------------------------


def source(home: Home, said: str) -> None:
    home.edit("secrets: secrets.yaml", f"secrets: {said}")


def failure(home: Home) -> str:
    """What a run says of a certificate that the server authority would have to sign."""
    report = home.doit()
    assert set(report.failed) == {"cert:forge-mtls"}
    return report.failed["cert:forge-mtls"]


@pytest.fixture
def asking(home: Home) -> Home:
    """A project whose next run needs the key of server-1, and whose secrets file has no passphrase for it."""
    home.write("server.txt", passphrases(home)["server-1"] + "\n").chmod(0o600)
    home.write("secrets.yaml", without(home, "server-1")).chmod(0o600)
    home.add_service("wiki", host="forge")
    return home


@contextmanager
def descriptor(path: Path, *, pipe: bool) -> Iterator[int]:
    if pipe:
        found, end = os.pipe()
        os.write(end, path.read_bytes())
        os.close(end)
    else:
        found = os.open(path, os.O_RDONLY)
    yield found
    os.close(found)


@pytest.mark.parametrize("name", ["server", "server-1"])
@pytest.mark.parametrize("kind", ["command", "credential", "env", "file", "absolute file", "file descriptor", "pipe"])
def test_passphrase_comes_from_the_source_that_is_named(
    asking: Home, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    path = asking.path / "server.txt"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(asking.path))
    monkeypatch.setenv("PKI_SERVER", path.read_text().strip())
    with descriptor(path, pipe=kind == "pipe") as number:
        said = {
            "command": "{command: cat server.txt}",
            "credential": "{credential: server.txt}",
            "env": "{env: PKI_SERVER}",
            "file": "{file: server.txt}",
            "absolute file": f"{{file: {path}}}",
        }.get(kind, f"{{fd: {number}}}")
        source(asking, f"{{{name}: {said}}}")
        assert "cert:forge-mtls" in asking.doit().made
        assert asking.doit(days=0).made == {}


def test_name_of_a_generation_goes_before_that_of_its_authority(asking: Home) -> None:
    source(asking, "{server: {env: NOT_SET}, server-1: {file: server.txt}}")
    assert "cert:forge-mtls" in asking.doit().made


def test_source_is_asked_once_in_a_run_and_only_when_a_key_is_opened(asking: Home) -> None:
    counter = asking.write("ask", "#!/bin/sh\necho asked >> asked\ncat server.txt\n")
    counter.chmod(0o755)
    source(asking, "{server: {command: ./ask}}")
    asking.add_service("music", host="media", access="mtls")
    assert {"cert:forge-mtls", "cert:media-mtls"} <= set(asking.doit().made)
    assert asking.read("asked") == b"asked\n"
    assert asking.doit().made == {}
    assert asking.read("asked") == b"asked\n"


def test_command_that_fails_is_asked_once_in_a_run(asking: Home) -> None:
    asking.write("ask", "#!/bin/sh\necho asked >> asked\nexit 1\n").chmod(0o755)
    source(asking, "{server: {command: ./ask}}")
    asking.add_service("music", host="media", access="mtls")
    assert len(asking.doit().failed) == 2
    assert asking.read("asked") == b"asked\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{env: NOT_SET}", "`env: NOT_SET`: holds no passphrase for server-1"),
        (
            "{credential: pki}",
            "`credential: pki`: CREDENTIALS_DIRECTORY is not set → start the command from a systemd unit with",
        ),
        ("{file: gone.txt}", "gone.txt: is missing, and pki.yaml names it for the passphrase of server-1"),
        ("{file: open.txt}", "open.txt: can be read by other users → chmod 600 open.txt"),
        ("{file: empty.txt}", "`file: empty.txt`: holds no passphrase for server-1"),
        ("{file: latin.txt}", "`file: latin.txt`: is not UTF-8 text"),
        ("{file: wrong.txt}", "the passphrase from `file: wrong.txt` is wrong, or the file is damaged"),
        ("{fd: 999}", "`fd: 999`: cannot be read: Bad file descriptor"),
        ("{command: no-such-program}", "`command: no-such-program`: cannot be started: No such file or directory"),
        (
            "{command: sh fails.sh}",
            "`command: sh fails.sh`: failed with exit status 3: the store is locked → type the command yourself",
        ),
        ("{command: cat wrong.txt}", "the passphrase from `command: cat wrong.txt` is wrong, or the file is damaged"),
        ("{command: 'true'}", "`command: true`: holds no passphrase for server-1"),
        (
            "prompt",
            "the passphrase of server-1 must be typed, and there is no terminal → start the command at a terminal",
        ),
    ],
)
def test_source_that_gives_nothing_useful_is_named_and_nothing_of_it_shown(
    asking: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, said: str, expected: str
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(os, "open", terminal(os.open, there=False))
    for name, text in {"empty.txt": "\n", "wrong.txt": "hunter2hunter2\n", "open.txt": "hunter2hunter2\n"}.items():
        asking.write(name, text).chmod(0o644 if name == "open.txt" else 0o600)
    (asking.path / "latin.txt").write_bytes("hunter2hunter2 ä".encode("latin-1"))
    (asking.path / "latin.txt").chmod(0o600)
    asking.write("fails.sh", "echo hunter2hunter2\necho 'the store\n is locked' >&2\nexit 3\n")
    source(asking, f"{{server: {said}}}")
    assert expected in failure(asking)
    shown = capsys.readouterr()
    assert "hunter2hunter2" not in shown.out + shown.err + asking.read("build/report/status.json").decode()


def terminal(found: Any, *, there: bool) -> Any:
    """`os.open` on a machine with or without a terminal."""

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "/dev/tty" and not there:
            raise OSError(6, "No such device or address")
        number: int = found(os.devnull if path == "/dev/tty" else path, *arguments, **options)
        return number

    return opened


def test_command_that_hangs_is_ended_with_all_that_it_started(asking: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "COMMAND_TIMEOUT", 2)
    asking.write("hangs.sh", "sh -c 'echo $$ > child; sleep 300' &\nwait\n")
    source(asking, "{server: {command: sh hangs.sh}}")
    assert "`command: sh hangs.sh`: did not answer within 2 seconds" in failure(asking)
    child, deadline = int(asking.read("child")), time.monotonic() + 300
    while is_alive(child):
        assert time.monotonic() < deadline, "what it started goes on"
        time.sleep(0.02)


def is_alive(process: int) -> bool:
    """A process that nobody has waited for yet is over all the same."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_typed_passphrase_is_asked_for_once(asking: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def typed(prompt: str) -> str:
        asked.append(prompt)
        return asking.read("server.txt").decode().strip()

    monkeypatch.setattr(os, "open", terminal(os.open, there=True))
    monkeypatch.setattr("getpass.getpass", typed)
    source(asking, "{server: prompt}")
    project = asking.project()
    for name in ("server-1", "server-1"):
        project.keys.open(project.authorities.issuing("server") or pytest.fail(name))
    assert asked == ["passphrase of server-1: "]


def test_what_can_be_read_once_is_refused_where_several_processes_would_read_it(asking: Home) -> None:
    with descriptor(asking.path / "server.txt", pipe=True) as number:
        source(asking, f"{{server: {{fd: {number}}}}}")
        report = asking.doit("-n", "2")
    assert "doit -n uses several processes → run doit without -n" in report.failed["cert:forge-mtls"]


def test_new_key_takes_the_passphrase_of_its_source_and_writes_none(
    fresh: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {
        "PKI_ROOT": "six words that nobody ever guesses",
        "PKI_SERVER": "another six words that nobody ever guesses",
    }
    for variable, value in words.items():
        monkeypatch.setenv(variable, value)
    source(fresh, "{root: {env: PKI_ROOT}, server: {env: PKI_SERVER}}")
    assert fresh.doit().status == 0
    assert passphrases(fresh).keys() == {"client-1"}
    for name, variable in (("root-1", "PKI_ROOT"), ("server-1", "PKI_SERVER")):
        keys.open_key(fresh.read(AUTHORITY_KEYS[name]), words[variable], name, "the test")
    for path in files(fresh):
        assert b"words that nobody" not in path.read_bytes(), path


def test_secrets_file_that_cannot_grow_by_a_line_is_written_anew(fresh: Home) -> None:
    fresh.write("secrets.yaml", "{server-1: kept as it is}").chmod(0o600)
    assert fresh.doit().status == 0
    assert passphrases(fresh)["server-1"] == "kept as it is"
    assert passphrases(fresh).keys() == {"root-1", "server-1", "client-1"}


# -- another passphrase for a key ------------------------------------------------------------------------------------


class KilledError(BaseException):
    """Stands for a run that is killed."""


def opens(home: Home, name: str) -> bool:
    project = home.project()
    project.keys.open(project.authorities.generation(name) or pytest.fail(name))
    return True


def test_key_gets_a_new_passphrase_and_the_old_one_opens_it_no_longer(home: Home) -> None:
    home.write("secrets.yaml", "# mine\n" + home.read("secrets.yaml").decode()).chmod(0o600)
    before, others = passphrases(home)["server-1"], passphrases(home).keys()
    assert intermediate_passphrase.change_passphrase(home.project(), "server-1") == "secrets.yaml"
    after = passphrases(home)
    assert after.keys() == others
    assert after["server-1"] != before
    assert home.read("secrets.yaml").startswith(b"# mine\n")
    assert mode(home.path / "secrets.yaml") == mode(home.path / AUTHORITY_KEYS["server-1"]) == 0o600
    assert opens(home, "server-1")
    with pytest.raises(PkiError, match="cannot be opened"):
        keys.open_key(home.read(AUTHORITY_KEYS["server-1"]), before, "", "")
    assert home.doit().made == {}


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_key_opens_whenever_its_move_is_cut_short_and_the_next_move_ends_well(
    home: Home, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    replace, left = os.replace, [moment]

    def killed(old: Path, new: Path) -> None:
        left[0] -= 1
        if not left[0]:
            raise KilledError
        replace(old, new)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KilledError):
        intermediate_passphrase.change_passphrase(home.project(), "server-1", new="six new words for the key")
    monkeypatch.undo()
    assert opens(home, "server-1")
    home.add_service("wiki", host="forge")
    assert "cert:forge-mtls" in home.doit().made
    intermediate_passphrase.change_passphrase(home.project(), "server-1", new="six other words for the key")
    assert passphrases(home)["server-1"] == "six other words for the key"
    assert passphrases(home).keys() == {"root-1", "server-1", "client-1"}
    assert opens(home, "server-1")


def test_key_moves_to_a_source_elsewhere_and_the_old_passphrase_goes(home: Home) -> None:
    home.write("new.txt", "six new words for the key\n").chmod(0o600)
    source(home, "{server: {file: new.txt}}")
    assert intermediate_passphrase.change_passphrase(home.project(), "server-1") == "`file: new.txt`"
    assert opens(home, "server-1")
    assert passphrases(home).keys() == {"root-1", "client-1"}
    assert intermediate_passphrase.change_passphrase(home.project(), "server-1") == "`file: new.txt`", (
        "a second time changes nothing"
    )
    home.write("new.txt", "six newer words for the key\n").chmod(0o600)
    with pytest.raises(PkiError, match="cannot be opened with what secrets") as found:
        intermediate_passphrase.change_passphrase(home.project(), "server-1")
    assert "--old-passphrase-file FILE" in found.value.hint
    intermediate_passphrase.change_passphrase(home.project(), "server-1", old="six new words for the key")
    assert opens(home, "server-1")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("server-9", {}, "server-9: no such generation → defined: server-1, client-1"),
        ("root-1", {}, "root-1: the key of a root is on its vault, not in ca/ → defined: server-1, client-1"),
        ("../x-1", {}, "../x-1: no such generation"),
        ("server-1", {"old": "not the right one"}, "cannot be opened with what --old-passphrase-file holds"),
        (
            "client-1",
            {"new": "x"},
            "pki.yaml names `file: new.txt` as the source of its passphrase → leave --passphrase-file",
        ),
    ],
)
def test_move_that_cannot_be_made_says_why_and_changes_nothing(
    home: Home, name: str, options: dict[str, str], said: str
) -> None:
    home.write("new.txt", "six new words for the key\n").chmod(0o600)
    source(home, "{client: {file: new.txt}}")
    before = snapshot(home, "ca/server", "ca/client") | {Path("s"): home.read("secrets.yaml")}
    with pytest.raises(PkiError) as found:
        intermediate_passphrase.change_passphrase(home.project(), name, **options)
    assert said in f"{found.value.message} → {found.value.hint}"
    assert snapshot(home, "ca/server", "ca/client") | {Path("s"): home.read("secrets.yaml")} == before


# -- what is never shown ----------------------------------------------------------------------------------------------


def assert_unspoken(home: Home, kept: set[bytes], *texts: str) -> None:
    for text in texts:
        assert not [secret for secret in kept if secret in text.encode()]
    for path in files(home):
        if mode(path) & 0o007 or path.name.startswith((".seen", "ledger.db", "status.json", "manifest.json")):
            data = path.read_bytes()
            assert not [secret for secret in kept if secret in data], path


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384"])
def test_only_lines_of_a_key_with_its_public_key_alone_are_no_secret(kind: str) -> None:
    key = keys.new_key(kind)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    lines = judges.PEM_KEY.findall(pem)[0].splitlines()
    private = key.private_numbers().private_value.to_bytes(key.key_size // 8, "big")
    begin = base64.b64decode(b"".join(lines)).index(private)
    last = (begin + len(private) - 1) // 48
    assert secret_lines(b"\n".join(lines)) == set(lines[: last + 1])
    assert last + 1 < len(lines)


def test_no_secret_is_said_or_written_where_others_read(fresh: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert fresh.doit().status == 0
    kept = secrets(fresh)
    assert len(kept) > 20
    fresh.doit(days=61)
    for arguments in (["list", "--all"], ["info", "cert:media"], ["info", "authority:root"]):
        run(fresh, arguments)
    shown = capsys.readouterr()
    assert "cert:media" in shown.out
    assert_unspoken(fresh, kept | secrets(fresh), shown.out, shown.err)


def test_no_secret_is_said_when_things_go_wrong(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "correct horse battery staple"
    kept = secrets(home) | {wrong.encode()}
    home.write("secrets.yaml", f"{without(home, 'server-1')}server-1: {wrong}\n")
    home.write(
        "templates/broken.conf", '# deploy-target: /x\n# deploy-hosts: media\n{{ artifact("key:media") }}{{ no }}\n'
    )
    home.write(
        "templates/loose.pem",
        "# deploy-target: /y\n# deploy-hosts: forge\n# deploy-mode: 0644\n# deploy-artifact: key:forge-mtls\n",
    )
    report = home.doit(days=61)
    assert set(report.failed) == {"crl:server-1", "release:forge", "release:media"}
    (home.path / "secrets.yaml").write_text(f"server-1: {wrong}: {wrong}\n")
    home.doit(days=61)
    shown = capsys.readouterr()
    assert "failed" in shown.out + shown.err
    assert_unspoken(home, kept | secrets(home), shown.out, shown.err)


def test_secrets_that_are_read_as_inventory_are_not_quoted(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {value.encode() for value in passphrases(home).values()}
    (home.path / "pki.yaml").write_bytes(home.read("secrets.yaml"))
    assert run(home, []) == 3
    shown = capsys.readouterr()
    assert "nothing was done" in shown.err
    assert not [secret for secret in kept if secret in (shown.out + shown.err).encode()]


# -- git --------------------------------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> list[str]:
    found = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, check=True, text=True)
    return found.stdout.splitlines()


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git command")
def test_git_never_takes_what_a_run_makes_or_holds(home: Home) -> None:
    shutil.copy(PROJECT / ".gitignore", home.path)
    (home.path / "templates/.x.pem.new").write_text("a killed run left this\n")
    git(home.path, "init", "-q")
    seen = git(home.path, "status", "--porcelain", "--untracked-files=all", "--no-renames")
    names = {line[3:] for line in seen}
    assert "pki.yaml" in names
    assert {name for name in names if not name.startswith("templates/")} == {"pki.yaml", ".gitignore"}
    assert not any(name.endswith(".new") for name in names)
    for name in ("ca/ledger.db", "build/certs/media/tls.pem", "offline/root-1/key.pem", "secrets.yaml"):
        assert git(home.path, "check-ignore", name) == [name]


@pytest.mark.skipif(
    not (PROJECT / ".git").exists() or shutil.which("git") is None, reason="not a git checkout, or no git command"
)
def test_nothing_that_git_holds_is_a_secret() -> None:
    for name in git(PROJECT, "ls-files"):
        path = Path(name)
        assert path.suffix not in {".key", ".p12", ".pfx", ".db", ".srl"}, name
        assert path.name not in SECRET_NAMES or path.parts[0] == "templates", name
        assert path.parts[0] not in {"ca", "build", "offline"}, name
        if (PROJECT / path).is_file():
            body = judges.PEM_KEY.search((PROJECT / path).read_bytes())
            assert body is None or not is_base64(body[1]), name


def is_base64(body: bytes) -> bool:
    lines = body.split()
    return bool(lines) and len(lines[0]) >= 32 and lines[0].rstrip(b"=").replace(b"+", b"").replace(b"/", b"").isalnum()


# -- on failure no output appears -------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "fchmod"])
def test_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    filesystem.write(tmp_path / "tls.pem", b"old", filesystem.SECRET)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(PkiError, match=r"tls\.pem: cannot be written: No space left on device"):
        filesystem.write(tmp_path / "tls.pem", b"new", filesystem.SECRET)
    with pytest.raises(PkiError):
        filesystem.write(tmp_path / "other.pem", b"new", filesystem.SECRET)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"tls.pem": b"old"}


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_files_of_one_set_are_all_on_disk_before_the_first_one_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    targets = [tmp_path / name for name in ("tls.pem", "cert.pem", "chain.pem")]
    filesystem.write_all(dict.fromkeys(targets, (b"old", filesystem.SECRET)))
    real, calls = getattr(os, call), []

    def full_at_last(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == len(targets):
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, call, full_at_last)
    with pytest.raises(PkiError, match="No space left on device"):
        filesystem.write_all(dict.fromkeys(targets, (b"new", filesystem.SECRET)))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(targets, b"old")


def test_what_lies_in_the_way_of_a_secret_is_not_written_into(tmp_path: Path) -> None:
    """Somebody who put a readable file, or a link to one, beside the target gets nothing."""
    mine, trap = tmp_path / "mine", tmp_path / ".tls.pem.new"
    mine.write_text("mine")
    trap.symlink_to(mine)
    filesystem.write(tmp_path / "tls.pem", b"secret", filesystem.SECRET)
    assert mine.read_text() == "mine"
    trap.write_text("readable")
    trap.chmod(0o666)
    with trap.open() as reader:
        filesystem.write(tmp_path / "tls.pem", b"secret", filesystem.SECRET)
        assert reader.read() == "readable"
    assert mode(tmp_path / "tls.pem") == 0o600


def test_secret_is_replaced_and_never_overwritten_in_place(home: Home) -> None:
    path = home.path / "build/certs/media/tls.pem"
    before = path.read_bytes()
    with path.open("rb") as reader:
        home.doit(days=61)
        assert reader.read() == before
    assert path.read_bytes() != before


def test_failed_issue_leaves_no_new_file_and_no_new_folder(home: Home) -> None:
    home.write("secrets.yaml", without(home, "server-1"))
    home.edit("hosts:\n", "hosts:\n  new: {network: av, names: [new.lab.internal], deliver: none}\n")
    before = set(home.path.rglob("*"))
    assert set(home.doit().failed) == {"cert:new"}
    new = {path for path in set(home.path.rglob("*")) - before if path.suffix != ".eml"}  # which tells of it
    made = {str(path.relative_to(home.path)) for path in new}
    assert made <= {"ca/ledger.db-wal", "ca/ledger.db-shm"}, "SQLite's own, while the database is open"


def test_issue_that_cannot_be_written_leaves_the_old_pair(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real, before = os.replace, snapshot(home, "build/certs")

    def full(source: Any, target: Any) -> None:
        if "certs" in str(target):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    report = home.doit(days=61)
    assert {"cert:media", "cert:forge-mtls", "cert:monitoring-mtls"} <= set(report.failed)
    assert snapshot(home, "build/certs") == before
    monkeypatch.undo()
    assert home.doit(days=61).status == 0


def test_fault_of_our_own_never_leaves_a_report_that_says_all_is_well(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(*_: Any) -> list[str]:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(crls.Crls, "stale_root_reasons", unforeseen)
    report = home.doit(days=61)
    assert report.status != 0
    assert report.data["result"] == "failed"
    assert "crl:root-1" in report.failed
    assert {"cert:media", "crl:client-1"} <= set(report.made), "one bad thing stops only what depends on it"


# -- the sandbox ------------------------------------------------------------------------------------------------------


def test_authorities_of_a_try_out_say_so_in_their_names(home: Home) -> None:
    for generation in AUTHORITY_KEYS:
        cert = judges.certificate(home.path / f"ca/{generation.partition('-')[0]}/{generation}/cert.pem")
        assert "SANDBOX" in judges.common_name(cert)


@pytest.mark.parametrize("text", ["", "sandbox: false"])
def test_authorities_of_a_try_out_are_refused_outside_it(
    home: Home, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (home.path / "ca/.alerts.json").unlink()  # so that nobody is told of it
    (home.path / "build/report/status.html").unlink()  # nor reads it there
    (home.path / "build/report/pki.prom").unlink()
    before = snapshot(home, "build", "ca")
    home.edit("sandbox: true", text)
    assert run(home, []) == 3
    said = capsys.readouterr().err
    assert "is a sandbox authority, and pki.yaml does not contain sandbox: true" in said
    with pytest.raises(PkiError, match="sandbox authority"):
        plan.plan(home.project())
    assert snapshot(home, "build", "ca") == before


def test_a_run_that_is_refused_for_a_damaged_root_leaves_the_ledger_closed(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger is asked for a copy of the certificate, and SQLite's own files beside it must go with the run."""
    before = {path.name for path in (home.path / "ca").iterdir()}
    home.write("ca/root/root-1/cert.pem", "x")
    assert run(home, []) == 3
    assert "ca/root/root-1/cert.pem: is not a certificate" in capsys.readouterr().err
    assert {path.name for path in (home.path / "ca").iterdir()} - before <= {".alerts.lock"}


def test_without_the_sandbox_doit_never_makes_an_authority(fresh: Home) -> None:
    fresh.edit("sandbox: true", "sandbox: false")
    report = fresh.doit()
    assert {"authority:root"} <= set(report.failed)
    assert "ceremony" in report.failed["authority:root"]
    assert [path for path in files(fresh) if b"-----BEGIN CERTIFICATE-----" in path.read_bytes()] == []
    assert [path for path in files(fresh) if b"-----BEGIN PRIVATE" in path.read_bytes()] == []
    assert not (fresh.path / "offline").exists()
    assert not list(fresh.path.glob("ca/root/*/key*"))


def test_nobody_can_call_a_project_the_sandbox(fresh: Home) -> None:
    fresh.edit("organisation: Example Lab", "organisation: Sandbox Lab")
    with pytest.raises(PkiError, match="SANDBOX is reserved for sandbox authorities"):
        fresh.plan()


# -- private keys in managed files ------------------------------------------------------------------------------------

KEY_FILES = {
    "artifact": "# deploy-target: /etc/app/key.pem\n# deploy-hosts: media\n{mode}# deploy-artifact: key:media\n",
    "rendered": '# deploy-target: /etc/app/key.pem\n# deploy-hosts: media\n{mode}\nkey = """{{{{ artifact("key:media") }}}}"""\n',
}


@pytest.mark.parametrize("how", KEY_FILES)
@pytest.mark.parametrize(("header", "expected"), [("", 0o600), ("0600", 0o600), ("0640", 0o640), ("0400", 0o400)])
def test_managed_file_with_a_private_key_is_secret(home: Home, how: str, header: str, expected: int) -> None:
    line = f"# deploy-mode: {header}\n" if header else ""
    home.write("templates/app.pem", KEY_FILES[how].format(mode=line))
    assert home.doit().status == 0
    for place in ("build/release/media/files", "build/hosts/media"):
        assert mode(home.path / place / "etc/app/key.pem") == expected


@pytest.mark.parametrize("how", KEY_FILES)
@pytest.mark.parametrize("header", ["0644", "0660", "0604", "0641", "0666"])
def test_managed_file_that_would_show_a_private_key_is_refused(home: Home, how: str, header: str) -> None:
    before = snapshot(home, "build/release", "build/hosts")
    home.write("templates/app.pem", KEY_FILES[how].format(mode=f"# deploy-mode: {header}\n"))
    report = home.doit()
    assert set(report.failed) == {"release:media"}
    assert report.failed["release:media"].startswith(
        f"templates/app.pem:3: deploy-mode: {header} lets other accounts read a private key"
    )
    assert snapshot(home, "build/release", "build/hosts") == before


def test_managed_file_without_a_secret_is_readable(home: Home) -> None:
    assert mode(home.path / "build/hosts/media/etc/caddy/Caddyfile") == 0o644
    assert mode(home.path / "build/hosts/media/etc/doit-pki/roots.pem") == 0o644


# -- keys in a token: what needs none ---------------------------------------------------------------------------------

MODULE = "?module-path=/usr/lib/token.so"


class FakeToken:
    """A token that counts who knocks."""

    def __init__(self, flags: pkcs11.TokenFlag, answer: Exception | None = None) -> None:
        self.flags, self.answer, self.tried = flags, answer, 0

    def open(self, **_: object) -> str:
        self.tried += 1
        if self.answer:
            raise self.answer
        return "session"


def log_in(token: FakeToken, pin: str = "1234") -> Any:
    return sessions.log_in(pkcs11, token, x509_pkcs11.parse(f"pkcs11:token=a{MODULE}"), pin, "secrets.yaml")


def software_signer(key: ec.EllipticCurvePrivateKey) -> Callable[[bytes], bytes]:
    """What a token does with a digest, done by a key in memory."""

    def sign(digest: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
        return r.to_bytes(32) + s.to_bytes(32)

    return sign


@pytest.fixture(autouse=True)
def no_tokens() -> Iterator[None]:
    yield
    x509_pkcs11.close()


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (f"pkcs11:token=a;object=b{MODULE}", {"token": "a", "object": "b"}),
        (f"pkcs11:object=b;serial=0f;token=a{MODULE}", {"token": "a", "object": "b", "serial": "0f"}),
        (f"pkcs11:token=a;id=%00%FFa{MODULE}", {"token": "a", "id": b"\0\xffa"}),
        (f"pkcs11:token=a%20b%3B%3F%26%25;object=M%c3%bcller{MODULE}", {"token": "a b;?&%", "object": "Müller"}),
    ],
)
def test_uri_of_a_key_in_a_token_is_read_and_written_again(uri: str, expected: dict[str, Any]) -> None:
    read = x509_pkcs11.parse(uri)
    assert read == x509_pkcs11.TokenUri("/usr/lib/token.so", **expected)
    assert x509_pkcs11.parse(str(read)) == read


def test_uri_is_written_in_one_way() -> None:
    assert str(x509_pkcs11.parse(f"pkcs11:id=%0aA;object=a%2db;token=%61 {MODULE}".replace(" ", "%20"))) == (
        f"pkcs11:token=a%20;object=a-b;id=%0A%41{MODULE}"
    )


def test_uri_of_another_key_keeps_its_token_and_forgets_the_id() -> None:
    uri = x509_pkcs11.parse(f"pkcs11:token=a;serial=1;object=b;id=%01{MODULE}").with_object("server-2")
    assert str(uri) == f"pkcs11:token=a;serial=1;object=server-2{MODULE}"


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("file:/ca/key.pem", "must begin with pkcs11:"),
        ("pkcs11:token=a", "no module-path"),
        (f"pkcs11:object=a{MODULE}", "no token"),
        (f"pkcs11:{MODULE}", "no token"),
        ("pkcs11:token=a?module-path=token.so", "module-path is not an absolute path"),
        (f"pkcs11:token=a;model=x{MODULE}", "has model where only token, serial, object, id are allowed"),
        (f"pkcs11:token=a;module-path=/x{MODULE}", "has module-path where only"),
        (f"pkcs11:token=a{MODULE}&token=b", "has token where only module-path are allowed"),
        (f"pkcs11:token=a;token=b{MODULE}", "has the attribute token twice"),
        (f"pkcs11:token=a;object={MODULE}", "object is empty or badly encoded"),
        (f"pkcs11:token=a b{MODULE}", "token is empty or badly encoded"),
        (f"pkcs11:token=a;object=%4{MODULE}", "object is empty or badly encoded"),
        (f"pkcs11:token=a;object=%FF{MODULE}", "object is not text"),
        (f"pkcs11:token=a;object=a%0Ab{MODULE}", "object is not text"),
        (f"pkcs11:token=a;;object=b{MODULE}", "part 2 .* is not name=value"),
        (f"pkcs11:token=a{MODULE}&271828", "part 2 .* is not name=value"),
        (f"pkcs11:token=a{MODULE}&pin-value=271828", "contains a PIN attribute"),
        (f"pkcs11:token=a;PIN=271828{MODULE}", "contains a PIN attribute"),
        (f"pkcs11:token=a{MODULE}&pin-source=/271828", "contains a PIN attribute"),
    ],
)
def test_faulty_uri_is_refused_and_what_might_be_a_pin_is_not_repeated(uri: str, complaint: str) -> None:
    with pytest.raises(PkiError, match=complaint) as caught:
        x509_pkcs11.parse(uri)
    assert caught.value.hint
    assert "271828" not in str(caught.value)


@pytest.mark.parametrize("work", [x509_pkcs11.open_key, x509_pkcs11.destroy, x509_pkcs11.generate])
def test_uri_of_a_whole_token_names_no_key(work: Callable[..., Any]) -> None:
    """Or else a token with one key in it would lose it."""
    kind = ["ec-p256"] if work is x509_pkcs11.generate else []
    with pytest.raises(PkiError, match="names no key"):
        work(x509_pkcs11.parse(f"pkcs11:token=a{MODULE}"), "1234", *kind, source="secrets.yaml")


@pytest.mark.parametrize("kind", ["ed25519", "rsa-2048", "ec-p521"])
def test_token_makes_only_keys_of_kinds_that_are_fit_for_an_authority(kind: str) -> None:
    with pytest.raises(PkiError, match=f"a token cannot generate a key of kind {kind}"):
        x509_pkcs11.generate(x509_pkcs11.parse(f"pkcs11:token=a;object=b{MODULE}"), "1234", kind)


def test_missing_library_is_said_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    with pytest.raises(PkiError) as caught:
        x509_pkcs11.open_key(x509_pkcs11.parse(f"pkcs11:token=a;object=b{MODULE}"), "1234", "secrets.yaml")
    assert caught.value.message == "keys in a token need python-pkcs11, which is not installed"
    command, lock = caught.value.hint.rsplit(" ", 1)
    assert command == "./run pip install --require-hashes -r"
    assert "\npython-pkcs11==" in (PROJECT / lock).read_text()


def test_library_is_loaded_only_for_a_token() -> None:
    program = "import sys, pki.x509.pkcs11, tasks, dodo; print('pkcs11' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_refused_pin_is_not_tried_again() -> None:
    token = FakeToken(pkcs11.TokenFlag(0), pkcs11.PinIncorrect())
    for _ in range(3):
        with pytest.raises(PkiError, match=r"the PIN in secrets\.yaml is wrong"):
            log_in(token)
    assert token.tried == 1
    with pytest.raises(PkiError):
        log_in(token, "5678")
    assert token.tried == 2


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (pkcs11.TokenFlag.USER_PIN_LOCKED, "token a: its PIN is locked"),
        (pkcs11.TokenFlag.USER_PIN_FINAL_TRY, "token a: one more wrong PIN locks it"),
    ],
)
def test_token_that_is_locked_or_about_to_be_is_left_alone(flags: pkcs11.TokenFlag, complaint: str) -> None:
    token = FakeToken(flags)
    with pytest.raises(PkiError, match=complaint):
        log_in(token)
    assert token.tried == 0
    assert log_in(FakeToken(pkcs11.TokenFlag.USER_PIN_COUNT_LOW)) == "session"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (pkcs11.PinLocked(), "its PIN is locked"),
        (pkcs11.PinLenRange(), "the PIN in secrets.yaml is wrong"),
        (pkcs11.PinExpired(), "its PIN must be set first"),
        (pkcs11.UserPinNotInitialized(), "its PIN must be set first"),
    ],
)
def test_what_a_token_says_to_a_pin_is_said_to_a_person(answer: Exception, complaint: str) -> None:
    with pytest.raises(PkiError, match=complaint) as caught:
        log_in(FakeToken(pkcs11.TokenFlag(0), answer))
    assert caught.value.hint
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        ("MechanismInvalid", "does not support this operation"),
        ("KeySizeRange", "does not support this operation"),
        ("DeviceRemoved", "connected"),
        ("DeviceMemory", "free space"),
    ],
)
def test_what_a_token_refuses_is_said_with_what_to_do(error: str, complaint: str) -> None:
    said = str(sessions.token_error(x509_pkcs11.parse(f"pkcs11:token=a{MODULE}"), error))
    assert said.startswith("token a: ")
    assert complaint in said
    assert error in said


def test_key_held_elsewhere_signs_and_shows_nothing() -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    key = private_key.EllipticCurveTokenKey("server-2 in token a", secret.public_key(), software_signer(secret))
    secret.public_key().verify(key.sign(b"text", ec.ECDSA(hashes.SHA256())), b"text", ec.ECDSA(hashes.SHA256()))
    assert key.sign(b"text", ec.ECDSA(hashes.SHA512())), "a digest longer than the curve is cut before it is signed"
    for show in (
        lambda: keys.private_pem(key),
        lambda: keys.encrypted_pem(key, "passphrase"),
        key.private_numbers,
        lambda: copy.copy(key),
        lambda: copy.deepcopy(key),
        lambda: pickle.dumps(key),
        lambda: key.exchange(ec.ECDH(), secret.public_key()),
    ):
        with pytest.raises(PkiError, match="server-2 in token a: the key is in a token and cannot be exported"):
            show()


def test_signature_from_elsewhere_is_verified_before_it_is_used() -> None:
    secret, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    for signer in (software_signer(other), lambda _: b"", lambda digest: digest * 2):
        key = private_key.EllipticCurveTokenKey("server-2 in token a", secret.public_key(), signer)
        with pytest.raises(PkiError, match="the signature of the token does not verify"):
            key.sign(b"text", ec.ECDSA(hashes.SHA256()))
    weak = private_key.RsaTokenKey("root-1 in token a", keys.new_key("rsa-2048").public_key(), lambda _: bytes(256))
    with pytest.raises(PkiError, match="root-1 in token a: the signature of the token does not verify"):
        weak.sign(b"text", padding.PKCS1v15(), hashes.SHA256())


def test_key_held_elsewhere_signs_in_no_other_way() -> None:
    """A padding or digest of one's own would be signed without anybody having looked at it."""
    secret = ec.generate_private_key(ec.SECP256R1())
    key = private_key.EllipticCurveTokenKey("a", secret.public_key(), software_signer(secret))
    with pytest.raises(TypeError, match="whole messages"):
        key.sign(bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))
    with pytest.raises(TypeError, match="whole messages"):
        key.sign(b"text", ec.ECDSA(hashes.SHA3_256()))
    rsa_key = private_key.RsaTokenKey("a", keys.new_key("rsa-2048").public_key(), bytes)
    with pytest.raises(TypeError, match="signs with PKCS#1"):
        rsa_key.sign(b"text", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
