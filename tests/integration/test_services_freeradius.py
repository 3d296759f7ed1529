"""FreeRADIUS with files of its recipe: EAP-TLS, judged by eapol_test, because doit cannot connect to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.integration.conftest import run
from tests.integration.services import NAME, ServiceHost, service_host, stranger
from tests.support.commands import Invoke
from tests.support.invoked import invoke

__all__ = ["invoke"]

CONFIG = """
prefix = /usr
logdir = FOLDER
libdir = /usr/lib/freeradius
run_dir = FOLDER
pidfile = FOLDER/pid
max_requests = 1024
security {
    user = freerad
    group = freerad
    allow_vulnerable_openssl = yes
}
client localhost {
    ipaddr = 127.0.0.1
    secret = testing123
    require_message_authenticator = no
}
modules {
    $INCLUDE EAP
}
server default {
    listen {
        type = auth
        ipaddr = 127.0.0.1
        port = PORT
    }
    authorize {
        eap
    }
    authenticate {
        eap
    }
}
"""
NETWORK = """network={
    key_mgmt=WPA-EAP
    eap=TLS
    identity="anna"
    ca_cert="ROOTS"
    client_cert="IDENTITY"
    private_key="IDENTITY"
}
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceHost]:
    with service_host({"radius": "radius"}, monkeypatch, "root:freerad", recipe="freeradius") as host:
        folder = host.folder / "raddb"
        folder.mkdir()
        values = {"FOLDER": folder, "EAP": host.file("eap"), "PORT": host.ports["radius"]}
        text = CONFIG
        for name, value in values.items():
            text = text.replace(name, str(value))
        (folder / "radiusd.conf").write_text(text)
        (folder / "dictionary").write_text("")
        run("chown", "-R", "freerad:freerad", folder)
        stop = f"pid=$(cat {folder}/pid); kill $pid; while kill -0 $pid 2>/dev/null; do sleep 0.05; done"
        start = f"freeradius -d {folder} -n radiusd -l {folder}/log"
        host.reloads_by(f"{stop}\n{start}")
        run("sh", "-c", start)
        try:
            yield host
        finally:
            run("sh", "-c", stop)


def is_accepted(served: ServiceHost, identity: Path) -> bool:
    """Whether eapol_test, as an access point with a device behind it, gets access; the server's certificate is stored."""
    config = served.folder / "eapol.conf"
    config.write_text(NETWORK.replace("ROOTS", str(served.roots)).replace("IDENTITY", str(identity)))
    address = ("-a", "127.0.0.1", "-p", str(served.ports["radius"]), "-s", "testing123")
    printed = run("eapol_test", "-c", config, *address, "-t", "10", "-o", served.folder / "server.pem", ok=None)
    verdict = printed.splitlines()[-1]
    assert verdict in {"SUCCESS", "FAILURE"}, printed
    return verdict == "SUCCESS"


def shown_serial(served: ServiceHost) -> int:
    """The serial number of the certificate that the server showed last."""
    chain = x509.load_pem_x509_certificates((served.folder / "server.pem").read_bytes())
    return next(certificate.serial_number for certificate in chain if NAME in str(certificate.subject))


def test_freeradius_lets_in_whom_it_should_and_refuses_a_revoked_client(served: ServiceHost, invoke: Invoke) -> None:
    anna, app = served.identity("client-anna@laptop"), served.identity("client-app@server")
    assert is_accepted(served, anna)
    serial = shown_serial(served)
    assert not is_accepted(served, stranger(served.folder))
    assert not is_accepted(served, served.identity("server-mtls")), "a server's certificate passes as a client"
    said = invoke(served.home, "renew", "server-mtls")
    assert "deployed  deploy:server" in said.out, said.out + said.error
    assert is_accepted(served, anna)
    assert shown_serial(served) != serial
    old = served.folder / "anna.pem"
    old.write_bytes(anna.read_bytes())
    said = invoke(served.home, "revoke", "anna@laptop", "--reason", "key-compromise", "--yes")
    assert "a RADIUS server answers only to access points" in said.out, said.out + said.error
    assert not is_accepted(served, old)
    assert is_accepted(served, app)


def test_freeradius_refuses_every_client_with_check_all_crl(served: ServiceHost) -> None:
    anna, name = served.identity("client-anna@laptop"), "templates/recipes/freeradius/eap"
    assert is_accepted(served, anna)
    text = served.home.read(name).decode()
    served.home.write(name, text.replace("check_crl = yes", "check_crl = yes\n        check_all_crl = yes"))
    served.deliver()
    assert not is_accepted(served, anna)
