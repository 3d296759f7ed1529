"""Each proxy as itself, with one mTLS and one TLS-only service on the same host: what a client gets, and what it never gets."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from pki.authority import certificates, recover_revocations
from pki.ceremony.vault import Vault
from pki.common.reasons import Why
from pki.config.leaf_certificates import PROBE, canary_leaf, probe_leaf
from pki.config.model import Leaf
from pki.config.proxies import PROGRAMS
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.revocation import CrlEntry
from tests.integration.conftest import LiveHome, built, live_home, run
from tests.integration.proxies import KINDS, NAMES, PATIENCE, Proxy, Upstreams, started, wait_until
from tests.integration.proxy_stage import CONTENT_TYPES, HOSTS, MTLS, TLS, Stage, address, mixed, upstreams
from tests.support.pages import Page

__all__ = ["mixed", "upstreams"]

SOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
TLS_VERSIONS = ("-tls1_2", "-tls1_3")
SUBJECT = "CN=admin,O=Example Lab"


@pytest.fixture(scope="session")
def odd(mixed: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> LiveHome:
    """The same project under a name that languages of configuration could trip over, its services with wildcards."""
    home = live_home(tmp_path_factory.mktemp("odd") / "home")
    home.write("pki.yaml", mixed.read("pki.yaml").decode())
    home.edit("Example Lab", '"Müller\'s Söhne 電子 & Co. (Lab), +1/2"')
    for service in set(MTLS.values()):
        names = f'"{service}.lab.internal", "*.{service}.lab.internal"'
        home.write(
            "pki.yaml", re.sub(rf"({service}: +{{)", rf"\g<1>names: [{names}], ", home.read("pki.yaml").decode())
        )
    return built(home)


@pytest.fixture(scope="session", params=NAMES)
def running(
    request: pytest.FixtureRequest, mixed: LiveHome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    kind = request.param
    with started(kind, mixed, HOSTS[kind], tmp_path_factory.mktemp(kind) / "work") as proxy:
        yield proxy


@pytest.fixture
def stage(running: Proxy, upstreams: Upstreams) -> Stage:
    upstreams.seen.clear()
    return Stage(running, upstreams)


@pytest.fixture(scope="session")
def strangers(mixed: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates that are no client's of this project: files with key and chain, by what they are."""
    folder = tmp_path_factory.mktemp("strangers")
    root = mixed.project().authorities.issuing("root")
    assert root is not None
    secret = mixed.project().passphrases.new("root-1")
    true_root = certificate_signing.Issuer(
        root.certificate, Vault(mixed.path / "offline").open_key("root-1", secret, "secrets.yaml")
    )
    client_ca = mixed.project().authorities.issuing("client")
    assert client_ca is not None
    made = {
        "another client authority of the same root": _authority(true_root, "Example Lab Other CA"),
        "an unknown root": _authority(None, "Evil Root"),
        "an authority that bears the name of ours": _authority(None, client_ca.common_name),
    }
    files = {"a server certificate": mixed.path / "build/certs/forge-mtls/tls.pem"}
    for name, ca in made.items():
        key = keys.new_key("ec-p256")
        leaf = _signed(ca, "admin", key, profiles.leaf_extensions(ADMIN, key.public_key()))
        files[name] = folder / f"{len(files)}.pem"
        files[name].write_bytes(keys.private_pem(key) + pem_encoding.pem_of([leaf, ca.certificate]))
    key = keys.new_key("ec-p256")
    itself = _signed(key, "admin", key, profiles.leaf_extensions(ADMIN, key.public_key()))
    files["a certificate signed by itself"] = folder / "self.pem"
    files["a certificate signed by itself"].write_bytes(keys.private_pem(key) + pem_encoding.pem_of([itself]))
    return files


ADMIN = Leaf(
    name="client-admin",
    profile="client",
    common_name="admin",
    dns=(),
    addresses=(),
    emails=("admin@lab.internal",),
    key="ec-p256",
    rekey=True,
    lifetime=timedelta(days=30),
    renew_before=timedelta(days=1),
    request=None,
    declared="clients.admin",
)


def _authority(parent: Issuer | None, name: str) -> Issuer:
    key = keys.new_key("ec-p384")
    kind = profiles.intermediate_extensions("client", ["lab.internal"], []) if parent else profiles.root_extensions()
    return Issuer(_signed(parent or key, name, key, kind), key)


def _signed(
    issuer: Issuer | keys.PrivateKey, name: str, key: keys.PrivateKey, kind: profiles.Extensions
) -> x509.Certificate:
    dates = certificate_signing.validity_dates(datetime.now(UTC).replace(microsecond=0), timedelta(days=30), None)
    return certificate_signing.sign_certificate(
        certificate_signing.subject_name("Example Lab", name), key.public_key(), dates, kind, issuer
    )


# -- what the programs say to what they get ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nginx", "haproxy", "caddy"])
def test_committed_example_is_accepted(kind: str, shown: LiveHome, tmp_path: Path) -> None:
    proxy = KINDS[kind](shown, HOSTS[kind], tmp_path)
    proxy.configure()
    proxy.check()


def test_issuer_pins_are_there_after_the_first_run_whatever_the_headers_use(
    new_project: LiveHome, tmp_path: Path
) -> None:
    """A header with variables is rendered while doit plans, when a new project has no authority yet."""
    home = new_project.copy(tmp_path / "home")
    home.edit("tls:{{ host.name }}-mtls", "tls:{{ leaf.mtls }}", "templates/tls/tls-mtls.pem")
    built(home)
    delivered = home.read("build/hosts/monitoring/etc/nginx/conf.d/pki-services.conf").decode()
    assert "SANDBOX Client CA 1" in delivered


@pytest.mark.parametrize("kind", NAMES)
def test_host_that_only_publishes_needs_no_service(kind: str, home: LiveHome, tmp_path: Path) -> None:
    home.edit("hosts:\n", f"hosts:\n  shelf: {{network: mgmt, proxy: {KINDS[kind].name}}}\n")
    home.edit("host: monitoring}", "host: shelf}")
    built(home)
    with started(kind, home, "shelf", tmp_path / "work") as proxy:
        assert proxy.curl("http://pki.lab.internal/crl/root-1.crl", "--output", tmp_path / "crl").status == 200


# -- who is served ----------------------------------------------------------------------------------------------------


def test_validation_accepts_the_delivered_configuration(stage: Stage) -> None:
    said = stage.proxy.check().lower()
    assert "not formatted" not in said
    assert "warning" not in said


@pytest.mark.parametrize("access", ["mtls", "tls"])
def test_each_name_gets_the_certificate_of_its_access_level(stage: Stage, access: str) -> None:
    service = getattr(stage, access)
    leaf = HOSTS[stage.proxy.name] + ("-mtls" if access == "mtls" else "")
    said = stage.session("-tls1_3", service, "-showcerts")
    served = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", said, flags=re.DOTALL)
    assert "".join(served) == stage.proxy.home.read(f"build/certs/{leaf}/fullchain.pem").decode()


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_client_certificate_opens_a_service_behind_mtls(stage: Stage, version: str) -> None:
    answer = stage.proxy.curl(address(stage.mtls), *stage.client, f"--tlsv{version}", "--tls-max", version)
    assert answer.accepted, answer
    assert answer.service == stage.mtls


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_open_service_answers_without_a_client_certificate(stage: Stage, version: str) -> None:
    answer = stage.proxy.curl(address(stage.tls), f"--tlsv{version}", "--tls-max", version)
    assert answer.accepted, answer
    assert answer.service == stage.tls


def test_names_are_the_same_in_upper_case(stage: Stage) -> None:
    said = stage.session("-tls1_3", stage.tls.upper())
    assert "HTTP/1.1 200" in said
    assert stage.upstreams.seen == [stage.tls]


def test_port_in_the_name_of_a_request_reaches_the_upstream(stage: Stage) -> None:
    answer = stage.proxy.curl(f"https://{stage.mtls}.lab.internal:8443/", *stage.client)
    assert answer.accepted, answer
    assert answer.header("Host") == [f"{stage.mtls}.lab.internal:8443"]


def test_path_reaches_the_upstream_as_the_client_wrote_it(stage: Stage) -> None:
    answer = stage.proxy.curl(f"{address(stage.tls)}a%2Fb/c%20d?e=%2F")
    assert json.loads(answer.body)["path"] == "/a%2Fb/c%20d?e=%2F"


def test_protocol_is_switched_when_the_upstream_agrees(stage: Stage) -> None:
    with stage.stream(stage.mtls, *SOCKET) as wire:
        assert wire.recv(12) == b"HTTP/1.1 101"
        stage.read_some(wire)


@pytest.mark.parametrize("kind", NAMES)
def test_proxy_listens_where_pki_yaml_says(kind: str, mixed: LiveHome, tmp_path: Path) -> None:
    home = mixed.copy(tmp_path / "home")
    home.edit(f"  {HOSTS[kind]}:\n", f"  {HOSTS[kind]}:\n    port: 8443\n")
    built(home)
    with started(kind, home, HOSTS[kind], tmp_path / "work") as proxy:
        assert proxy.declared_port == 8443
        assert proxy.curl(f"https://{TLS[kind]}.lab.internal:8443/").accepted


def test_tls_1_1_is_refused(stage: Stage) -> None:
    stage.session("-tls1_1", stage.tls, "-cipher", "DEFAULT:@SECLEVEL=0")
    assert stage.upstreams.seen == []


# -- who is kept out --------------------------------------------------------------------------------------------------


def test_without_a_certificate_a_service_behind_mtls_is_closed(stage: Stage) -> None:
    stage.assert_kept_out(stage.proxy.curl(address(stage.mtls)))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    "who",
    [
        "a server certificate",
        "another client authority of the same root",
        "an unknown root",
        "an authority that bears the name of ours",
        "a certificate signed by itself",
    ],
)
def test_certificates_of_strangers_are_refused(
    stage: Stage, strangers: dict[str, Path], who: str, version: str
) -> None:
    limits = (f"--tlsv{version}", "--tls-max", version)
    stage.assert_kept_out(stage.proxy.curl(address(stage.mtls), "--cert", strangers[who], *limits))


def test_unknown_names_are_refused_in_the_handshake(stage: Stage) -> None:
    answer = stage.proxy.curl("https://unknown.lab.internal/", "--insecure", *stage.client)
    assert answer.curl in {35, 56}, answer
    assert stage.upstreams.seen == []


def test_handshake_without_a_name_is_refused(stage: Stage) -> None:
    said = stage.session("-tls1_3", "")
    assert "no peer certificate available" in said
    assert stage.upstreams.seen == []


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_open_name_in_the_handshake_does_not_open_a_service_behind_mtls(stage: Stage, protocol: str) -> None:
    answer = stage.proxy.curl(address(stage.tls), protocol, "--header", f"Host: {stage.mtls}.lab.internal")
    stage.assert_kept_out(answer)
    assert answer.status == 421


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_handshake_and_request_must_name_the_same_service_even_for_a_client(stage: Stage, protocol: str) -> None:
    header = f"Host: {stage.tls}.lab.internal"
    answer = stage.proxy.curl(address(stage.mtls), protocol, *stage.client, "--header", header)
    assert answer.refused, answer
    assert stage.upstreams.seen == []


@pytest.mark.parametrize(
    "host",
    [
        "{}.lab.internal:443",
        "{}.lab.internal.",
        "{}.LAB.internal",
        "x@{}.lab.internal",
        "{}.lab.internal:443:443",
        "x.{}.lab.internal",
    ],
)
def test_spellings_of_another_name_do_not_open_it(stage: Stage, host: str) -> None:
    options = ("--http1.1", "--header", f"Host: {host.format(stage.mtls)}")
    stage.assert_kept_out(stage.proxy.curl(address(stage.tls), *options))


def test_absolute_request_targets_do_not_open_another_service(stage: Stage) -> None:
    target = ("--http1.1", "--request-target", address(stage.mtls))
    stage.proxy.curl(address(stage.tls), *target)
    stage.proxy.curl(address(stage.tls), *target, "--header", f"Host: {stage.mtls}.lab.internal")
    assert stage.mtls not in stage.upstreams.seen


def test_second_request_of_a_connection_is_judged_as_the_first(stage: Stage) -> None:
    context = ssl.create_default_context(cafile=stage.proxy.home.path / "build/trust/roots.pem")
    with (
        socket.create_connection(("127.0.0.1", stage.proxy.port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=f"{stage.tls}.lab.internal") as wire,
    ):
        for service, expected in ((stage.tls, 200), (stage.mtls, 421)):
            wire.sendall(f"GET / HTTP/1.1\r\nHost: {service}.lab.internal\r\n\r\n".encode())
            answer = HTTPResponse(wire)
            answer.begin()
            assert answer.status == expected
            answer.read()
    assert stage.upstreams.seen == [stage.tls]


@pytest.mark.parametrize("version", TLS_VERSIONS)
def test_session_of_an_open_service_does_not_resume_into_mtls(stage: Stage, version: str, tmp_path: Path) -> None:
    assert "HTTP/1.1 200" in stage.session(version, stage.tls, "-sess_out", tmp_path / "session")
    stage.upstreams.seen.clear()
    kept = ("-sess_in", tmp_path / "session") if (tmp_path / "session").exists() else ()
    assert "HTTP/1.1 200" not in stage.session(version, stage.mtls, *kept)
    assert stage.upstreams.seen == []


# -- who the upstream takes a client for ------------------------------------------------------------------------------


FORGED = (
    ("X-Client-Subject: CN=root",),
    ("x-client-subject: CN=root", "X-CLIENT-SUBJECT: CN=boss"),
    ("X_Client_Subject: CN=root", "X-Client_Subject: CN=boss", "X_Client-Subject: CN=chief"),
    ("Connection: X-Client-Subject", "X-Client-Subject: CN=root"),
)


def _forged(headers: tuple[str, ...]) -> list[str]:
    return [part for header in headers for part in ("--header", header)]


@pytest.mark.parametrize("headers", FORGED)
def test_upstream_gets_the_subject_from_the_proxy_alone(stage: Stage, headers: tuple[str, ...]) -> None:
    answer = stage.proxy.curl(address(stage.mtls), "--http1.1", *stage.client, *_forged(headers))
    assert answer.accepted, answer
    assert answer.header("X-Client-Subject") == [SUBJECT]


@pytest.mark.parametrize("headers", FORGED)
def test_upstream_of_an_open_service_gets_no_subject(stage: Stage, headers: tuple[str, ...]) -> None:
    answer = stage.proxy.curl(address(stage.tls), "--http1.1", *_forged(headers))
    assert answer.accepted, answer
    assert answer.header("X-Client-Subject") == []


def test_upstream_gets_the_address_of_the_client_from_the_proxy_alone(stage: Stage) -> None:
    said = {"For": "10.9.9.9", "Proto": "http", "Host": "evil", "Port": "1", "Server": "evil"}
    spelt = [f"X{a}Forwarded{b}{name}: {value}" for a in "-_" for b in "-_" for name, value in said.items()]
    spelt += [f"X{a}Real{b}IP: 10.9.9.9" for a in "-_" for b in "-_"]
    forged = _forged((*spelt, "Forwarded: for=10.9.9.9;host=evil;proto=http"))
    answer = stage.proxy.curl(address(stage.tls), "--http1.1", *forged)
    assert answer.accepted, answer
    assert "10.9.9.9" not in answer.body
    assert "evil" not in answer.body
    assert answer.header("X-Forwarded-Port") == []
    assert answer.header("X-Forwarded-For") == ["127.0.0.1"]
    assert answer.header("X-Real-IP") == ["127.0.0.1"]
    assert answer.header("X-Forwarded-Proto") == ["https"]


@pytest.mark.parametrize("kind", NAMES)
def test_odd_names_and_wildcards_are_served_and_kept_apart(
    kind: str, odd: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    with started(kind, odd, HOSTS[kind], tmp_path / "work") as proxy:
        for name in (MTLS[kind], f"any.{MTLS[kind]}"):
            answer = proxy.curl(address(name), "--cert", odd.path / "ca/clients/admin/tls.pem")
            assert answer.accepted, answer
            assert answer.service == MTLS[kind]
            assert answer.header("X-Client-Subject")[0].startswith("CN=admin,O=")
            upstreams.seen.clear()
            assert proxy.curl(address(name)).refused
            assert proxy.curl(address(TLS[kind]), "--header", f"Host: {name}.lab.internal").status == 421
            assert upstreams.seen == []


@pytest.mark.parametrize("wild", ["tls", "mtls"])
@pytest.mark.parametrize("kind", NAMES)
def test_service_of_its_own_name_goes_before_a_wildcard_that_stands_before_it(
    kind: str, wild: str, mixed: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    first, second = (TLS[kind], MTLS[kind]) if wild == "tls" else (MTLS[kind], TLS[kind])
    home, said = live_home(tmp_path / "home"), yaml.safe_load(mixed.read("pki.yaml"))
    services = said["hosts"][HOSTS[kind]]["services"]
    said["hosts"][HOSTS[kind]]["services"] = {
        first: {**services[first], "names": ["*.lab.internal"]},
        second: services[second],
    }
    home.write("pki.yaml", yaml.safe_dump(said, sort_keys=False))
    with started(kind, built(home), HOSTS[kind], tmp_path / "work") as proxy:
        for name, service in (("any", first), (second, second)):
            answer = proxy.curl(address(name), "--cert", home.path / "ca/clients/admin/tls.pem")
            assert answer.accepted, answer
            assert answer.service == service
            upstreams.seen.clear()
            stranger = proxy.curl(address(name))
            assert (stranger.accepted, stranger.refused) == (service == TLS[kind], service == MTLS[kind]), stranger
            assert upstreams.seen == [TLS[kind]] * stranger.accepted


# -- who only tests whether certificates open a service ----------------------------------------------------------------


@dataclass(frozen=True)
class Probers:
    """Files with the keys and certificates of probe and canary, and of one who only bears the probe's name."""

    probe: Path
    canary: Path
    pretender: Path


@pytest.fixture(scope="session")
def probers(mixed: LiveHome, tmp_path_factory: pytest.TempPathFactory) -> Probers:
    """As a project with remote hosts has them; neither is revoked here."""
    folder, project = tmp_path_factory.mktemp("probers"), mixed.project()
    files = []
    for leaf in (probe_leaf(project.inventory), canary_leaf(project.inventory)):
        certificates.LeafCertificates(project).issue(replace(leaf, is_canary=False), [Why.REQUESTED()])
        files.append(folder / f"{leaf.name}.pem")
        files[-1].write_bytes(project.store.bundle(leaf).read_bytes())
    key, other = keys.new_key("ec-p256"), _authority(None, "Evil Root")
    leaf = _signed(other, PROBE, key, profiles.leaf_extensions(probe_leaf(project.inventory), key.public_key()))
    (folder / "pretender.pem").write_bytes(keys.private_pem(key) + pem_encoding.pem_of([leaf, other.certificate]))
    return Probers(*files, folder / "pretender.pem")


HTTP2_STREAM_ENDED = 92  # curl's exit status


@pytest.mark.parametrize("who", ["probe", "canary"])
def test_test_identities_are_answered_by_the_proxy_itself(stage: Stage, probers: Probers, who: str) -> None:
    cert = ("--cert", getattr(probers, who))
    for options in ((), ("--request", "POST", "--data", "x"), ("--http1.1", *_forged(("X-Client-Subject: CN=boss",)))):
        for _ in range(
            3
        ):  # an answer before the body has arrived ends the stream (RFC 9113 §8.1), which curl may report
            answer = stage.proxy.curl(f"{address(stage.mtls)}some/path?x=1", *cert, *options)
            if answer.curl != HTTP2_STREAM_ENDED:
                break
        assert (answer.curl, answer.status, answer.body) == (0, 204, ""), answer
    other = stage.proxy.curl(address(stage.mtls), *cert, "--header", f"Host: {stage.tls}.lab.internal")
    assert other.status == 421
    assert stage.upstreams.seen == []
    assert stage.proxy.curl(address(stage.tls), *cert).accepted


def test_name_of_the_probe_alone_is_worth_nothing(stage: Stage, probers: Probers) -> None:
    stage.assert_kept_out(stage.proxy.curl(address(stage.mtls), "--cert", probers.pretender))
    headers = _forged((f"X-Client-Subject: CN={PROBE},O=Example Lab", f"SSL_CLIENT_S_DN_CN: {PROBE}"))
    answer = stage.proxy.curl(address(stage.mtls), *stage.client, *headers)
    assert answer.accepted, answer
    assert answer.header("X-Client-Subject") == [SUBJECT]


# -- upstreams behind TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["nginx", "haproxy", "apache"])
def test_upstream_behind_tls_must_prove_who_it_is(
    kind: str, mixed: LiveHome, strangers: dict[str, Path], tmp_path: Path
) -> None:
    home, behind, service = mixed.copy(tmp_path / "home"), Upstreams(), TLS[kind]
    files = {
        "its own": home.path / f"build/certs/{HOSTS[kind]}/tls.pem",
        "of another name": home.path / "build/certs/media/tls.pem",
        "of a stranger": strangers["a certificate signed by itself"],
    }
    accepted = set()
    for number, (whose, certificate) in enumerate(files.items()):
        port = behind.start(whose, certificate)
        text = home.read("pki.yaml").decode()
        home.write("pki.yaml", re.sub(rf'({service}: +{{upstream: ")[^"]+', rf"\g<1>https://127.0.0.1:{port}", text))
        built(home)
        with started(kind, home, HOSTS[kind], tmp_path / f"work{number}") as proxy:
            answer = proxy.curl(address(service))
        if answer.accepted:
            assert answer.service == whose
            accepted.add(whose)
        else:
            assert answer.status in {500, 502, 503}
    behind.stop()
    assert behind.seen == [one for one in files if one in accepted]
    assert accepted == ({"its own", "of another name"} if kind == "haproxy" else {"its own"})


# -- after a revocation, and after a renewal --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NAMES)
def test_revoked_client_is_refused_after_doit_and_reload(
    kind: str, mixed: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    home = mixed.copy(tmp_path / "home")
    old = tmp_path / "old.pem"
    old.write_bytes(home.read("ca/clients/admin/tls.pem"))
    with started(kind, home, HOSTS[kind], tmp_path / "work") as proxy:
        stage = Stage(proxy, upstreams)
        for version in TLS_VERSIONS:
            said = stage.session(version, stage.mtls, "-cert", old, "-key", old, "-sess_out", tmp_path / version)
            assert "HTTP/1.1 200" in said

        home.revoke("admin", "--reason", "key-compromise", "--yes")
        proxy.configure()
        proxy.reload()

        upstreams.seen.clear()
        stage.assert_kept_out(proxy.curl(address(stage.mtls), "--cert", old))
        for version in TLS_VERSIONS:
            kept = ("-sess_in", tmp_path / version) if (tmp_path / version).exists() else ()
            said = stage.session(version, stage.mtls, "-cert", old, "-key", old, *kept)
            assert "HTTP/1.1 200" not in said
        assert stage.mtls not in upstreams.seen
        assert proxy.curl(address(stage.mtls), *stage.client).accepted


@pytest.mark.parametrize(
    ("kind", "headers"), [("nginx", ()), ("nginx", SOCKET), ("haproxy", ()), ("haproxy", SOCKET), ("caddy", SOCKET)]
)
def test_reload_ends_connections_that_are_open(
    kind: str, headers: tuple[str, ...], mixed: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    with started(kind, mixed, HOSTS[kind], tmp_path / "work", drain="1s") as proxy:
        stage = Stage(proxy, upstreams)
        with stage.stream(stage.mtls, *headers) as wire:
            stage.read_some(wire)
            proxy.reload()
            wait_until(lambda: is_ended(wire), f"{kind} ends the connection")
        assert proxy.curl(address(stage.mtls), *stage.client).accepted


def is_ended(wire: ssl.SSLSocket) -> bool:
    try:
        return not wire.recv(1 << 20)
    except (ssl.SSLEOFError, ConnectionResetError):
        return True


@pytest.mark.parametrize(("kind", "headers"), [("caddy", ()), ("apache", ()), ("apache", SOCKET)])
def test_open_connections_live_on_after_a_reload_where_status_says_so(
    kind: str, headers: tuple[str, ...], mixed: LiveHome, upstreams: Upstreams, tmp_path: Path
) -> None:
    assert PROGRAMS[kind].caveat
    home = mixed.copy(tmp_path / "home")
    with started(kind, home, HOSTS[kind], tmp_path / "work") as proxy:
        stage = Stage(proxy, upstreams)
        old = tmp_path / "old.pem"
        old.write_bytes(home.read("ca/clients/admin/tls.pem"))
        with stage.stream(stage.mtls, *headers) as wire:
            stage.read_some(wire)
            home.revoke("admin", "--reason", "key-compromise", "--yes")
            proxy.configure()
            proxy.reload(is_patient=False)
            wait_until(lambda: proxy.curl(address(stage.mtls), "--cert", old).refused, "the client is refused")
            for _ in range(5):
                stage.read_some(wire)


def test_nginx_of_debian_takes_the_drain_in_where_it_belongs() -> None:
    main = Path("/etc/nginx/nginx.conf").read_text().partition("events {")[0]
    assert "\ninclude /etc/nginx/modules-enabled/*.conf;\n" in main


@pytest.mark.parametrize("kind", NAMES)
def test_renewed_certificate_is_served_after_reload(kind: str, mixed: LiveHome, tmp_path: Path) -> None:
    home = mixed.copy(tmp_path / "home")
    with started(kind, home, HOSTS[kind], tmp_path / "work") as proxy:
        home.invoke("renew", HOSTS[kind])
        proxy.configure()
        proxy.reload()
        assert _served(proxy) == home.read(f"build/certs/{HOSTS[kind]}/cert.pem").decode()


def _served(proxy: Proxy) -> str:
    said = run(
        *("openssl", "s_client", "-connect", f"127.0.0.1:{proxy.port}"),
        *("-servername", f"{TLS[proxy.name]}.lab.internal"),
    )
    found = re.search(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", said, flags=re.DOTALL)
    assert found
    return found[0]


# -- the publishing host ----------------------------------------------------------------------------------------------


def trust_links(proxy: Proxy) -> list[str]:
    """Where the links of the trust page lead, which is served at the root of the address."""
    answer = proxy.curl("http://pki.lab.internal/")
    assert answer.status == 200
    assert answer.said.lower() in {"text/html", "text/html; charset=utf-8"}
    page = Page(answer.body)
    assert "Example Lab SANDBOX Root CA 1" in page.text
    assert len(page.links) > 10
    return page.links


@pytest.mark.parametrize("kind", NAMES)
def test_publishing_host_serves_crls_and_authorities_over_plain_http(
    kind: str, mixed: LiveHome, tmp_path: Path
) -> None:
    home = mixed.copy(tmp_path / "home")
    home.edit("host: monitoring}", f"host: {HOSTS[kind]}}}")
    built(home)
    with started(kind, home, HOSTS[kind], tmp_path / "work") as proxy:
        for generation in ("root-1", "server-1", "client-1"):
            crl, ca = tmp_path / "served.crl", tmp_path / "served.crt"
            answer = proxy.curl(f"http://pki.lab.internal/crl/{generation}.crl", "--output", crl)
            assert (answer.status, answer.said) == (200, "application/pkix-crl")
            answer = proxy.curl(f"http://pki.lab.internal/ca/{generation}.crt", "--output", ca)
            assert (answer.status, answer.said) == (200, "application/pkix-cert")
            signer = home.path / f"ca/{generation.partition('-')[0]}/{generation}/cert.pem"
            assert "verify OK" in run("openssl", "crl", "-inform", "DER", "-in", crl, "-CAfile", signer, "-noout")
            assert run("openssl", "x509", "-inform", "DER", "-in", ca) == signer.read_text()
        for link in trust_links(proxy):
            answer = proxy.curl(f"http://pki.lab.internal/{link}", "--output", tmp_path / "fetched")
            assert (answer.status, answer.said) == (200, CONTENT_TYPES[link.partition("/")[0] + Path(link).suffix]), (
                link
            )
            assert (tmp_path / "fetched").read_bytes() == (proxy.root / "var/www/pki" / link).read_bytes()
        for path in ("trust/", "crl/", "ca/../../../etc/passwd", "crl/none.crl"):
            answer = proxy.curl(f"http://pki.lab.internal/{path}", "--path-as-is")
            assert answer.status in {400, 403, 404}, path


def test_new_crls_reach_a_publishing_haproxy_by_reload(mixed: LiveHome, tmp_path: Path) -> None:
    """HAProxy holds what it publishes in memory (http-request return file)."""
    home = mixed.copy(tmp_path / "home")
    home.edit("host: monitoring}", "host: forge}")
    built(home)
    manifest = home.read("build/release/forge/manifest.json").decode()
    reloads = dict(re.findall(r'"path": "(/var/www/pki/[^"]+)".+?"reload": "([^"]*)"', manifest, flags=re.DOTALL))
    assert reloads
    assert set(reloads.values()) == {"systemctl reload haproxy"}


def test_haproxy_goes_on_without_a_crl_that_it_is_too_small_for(mixed: LiveHome, tmp_path: Path) -> None:
    home = mixed.copy(tmp_path / "home")
    home.edit("host: monitoring}", "host: forge}")
    project, now = home.project(), datetime.now(UTC).replace(microsecond=0)
    entries = [CrlEntry((1 << 156) + number, now, "superseded") for number in range(450)]
    crl = crl_signing.sign_crl(project.signing_keys.issuer("client"), 1, now, now + timedelta(days=7), entries)
    recover_revocations.recover_from_crl(project, crl, "a test")
    project.ledger.close()
    built(home)
    with started("haproxy", home, "forge", tmp_path / "work") as proxy:
        assert len(home.read("build/crl/client-1.crl")) > 16384
        assert proxy.curl("http://pki.lab.internal/crl/client-1.crl").status == 404
        served = tmp_path / "served.crl"
        assert proxy.curl("http://pki.lab.internal/crl/server-1.crl", "--output", served).status == 200
        old = tmp_path / "old.pem"
        old.write_bytes(home.read("ca/clients/admin/tls.pem"))
        assert proxy.curl(address(MTLS["haproxy"]), "--cert", old).accepted
        home.revoke("admin", "--reason", "key-compromise", "--yes")
        proxy.configure()
        proxy.reload()
        assert proxy.curl(address(MTLS["haproxy"]), "--cert", old).refused
