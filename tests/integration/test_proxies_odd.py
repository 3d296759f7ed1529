"""What has gone wrong or could go wrong between a client, a proxy and a name: HTTP/2, odd names, early data, Traefik."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.conftest import LiveHome, built, live_home, run
from tests.integration.forged_headers import (
    OURS,
    PROGRAMS,
    SEPARATORS,
    THEIRS,
    assert_ours_alone,
    behind,
    cert_of,
    fronted,
    plain,
    proxy,
    removable,
)
from tests.integration.proxies import EVERY, KINDS, Proxy, started, wait_until
from tests.integration.upstreams import Behind, Reply, ask, peer

__all__ = ["behind", "fronted", "proxy"]

# Words that mean something in the language of a proxy's configuration, and names that its template uses itself.
ODD = (
    *("or", "and", "if", "unless", "not", "true", "false", "null", "yes", "no", "on", "off", "default", "none", "all"),
    *("services", "publish", "pki-services", "pki-publish", "pki-open", "nobody", "http", "tls", "h2c", "upstream"),
    *("backend", "frontend", "listen", "global", "defaults", "server", "location", "import", "revoked", "probes"),
    *("localhost", "host", "acl", "virtualhost", "1", "0", "x-0", "src", "method", "path"),
)


@pytest.fixture(scope="module")
def oddly(behind: Behind, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """Services with names that mean something else; every second one is open."""
    home = live_home(tmp_path_factory.mktemp("oddly") / "home")
    said = yaml.safe_load(home.read("pki.yaml"))
    said["hosts"] = {
        f"{program}-host": {
            "network": "mgmt",
            "proxy": program,
            "services": {
                name: {
                    "upstream": f"http://127.0.0.1:{behind.ports['raw']}",
                    "access": ("mtls", "tls")[number % 2],
                    "names": [f"{name}.{program}.lab.internal"],
                }
                for number, name in enumerate(ODD)
            },
        }
        for program in PROGRAMS
    }
    said["publish"]["host"] = "haproxy-host"
    home.write("pki.yaml", yaml.safe_dump(said, sort_keys=False))
    return built(home)


@pytest.mark.parametrize("kind", EVERY)
def test_service_may_have_any_name(kind: str, oddly: LiveHome, tmp_path: Path) -> None:
    with started(kind, oddly, f"{KINDS[kind].name}-host", tmp_path / "work") as odd:
        for number, name in enumerate(ODD):
            service, is_open = f"{name}.{odd.name}", number % 2 == 1
            found = ask(odd, service, [], cert=cert_of(odd))
            assert found.reached, (name, found)
            assert f"host: {service}.lab.internal" in found.body.decode().lower()
            assert ask(odd, service, []).reached == is_open, name


# -- SNI and Host -----------------------------------------------------------------------------------------------------

HOSTS = (
    "{other},{own}",
    "{own},{other}",
    "{own}, {other}",
    "{other}, {own}",
    "{other} {own}",
    ",{own}",
    "{own},",
    ":{own}",
    "::{own}",
    "{other}:{own}",
    "{own}:443:443",
    "{own}:{other}",
    "{own}:x",
    "{own};{other}",
    "{own}/{other}",
    "{own}@{other}",
    "{other}@{own}",
    "{own}#{other}",
    "{own}%00{other}",
    "[{own}]",
    '"{own}"',
    "http://{own}",
    "",
)


@pytest.mark.parametrize("host", HOSTS)
def test_host_that_is_more_than_the_name_of_the_handshake_reaches_no_upstream(proxy: Proxy, host: str) -> None:
    """Neither one after the other: what reaches an upstream names the service of the handshake alone."""
    for own, other, cert in (("tls", "mtls", None), ("mtls", "tls", cert_of(proxy))):
        names = {key: f"raw-{access}-{proxy.name}.lab.internal" for key, access in (("own", own), ("other", other))}
        found = ask(proxy, f"raw-{own}-{proxy.name}", [], host=host.format(**names).encode() or b" ", cert=cert)
        if found.reached:
            [said] = [text for name, text in found.headers if name.lower() == "host"]
            port = ".*" if proxy.name == "traefik" else "[0-9]+"
            assert re.fullmatch(rf"{re.escape(names['own'])}(:{port})?", said), found
            assert proxy.name in {"nginx", "traefik"}, found  # nginx writes the name again


@pytest.mark.parametrize("second", ["Host: {other}", "host:{other}", "Host : {other}", "X-A: b\r\nHost: {other}"])
def test_second_host_reaches_no_upstream(proxy: Proxy, second: str) -> None:
    other = f"raw-mtls-{proxy.name}.lab.internal"
    found = ask(proxy, f"raw-tls-{proxy.name}", [second.format(other=other).encode()])
    assert not found.reached or other.encode() not in found.body, found


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------


OFFERS_HTTP2 = ("haproxy-current", "caddy", "caddy-current", "traefik")
speaks_http2 = pytest.mark.parametrize("proxy", ["haproxy", *OFFERS_HTTP2], indirect=True)


def ask_h2(proxy: Proxy, service: str, headers: list[list[str]], *, cert: Path | None, **changes: str) -> Reply:
    """The answer to a request in HTTP/2; Debian's HAProxy speaks it to whoever begins with it, and does not offer it."""
    pseudo = {":method": "GET", ":scheme": "https", ":authority": f"{service}.lab.internal", ":path": "/"} | changes
    sent = [[name, value] for name, value in pseudo.items() if value] + headers
    alpn = type(proxy) is not KINDS["haproxy"]
    found = peer("http2_peer.py", "ask", proxy, service, cert=cert, headers=sent, alpn=alpn)
    assert found["end"] != "no h2"
    return Reply(found["status"], found["body"].encode("latin-1"))


@pytest.mark.parametrize("proxy", sorted(set(EVERY) - set(OFFERS_HTTP2)), indirect=True)
def test_proxy_that_offers_no_http2_is_tested_without(proxy: Proxy) -> None:
    name = f"raw-tls-{proxy.name}.lab.internal"
    said = run(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-servername", name, "-alpn", "h2"), ok=None
    )
    assert "ALPN protocol: h2" not in said


@speaks_http2
@pytest.mark.parametrize("access", ["mtls", "tls"])
def test_http2_brings_no_header_that_looks_like_ours(proxy: Proxy, access: str) -> None:
    odd = [f"x{one}client{two}subject" for one in SEPARATORS for two in SEPARATORS]
    names = removable(proxy, [*odd, *(name.lower() for name in (*OURS, THEIRS)), "x_real_ip", "x_forwarded_for"])
    cert = cert_of(proxy) if access == "mtls" else None
    for start in range(0, len(names), 50):
        headers = [[name, "forged"] for name in names[start : start + 50]]
        found = ask_h2(proxy, f"raw-{access}-{proxy.name}", headers, cert=cert)
        assert found.reached, found
        assert_ours_alone(proxy, access, found.headers)


@speaks_http2
@pytest.mark.parametrize("protocol", ["h2c", "websocket", "connect-udp"])
def test_extended_connect_of_http2_opens_no_tunnel_but_a_websocket(proxy: Proxy, protocol: str) -> None:
    """RFC 8441: what Upgrade is in HTTP/1.1."""
    changes = {":method": "CONNECT", ":protocol": protocol}
    forged = [["x-client-subject", "CN=boss"], ["sec-websocket-version", "13"]]
    for access, cert in (("mtls", cert_of(proxy)), ("tls", None)):
        found = ask_h2(proxy, f"raw-{access}-{proxy.name}", forged, cert=cert, **changes)
        assert b"boss" not in found.body
        if found.reached:
            asked = [text.lower() for name, text in found.headers if name.lower() == "upgrade"]
            assert asked in ([], ["websocket"] if protocol == "websocket" else [])


@speaks_http2
@pytest.mark.parametrize("name", ["upgrade", "connection", "http2-settings"])
def test_http2_brings_no_upgrade(proxy: Proxy, name: str) -> None:
    headers = [["connection", "upgrade, http2-settings"]] * (name == "upgrade") + [[name, "h2c"]]
    found = ask_h2(proxy, f"raw-tls-{proxy.name}", headers, cert=None)
    assert not [text for key, text in found.headers if key.lower() in {"upgrade", "http2-settings"}]


@speaks_http2
@pytest.mark.parametrize("authority", [",{own}", "{other},{own}", "{own},{other}", "{other}", "{own}:x", ""])
def test_http2_authority_that_is_not_the_name_of_the_handshake_reaches_no_upstream(
    proxy: Proxy, authority: str
) -> None:
    own, other = f"raw-tls-{proxy.name}.lab.internal", f"raw-mtls-{proxy.name}.lab.internal"
    said = authority.format(own=own, other=other)
    for headers in ([], [["host", own]], [["host", other]]):
        found = ask_h2(proxy, f"raw-tls-{proxy.name}", headers, cert=None, **{":authority": said})
        if found.reached:
            assert other.encode() not in found.body


# -- early data and HTTP/3 --------------------------------------------------------------------------------------------


def test_requests_in_early_data_are_not_taken(proxy: Proxy, tmp_path: Path) -> None:
    """RFC 8446, section 8: whoever records them can send them again."""
    service = f"raw-tls-{proxy.name}"
    common = ("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}", "-servername", f"{service}.lab.internal")
    request = f"GET / HTTP/1.1\r\nHost: {service}.lab.internal\r\nConnection: close\r\n\r\n"
    run(*common, "-tls1_3", "-ign_eof", "-sess_out", tmp_path / "session", stdin=request)
    (tmp_path / "early").write_text(request)
    if (tmp_path / "session").exists():
        resumed = ("-sess_in", tmp_path / "session", "-early_data", tmp_path / "early")
        said = run(*common, "-tls1_3", "-ign_eof", *resumed, stdin=request, ok=None)
        assert "Early data was accepted" not in said
    else:
        assert proxy.name in {"nginx", "haproxy", "apache"}  # which keep no sessions


def test_proxy_offers_no_http3(proxy: Proxy) -> None:
    """Quic takes requests in early data: nothing listens for it, and nobody is told of it."""
    assert "alt-svc" not in proxy.curl(f"https://raw-tls-{proxy.name}.lab.internal/", "--dump-header", "-").body.lower()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", proxy.port))  # which nobody else has


# -- Traefik ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traefik(fronted: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with started("traefik", fronted, "traefik-host", tmp_path_factory.mktemp("traefik") / "work") as running:
        yield running


def test_traefik_serves_each_name_with_its_certificate_to_whom_it_should(traefik: Proxy) -> None:
    for access, leaf in (("mtls", "traefik-host-mtls"), ("tls", "traefik-host")):
        name = f"raw-{access}-traefik.lab.internal"
        said = run(
            "openssl", "s_client", "-connect", f"127.0.0.1:{traefik.port}", "-servername", name, "-showcerts", ok=None
        )
        served = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", said, flags=re.DOTALL)
        assert "".join(served) == traefik.home.read(f"build/certs/{leaf}/fullchain.pem").decode()
        assert traefik.curl(f"https://{name}/", "--cert", cert_of(traefik)).accepted
        assert traefik.curl(f"https://{name}/").accepted == (access == "tls")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_traefik_refuses_server_certificates_and_nobody(traefik: Proxy, version: str) -> None:
    limits = (f"--tlsv{version}", "--tls-max", version)
    for cert in ((), ("--cert", traefik.home.path / "build/certs/nginx-host-mtls/tls.pem")):
        answer = traefik.curl("https://raw-mtls-traefik.lab.internal/", *cert, *limits)
        assert answer.refused, answer


def test_traefik_refuses_unknown_names_and_those_of_another_access_level(traefik: Proxy) -> None:
    assert traefik.curl("https://unknown.lab.internal/", "--insecure").curl in {35, 56}
    for own, other, cert in (("tls", "mtls", None), ("mtls", "tls", cert_of(traefik))):
        found = ask(traefik, f"raw-{own}-traefik", [], host=f"raw-{other}-traefik.lab.internal".encode(), cert=cert)
        assert found.status == 421, found


def test_traefik_lets_a_revoked_client_in_as_plan_says(fronted: LiveHome, tmp_path: Path) -> None:
    home = fronted.copy(tmp_path / "home")
    old = tmp_path / "old.pem"
    old.write_bytes(home.read("ca/clients/admin/tls.pem"))
    with started("traefik", home, "traefik-host", tmp_path / "work") as running:
        home.revoke("admin", "--reason", "key-compromise", "--yes")
        running.configure()
        assert running.curl("https://raw-mtls-traefik.lab.internal/", "--cert", old).accepted
    assert "revoked clients are accepted until their certificates expire" in home.invoke("plan")


def test_traefik_serves_a_renewed_certificate_without_a_reload(fronted: LiveHome, tmp_path: Path) -> None:
    home = fronted.copy(tmp_path / "home")
    with started("traefik", home, "traefik-host", tmp_path / "work") as running:
        home.invoke("renew", "traefik-host")
        running.configure()
        new = home.read("build/certs/traefik-host/cert.pem").decode()
        command = ("openssl", "s_client", "-connect", f"127.0.0.1:{running.port}")
        wait_until(
            lambda: new in run(*command, "-servername", "raw-tls-traefik.lab.internal", ok=None),
            "the new one is served",
        )


def test_traefik_removes_every_spelling_at_an_entry_point_that_is_told_to(fronted: LiveHome, tmp_path: Path) -> None:
    """The line that docs/how-to/proxies.md shows: the template cannot have it, because older versions do not start with it."""
    home = fronted.copy(tmp_path / "home")
    [line] = re.findall(r"\n(  pki: \{address: .*aliasHeadersStrategy.*)\n", Path("docs/how-to/proxies.md").read_text())
    home.edit('  pki: {address: ":{{ host.port }}"}', line, "templates/traefik/traefik.yml")
    built(home)
    names = [f"X{one}Client{two}Subject" for one in SEPARATORS for two in SEPARATORS] + ["X.Real.Ip", "X-Forwarded~For"]
    with started("traefik", home, "traefik-host", tmp_path / "work") as running:
        for start in range(0, len(names), 50):
            lines = [f"{name}: forged".encode() for name in names[start : start + 50]]
            found = ask(running, "raw-mtls-traefik", lines, cert=cert_of(running))
            assert found.reached, found
            assert_ours_alone(running, "mtls", found.headers)


def test_plan_names_the_host_whose_proxy_cannot_remove_every_spelling(fronted: LiveHome, traefik: Proxy) -> None:
    said = fronted.invoke("plan")
    assert "host:traefik-host" in said
    assert said.count("removes forged headers by exact names only") == 1
    found = ask(traefik, "raw-mtls-traefik", [b"X.Real.Ip: forged"], cert=cert_of(traefik))
    assert "x_real_ip" in {plain(name) for name, text in found.headers if text == "forged"}
