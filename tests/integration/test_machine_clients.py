"""Machines as clients: a real server lets them in by the SPIFFE ID or the DNS name in their certificates, and nobody else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import LiveHome, built, run
from tests.integration.services import free_port, wait_for

SPIFFE, DNS = "spiffe://lab.internal/backup", "db.lab.internal"
PROJECT = f"""organisation: Example Lab
domains: lab.internal
publish: {{url: "http://pki.lab.internal", host: web}}
networks: {{loop: 127.0.0.0/8}}
sandbox: true
hosts: {{web: {{network: loop, address: 127.0.0.1, services: {{api: {{port: 9443, access: mtls}}}}}}}}
clients:
  backup: {{uri: '{SPIFFE}'}}
  db: {{dns: {DNS}}}
  spare: {{uri: '{SPIFFE}-2', dns: db2.lab.internal}}
  anna@laptop: {{email: anna@lab.internal}}
templates: {{without: all}}
"""
CADDYFILE = """{{
    admin off
    auto_https off
    skip_install_trust
    storage file_system {work}
}}
https://api.lab.internal:{port} {{
    bind 127.0.0.1
    tls {home}/build/certs/web-mtls/fullchain.pem {home}/build/certs/web-mtls/key.pem {{
        client_auth {{
            mode require_and_verify
            trusted_ca_cert_file {home}/build/trust/client-ca.pem
        }}
    }}
    map {{http.request.tls.client.san.uris.0}} {{by_uri}} {{
        "{spiffe}" "the backup"
        default "nobody"
    }}
    map {{http.request.tls.client.san.dns_names.0}} {{by_dns}} {{
        "{dns}" "the database"
        default "nobody"
    }}
    respond "{{by_uri}}, {{by_dns}}"
}}
"""


@dataclass(frozen=True)
class Api:
    """A Caddy that knows two machines by their names."""

    home: LiveHome
    port: int

    def answer(self, client: str) -> str:
        bundle = self.home.path / "ca/clients" / client / "tls.pem"
        roots = self.home.path / "build/trust/roots.pem"
        place = f"api.lab.internal:{self.port}"
        return run(
            "curl", "-sS", "--resolve", f"{place}:127.0.0.1", "--cert", bundle, "--cacert", roots, f"https://{place}/"
        )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    home = LiveHome(tmp_path_factory.mktemp("machines") / "home")
    home.write("pki.yaml", PROJECT)
    return built(home)


@pytest.fixture
def api(project: LiveHome, tmp_path: Path) -> Iterator[Api]:
    port = free_port()
    file = tmp_path / "Caddyfile"
    file.write_text(CADDYFILE.format(work=tmp_path, port=port, home=project.path, spiffe=SPIFFE, dns=DNS))
    with (tmp_path / "log").open("wb") as log:
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(file)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
    try:
        wait_for(port, process)
        yield Api(project, port)
    finally:
        process.terminate()
        process.wait(30)


def test_a_server_recognises_machines_by_their_alternative_names(api: Api) -> None:
    assert api.answer("backup") == "the backup, nobody"
    assert api.answer("db") == "nobody, the database"
    assert api.answer("spare") == "nobody, nobody"
    assert api.answer("anna@laptop") == "nobody, nobody"


@pytest.mark.parametrize("client", ["backup", "db", "spare"])
def test_openssl_verifies_a_machine_as_a_client_and_as_no_server(project: LiveHome, client: str) -> None:
    folder = project.path / "ca/clients" / client
    crls = project.path / "build/crl/bundle-client.pem"
    command = (
        "openssl",
        "verify",
        "-x509_strict",
        "-crl_check_all",
        "-CRLfile",
        crls,
        "-CAfile",
        project.path / "build/trust/roots.pem",
    )
    chain = ("-untrusted", folder / "chain.pem", folder / "cert.pem")
    assert ": OK" in run(*command, "-purpose", "sslclient", *chain)
    assert "unsuitable certificate purpose" in run(*command, "-purpose", "sslserver", *chain, ok=False)
