"""Services of pki.yaml that are not behind a proxy: what may be declared, and what is said of what may not."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from pki.common.errors import InventoryError
from pki.config import loader
from pki.config.fields import UNSEEN, Speaks
from pki.config.leaf_certificates import host_leaves, mtls_names
from pki.config.model import Inventory
from pki.config.proxies import PROGRAMS
from pki.config.service_protocols import PROTOCOLS, port_of, program_of
from pki.monitor import dependents

PROJECT = """
organisation: Lab
domains: lab.internal
publish: {url: "http://pki.lab.internal", host: web}
networks: {lan: 10.0.0.0/24}
hosts:
  web: {network: lan, deliver: ssh, PROXYservices: {SERVICES}}
"""


def load(folder: Path, services: str, proxy: str = "") -> Inventory:
    text = PROJECT.replace("SERVICES", services).replace("PROXY", f"{proxy}, " if proxy else "")
    (folder / "pki.yaml").write_text(text)
    return loader.load(folder / "pki.yaml")


def faults(folder: Path, services: str, proxy: str = "") -> str:
    with pytest.raises(InventoryError) as caught:
        load(folder, services, proxy)
    assert len(caught.value.faults) == 1, caught.value.faults
    return str(caught.value.faults[0]).removeprefix("pki.yaml:7: hosts.web.")


def test_a_host_whose_services_are_all_not_http_needs_no_proxy(tmp_path: Path) -> None:
    inventory = load(tmp_path, "db: {speaks: postgres, access: mtls}, mail: {speaks: smtp, access: tls}")
    host = inventory.hosts["web"]
    assert host.is_probed
    assert [(port_of(host, name), host.serves(name)) for name in host.services] == [(5432, True), (25, True)]
    assert {leaf.name: leaf.dns for leaf in host_leaves(inventory, "web", host)} == {
        "web": ("mail.lab.internal",),
        "web-mtls": ("db.lab.internal",),
    }


def test_an_https_server_that_reads_its_files_itself_has_a_port_and_no_upstream(tmp_path: Path) -> None:
    services = 'films: {upstream: "http://127.0.0.1:80", access: tls}, prometheus: {port: 9090, access: mtls}'
    host = load(tmp_path, services, "proxy: nginx, port: 8443").hosts["web"]
    assert [port_of(host, name) for name in host.services] == [8443, 9090]
    assert [program_of(host, name) for name in host.services] == [PROGRAMS["nginx"], PROTOCOLS["https"].program]


def test_a_mail_server_with_gnutls_is_exim_which_reads_crls_and_another_one_postfix_which_does_not(
    tmp_path: Path,
) -> None:
    services = "postfix: {speaks: smtp, access: mtls}, mail: {speaks: smtp, port: 26, access: mtls, verifier: gnutls}"
    services += ", exim: {recipe: exim, speaks: smtps, access: mtls}"
    host = load(tmp_path, services).hosts["web"]
    programs = {name: program_of(host, name) for name in host.services}
    assert {name: program is not None and program.revokes for name, program in programs.items()} == {
        "postfix": False,
        "mail": True,
        "exim": True,
    }
    uses = {use.services: use for use in dependents.uses_of_host("web", host)}
    assert {services: use.protocol.ending for services, use in uses.items() if use.protocol} == {
        ("postfix",): "systemctl restart postfix",
        ("mail",): "systemctl restart exim4",
        ("exim",): "systemctl restart exim4",
    }
    assert {services: "Postfix" in use.remark for services, use in uses.items()} == {
        ("postfix",): True,
        ("mail",): False,
        ("exim",): False,
    }


def test_services_on_different_ports_may_share_a_name(tmp_path: Path) -> None:
    services = "smtp: {speaks: smtp, access: tls, names: mail.lab.internal}"
    services += ", imap: {speaks: imaps, access: tls, names: mail.lab.internal}"
    inventory = load(tmp_path, services)
    assert [leaf.dns for leaf in host_leaves(inventory, "web", inventory.hosts["web"])] == [("mail.lab.internal",)]


def test_browsers_are_told_only_of_services_that_speak_https(tmp_path: Path) -> None:
    services = "db: {speaks: postgres, access: mtls}, prometheus: {port: 9090, access: mtls}"
    assert mtls_names(load(tmp_path, services)) == ["prometheus.lab.internal"]


@pytest.mark.parametrize(
    ("services", "fault"),
    [
        ("db: {access: tls}", "services.db.upstream: is missing: write upstream, the address that the proxy"),
        ("db: {speaks: tls, access: tls}", "services.db.port: is missing: write port, such as port: 6379"),
        (
            'db: {speaks: postgres, upstream: "http://127.0.0.1:80", access: tls}',
            "services.db.upstream: no proxy passes postgres on: leave upstream out",
        ),
        (
            'web: {upstream: "http://127.0.0.1:80", port: 444, access: tls}',
            "services.web.port: with upstream, the service is behind the proxy, at hosts.web.port (443): leave port out",
        ),
        (
            "db: {speaks: postgres, access: tls, upgrade: tcp}",
            "services.db.upgrade: only a proxy uses it: write upstream too, or leave it out",
        ),
        (
            "a: {speaks: postgres, access: tls}, b: {speaks: postgres, access: tls}",
            "services.b.port: 5432 is already used by hosts.web.services.a; write another port",
        ),
        (
            'a: {upstream: "http://127.0.0.1:80", access: tls}, b: {speaks: tls, port: 443, access: tls}',
            "services.b.port: 443 is the port of the proxy (hosts.web.port); write another port",
        ),
        ("a: {speaks: tls, port: 80, access: tls}", "services.a.port: 80 is the port of publish.url"),
        ("a: {speaks: pop3, access: tls}", "services.a.speaks: expected https, tls, postgres"),
        ("a: {speaks: tls, port: 0, access: tls}", "services.a.port: expected at least 1"),
        (
            "smtp: {speaks: smtp, access: tls, names: m.lab.internal}, imap: {speaks: imap, access: mtls, names: m.lab.internal}",
            "services.imap.access: m.lab.internal is also a name of smtp, with access: tls: write the same access, or other names",
        ),
    ],
)
def test_a_wrong_combination_is_named_with_what_to_type(tmp_path: Path, services: str, fault: str) -> None:
    assert faults(tmp_path, services).startswith(fault)


def test_two_services_of_one_port_do_not_share_a_name(tmp_path: Path) -> None:
    services = 'a: {upstream: "http://127.0.0.1:80", access: tls}, '
    services += 'b: {upstream: "http://127.0.0.1:81", access: tls, names: a.lab.internal}'
    assert faults(tmp_path, services).startswith("services.b: a.lab.internal is already used by hosts.web.services.a")


def test_a_service_that_cannot_be_asked_is_never_probed(tmp_path: Path) -> None:
    host = load(tmp_path, "vpn: {speaks: openvpn, access: mtls}, wifi: {speaks: radius, access: mtls}").hosts["web"]
    assert not host.is_probed
    with_probe = "vpn: {speaks: openvpn, access: mtls}"
    assert faults(tmp_path, with_probe, "probe: direct").startswith("probe: web has no service that can be probed")


def test_of_servers_that_may_read_no_crl_nothing_is_promised() -> None:
    unsure = {name for name, protocol in PROTOCOLS.items() if not protocol.program.revokes}
    assert unsure == {"https", "tls", "smtp", "smtps"}
    for name in unsure:
        text = PROTOCOLS[name].program.exposure(timedelta(days=9))
        assert text.startswith("revoked clients may be accepted until their certificates expire, within 9 days: ")


def test_tcp_and_udp_have_ports_of_their_own(tmp_path: Path) -> None:
    load(tmp_path, "vpn: {speaks: openvpn, port: 636, access: mtls}, directory: {speaks: ldaps, access: mtls}")


def test_every_protocol_says_what_stays_open_of_a_revoked_client_and_for_how_long() -> None:
    assert PROTOCOLS.keys() == set(get_args(Speaks))
    assert {name for name, protocol in PROTOCOLS.items() if protocol.unseen} == UNSEEN
    for protocol in PROTOCOLS.values():
        texts = [getattr(protocol, field.name) for field in fields(protocol)][1:4]
        assert all(texts), protocol
