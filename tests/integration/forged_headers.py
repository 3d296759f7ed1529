"""Requests with forged headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import LiveHome, built, live_home
from tests.integration.proxies import EVERY, KINDS, Proxy, started
from tests.integration.upstreams import Behind

WHAT = ("raw", "cgi", "h2c", "ws")
PROGRAMS = ("nginx", "haproxy", "caddy", "apache", "traefik")
# RFC 9110, section 5.6.2: what a header's name may hold besides letters and digits
SEPARATORS = "!#$%&'*+-.^_`|~"
OURS = (
    "Forwarded",
    "X-Client-Subject",
    "X-Real-IP",
    *(f"X-Forwarded-{what}" for what in ("For", "Proto", "Host", "Port", "Server")),
)
THEIRS = "X-Forwarded-Tls-Client-Cert-Info"  # in which Traefik says who the client is
SUBJECT = "CN=admin,O=Example Lab"


def plain(name: str) -> str:
    """A header's name as the most lenient upstream reads it."""
    return re.sub(r"[^a-z0-9]", "_", name.lower())


NAMES_OF_OURS = {plain(name) for name in OURS}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    found = Behind(tmp_path_factory.mktemp("behind"))
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture(scope="module")
def fronted(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """A host for each proxy, with an open service and one behind mTLS before each upstream."""
    home = live_home(tmp_path_factory.mktemp("fronted") / "home")
    said = yaml.safe_load(home.read("pki.yaml"))
    said["hosts"] = {
        f"{program}-host": {
            "network": "mgmt",
            "proxy": program,
            "services": {
                **{
                    f"{what}-{access}-{program}": {
                        "upstream": f"http://127.0.0.1:{behind.ports[what]}",
                        "access": access,
                    }
                    for what in WHAT
                    for access in ("mtls", "tls")
                },
                **{
                    f"named-{access}-{program}": {
                        "upstream": f"http://127.0.0.1:{behind.ports['raw']}",
                        "access": access,
                        "upgrade": ["SPDY/3.1", "tcp"],
                    }
                    for access in ("mtls", "tls")
                },
            },
        }
        for program in PROGRAMS
    }
    said["publish"]["host"] = "nginx-host"
    home.write("pki.yaml", yaml.safe_dump(said, sort_keys=False))
    return built(home)


@pytest.fixture(scope="module", params=EVERY)
def proxy(
    request: pytest.FixtureRequest, fronted: LiveHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    kind = request.param
    with started(kind, fronted, f"{KINDS[kind].name}-host", tmp_path_factory.mktemp(kind) / "work") as running:
        yield running


def cert_of(proxy: Proxy) -> Path:
    return proxy.home.path / "ca/clients/admin/tls.pem"


def assert_ours_alone(proxy: Proxy, access: str, headers: list[tuple[str, str]]) -> None:
    """What is taken for one of our headers came from the proxy, and is there once."""
    ours = [(plain(name), text) for name, text in headers if plain(name) in NAMES_OF_OURS | {plain(THEIRS)}]
    assert "forged" not in str(ours)
    assert len({name for name, _ in ours}) == len(ours), ours
    subject = dict(ours).get("x_client_subject")
    if proxy.name == "traefik":
        assert subject is None
        assert (access == "mtls") == ("CN%3Dadmin%22" in dict(ours).get(plain(THEIRS), ""))
    else:
        assert subject == (SUBJECT if access == "mtls" else None)
        assert plain(THEIRS) not in dict(ours)
    assert dict(ours)["x_real_ip"] == dict(ours)["x_forwarded_for"] == "127.0.0.1"


def removable(proxy: Proxy, names: list[str]) -> list[str]:
    """The names of these that a proxy removes: Traefik knows but exact ones, with - and _."""
    return [name for name in names if proxy.name != "traefik" or re.fullmatch(r"[A-Za-z_-]+", name)]
