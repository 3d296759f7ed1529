"""What sslyze and testssl.sh say of each proxy: Mozilla's intermediate configuration, the library's groups, and nothing above low."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest
from OpenSSL import SSL

from tests.integration.conftest import LiveHome, built, live_home, run
from tests.integration.proxies import EVERY, PATIENCE, Proxy, Upstreams, started
from tests.integration.proxy_stage import HOSTS, MTLS, TLS, serve_two_on_each_host
from tests.support.environments import environment

ACCESS = {"tls": TLS, "mtls": MTLS}
# What TLS libraries offer beyond the groups in sslyze's profile: OpenSSL 3 the first two, newer libraries the last.
ADDED_GROUPS = {"X448", "secp521r1", "X25519MLKEM768"}
ABOVE_LOW = {"MEDIUM", "HIGH", "CRITICAL", "FATAL"}
LET_PASS = {
    "cipher_order": "Mozilla's intermediate configuration leaves the order to the client: every suite of it is strong",
}


@pytest.fixture(scope="session")
def sslyze() -> Path:
    """Sslyze in an environment of its own: it wants an older cryptography than we do."""
    return environment("sslyze") / "bin/sslyze"


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """The example with an open service and one behind mTLS on each host.

    Clients have RSA keys: sslyze looks for SSL 2.0 too, and the OpenSSL with which it does so takes no others.
    """
    home = live_home(tmp_path_factory.mktemp("judged") / "home")
    serve_two_on_each_host(home, Upstreams())
    home.edit("client: {lifetime: 180d, renew_before: 30d, key: ec-p256}", "client: {key: rsa-2048}")
    return built(home)


def judge(sslyze: Path, proxy: Proxy, access: str) -> dict[str, str]:
    """What is not as Mozilla's profile wants it, by criterion."""
    home = proxy.home.path
    client = ("--cert", home / "ca/clients/admin/cert.pem", "--key", home / "ca/clients/admin/key.pem")
    said = run(
        *(sslyze, "--mozilla_config=intermediate", "--certinfo_ca_file", home / "build/trust/roots.pem"),
        *("--sni", f"{ACCESS[access][proxy.name]}.lab.internal", *(client if access == "mtls" else ())),
        f"127.0.0.1:{proxy.port}",
        ok=None,
    )
    return beyond_mozilla(said)


def beyond_mozilla(said: str) -> dict[str, str]:
    """The issues that sslyze's words name, by criterion, without groups that libraries add."""
    issues = dict(re.findall(r"^ {8}\* (\w+): (.*)$", said, flags=re.MULTILINE))
    assert issues or "OK - Compliant." in said, said
    if set(re.findall(r"'([^']+)'", issues.get("tls_curves", ""))) <= ADDED_GROUPS:
        issues.pop("tls_curves", None)
    return issues


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("kind", EVERY)
def test_mozilla_s_intermediate_configuration_is_kept(
    kind: str, access: str, sslyze: Path, mixed: LiveHome, tmp_path: Path
) -> None:
    with started(kind, mixed, HOSTS[kind], tmp_path / "work") as proxy:
        assert judge(sslyze, proxy, access) == {}


def test_judge_sees_a_cipher_that_mozilla_does_not_take(sslyze: Path, mixed: LiveHome, tmp_path: Path) -> None:
    home = mixed.copy(tmp_path / "home")
    home.edit("ssl_ciphers ", "ssl_ciphers ECDHE-ECDSA-AES128-SHA:", "templates/nginx/pki-services.conf")
    built(home)
    with started("nginx", home, HOSTS["nginx"], tmp_path / "work") as proxy:
        assert "ciphers" in judge(sslyze, proxy, "tls")


@pytest.mark.parametrize(
    ("curves", "is_fault"),
    [
        ("'X448', 'secp521r1'", False),
        ("'X25519MLKEM768'", False),
        ("'X448', 'secp256k1'", True),
        ("'SecP256r1MLKEM768'", True),
    ],
)
def test_no_group_is_let_pass_but_those_that_libraries_add(curves: str, is_fault: bool) -> None:
    said = f"    127.0.0.1:1: FAILED - Not compliant.\n        * tls_curves: TLS curves {{{curves}}} are supported, but should be rejected.\n"
    assert ("tls_curves" in beyond_mozilla(said)) == is_fault
    assert "ciphers" in beyond_mozilla(f"{said}        * ciphers: Cipher suites {{'X448'}} are supported.\n")


@pytest.mark.parametrize("kind", EVERY)
def test_newest_group_that_the_library_of_a_proxy_has_is_negotiated(kind: str, mixed: LiveHome, tmp_path: Path) -> None:
    """By OpenSSL 4, which offers X25519MLKEM768 first and X25519 besides."""
    with (
        started(kind, mixed, HOSTS[kind], tmp_path / "work") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as plain,
    ):
        plain.settimeout(None)  # pyOpenSSL wants a socket that blocks
        client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
        client.set_tlsext_host_name(f"{TLS[kind]}.lab.internal".encode())
        client.set_connect_state()
        client.do_handshake()
        newest = kind in {"caddy-current", "traefik"}
        assert client.get_group_name() in ({"X25519MLKEM768"} if newest else {"X25519", "x25519"})


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("kind", EVERY)
def test_testssl_finds_nothing_above_low(kind: str, access: str, mixed: LiveHome, tmp_path: Path) -> None:
    """Protocols, order, certificates and known attacks; suites, curves, Heartbleed and its like are sslyze's."""
    assert shutil.which("testssl"), "testssl is not installed"
    with started(kind, mixed, HOSTS[kind], tmp_path / "work") as proxy:
        run(
            *("testssl", "--quiet", "--warnings", "off", "-p", "-P", "-S", "-U", "--ids-friendly"),
            *("--jsonfile", tmp_path / "found.json", "--add-ca", mixed.path / "build/trust/roots.pem"),
            *("--ip", "127.0.0.1", f"https://{ACCESS[access][kind]}.lab.internal:{proxy.port}"),
            ok=None,
            timeout=900,
        )
    found = {one["id"]: one for one in json.loads((tmp_path / "found.json").read_text())}
    assert {name: found[name]["severity"] for name in ("TLS1_2", "TLS1_3", "cert_chain_of_trust")} == {
        "TLS1_2": "OK",
        "TLS1_3": "OK",
        "cert_chain_of_trust": "OK",
    }
    assert [one for one in found.values() if one["severity"] in ABOVE_LOW and one["id"] not in LET_PASS] == []
