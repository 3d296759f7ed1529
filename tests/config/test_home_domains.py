"""Domains of networks at home: one label, or a last label with a digit, as RFC 5280 permits them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.ceremony import lint
from tests.support.commands import said_by
from tests.support.projects import START, Home


def names_of(home: Home, leaf: str) -> list[str]:
    cert = x509.load_pem_x509_certificate(home.read(f"build/certs/{leaf}/cert.pem"))
    found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


def test_a_project_may_have_domains_of_one_label_from_the_beginning_and_later(
    fresh: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        fresh.read("pki.yaml")
        .decode()
        .replace("lab.internal", "lan")
        .replace("domains: [lan]", "domains: [lan, corp.lan3]")
    )
    assert "domains: [lan, corp.lan3]" in text
    fresh.write("pki.yaml", text.replace("http://pki.lan", "http://pki.corp.lan3"))
    report = fresh.doit()
    assert report.failed == {}
    assert names_of(fresh, "media") == ["jellyfin.lan"]
    fresh.edit("domains: [lan, corp.lan3]", "domains: [lan, corp.lan3, dmz1]")
    fresh.edit("access: tls}", "access: tls, names: [films.dmz1]}")
    said = said_by(capsys, "ceremony.request", pki_home=str(fresh.path), pki_now=START)  # the sandbox holds it itself
    assert said.status == 0, said.error
    assert fresh.doit().failed == {}
    assert names_of(fresh, "media") == ["films.dmz1"]


@pytest.mark.parametrize(
    ("domain", "address", "expected"),
    [
        ("lan", "http://pki.corp.lan3/ca.crt", []),
        ("l_n!", "http://pki.lan/ca.crt", [lint.DOMAIN_SYNTAX]),
        (".lan", "http://pki.lan/ca.crt", [lint.DOMAIN_SYNTAX]),
        ("lan", "http://p ki/ca.crt", [lint.URI_SYNTAX]),
    ],
)
def test_what_is_no_host_name_is_found_all_the_same(domain: str, address: str, expected: list[str]) -> None:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    place = x509.AccessDescription(
        x509.AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(address)
    )
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), 77 << 70, START, START + timedelta(days=9))
        .add_extension(x509.NameConstraints([x509.DNSName(domain)], None), critical=True)
        .add_extension(x509.AuthorityInformationAccess([place]), critical=False)
        .sign(key, hashes.SHA256())
    )
    codes = [one.partition(":")[0] for one in lint.findings(cert)]
    assert [one for one in codes if one in {lint.DOMAIN_SYNTAX, lint.URI_SYNTAX}] == expected
