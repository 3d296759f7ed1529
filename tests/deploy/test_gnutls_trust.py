"""A GnuTLS server never gets a trust file with the root: it would accept a server's certificate as a client."""

from __future__ import annotations

import pytest

from pki.config import editing
from tests.support.projects import Home

HEADER = "# deploy-target: /etc/x/trust.pem\n# deploy-hosts: HOSTS\n"


def with_service(home: Home, **settings: str) -> None:
    path = home.path / "pki.yaml"
    editing.write(editing.add_services(path, "media", {"directory": {"speaks": "ldap", "access": "mtls", **settings}}))


def fault(home: Home, text: str, hosts: str) -> str:
    home.write("templates/mine.pem", HEADER.replace("HOSTS", hosts) + text)
    failed = home.doit("release:media").failed
    assert failed.keys() <= {"release:media"}
    return failed.get("release:media", "")


@pytest.mark.parametrize("artifact", ["trust:client-openssl", "trust:client-chain", "trust:roots", "ca-pem:root"])
@pytest.mark.parametrize(
    ("hosts", "more"),
    [("service:directory", ""), ("media", "# deploy-reload: systemctl restart slapd\n")],
)
def test_a_trust_file_with_the_root_is_refused_for_a_gnutls_server(
    home: Home, artifact: str, hosts: str, more: str
) -> None:
    with_service(home)
    text = f"# deploy-artifact: {artifact}\n{more}"
    message = fault(home, text, hosts)
    assert f"templates/mine.pem:3: deploy-artifact: {artifact} has the root, and directory uses GnuTLS" in message
    assert "deliver trust:client-gnutls" in message
    text = f"# deploy-artifact: trust:client-gnutls\n{more}"
    assert fault(home, text, hosts) == ""


def test_a_body_with_the_root_is_refused_as_well(home: Home) -> None:
    with_service(home)
    text = '{{ artifact("trust:client-ca") }}{{ artifact("trust:roots") }}\n'
    assert "deploy-target: trust:roots has the root" in fault(home, text, "service:directory")


def test_the_chain_is_refused_where_only_a_gnutls_server_checks_clients(home: Home) -> None:
    with_service(home)
    text = "# deploy-artifact: trust:client-chain\n"
    assert "has the root, and directory uses GnuTLS" in fault(home, text, "media")
    assert fault(home, "# deploy-artifact: trust:roots\n", "media") == "", "clients of the directory need the root"
    home.add_service("other", host="media")
    assert fault(home, text, "media") == ""


@pytest.mark.parametrize("settings", [{"verifier": "openssl"}, {"access": "tls"}])
def test_a_server_that_uses_openssl_or_checks_no_clients_may_get_the_root(home: Home, settings: dict[str, str]) -> None:
    with_service(home, **settings)
    assert fault(home, "# deploy-artifact: trust:client-chain\n", "service:directory") == ""


def test_a_mail_server_that_uses_gnutls_is_declared_by_its_verifier(home: Home) -> None:
    with_service(home, speaks="smtp", verifier="gnutls")
    assert "has the root" in fault(home, "# deploy-artifact: trust:client-chain\n", "service:directory")
