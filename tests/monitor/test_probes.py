"""Services seen from outside: real handshakes with servers that are well, or wrong in every way that is told apart."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import mldsa

from pki.common.errors import PkiError
from pki.config.model import Leaf
from pki.deploy import receipt, tls_client, verification
from pki.deploy.contact import Contact
from pki.deploy.protocol import HostRefusal, ServiceRefusal
from pki.deploy.ssh import Transport, UnreachableError
from pki.deploy.tls_client import Endpoint, Prober
from pki.deploy.tunnel import Tunnel
from pki.deploy.verification import NOT_VERIFIED, Expectation, Verdict, Verification
from pki.monitor import probes
from pki.monitor.alerts import channels
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.probes import ProbeFault, ProbeResult
from pki.monitor.report import health_report
from pki.pipeline import delivery_targets
from pki.pipeline.delivery_targets import ProbeTarget
from pki.pipeline.desired_state import DesiredState
from pki.x509 import certificate_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from tests.support.backups import Invoke
from tests.support.invoked import invoke
from tests.support.projects import START, Home
from tests.support.remote_hosts import remote
from tests.support.tls_servers import NAME, Behaviour, Pairs, hangs_up, is_silent, says, serving, speaks_no_tls, trusts

__all__ = ["invoke", "remote"]

Kind = Literal["server", "client"]
END = datetime(2027, 2, 21, 6, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Paper:
    """Files with keys and certificates, and the SHA-256 of the two good ones that a server may have."""

    pairs: Pairs
    prober: Prober
    old: Path
    ended: Path
    new_digest: str
    old_digest: str

    def expectation(self, *, revokes: bool = False) -> Expectation:
        return Expectation(self.new_digest, revokes=revokes)


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Paper:
    folder, now = tmp_path_factory.mktemp("paper"), datetime.now(UTC).replace(microsecond=0)
    dates = certificate_signing.validity_dates(now, timedelta(days=2), None)

    def authority(name: str) -> Issuer:
        key = keys.new_key("ec-p256")
        made = certificate_signing.sign_certificate(
            certificate_signing.subject_name("Example Lab", name),
            key.public_key(),
            dates,
            profiles.root_extensions(),
            key,
        )
        (folder / name).write_bytes(pem_encoding.pem_of([made]))
        return Issuer(made, key)

    def pair(name: str, kind: Kind, by: Issuer, at: datetime = now) -> str:
        day, key = timedelta(days=1), keys.new_key("ec-p256")
        leaf = Leaf("x", kind, NAME, (NAME,), (), (), "ec-p256", True, 2 * day, day, None, "hosts")
        made = certificate_signing.sign_certificate(
            certificate_signing.subject_name("Example Lab", NAME),
            key.public_key(),
            certificate_signing.validity_dates(at, 2 * day, None),
            profiles.leaf_extensions(leaf, key.public_key()),
            by,
        )
        (folder / name).write_bytes(keys.private_pem(key) + pem_encoding.pem_of([made]))
        return made.fingerprint(hashes.SHA256()).hex()

    ours, stranger = authority("root"), authority("stranger")
    digests = [pair(name, "server", ours) for name in ("server", "old")]
    pair("ended", "server", ours, now - timedelta(days=3))
    pair("client", "client", ours)
    pair("canary", "client", stranger)
    pairs = Pairs(*(folder / name for name in ("root", "server", "client", "stranger")))
    prober = Prober(pairs.root, pairs.client, folder / "canary")
    return Paper(pairs, prober, folder / "old", folder / "ended", *digests)


def is_silent_within_tls(context: ssl.SSLContext, connection: socket.socket) -> None:
    with context.wrap_socket(connection, server_side=True) as inside:
        is_silent(context, inside)


def lets_only_the_probe_in(paper: Paper, status: str = "204 No Content") -> Behaviour:
    """As proxies do it: who is refused gets to read why, before the connection ends."""
    answers = trusts(str(paper.pairs.root), status)

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        with connection.dup() as still:
            try:
                answers(context, connection)
            except ssl.SSLError:
                still.shutdown(socket.SHUT_WR)
                while still.recv(4096):
                    pass

    return behave


def speaks_old_tls(status: str) -> Behaviour:
    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
        says(status)(context, connection)

    return behave


def swept(paper: Paper, ends: Sequence[Endpoint], expectation: Expectation | None) -> Sequence[ProbeResult]:
    expectations = {NAME: expectation} if expectation else {}
    plan: Any = SimpleNamespace(
        probe_targets=lambda: iter([ProbeTarget("monitoring", tuple(ends), expectations, paper.prober, None)])
    )
    project: Any = SimpleNamespace(now=START, store=SimpleNamespace(shown=lambda path: path))
    return probes.probe_services(project.store, project.now, plan)


def seen(
    paper: Paper, *behaviours: Behaviour, access: str = "tls", pair: Path | None = None, revokes: bool = False
) -> ProbeResult:
    """What is seen of one server that behaves so; `pair` is what it serves instead of the deployed one."""
    pairs = replace(paper.pairs, server=pair or paper.pairs.server)
    with serving(pairs, *behaviours) as end:
        [found] = swept(paper, [replace(end, access=access)], paper.expectation(revokes=revokes))
    return found


# -- one service ------------------------------------------------------------------------------------------------------


def test_a_service_that_is_well_is_described(paper: Paper) -> None:
    found = seen(paper, says("200 OK"))
    assert (found.wrong, found.fault, found.reached, found.outdated) == ("", "", True, "")
    assert (found.fingerprint, found.version) == (paper.new_digest, "TLSv1.3")
    assert found.not_after
    assert found.not_after > datetime.now(UTC) + timedelta(days=1)
    behind = seen(paper, lets_only_the_probe_in(paper), access="mtls", revokes=True)
    assert (behind.wrong, behind.fingerprint) == ("", paper.new_digest)


def test_another_certificate_than_the_deployed_one_is_told_with_both_digests(paper: Paper) -> None:
    found = seen(paper, says("200 OK"), pair=paper.old)
    assert (found.fault, found.fingerprint, found.reached) == (ProbeFault.OTHER_CERTIFICATE, paper.old_digest, True)
    assert found.wrong == (
        f"serves another certificate (SHA-256 {paper.old_digest[:16]}…) than the deployed one ({paper.new_digest[:16]}…)"
    )


def test_a_certificate_that_ended_is_told_with_its_date(paper: Paper) -> None:
    found = seen(paper, says("200 OK"), pair=paper.ended)
    assert (found.fault, found.wrong) == (
        ProbeFault.UNVERIFIED,
        "serves a certificate that does not verify: certificate has expired",
    )
    assert found.not_after
    assert found.not_after < datetime.now(UTC)
    assert found.fingerprint


def test_versions_that_nobody_should_speak_are_seen_though_newer_ones_are_spoken_too(paper: Paper) -> None:
    found = seen(paper, speaks_old_tls("200 OK"))
    assert (found.wrong, found.version, found.outdated) == ("", "TLSv1.3", "TLSv1.1")


@pytest.mark.parametrize("status", ["200 OK", "502 Bad Gateway"])
def test_who_has_no_certificate_and_the_canary_must_be_refused(paper: Paper, status: str) -> None:
    found = seen(paper, says(status), access="mtls", revokes=True)
    assert found.fault == ProbeFault.WRONGLY_ADMITTED
    number = status[:3]
    assert found.wrong == (
        f"answers {number} to a client without a certificate; lets the revoked canary in with {number}"
    )


def test_the_canary_is_not_held_against_a_service_that_was_told_nothing_of_it(paper: Paper) -> None:
    found = seen(paper, says("200 OK"), access="mtls")
    assert found.wrong == "answers 200 to a client without a certificate"


def test_the_probe_must_be_let_in(paper: Paper) -> None:
    found = seen(paper, trusts(str(paper.pairs.stranger)), access="mtls")
    assert (found.fault, found.reached) == (ProbeFault.REFUSAL, True)
    assert found.wrong.startswith("refuses our own client certificate: ")
    assert found.fingerprint == paper.new_digest
    assert seen(paper, says("400 No"), access="mtls").wrong == "refuses our own client certificate with 400"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (hangs_up, "does not answer as an HTTP server"),
        (speaks_no_tls, "aborts the handshake: WRONG_VERSION_NUMBER"),
    ],
)
def test_what_is_no_http_server_behind_tls_is_broken(paper: Paper, behaviour: Behaviour, said: str) -> None:
    found = seen(paper, behaviour, access="mtls")
    assert (found.fault, found.reached) == (ProbeFault.NOT_HTTP, True)
    assert found.wrong.startswith(said)


def test_an_open_service_that_demands_a_certificate_is_found_by_a_request(paper: Paper) -> None:
    """In TLS 1.3 the handshake of a client without a certificate ends well."""
    found = seen(paper, trusts(str(paper.pairs.root)))
    assert (found.fault, found.wrong) == (ProbeFault.REFUSAL, verification.DEMANDS_CERTIFICATE)
    assert (found.fingerprint, found.version) == (paper.new_digest, "TLSv1.3")


def asks(paper: Paper, bare: str, known: str) -> Behaviour:
    """A server that asks for a certificate, goes on without one, and answers by it."""

    def behave(context: ssl.SSLContext, connection: socket.socket) -> None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(paper.pairs.root)
        with context.wrap_socket(connection, server_side=True) as inside:
            if inside.recv(4096):
                status = known if inside.getpeercert() else bare
                inside.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    return behave


def test_an_open_service_that_refuses_within_tls_is_found_by_two_requests(paper: Paper) -> None:
    found = seen(paper, asks(paper, "403 Forbidden", "200 OK"))
    assert (found.fault, found.wrong) == (
        ProbeFault.REFUSAL,
        f"{verification.DEMANDS_CERTIFICATE}: answers 403 without one, and 200 to the probe",
    )
    assert seen(paper, asks(paper, "401 Log In", "401 Log In")).wrong == "", "its own login is its own business"


def test_an_open_service_whose_answers_change_by_themselves_demands_nothing(paper: Paper) -> None:
    """Two that differ, by chance, and then two that are alike."""
    ok, busy = says("200 OK"), says("429 Too Many Requests")
    assert seen(paper, ok, hangs_up, ok, busy, ok).wrong == ""


@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_a_proxy_whose_upstream_does_not_answer_is_told_as_that(paper: Paper, status: str) -> None:
    text = f"answers {status[:3]}: its upstream does not answer the proxy"
    found = seen(paper, says(status))
    assert (found.fault, found.wrong, found.reached) == (ProbeFault.UPSTREAM, text, True)
    assert seen(paper, lets_only_the_probe_in(paper, status), access="mtls").wrong == text


def test_an_open_service_that_speaks_no_http_or_never_answers_is_told(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seen(paper, hangs_up)
    assert (found.fault, found.wrong) == (ProbeFault.NOT_HTTP, "does not answer as an HTTP server")
    monkeypatch.setattr(tls_client, "TIMEOUT", 0.3)
    assert seen(paper, is_silent_within_tls).fault == ProbeFault.UPSTREAM


def test_of_a_service_without_a_promise_only_what_it_serves_is_told(paper: Paper) -> None:
    with serving(replace(paper.pairs, server=paper.ended), says("200 OK")) as end:
        [found] = swept(paper, [end], None)
    assert (found.wrong, found.version) == ("", "TLSv1.3")
    assert not found.is_well
    assert found.fingerprint


# -- all of them ------------------------------------------------------------------------------------------------------


def test_fifty_services_are_looked_at_at_the_same_time(paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of fifty waits until all have been asked."""
    monkeypatch.setattr(tls_client, "TIMEOUT", 60)
    together = threading.Barrier(50, timeout=300)

    def waits(context: ssl.SSLContext, connection: socket.socket) -> None:
        together.wait()
        says("200 OK")(context, connection)

    with ExitStack() as stack:
        ends = [stack.enter_context(serving(paper.pairs, waits, says("200 OK"))) for _ in range(50)]
        found = swept(
            paper, [replace(end, service=f"s{n:02}", access="tls") for n, end in enumerate(ends)], paper.expectation()
        )
    assert [one.service for one in found] == [f"s{number:02}" for number in range(50)]
    assert {one.wrong for one in found} == {""}


def test_those_that_do_not_answer_are_waited_for_together_and_hold_up_nobody(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_client, "TIMEOUT", 3.0)
    both, asked = threading.Barrier(2, timeout=300), list[int]()

    def dead(context: ssl.SSLContext, connection: socket.socket) -> None:
        asked.append(both.wait())
        is_silent(context, connection)

    with ExitStack() as stack:
        ends = [stack.enter_context(serving(paper.pairs, one)) for one in (dead, dead, says("200 OK"))]
        with serving(paper.pairs, says("200 OK")) as closed:
            pass
        found = swept(
            paper,
            [replace(end, service=f"s{n}", access="tls") for n, end in enumerate([*ends, closed])],
            paper.expectation(),
        )
    assert [(one.fault, one.wrong) for one in found] == [
        (ProbeFault.SILENT, "does not answer: timed out"),
        (ProbeFault.SILENT, "does not answer: timed out"),
        ("", ""),
        (ProbeFault.SILENT, "does not answer: Connection refused"),
    ]
    assert [one.reached for one in found] == [False, False, True, False]
    assert len(asked) == 4, "each was asked twice, because it might have been our own machine"


def test_a_service_for_which_time_ran_out_once_is_well_if_it_answers_then(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_client, "TIMEOUT", 0.5)
    assert seen(paper, is_silent, says("200 OK")).wrong == ""
    assert seen(paper, is_silent_within_tls, says("200 OK")).wrong == ""


def test_after_a_batch_that_times_out_again_nobody_is_asked_any_more(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is down costs one more time limit, however many services there are."""

    def asked(late_times: int) -> tuple[int, set[str]]:
        """How often twenty services are asked, each of which times out so often; and what is told."""
        services = list[str]()

        def probe(target: Any) -> ProbeResult:
            services.append(target.endpoint.service)
            is_late = services.count(services[-1]) <= late_times
            return of(target.endpoint.service, wrong="late" if is_late else "", timed_out=is_late)

        monkeypatch.setattr(probes, "_probe", probe)
        ends = [Endpoint(f"s{number}", NAME, "127.0.0.1", 1, "tls") for number in range(20)]
        told = {one.wrong for one in swept(paper, ends, None)}
        return len(services), told

    assert asked(0) == (20, {""})
    assert asked(1) == (40, {""})
    assert asked(2) == (20 + probes.PARALLEL_REPEATS, {"late"})


def test_what_keeps_us_from_looking_is_told_and_no_service_is_to_blame(paper: Paper, tmp_path: Path) -> None:
    blind = replace(paper, prober=Prober(paper.pairs.root, tmp_path / "probe.pem"))
    end = Endpoint("grafana", NAME, "127.0.0.1", 1, "tls")
    [found] = swept(blind, [end], paper.expectation())
    assert found.fault == ProbeFault.PROBE_FAILED
    assert found.wrong == f"could not be probed: {tmp_path}/probe.pem: No such file or directory"


def test_a_project_without_such_services_opens_and_keeps_nothing(home: Home) -> None:
    assert list(home.plan().probe_targets()) == []
    assert home.doit().status == 0
    assert not (home.path / "build/report/probes.json").exists()


# -- which services, and what they promised ---------------------------------------------------------------------------


def looked_at(home: Home) -> dict[str, ProbeTarget]:
    return {one.host: one for one in home.plan().probe_targets()}


def test_an_endpoint_with_an_ml_dsa_key_is_known_from_pki_yaml_or_the_request_of_its_device(home: Home) -> None:
    key = mldsa.MLDSA65PrivateKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, None)
    (home.path / "box.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    desired, host = DesiredState.of(home.project()), home.project().inventory.hosts["media"]
    for changes, expected in (
        ({}, False),
        ({"key": "ed25519"}, False),
        ({"key": "ml-dsa-65"}, True),
        ({"request": "box.csr"}, True),
        ({"request": "box.csr", "key": "ec-p256"}, True),
        ({"request": "missing.csr"}, False),
    ):
        (endpoint,) = delivery_targets.endpoints(desired, host.model_copy(update=changes))
        assert endpoint.has_ml_dsa_key == expected, changes


def test_hosts_that_are_delivered_to_are_looked_at_unless_they_say_otherwise(home: Home) -> None:
    home.edit("network: av\n", "network: av\n    deliver: ssh\n")
    assert looked_at(home).keys() == {"media"}
    home.edit("deliver: ssh\n", "deliver: ssh\n    probe: none\n")
    assert looked_at(home) == {}
    home.edit("probe: none\n", "probe: direct\n")
    home.edit("network: dev\n", "network: dev\n    deliver: none\n    probe: direct\n")
    assert looked_at(home).keys() == {"media", "forge"}


def test_a_host_is_held_against_what_it_took_and_not_against_what_was_made_since(remote: Home) -> None:
    assert looked_at(remote)["media"].expectations == {}, "nobody remembers what it took"
    delivery = remote.plan().deliveries["media"]
    payload = delivery.payloads.desired()
    assert payload
    delivery.records.history.keep_release(payload)
    before = looked_at(remote)["media"].expectations["jellyfin.lab.internal"]
    assert before.fingerprint == digest(remote, "media")
    (remote.path / "build/certs/media/tls.pem").unlink()
    remote.doit("release:media")
    assert digest(remote, "media") != before.fingerprint
    assert looked_at(remote)["media"].expectations["jellyfin.lab.internal"] == before


def test_a_host_that_has_taken_nothing_yet_is_not_looked_at(remote: Home) -> None:
    remote.project().store.receipt("media").unlink()
    assert looked_at(remote) == {}


def test_a_damaged_certificate_keeps_no_other_service_from_being_looked_at(home: Home) -> None:
    home.edit("network: dev\n", "network: dev\n    deliver: none\n    probe: direct\n")
    home.doit()
    home.write("build/certs/forge-mtls/tls.pem", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    assert looked_at(home)["forge"].expectations == {}


def test_a_host_that_is_not_delivered_to_is_held_against_what_was_issued(home: Home) -> None:
    home.edit("network: dev\n", "network: dev\n    deliver: none\n    probe: direct\n")
    assert home.doit().failed.keys() <= {"cleanup"}
    probe_target = looked_at(home)["forge"]
    assert probe_target.expectations == {
        "forgejo.lab.internal": Expectation(digest(home, "forge-mtls"), answers=False, revokes=True)
    }
    assert probe_target.prober.canary


def digest(home: Home, leaf: str) -> str:
    return x509.load_pem_x509_certificate(home.read(f"build/certs/{leaf}/cert.pem")).fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize(
    ("said", "user", "name", "port"),
    [
        ("bastion", "", "bastion", 0),
        ("me@bastion:2222", "me", "bastion", 2222),
        ("monitoring:22", "", "monitoring", 22),
    ],
)
def test_a_jump_host_is_reached_as_pki_yaml_or_ssh_know_it(
    home: Home, said: str, user: str, name: str, port: int
) -> None:
    home.edit("network: av\n", f"network: av\n    deliver: ssh\n    probe: {said}\n")
    transport = looked_at(home)["media"].jump
    assert transport
    assert (transport.user, transport.name, transport.port) == (user, name, port)
    assert transport.address == ("10.10.0.10" if name == "monitoring" else "")
    command = transport.tunnel_command({"/tmp/x/0": "10.30.0.10:443"}, 5)  # noqa: S108
    assert command[-3:] == ("-L", "/tmp/x/0:10.30.0.10:443", name)  # noqa: S108
    assert "IdentitiesOnly=yes" not in command


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("RemoteForward 9000 localhost:22", "RemoteForward 9000 [localhost]:22"),
        ("LocalForward 8080 web:80", "LocalForward 8080 [web]:80"),
        ("DynamicForward 1080", "DynamicForward 1080"),
    ],
)
def test_a_tunnel_is_refused_where_the_configuration_adds_a_forwarding_and_names_its_line(
    tmp_path: Path, line: str, named: str
) -> None:
    """By the real `ssh -G`: `ClearAllForwardings` would clear the tunnel's own, too."""
    config = tmp_path / "config"
    config.write_text(f"Host other\n    RemoteForward 1 localhost:1\nHost bastion\n    {line}\n    ForwardAgent yes\n")
    endpoint = Endpoint("x", "x.lab.internal", "127.0.0.1", 1, "tls")
    with Tunnel(Transport("bastion", "bastion", address="127.0.0.1", port=1, config=str(config)), [endpoint]) as tunnel:
        assert f"remove from the ssh configuration for it: {named} (" in tunnel.fault


def test_a_tunnel_without_such_a_line_is_tried_and_lends_no_agent(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host other\n    RemoteForward 1 localhost:1\nHost bastion\n    ForwardAgent yes\n")
    transport = Transport("bastion", "bastion", address="127.0.0.1", port=1, config=str(config))
    with Tunnel(transport, [Endpoint("x", "x.lab.internal", "127.0.0.1", 1, "tls")]) as tunnel:
        assert tunnel.fault.startswith("it cannot be reached: connect to host 127.0.0.1 port 1")
    assert {"-a", "-x"} <= set(transport.tunnel_command({}, 5))


def test_a_jump_host_that_talks_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\nexec cat /dev/zero\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("pki.deploy.process.EXIT_TIMEOUT", 0.1)
    with Tunnel(Transport("bastion", "bastion"), [Endpoint("x", "x.lab.internal", "127.0.0.1", 1, "tls")]) as tunnel:
        assert tunnel.fault == "it cannot be reached: sent a line of more than 65536 bytes"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("media", "media is this host itself; write direct, or the name of another host"),
        ("forge", "forge is this machine; write direct"),
        ("b:70000", "expected a port from 1 to 65535"),
        ("ba stion", "expected none, direct, or a jump host as ssh knows it, such as bastion or user@bastion:2222"),
        ("-oProxyCommand=x", "expected none, direct, or a jump host as ssh knows it"),
    ],
)
def test_a_way_that_leads_nowhere_is_a_fault(home: Home, invoke: Invoke, said: str, fault: str) -> None:
    home.edit("network: dev\n", "network: dev\n    deliver: local\n")
    home.edit("network: av\n", f"network: av\n    probe: {said}\n")
    assert f"hosts.media.probe: {fault}" in invoke(home, "plan").error


def test_there_must_be_a_service_to_look_at(home: Home, invoke: Invoke) -> None:
    text = (home.path / "pki.yaml").read_text()
    (home.path / "pki.yaml").write_text(text.replace("hosts:\n", "hosts:\n  bare: {network: av, probe: direct}\n"))
    assert "hosts.bare.probe: bare has no service to probe; leave it out" in invoke(home, "plan").error


# -- what health says -------------------------------------------------------------------------------------------------


def of(service: str, host: str = "monitoring", **more: Any) -> ProbeResult:
    access = "tls" if host == "media" else "mtls"
    return ProbeResult(host, service, f"{service}.lab.internal", 443, access, not_after=END, **more)


def checked(home: Home, *found: ProbeResult, run: LastRun | None = None, days: float = 0) -> dict[str, Finding]:
    said = health_report.run_checks(home.project(days), home.plan(days), run or LastRun(), probes=found, thorough=False)
    return {one.subject: one for one in said if one.topic in {"services", "hosts"} and one.subject != "hosts"}


def test_services_that_are_well_are_counted(home: Home) -> None:
    assert checked(home) == {}
    assert checked(home, of("grafana"))["services"].message == "1 service serves what was deployed"
    found = checked(home, of("grafana"), of("loki"))
    assert [(one.level, one.message) for one in found.values()] == [(Level.OK, "2 services serve what was deployed")]


def test_services_that_were_compared_with_nothing_are_not_counted_as_well(home: Home) -> None:
    found = health_report.run_checks(
        home.project(), home.plan(), LastRun(), probes=[of("grafana"), of("loki", is_compared=False)], thorough=False
    )
    assert [(one.level, one.message) for one in found if one.subject == "services"] == [
        (Level.NOTICE, "monitoring/loki answers; not compared, because no deployment to it is recorded"),
        (Level.OK, "1 service serves what was deployed"),
    ]


@pytest.mark.parametrize(
    ("fault", "level"),
    [
        (ProbeFault.WRONGLY_ADMITTED, Level.CRITICAL),
        (ProbeFault.UNVERIFIED, Level.CRITICAL),
        (ProbeFault.REFUSAL, Level.WARNING),
        (ProbeFault.NOT_HTTP, Level.WARNING),
        (ProbeFault.OTHER_CERTIFICATE, Level.WARNING),
        (ProbeFault.SILENT, Level.WARNING),
        (ProbeFault.UPSTREAM, Level.WARNING),
    ],
)
def test_who_gets_in_is_critical_and_who_does_not_answer_never_is(home: Home, fault: ProbeFault, level: Level) -> None:
    found = checked(home, of("grafana", fault=fault, wrong="is odd"), of("loki"))
    assert (found["service:monitoring/grafana"].level, found["service:monitoring/grafana"].message) == (level, "is odd")
    assert found["service:monitoring/grafana"].remedy
    assert found["services"].message == "1 service serves what was deployed"


def test_a_host_whose_services_are_all_silent_is_told_once(home: Home) -> None:
    silent = [of(one, fault=ProbeFault.SILENT, wrong="does not answer: timed out") for one in ("grafana", "loki")]
    found = checked(home, *silent)
    assert found.keys() == {"service:monitoring"}
    text = "none of its 2 services can be reached: does not answer: timed out"
    assert found["service:monitoring"].message == text
    assert str(found["service:monitoring"].remedy) == (
        "on monitoring: systemctl status nginx; check that this machine can reach port 443; if it never can: probe: none in pki.yaml"
    )


@pytest.mark.parametrize(
    "error",
    [UnreachableError("cannot be reached: no route"), ServiceRefusal("jellyfin does not answer", "", ("jellyfin",))],
)
def test_what_the_look_at_hosts_tells_is_not_told_again(remote: Home, error: PkiError) -> None:
    Contact().failed(START, error).save(remote.project().store.contact("media"))
    silent = of("jellyfin", "media", fault=ProbeFault.SILENT, wrong="does not answer: timed out")
    assert checked(remote, silent).keys() == {"deploy:media"}
    entry = of("jellyfin", "media", fault=ProbeFault.WRONGLY_ADMITTED, wrong="lets the canary in")
    assert checked(remote, entry).keys() == {"deploy:media", "service:media/jellyfin"}


def test_a_host_that_fails_for_another_reason_hides_no_silent_service(remote: Home) -> None:
    Contact().failed(START, HostRefusal("nginx-t failed with exit status 1")).save(
        remote.project().store.contact("media")
    )
    silent = of("jellyfin", "media", fault=ProbeFault.SILENT, wrong="does not answer: timed out")
    assert checked(remote, silent).keys() == {"deploy:media", "service:media/jellyfin"}


def test_what_a_sweep_saw_goes_before_what_a_delivery_could_not_reach(remote: Home) -> None:
    path = remote.project().store.receipt("media")
    taken = receipt.load(path)
    assert taken
    receipt.save(path, replace(taken, verification={"jellyfin": NOT_VERIFIED}))
    assert checked(remote)["verification:media"].level is Level.NOTICE
    assert checked(remote, of("jellyfin", "media")).keys() == {"services"}
    receipt.save(
        path, replace(taken, verification={"jellyfin": Verification(Verdict.UNDECIDED, "not verified: both get 403")})
    )
    assert checked(remote, of("jellyfin", "media")).keys() == {"services", "verification:media"}


def test_old_versions_of_tls_are_a_notice_that_says_where_to_look(home: Home) -> None:
    found = checked(home, of("grafana", outdated="TLSv1.1"))["service:monitoring/grafana"]
    assert (found.level, found.message) == (Level.NOTICE, "still accepts TLS 1.1")
    assert found.remedy.startswith("docs/how-to/proxies.md")


def test_a_certificate_that_is_served_to_its_end_though_there_is_a_newer_one_is_told_by_its_marks(home: Home) -> None:
    near = replace(of("jellyfin", "media"), not_after=START + timedelta(days=20))
    found = checked(home, near)["service:media/jellyfin"]
    assert (found.level, found.until) == (Level.WARNING, near.not_after)
    assert found.message == "the certificate that it serves expires on 2026-12-13"
    nearer = replace(
        near, not_after=START + timedelta(days=6), fault=ProbeFault.OTHER_CERTIFICATE, wrong="serves another one"
    )
    found = checked(home, nearer)["service:media/jellyfin"]
    assert (found.level, found.message) == (
        Level.CRITICAL,
        "serves another one; the certificate that it serves expires on 2026-11-29",
    )


def test_the_end_of_the_newest_certificate_is_told_by_the_look_at_certificates(home: Home) -> None:
    assert checked(home, of("jellyfin", "media"), days=65).keys() == {"services"}


def test_a_jump_host_is_told_once_for_all_that_lies_behind_it(home: Home) -> None:
    wrong = "permission denied: the host does not accept the deployment key"
    behind = [of(one, fault=ProbeFault.JUMP, wrong=wrong, reached=False, via="bastion") for one in ("grafana", "loki")]
    found = checked(home, *behind, of("jellyfin", "media"))
    assert found.keys() == {"jump:bastion", "services"}
    assert found["jump:bastion"].message == (
        "the services behind it cannot be probed (monitoring/grafana, monitoring/loki): permission denied: the host does not accept the deployment key"
    )
    assert found["jump:bastion"].level is Level.WARNING
    assert str(found["jump:bastion"].remedy).startswith("ssh ")


# -- what a run does with it ------------------------------------------------------------------------------------------


@pytest.fixture
def watched(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, Callable[..., None]]]:
    """A project that mails, and a way to say what its next sweeps see."""
    seen_next = list[ProbeResult]()

    def sees(*found: ProbeResult) -> None:
        seen_next[:] = found

    monkeypatch.setattr(probes, "probe_services", lambda *_: tuple(seen_next))
    return home, sees


def told(home: Home, monkeypatch: pytest.MonkeyPatch, *tasks: str, days: float) -> list[tuple[str, str]]:
    """What a run tells again: kind and subject."""
    heard = list[tuple[str, str]]()
    decide = channels.decide

    def listening(*arguments: Any) -> Any:
        made = decide(*arguments)
        heard.extend((one.cause, one.finding.subject) for one in made.notifications)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(channels, "decide", listening)
        assert home.doit(*tasks, days=days).status == 0
    return [one for one in heard if one[1].startswith(("service", "jump"))]


def test_only_a_whole_run_looks_and_only_it_can_say_that_something_is_over(
    watched: tuple[Home, Callable[..., None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, sees = watched
    sees(of("grafana", fault=ProbeFault.OTHER_CERTIFICATE, wrong="serves another one"), of("loki"))
    assert told(home, monkeypatch, days=0.1) == [("new", "service:monitoring/grafana")]
    sees(of("grafana"), of("loki"))
    assert told(home, monkeypatch, "crl", days=0.2) == []
    silent = {"fault": ProbeFault.SILENT, "wrong": "does not answer: timed out"}
    sees(of("grafana", **silent), of("loki", **silent))
    assert told(home, monkeypatch, days=1.5) == [("new", "service:monitoring")]
    sees(of("grafana"), of("loki"))
    assert sorted(told(home, monkeypatch, days=3)) == [
        ("solved", "service:monitoring"),
        ("solved", "service:monitoring/grafana"),
    ]


def test_what_the_last_sweep_saw_is_kept_until_the_next_one(
    watched: tuple[Home, Callable[..., None]],
) -> None:
    home, sees = watched
    found = [
        of(
            "grafana",
            fault=ProbeFault.OTHER_CERTIFICATE,
            wrong="serves another one",
            fingerprint="ab",
            version="TLSv1.3",
            seconds=0.012,
        ),
        replace(of("loki", reached=False), not_after=None),
    ]
    sees(*found)
    home.doit()
    assert list(probes.load((project := home.project()).inventory, project.store)) == found
    sees()
    home.doit("crl")
    assert list(probes.load((project := home.project()).inventory, project.store)) == found
    home.edit("      loki:", "      other:")
    assert list(probes.load((project := home.project()).inventory, project.store)) == found[:1]
    home.edit("      other:", "      loki:")
    data = json.loads(home.read("build/report/probes.json"))
    assert data["at"] == "2026-11-23T06:00:00Z"
    home.write("build/report/probes.json", json.dumps(data | {"format": 0}))
    assert list(probes.load((project := home.project()).inventory, project.store)) == []
    home.doit()
    assert not (home.path / "build/report/probes.json").exists()


def test_health_looks_anew(watched: tuple[Home, Callable[..., None]], invoke: Invoke) -> None:
    home, sees = watched
    sees(of("grafana", fault=ProbeFault.WRONGLY_ADMITTED, wrong="lets the revoked canary in with 200"))
    said = invoke(home, "health")
    assert said.status == 4
    assert "service:monitoring/grafana" in said.out
    sees(of("grafana"))
    assert "1 service serves what was deployed" in invoke(home, "health").out


def test_a_sweep_that_breaks_hides_nothing_else_and_calls_nothing_solved(
    watched: tuple[Home, Callable[..., None]], monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    home, sees = watched
    sees(of("grafana", fault=ProbeFault.OTHER_CERTIFICATE, wrong="serves another one"))
    assert told(home, monkeypatch, days=0.1) == [("new", "service:monitoring/grafana")]
    monkeypatch.setattr(probes, "probe_services", lambda *_: 1 / 0)
    assert told(home, monkeypatch, days=2) == [("new", "services")]
    assert probes.load((project := home.project()).inventory, project.store)
    said = invoke(home, "health", days=2)
    assert "could not check services: ZeroDivisionError" in said.out
    assert "authorities" in said.out
