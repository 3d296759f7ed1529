"""Releases for a host in a folder, of which each file is another one than before, and what the host holds of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.hosts import FolderHost, Row


def pair(name: str) -> tuple[bytes, bytes]:
    """A fresh key and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    certificate = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


def is_pair(key: bytes, certificate: bytes) -> bool:
    public = serialization.load_pem_private_key(key, None).public_key()
    return public == x509.load_pem_x509_certificate(certificate).public_key()


def release(host: FolderHost, name: str) -> list[Row]:
    """A pair in one file, a pair in a set, and a file that two releases of three have."""
    key, certificate = pair(name)
    other, its = pair(name)
    folder = host.path("crt")
    return [
        Row(host.path("tls.pem"), key + certificate, mode="0600", check="ok", reload="note"),
        Row(host.path("crt/key.pem"), other, mode="0600", set=folder),
        Row(host.path("crt/cert.pem"), its, set=folder),
        Row(host.path("conf.d/site.conf"), f"# {name}\n".encode() * 50),
        Row(host.path("conf.d/more.conf"), None if name == "new" else b"more\n"),
        Row(host.path("conf.d/added.conf"), b"added\n" if name == "new" else None),
    ]


def assert_whole(host: FolderHost, *releases: Sequence[Row]) -> None:
    """Each file is that of one release, keys match certificates, and a set is that of one release."""
    for rows in zip(*releases, strict=True):
        path = Path(rows[0].path)
        here = path.read_bytes() if path.exists() else None
        assert here in {row.content for row in rows}, f"{path} is neither old nor new"
    tls = Path(host.path("tls.pem")).read_bytes()
    mark = tls.index(b"-----BEGIN CERTIFICATE")
    assert is_pair(tls[:mark], tls[mark:])
    assert is_pair(Path(host.path("crt/key.pem")).read_bytes(), Path(host.path("crt/cert.pem")).read_bytes())


def contents(host: FolderHost) -> dict[str, bytes]:
    """What services see: files by their names, those of sets through their links."""
    names = ("tls.pem", "crt/key.pem", "crt/cert.pem", "conf.d/site.conf", "conf.d/more.conf", "conf.d/added.conf")
    return {name: Path(host.path(name)).read_bytes() for name in names if Path(host.path(name)).exists()}


def wanted(host: FolderHost, rows: Sequence[Row]) -> dict[str, bytes]:
    return {str(Path(row.path).relative_to(host.etc)): row.content for row in rows if row.content is not None}
