"""What people call a certificate: its own name, or that of a client, a service, a host, or a DNS name in it."""

from __future__ import annotations

import pytest
from cryptography import x509

from pki.cli.certificate_lookup import Names, is_among
from pki.pipeline import plan
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process."""

    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=START)

    return call


@pytest.mark.parametrize(
    ("typed", "leaf"),
    [
        ("media", "media"),
        ("cert:media", "media"),
        ("admin", "client-admin"),
        ("client-admin", "client-admin"),
        ("jellyfin", "media"),
        ("jellyfin.lab.internal", "media"),
        ("JELLYFIN.lab.internal.", "media"),
        ("prometheus", "monitoring-mtls"),
        ("loki.lab.internal", "monitoring-mtls"),
        ("monitoring", "monitoring-mtls"),
        ("admin@lab.internal", "client-admin"),
    ],
)
def test_a_name_stands_for_one_certificate(home: Home, typed: str, leaf: str) -> None:
    project = home.project()
    found = Names(project.inventory, plan.plan(project).leaves).find(typed)
    assert {one for one, _ in found} == {leaf}


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("a.lab", ["a.lab"], True),
        ("a.lab", ["*.lab"], True),
        ("a.b.lab", ["*.lab"], False),
        ("lab", ["*.lab"], False),
        ("10.0.0.1", ["10.0.0.1"], True),
        ("", ["*."], False),
    ],
)
def test_a_wildcard_covers_one_label(name: str, names: list[str], expected: bool) -> None:
    assert is_among(name, names) is expected


def test_each_command_says_how_it_understood_a_name(home: Home, invoke: Invoke) -> None:
    said = invoke("explain", "jellyfin")
    assert said.out.startswith("jellyfin is a service on media: cert:media\ncert:media\n")
    assert invoke("explain", "media").out.startswith("cert:media\n")
    before = x509.load_pem_x509_certificate(home.read("build/certs/media/cert.pem")).serial_number
    said = invoke("renew", "jellyfin.lab.internal")
    assert said.status == 0, said.error
    assert said.out.startswith("jellyfin.lab.internal is a name in the certificate: cert:media\n")
    assert x509.load_pem_x509_certificate(home.read("build/certs/media/cert.pem")).serial_number != before
    assert "revoke loki" not in invoke("revoke", "loki", "--reason", "superseded").out
    said = invoke("revoke", "loki", "--reason", "superseded")
    assert said.out.startswith("loki is a service on monitoring: cert:monitoring-mtls\n")
    assert "→ ./run invoke revoke monitoring-mtls --reason superseded --yes" in said.error
    assert "is still in pki.yaml" in invoke("retire", "loki.lab.internal").error


def test_what_left_pki_yaml_is_found_by_the_names_that_it_had(home: Home, invoke: Invoke) -> None:
    text = home.read("pki.yaml").decode()
    head, mark, rest = text.partition("  media:\n")
    home.write("pki.yaml", _without_services(head + mark, rest))
    said = invoke("retire", "jellyfin.lab.internal")
    assert said.out.startswith("jellyfin.lab.internal is a name in the certificate: cert:media\n")
    assert "→ ./run invoke retire media --yes" in said.error
    assert "jellyfin.lab.internal is a name in cert:media, serial " in invoke("explain", "jellyfin.lab.internal").out


def _without_services(head: str, rest: str) -> str:
    services, _, after = rest.partition("    services:\n")
    lines = after.splitlines(keepends=True)
    while lines and lines[0].startswith("      "):
        lines.pop(0)
    return head + services + "".join(lines)


def test_a_name_that_stands_for_two_certificates_is_asked_about(home: Home, invoke: Invoke) -> None:
    home.add_service("wiki", "forge", "tls")
    home.edit(
        "services:\n      jellyfin",
        'services:\n      wiki: {upstream: "http://127.0.0.1:1", access: tls, names: [w.lab.internal]}\n      jellyfin',
    )
    said = invoke("renew", "wiki")
    assert said.status == 1
    assert said.error == (
        "wiki: means cert:forge, cert:media\n→ name one of them: ./run invoke renew forge or ./run invoke renew media\n"
    )


@pytest.mark.parametrize(
    "line", [("explain",), ("renew",), ("revoke", "--reason", "superseded"), ("retire",)], ids=lambda line: line[0]
)
def test_what_is_declared_nowhere_is_said_to_be_unseen_and_not_to_be_absent(
    invoke: Invoke, line: tuple[str, ...]
) -> None:
    said = invoke(line[0], "zzz.example", *line[1:])
    assert (said.status, said.out) == (1, "")
    assert said.error.startswith("zzz.example: not declared in pki.yaml\n→ ")
    assert "none" not in said.error


def test_a_certificate_that_no_declared_service_serves_may_be_served_elsewhere(home: Home, invoke: Invoke) -> None:
    home.write(
        "templates/printer.cnf",
        "# deploy-target: /etc/ssl/printer.cnf\n# deploy-hosts: media\n[req]\ndistinguished_name = dn\nprompt = no\nreq_extensions = ext\n"
        "[dn]\nCN = printer.lab.internal\n[ext]\nsubjectAltName = DNS:printer.lab.internal\n"
        "extendedKeyUsage = serverAuth\n",
    )
    assert home.doit().status == 0
    assert "served by      no service that is declared in pki.yaml" in invoke("explain", "printer").out
    assert (
        "served by  no service that is declared in pki.yaml"
        in invoke("revoke", "printer", "--reason", "superseded").out
    )
