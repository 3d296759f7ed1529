"""A CA as people have run them for years, made by hand: its key, its index, its folder in one of the layouts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.projects import START

DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
NO_CRL_USAGE = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
BASIC = x509.BasicConstraints(ca=True, path_length=None)


def subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def utc(moment: datetime) -> str:
    return f"{moment:%y%m%d%H%M%SZ}"


@dataclass
class OldCa:
    """`rows` are lines of its index, `issued` certificates by serial number."""

    name: str = "Old CA"
    full_name: x509.Name | None = None  # in place of a subject with `name` as its CN
    key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    usage: x509.KeyUsage | None = CA_USAGE
    has_identifier: bool = True
    basic: x509.BasicConstraints | None = BASIC
    until: datetime = START + 3650 * DAY
    rows: list[str] = field(default_factory=list)
    issued: dict[int, x509.Certificate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        public = self.key.public_key()
        builder = self._builder(self.subject, START - 3650 * DAY, self.until, 1 << 90).public_key(public)
        if self.basic:
            builder = builder.add_extension(self.basic, critical=True)
        if self.usage:
            builder = builder.add_extension(self.usage, critical=True)
        if self.has_identifier:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        self.certificate = builder.sign(self.key, hashes.SHA256())

    @property
    def subject(self) -> x509.Name:
        return subject(self.name) if self.full_name is None else self.full_name

    def _builder(self, name: x509.Name, start: datetime, end: datetime, serial: int) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.subject).serial_number(serial)
        return builder.not_valid_before(start).not_valid_after(end)

    def issue(
        self,
        name: str,
        serial: int,
        *,
        days: float = 400,
        purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CLIENT_AUTH,),
        names: tuple[str, ...] = (),
    ) -> x509.Certificate:
        """A certificate that ends `days` after START, with its line in the index."""
        end = START + days * DAY
        builder = self._builder(
            subject(name), START - 800 * DAY + min(serial, 9999) * timedelta(minutes=1), end, serial
        )
        builder = builder.public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        self.issued[serial] = builder.sign(self.key, hashes.SHA256())
        self.row(name, serial, end)
        return self.issued[serial]

    def row(self, name: str, serial: int, end: datetime, revoked: str = "", state: str = "") -> None:
        digits = f"{serial:X}"
        digits = digits if len(digits) % 2 == 0 else f"0{digits}"
        state = state or ("R" if revoked else "V")
        self.rows.append(f"{state}\t{utc(end)}\t{revoked}\t{digits}\tunknown\t/CN={name}")

    def revoke(self, serial: int, reason: str = "", at: datetime = START - 100 * DAY) -> None:
        """Change the line of a certificate as `openssl ca -revoke` does."""
        digits = f"{serial:X}"
        digits = digits if len(digits) % 2 == 0 else f"0{digits}"
        [number] = [n for n, row in enumerate(self.rows) if row.split("\t")[3] == digits]
        fields = self.rows[number].split("\t")
        fields[0], fields[2] = "R", utc(at) + (f",{reason}" if reason else "")
        self.rows[number] = "\t".join(fields)

    def crl(
        self, revoked: dict[int, str], *, number: int | None = None, at: datetime = START - 5 * DAY
    ) -> x509.CertificateRevocationList:
        """A CRL; `revoked` is the reason for each serial number, or nothing."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject)
        builder = builder.last_update(at).next_update(at + 180 * DAY)
        for serial, reason in revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(START - 50 * DAY)
            if reason:
                entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags(reason)), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        if number is not None:
            builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    # -- folders --

    def keep(self, folder: Path, *, encryption: serialization.KeySerializationEncryption | None = None) -> Path:
        """The CA's own two files, as `cert.pem` and `key.pem`."""
        return self._place(folder / "cert.pem", folder / "key.pem", encryption)

    def openssl_ca(self, folder: Path) -> Path:
        """As `openssl ca` leaves it: index.txt, newcerts/, cacert.pem, private/cakey.pem."""
        self._place(folder / "cacert.pem", folder / "private/cakey.pem", None)
        write(folder / "index.txt", "".join(f"{row}\n" for row in self.rows).encode())
        for serial, cert in self.issued.items():
            digits = f"{serial:X}"
            write(folder / f"newcerts/{digits if len(digits) % 2 == 0 else '0' + digits}.pem", pem(cert))
        return folder

    def easy_rsa(self, folder: Path) -> Path:
        """As easy-rsa leaves its pki/: what is valid twice, what is revoked elsewhere."""
        self._place(folder / "ca.crt", folder / "private/ca.key", None)
        write(folder / "index.txt", "".join(f"{row}\n" for row in self.rows).encode())
        for row in self.rows:
            state, _, _, digits, _, name = row.split("\t")
            cert = self.issued[int(digits, 16)]
            if state == "R":
                write(folder / f"revoked/certs_by_serial/{digits}.crt", pem(cert))
            else:
                write(folder / f"certs_by_serial/{digits}.pem", pem(cert))
                write(folder / f"issued/{name.removeprefix('/CN=')}.crt", b"Certificate:\n" + pem(cert))
        return folder

    def _place(self, certificate: Path, key: Path, encryption: serialization.KeySerializationEncryption | None) -> Path:
        write(certificate, pem(self.certificate))
        form = serialization.PrivateFormat.PKCS8
        hidden = encryption or serialization.NoEncryption()
        write(key, self.key.private_bytes(serialization.Encoding.PEM, form, hidden), 0o600)
        return certificate.parent


def pem(signed: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return signed.public_bytes(serialization.Encoding.PEM)


def write(path: Path, data: bytes, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path
