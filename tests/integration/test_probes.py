"""Services seen from outside: nginx, HAProxy, Caddy and Apache as they are, as they should not be, and behind a jump host."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

import pytest

from pki.demo.namespace_machine import NamespaceMachine
from pki.monitor.check_result import Level
from tests.integration.fleet import UNITS, Fleet, fleet
from tests.support import leavings
from tests.support.mails import text_of
from tests.support.projects import PROJECT

KINDS = list(UNITS)
PAIR = "/etc/doit-pki/nginx.pem"
NGINX = "/etc/nginx/conf.d/pki-services.conf"
ANY = frozenset({0, 2, 3, 4})
Checks = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four hosts, delivered to once; every test leaves them well."""
    with fleet(tmp_path_factory.mktemp("fleet") / "home") as made:
        made.program("doit", "-n", "4")
        yield made


def health(four: Fleet) -> Checks:
    """What health says of services, by subject."""
    said = json.loads(four.program("invoke", "health", "--json", status=ANY))
    return {one["subject"]: one for one in said["checks"] if one["topic"] == "services"}


def kept(four: Fleet) -> dict[str, dict[str, Any]]:
    """What the last run keeps of each service."""
    data = json.loads((four.home / "build/report/probes.json").read_text())
    return {f"{one['host']}/{one['service']}": one for one in data["probes"]}


def unwell(found: Checks) -> dict[str, tuple[str, str]]:
    return {name: (one["level"], one["message"]) for name, one in found.items() if one["level"] != "ok"}


@contextmanager
def changed(host: NamespaceMachine, path: str, old: str, new: str, unit: str) -> Iterator[None]:
    """A file of the host as somebody else wrote it, taken over by its service."""
    before = host.read(path)
    assert old in before
    host.write(path, before.replace(old, new))
    host.run("systemctl", "restart", unit)
    yield
    host.write(path, before)
    host.run("systemctl", "restart", unit)


def told(four: Fleet, subject: str, said: str, remedy: str) -> None:
    """The last run told it by mail, on the status page and in the metrics, with what to type: in the clone's folder."""
    page, there = leavings.page(four.home), remedy.replace(f"{PROJECT}/run ", f"PKI_HOME={four.home} ./run ")
    assert all(part in page for part in (subject, said, there)), page
    level, typed = leavings.checks(four.home / "build/report/pki.prom")[subject]
    assert (level, there in typed) == (Level.WARNING, True)
    newest = max((four.home / "build/report/outbox").iterdir(), key=lambda path: path.name)
    mail = email.message_from_bytes(newest.read_bytes(), policy=email.policy.default)
    assert isinstance(mail, EmailMessage)
    text = " ".join(text_of(mail).split())
    assert all(part in text for part in (subject, said, there)), text


def test_every_service_of_every_proxy_is_seen_as_it_was_deployed(four: Fleet) -> None:
    found = kept(four)
    assert found.keys() == {f"{kind}/{kind}-{level}" for kind in KINDS for level in ("admin", "open")}
    for name, one in found.items():
        kind, level = name.split("/")[0], "-mtls" if name.endswith("admin") else ""
        assert (one["wrong"], one["outdated"], one["version"]) == ("", "", "TLSv1.3"), name
        issued = four.issued(kind, level).partition("=")[2].replace(":", "").lower()
        assert one["fingerprint"] == issued
    said = health(four)
    assert unwell(said) == {}
    assert said["services"]["message"] == "8 services serve what was deployed"


def test_a_proxy_that_serves_an_old_certificate_is_found_though_its_files_are_right(four: Fleet) -> None:
    host = four.hosts["nginx"]
    old = host.read(PAIR)
    four.program("invoke", "renew", "nginx")
    new = host.read(PAIR)
    host.write(PAIR, old)
    host.run("systemctl", "restart", "nginx")
    host.write(PAIR, new)
    [(subject, (level, said))] = unwell(health(four)).items()
    assert (subject, level) == ("service:nginx/nginx-open", "warning")
    assert said.startswith("serves another certificate (SHA-256 ")
    remedy = health(four)[subject]["remedy"]
    typed = f"{PROJECT}/run invoke deploy.push nginx"
    assert remedy == f"on nginx: systemctl reload nginx; if that does not help: {typed}"
    four.program("doit")
    assert kept(four)["nginx/nginx-open"]["wrong"] == said
    told(four, subject, said, remedy)
    host.run("systemctl", "restart", "nginx")
    assert unwell(health(four)) == {}


def test_a_proxy_that_is_down_is_told_once_and_the_others_are_seen(four: Fleet) -> None:
    host = four.hosts["haproxy"]
    host.run("systemctl", "stop", "haproxy")
    four.program("doit")
    said = health(four)
    host.run("systemctl", "start", "haproxy")
    assert unwell(said) == {
        "service:haproxy": (
            "warning",
            "none of its 2 services can be reached: does not answer: Connection refused",
        )
    }
    assert said["services"]["message"] == "6 services serve what was deployed"
    assert {name for name, one in kept(four).items() if not one["reached"]} == {
        "haproxy/haproxy-admin",
        "haproxy/haproxy-open",
    }
    told(four, "service:haproxy", "none of its 2 services can be reached", "on haproxy: systemctl status haproxy")
    assert unwell(health(four)) == {}


def test_a_host_that_deliveries_do_not_reach_is_told_by_them_alone(four: Fleet) -> None:
    four.lab.unplug(four.hosts["apache"])
    four.program("invoke", "deploy.push", "apache", status=frozenset({1}))
    said = health(four)
    four.program("doit", status=ANY)
    four.lab.plug(four.hosts["apache"])
    assert unwell(said) == {}
    assert said["services"]["message"] == "6 services serve what was deployed"
    assert not kept(four)["apache/apache-open"]["reached"]
    four.program("doit")
    assert unwell(health(four)) == {}


def test_a_proxy_that_forgot_its_crls_is_critical(four: Fleet) -> None:
    with changed(four.hosts["nginx"], NGINX, "ssl_crl", "# ssl_crl", "nginx"):
        said = unwell(health(four))
    assert said == {"service:nginx/nginx-admin": ("critical", "lets the revoked canary in with 204")}


def test_a_proxy_that_asks_nobody_for_a_certificate_is_critical(four: Fleet) -> None:
    with (
        changed(four.hosts["nginx"], NGINX, "pki_issuer_is_ours 0;", "pki_issuer_is_ours 1;", "nginx"),
        changed(four.hosts["nginx"], NGINX, "ssl_verify_client on", "ssl_verify_client optional", "nginx"),
    ):
        level, said = unwell(health(four))["service:nginx/nginx-admin"]
    assert level == "critical"
    assert "to a client without a certificate" in said


def test_old_versions_of_tls_are_a_notice(four: Fleet) -> None:
    text = four.hosts["nginx"].read(NGINX)
    [ciphers] = {line.strip() for line in text.splitlines() if line.strip().startswith("ssl_ciphers ")}
    with (
        changed(four.hosts["nginx"], NGINX, "ssl_protocols TLSv1.2", "ssl_protocols TLSv1.1 TLSv1.2", "nginx"),
        changed(four.hosts["nginx"], NGINX, ciphers, "ssl_ciphers ALL:@SECLEVEL=0;", "nginx"),
    ):
        said = unwell(health(four))
    assert said == {f"service:nginx/nginx-{level}": ("notice", "still accepts TLS 1.1") for level in ("admin", "open")}


# -- behind a jump host -----------------------------------------------------------------------------------------------


@pytest.fixture
def bastion(four: Fleet) -> Iterator[NamespaceMachine]:
    """A machine through which alone the services of `nginx` and `caddy` can be reached; its sshd lets our key forward."""
    host = four.lab.machines.get("bastion") or four.lab.machine("bastion")
    host.serve("ssh")
    with (four.home / "known_hosts").open("a") as known:
        known.write(f"bastion {host.host_key()}\n")
    admit(four, host, "restrict,port-forwarding")
    pki = (four.home / "pki.yaml").read_text()
    for kind in ("nginx", "caddy"):
        four.edit("pki.yaml", f"    proxy: {kind}\n", f"    proxy: {kind}\n    probe: root@bastion:22\n")
        rule = f"tcp dport 443 ip saddr != {host.address} reject"
        four.hosts[kind].run(
            *("nft", "-f", "-"),
            stdin=f"table inet closed {{\nchain input {{\ntype filter hook input priority 0;\n{rule}\n}}\n}}\n",
        )
    yield host
    host.run("systemctl", "stop", "ssh")
    (four.home / "pki.yaml").write_text(pki)
    for kind in ("nginx", "caddy"):
        four.hosts[kind].run("nft", "delete", "table", "inet", "closed")


def admit(four: Fleet, host: NamespaceMachine, options: str) -> None:
    key = (four.home / "ca/deploy/id_ed25519.pub").read_text()
    host.write("/root/.ssh/authorized_keys", f"{options} {key}", 0o600)


@pytest.mark.usefixtures("bastion")
def test_services_behind_a_jump_host_are_seen_through_it(four: Fleet) -> None:
    four.program("doit")
    assert {name: one["via"] for name, one in kept(four).items() if one["via"]} == {
        f"{kind}/{kind}-{level}": "bastion" for kind in ("nginx", "caddy") for level in ("admin", "open")
    }
    assert {one["wrong"] for one in kept(four).values()} == {""}
    four.hosts["caddy"].run("systemctl", "stop", "caddy")
    said = unwell(health(four))
    four.hosts["caddy"].run("systemctl", "start", "caddy")
    text = "none of its 2 services can be reached: does not answer its jump host"
    assert said == {"service:caddy": ("warning", text)}


def test_a_jump_host_that_forwards_nothing_is_told_once_with_the_words_of_ssh(
    four: Fleet, bastion: NamespaceMachine
) -> None:
    admit(four, bastion, "restrict")
    assert jump_said(four) == "it does not permit this key to forward ports"
    bastion.write("/root/.ssh/authorized_keys", "", 0o600)
    assert jump_said(four) == "permission denied: the host does not accept the deployment key"
    bastion.run("systemctl", "stop", "ssh")
    assert jump_said(four) == "it cannot be reached: connect to host bastion port 22: Connection refused"


def jump_said(four: Fleet) -> str:
    """Why nothing was seen behind the jump host, which is all that is wrong."""
    found = health(four)
    assert found["services"]["message"] == "4 services serve what was deployed"
    [(subject, (level, said))] = unwell(found).items()
    assert (subject, level) == ("jump:bastion", "warning")
    assert "caddy/caddy-admin, caddy/caddy-open, nginx/nginx-admin, nginx/nginx-open" in said
    return said.partition("): ")[2]
