"""What sslyze and testssl.sh say of each proxy: Mozilla's intermediate configuration, and nothing above low."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import LiveHome, built, live_home, run
from tests.integration.environments import environment
from tests.integration.proxies import NAMES, Proxy, Upstreams, started
from tests.integration.test_proxies import HOSTS, MTLS, TLS, serve_two_on_each_host

ACCESS = {"tls": TLS, "mtls": MTLS}
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


def judge(sslyze: Path, proxy: Proxy, access: str, *, ok: bool = True) -> str:
    home = proxy.home.path
    client = ("--cert", home / "ca/clients/admin/cert.pem", "--key", home / "ca/clients/admin/key.pem")
    return run(
        *(sslyze, "--mozilla_config=intermediate", "--certinfo_ca_file", home / "build/trust/roots.pem"),
        *("--sni", f"{ACCESS[access][proxy.name]}.lab.internal", *(client if access == "mtls" else ())),
        f"127.0.0.1:{proxy.port}",
        ok=ok,
    )


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("kind", NAMES)
def test_mozilla_s_intermediate_configuration_is_kept(
    kind: str, access: str, sslyze: Path, mixed: LiveHome, tmp_path: Path
) -> None:
    with started(kind, mixed, HOSTS[kind], tmp_path / "work") as proxy:
        assert "OK - Compliant." in judge(sslyze, proxy, access)


def test_judge_sees_a_cipher_that_mozilla_does_not_take(sslyze: Path, mixed: LiveHome, tmp_path: Path) -> None:
    home = mixed.copy(tmp_path / "home")
    home.edit("ssl_ciphers ", "ssl_ciphers ECDHE-ECDSA-AES128-SHA:", "templates/nginx/pki-services.conf")
    built(home)
    with started("nginx", home, HOSTS["nginx"], tmp_path / "work") as proxy:
        assert "FAILED - Not compliant." in judge(sslyze, proxy, "tls", ok=False)


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("kind", NAMES)
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
