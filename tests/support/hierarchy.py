"""The certificates and CRLs of a project as others read them, and leaves that nobody would issue."""

from __future__ import annotations

from cryptography import x509

from pki.x509 import certificate_signing, keys, profiles
from tests.support import judges
from tests.support.judges import DAY, Identity
from tests.support.projects import START, Home

URL = "http://pki.lab.internal"


def root_of(home: Home) -> x509.Certificate:
    return judges.certificate(home.path / "ca/root/root-1/cert.pem")


def intermediate_of(home: Home, authority: str) -> x509.Certificate:
    return judges.certificate(home.path / f"ca/{authority}/{authority}-1/cert.pem")


def server(home: Home, leaf: str = "media") -> Identity:
    return Identity.read(home.path / "build/certs" / leaf / "tls.pem")


def client(home: Home, name: str = "admin") -> Identity:
    return Identity.read(home.path / "ca/clients" / name / "tls.pem")


def crls_of(home: Home, *generations: str) -> list[x509.CertificateRevocationList]:
    return [judges.crls(home.read(f"build/crl/{name}.pem"))[0] for name in generations]


def every_crl(home: Home) -> list[x509.CertificateRevocationList]:
    return crls_of(home, "root-1", "server-1", "client-1")


def signed_on_purpose(
    home: Home,
    like: str,
    names: list[x509.GeneralName],
    *,
    by: str | None = None,
    issuer: certificate_signing.Issuer | None = None,
) -> Identity:
    """A leaf that no run would make: the profile of `like`, other names, signed with an intermediate's own key."""
    project, leaf, key = home.project(), home.plan().leaves[like], keys.new_key("ec-p256")
    extensions = [
        (value, critical)
        for value, critical in profiles.leaf_extensions(leaf, key.public_key())
        if not isinstance(value, x509.SubjectAlternativeName)
    ]
    extensions.append((x509.SubjectAlternativeName(names), False))
    signing = issuer or project.signing_keys.issuer(by or leaf.authority)
    cert = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Example Lab", leaf.common_name),
        key.public_key(),
        certificate_signing.validity_dates(START, 90 * DAY, signing.certificate),
        extensions + profiles.publication_extensions(URL, f"{by or leaf.authority}-1"),
        signing,
    )
    return Identity(cert, signing.certificate, key)
