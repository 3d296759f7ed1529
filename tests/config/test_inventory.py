"""The inventory: what pki.yaml may say, and what is said of it, with file, line and path, when it may not."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from ipaddress import IPv4Network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from pki.common.errors import InventoryError, PkiError
from pki.config import editor_schemas, loader
from pki.config.error_messages import UNKNOWN_AUTHORITY
from pki.config.leaf_certificates import host_leaves, permitted_addresses
from pki.config.model import Inventory
from pki.config.name_claims import Claim, NameRegistry
from tests.support.projects import PROJECT

EXAMPLE = (PROJECT / "pki.yaml").read_text()
JELLYFIN = 'jellyfin: {upstream: "http://127.0.0.1:8096", access: tls}'
UPSTREAM = '"http://127.0.0.1:8096"'
URL = '"http://pki.lab.internal"'
ADMIN = "{email: admin@lab.internal}"

Edit = tuple[str, str]


def edited(*edits: Edit) -> str:
    text = EXAMPLE
    for old, new in edits:
        assert old in text, f"the example does not hold {old!r}"
        text = text.replace(old, new, 1)
    return text


def load(folder: Path, text: str) -> Inventory:
    (folder / "pki.yaml").write_text(text)
    return loader.load(folder / "pki.yaml")


def faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        load(folder, text)
    return caught.value.faults


# -- the example ------------------------------------------------------------------------------------------------------


def test_the_example_is_sound_and_says_what_the_documents_say(tmp_path: Path) -> None:
    said = load(tmp_path, EXAMPLE)
    assert set(said.hosts) == {"monitoring", "forge", "media"}
    leaves = {leaf.name: leaf for host in said.hosts for leaf in host_leaves(said, host, said.hosts[host])}
    assert {name: leaf.names for name, leaf in leaves.items()} == {
        "monitoring-mtls": ("grafana.lab.internal", "prometheus.lab.internal", "loki.lab.internal"),
        "forge-mtls": ("forgejo.lab.internal",),
        "media": ("jellyfin.lab.internal",),
    }


def test_a_service_behind_mtls_and_an_open_one_never_share_a_certificate(tmp_path: Path) -> None:
    line = f'{JELLYFIN}\n      radio: {{upstream: "http://127.0.0.1:8000", access: mtls}}'
    said = load(tmp_path, edited((JELLYFIN, line)))
    assert {leaf.name: leaf.names for leaf in host_leaves(said, "media", said.hosts["media"])} == {
        "media": ("jellyfin.lab.internal",),
        "media-mtls": ("radio.lab.internal",),
    }


@pytest.mark.parametrize(
    "edits",
    [
        [("[lab.internal]", "lab.internal")],
        [("access: tls}", 'access: tls, names: ["*.lab.internal"]}')],
        [("access: tls}", "access: tls, names: [10.30.0.10, jellyfin.lab.internal]}")],
        [("access: tls}", "access: tls, names: lab.internal}")],
        [("  admin:", "  john@laptop:")],
        [("Example Lab", "Exämple Läb & Söhne")],
        [("sandbox: true", "sandbox: yes")],
        [("smtp: outbox", 'smtp: "smtps://mail.lab.internal:465"')],
        [("server: {lifetime: 90d", "server: {lifetime: 2000h")],
        [("ledger: sqlite", 'ledger: "postgresql+psycopg://pki@db/pki"')],
        [("network: av\n", "network: av\n    deliver: none\n")],
        [("    proxy: caddy\n", "")],
        [("    proxy: caddy\n", "    proxy: traefik\n    port: 8443\n")],
        [("    address: 10.30.0.10\n", "")],
        [("clients:\n  admin: {email: admin@lab.internal}\n", "clients:\n")],
        [("network: av\n", "network: av\n    trust: none\n")],
        [("access: tls}", "access: tls, upgrade: tcp}")],
        [("access: tls}", "access: tls, upgrade: [SPDY/3.1, tcp, websocket]}")],
        [("network: av\n", "network: av\n    trust: [debian, rhel, nss, java]\n    scope: certificates\n")],
    ],
    ids=lambda edits: edits[0][1].strip() or f"without {edits[0][0].strip()}",
)
def test_what_may_be_said_otherwise(tmp_path: Path, edits: list[Edit]) -> None:
    load(tmp_path, edited(*edits))


def test_without_permit_addresses_the_private_block_around_the_networks_is_meant(tmp_path: Path) -> None:
    line = "permit_addresses: [10.0.0.0/8]"
    said = load(tmp_path, edited((line, "")))
    assert permitted_addresses(said) == (IPv4Network("10.0.0.0/8"),)
    said = load(tmp_path, edited((line, ""), ("av: 10.30.0.0/24", "av: 10.30.0.0/24, dmz: 203.0.113.0/24")))
    assert permitted_addresses(said) == (IPv4Network("10.0.0.0/8"), IPv4Network("203.0.113.0/24"))


# -- one fault at a time ----------------------------------------------------------------------------------------------

DURATION = "expected a number and a unit such as 90d (h, d, w, mo = 30 d, y = 365 d)"
HOST_NAME = "expected a host name: letters, digits and hyphens, in labels of at most 63"
PRINTABLE = "expected 1 to 40 printable characters: it becomes part of every CA's name"
LETTERS = "expected letters, digits, blanks and . , & ( ) ' + / - only"
UPSTREAM_FORM = "hosts.media.services.jellyfin.upstream: expected an address such as http://127.0.0.1:3000, got"
SLUG = "expected lower-case letters, digits and hyphens"
CLIENT = "expected a name such as admin or admin@laptop (lower case, at most 50 characters)"
NAMES = "hosts.media.services.jellyfin.names[0]"
WILDCARD = "a wildcard needs two labels after it; Apple rejects the whole certificate otherwise"
BELOW = "expected a file below the folder of pki.yaml, without .."

LIFETIMES = [
    (
        "lifetime: 90d",
        "lifetime: 730d",
        "17: profiles.server.lifetime: 730d is not shorter than the server authority's 730d",
    ),
    ("lifetime: 90d", "lifetime: 90", f"17: profiles.server.lifetime: {DURATION}, got '90'"),
    ("lifetime: 90d", "lifetime: 0d", f"17: profiles.server.lifetime: {DURATION}, got '0d'"),
    ("lifetime: 90d", "lifetime: -3d", f"17: profiles.server.lifetime: {DURATION}, got '-3d'"),
    ("lifetime: 90d", "lifetime: [90d]", "17: profiles.server.lifetime: expected a number and a unit such as 90d"),
    (
        "renew_before: 30d",
        "renew_before: 90d",
        "17: profiles.server.renew_before: 90d is not shorter than the lifetime of 90d",
    ),
    (
        "lifetime: 180d, renew_before: 30d",
        "lifetime: 180d, renew_before: 200d",
        "18: profiles.client.renew_before: 200d is not shorter than the lifetime of 180d",
    ),
    (
        "lifetime: 90d, renew_before: 30d",
        "lifetime: 90d, renew_before: 30d, renew_spread: 40d",
        (
            "17: profiles.server.renew_spread: 40d before renew_before (30d) renews some certificates in the first quarter of "
            "their 90d; expected at most 37d"
        ),
    ),
    (
        "lifetime: 90d, renew_before: 30d",
        "lifetime: 90d, renew_before: 80d, renew_spread: 1d",
        (
            "17: profiles.server.renew_spread: 1d before renew_before (80d) renews some certificates in the first quarter of "
            "their 90d; expected no spread at all"
        ),
    ),
    (
        "lifetime: 90d, renew_before: 30d",
        "lifetime: 90d, renew_before: 30d, renew_spread: wide",
        f"17: profiles.server.renew_spread: {DURATION}, got 'wide'",
    ),
    (
        "client: {lifetime: 2y",
        "client: {lifetime: 11y",
        "14: authorities.client.lifetime: 4015d outlives the root's 3650d",
    ),
    (
        "refresh: 7d",
        "refresh: 21d",
        "13: authorities.server.crl.refresh: 21d is not shorter than the CRL's lifetime of 21d",
    ),
    ("13mo", "30d", "12: authorities.root.crl.lifetime: expected at least 60d: pre-signed CRLs overlap by 30d"),
    ("presigned: 2", "presigned: two", "12: authorities.root.crl.presigned: expected a whole number, got 'two'"),
]
NAMING = [
    (
        "access: tls}",
        "access: tls, names: [media.example.com]}",
        "42: hosts.media.services.jellyfin: media.example.com is outside domains (lab.internal)",
    ),
    (
        "access: tls}",
        "access: tls, names: [evil-lab.internal]}",
        "42: hosts.media.services.jellyfin: evil-lab.internal is outside domains (lab.internal)",
    ),
    (
        "network: av\n",
        "network: av\n    names: [media.example.com]\n",
        "39: hosts.media.names: media.example.com is outside domains (lab.internal)",
    ),
    (
        "access: tls}",
        "access: tls, names: [192.168.1.4]}",
        "42: hosts.media.services.jellyfin: 192.168.1.4 is outside permit_addresses (10.0.0.0/8)",
    ),
    (
        "access: tls}",
        "access: tls, names: [grafana.lab.internal]}",
        (
            "42: hosts.media.services.jellyfin: grafana.lab.internal is already used by hosts.monitoring.services.grafana "
            "(pki.yaml:28); if both hosts serve it: hosts.media.shared: true"
        ),
    ),
    (
        "jellyfin:",
        "grafana:",
        (
            "42: hosts.media.services.grafana: grafana.lab.internal is already used by hosts.monitoring.services.grafana "
            "(pki.yaml:28); if both hosts serve it: hosts.media.shared: true"
        ),
    ),
    (
        "access: tls}",
        "access: tls, names: [Media.lab.internal]}",
        f"42: {NAMES}: write host names in lower case: media.lab.internal, got 'Media.lab.internal'",
    ),
    (
        "access: tls}",
        "access: tls, names: [médias.lab.internal]}",
        f"42: {NAMES}: write an international name in its ASCII form (xn--...), got 'médias.lab.internal'",
    ),
    (
        "access: tls}",
        "access: tls, names: [bad_name.lab.internal]}",
        f"42: {NAMES}: {HOST_NAME}, got 'bad_name.lab.internal'",
    ),
    (
        "access: tls}",
        'access: tls, names: ["a.lab.internal\\0"]}',
        f"42: {NAMES}: {HOST_NAME}, got 'a.lab.internal\\x00'",
    ),
    (
        "access: tls}",
        'access: tls, names: ["a.lab.internal\\n"]}',
        f"42: {NAMES}: {HOST_NAME}, got 'a.lab.internal\\n'",
    ),
    (
        "access: tls}",
        f"access: tls, names: [{'a' * 64}.lab.internal]}}",
        f"42: {NAMES}: {HOST_NAME}, got '{'a' * 64}.lab.internal'",
    ),
    ("access: tls}", 'access: tls, names: ["*.lab"]}', f"42: {NAMES}: {WILDCARD}, got '*.lab'"),
    ("jellyfin:", "Jelly_fin:", f"42: hosts.media.services.Jelly_fin: {SLUG}, got 'Jelly_fin'"),
    ("  media:\n", "  Media:\n", f"37: hosts.Media: {SLUG}, got 'Media'"),
    ("  media:\n", "  ca:\n", "37: hosts.ca: this name is reserved for the machine that runs doit"),
    (
        "  media:\n",
        "  monitoring-mtls:\n",
        "37: hosts.monitoring-mtls: its certificate would be called monitoring-mtls, like that of hosts.monitoring",
    ),
    (
        "  media:\n",
        "  client-admin:\n",
        "37: hosts.client-admin: its certificate would be called client-admin, like that of clients.admin",
    ),
    ("[lab.internal]", "[]", "4: domains: expected at least one, got a list"),
    (
        "[lab.internal]",
        '["*.lab.internal"]',
        "4: domains[0]: expected a domain without a wildcard; everything below it is permitted, got '*.lab.internal'",
    ),
    (
        "[lab.internal]",
        "[Lab.Internal]",
        "4: domains[0]: write host names in lower case: lab.internal, got 'Lab.Internal'",
    ),
]
PLACES = [
    (
        "10.30.0.10",
        "10.20.0.99",
        "39: hosts.media.address: 10.20.0.99 is outside network av (10.30.0.0/24)",
    ),
    (
        "network: dev\n    address: 10.20.0.10",
        "network: mgmt\n    address: 10.10.0.10",
        "33: hosts.forge.address: 10.10.0.10 is already used by host monitoring",
    ),
    (
        "network: av\n",
        "network: av\n    trust: [none, java]\n",
        "39: hosts.media.trust: none cannot be combined: it means no trust store of the host",
    ),
    ("network: av\n", "network: av\n    trust: [java, nss, java]\n", "39: hosts.media.trust: java is listed twice"),
    (
        "network: av\n",
        "network: av\n    trust: jave\n",
        "39: hosts.media.trust[0]: expected debian, rhel, nss, java or none, got 'jave' (did you mean java?)",
    ),
    (
        "10.30.0.10",
        "10.30.0.300",
        "39: hosts.media.address: expected an address such as 10.10.0.10 or fd00:10::10, got '10.30.0.300'",
    ),
    (
        "av: 10.30.0.0/24",
        "av: 10.30.0.7/24",
        "20: networks.av: expected a network such as 10.10.0.0/24 or fd00:10::/64 (did you mean 10.30.0.0/24?), got '10.30.0.7/24'",
    ),
    (
        "[10.0.0.0/8]",
        '["fe80::/64"]',
        "5: permit_addresses[0]: link-local addresses (fe80::/10) cannot be certified; expected a network such as 10.10.0.0/24 or fd00:10::/64",
    ),
    ("network: av\n", "network: audio\n", "38: hosts.media.network: unknown network 'audio'; defined: mgmt, dev, av"),
    (
        "network: mgmt\n",
        "network: mgnt\n",
        "24: hosts.monitoring.network: unknown network 'mgnt' (did you mean mgmt?)",
    ),
    ("    network: av\n", "", "37: hosts.media.network: is missing"),
    (
        "host: monitoring",
        "host: monitorin",
        "6: publish.host: unknown host 'monitorin' (did you mean monitoring?)",
    ),
    (
        "proxy: caddy",
        "proxy: cady",
        "40: hosts.media.proxy: expected nginx, haproxy, caddy, apache or traefik, got 'cady' (did you mean caddy?)",
    ),
    ("proxy: caddy", "proxy: caddy\n    port: 70000", "41: hosts.media.port: expected at most 65535"),
    ("proxy: caddy", "proxy: caddy\n    port: 0", "41: hosts.media.port: expected at least 1"),
    ("proxy: caddy", "proxy: caddy\n    port: https", "41: hosts.media.port: expected a whole number"),
    (
        "proxy: nginx",
        "proxy: nginx\n    port: 80",
        "27: hosts.monitoring.port: 80 is the port of publish.url, on which it serves plain http",
    ),
    (
        "proxy: caddy",
        "proxy: caddy\n    window: 22:00",
        "41: hosts.media.window: expected hours such as 22:00-05:00",
    ),
    (
        "proxy: caddy",
        "proxy: caddy\n    window: 22:00-05:00",
        "41: hosts.media.window: needs schedule: [06:00], the times at which cron runs doit",
    ),
    (
        JELLYFIN,
        f"{JELLYFIN}\n    window: 22:00-05:00\nschedule: [06:00, 21:59]",
        "43: hosts.media.window: 22:00-05:00 contains no run: doit runs at 06:00, 21:59 (schedule)",
    ),
    (
        "proxy: caddy",
        "proxy: caddy\n    ssh: {user: 9root}",
        "41: hosts.media.ssh.user: expected the name of an account",
    ),
    (
        "proxy: caddy",
        "proxy: caddy\n    ssh: {name: -oProxyCommand=x}",
        "41: hosts.media.ssh.name: expected a host as ssh knows it",
    ),
    (
        JELLYFIN,
        f"{JELLYFIN}\n    deliver: local\ndeploy: {{ca: local}}",
        "43: hosts.media.deliver: deploy.ca already delivers to this machine; only one can be local",
    ),
    (
        "proxy: nginx",
        "proxy: traefik",
        (
            "6: publish.host: traefik, the proxy of monitoring, serves no files; "
            "name a host with another proxy or without one"
        ),
    ),
]
CARRIES_HTTP = (
    "is never permitted: requests in it bypass every rule of the proxy, and can claim to be any client; "
    "leave it out for an upstream with HTTP/2: the proxy uses HTTP/1.1"
)
PROTOCOL = "expected the name of a protocol in the header Upgrade, such as SPDY/3.1 or tcp"
UPGRADES = [
    ("access: tls}", f"access: tls, upgrade: [tcp, {value}]}}", f"42: hosts.media.services.jellyfin.upgrade[1]: {said}")
    for value, said in (
        *((name, f"{name} {CARRIES_HTTP}") for name in ("h2c", "H2C", "h2", "h2c-14", "h2c/1", "HTTP/2.0", "TLS/1.2")),
        *((f"'{value}'", f"{PROTOCOL}, got '{value}'") for value in ("", "a b", "ws h2c", "x;y", "{{ x }}", "a$")),
    )
]
DAYS = "expected a day such as 2026-12-24, or days such as 2026-12-20..2027-01-06"
WORDS = [
    (JELLYFIN, f"{JELLYFIN}\nholidays: christmas", f"43: holidays[0]: {DAYS}, got 'christmas'"),
    (
        JELLYFIN,
        f"{JELLYFIN}\nholidays: [2026-12-24, 2026-02-30]",
        f"43: holidays[1]: {DAYS}; the calendar has no such day",
    ),
    (
        JELLYFIN,
        f"{JELLYFIN}\nholidays: 2027-01-06..2026-12-20",
        "43: holidays[0]: ends before it begins: write 2026-12-20..2027-01-06",
    ),
    (
        "organisation: Example Lab",
        "organisation: Example Lab\nsandbax: 1",
        "4: sandbax: unknown key (did you mean sandbox?)",
    ),
    ("presigned: 2", "rungs: 2", "12: authorities.root.crl.rungs: unknown key: it is called presigned now"),
    ("{lifetime: 10y,", "{handover: 180d,", "12: authorities.root.handover: unknown key: it is called overlap now"),
    *(
        (
            f"{name}: {{lifetime: 2y, ",
            f"{name}: {{handover: 60d,",
            f"{line}: authorities.{name}.handover: unknown key: it is called overlap now",
        )
        for name, line in (("server", 13), ("client", 14))
    ),
    *(
        (
            f"{name}: {{lifetime: {days}d,",
            f"{name}: {{spread: 10d,",
            f"{line}: profiles.{name}.spread: unknown key: it is called renew_spread now",
        )
        for name, days, line in (("server", 90, 17), ("client", 180, 18))
    ),
    ("secrets: secrets.yaml", "secrets: secrets.yaml\nspread: 1d", "9: spread: unknown key"),
    (
        JELLYFIN,
        f"{JELLYFIN}\ntemplates: {{without: [nginx/pki-drain.conf, nginx/pki-service.conf]}}",
        "43: templates.without[1]: the program has no template 'nginx/pki-service.conf' (did you mean nginx/pki-services.conf?)",
    ),
    (
        JELLYFIN,
        f"{JELLYFIN}\ntemplates: {{without: [all, tls/tls.pem]}}",
        "43: templates.without[0]: all cannot be combined: it leaves out every template of the program",
    ),
    ("network: av\n", "network: av\n    colour: red\n", "39: hosts.media.colour: unknown key"),
    (
        "network: av\n",
        "network: av\n    adress: 10.30.0.11\n",
        "39: hosts.media.adress: unknown key (did you mean address?)",
    ),
    (
        "access: tls}",
        "access: tls, name: [x.lab.internal]}",
        "42: hosts.media.services.jellyfin.name: unknown key (did you mean names?)",
    ),
    (
        "access: tls}",
        "access: mtsl}",
        "42: hosts.media.services.jellyfin.access: expected tls or mtls, got 'mtsl' (did you mean mtls?)",
    ),
    (
        "key: ec-p256",
        "key: ec-p-256",
        (
            "17: profiles.server.key: expected ec-p256, ec-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096, "
            "got 'ec-p-256' (did you mean ec-p256?)"
        ),
    ),
    (
        "key: ec-p384",
        "key: ed25519",
        "12: authorities.root.key: expected ec-p256, ec-p384, rsa-3072 or rsa-4096, got 'ed25519'",
    ),
    (
        "key: ec-p384",
        "key: ml-dsa-65",
        (
            "12: authorities.root.key: expected ec-p256, ec-p384, rsa-3072 or rsa-4096, got 'ml-dsa-65' "
            "(for single leaves only: hosts.NAME.key, clients.NAME.key; no CA has such a key yet)"
        ),
    ),
    (
        "key: ec-p256",
        "key: ml-dsa-65",
        (
            "17: profiles.server.key: expected ec-p256, ec-p384, ed25519, rsa-2048, rsa-3072 or rsa-4096, got 'ml-dsa-65' "
            "(for single leaves only: hosts.NAME.key, clients.NAME.key; no CA has such a key yet)"
        ),
    ),
    (
        "network: av\n",
        "network: av\n    key: ml-dsa-87\n",
        (
            "39: hosts.media.key: expected ec-p256, ec-p384, ed25519, ml-dsa-65, rsa-2048, rsa-3072 or rsa-4096, "
            "got 'ml-dsa-87' (did you mean ml-dsa-65?)"
        ),
    ),
    ("sandbox: true", "sandbox: maybe", "7: sandbox: expected true or false, got 'maybe'"),
    ("secrets: secrets.yaml", "secrets: /etc/s.yaml", f"8: secrets: {BELOW}, got '/etc/s.yaml'"),
    (
        ADMIN,
        "{email: admin@lab.internal, request: a/../../x.csr}",
        f"45: clients.admin.request: {BELOW}, got 'a/../../x.csr'",
    ),
    (ADMIN, "", "45: clients.admin: has no name: write email for a person, dns or uri for a machine"),
    (
        ADMIN,
        "{email: admin}",
        "45: clients.admin.email: expected an e-mail address such as admin@lab.internal, got 'admin'",
    ),
    (
        "  admin:",
        "  john.smith:",
        (
            "45: clients.john.smith: john.smith looks like a DNS name, which OpenSSL checks against the name "
            "constraints; write john.smith@device, or john.smith.lab.internal"
        ),
    ),
    ("  admin:", "  Admin:", f"45: clients.Admin: {CLIENT}, got 'Admin'"),
    ("  admin:", '  "../admin":', f"45: clients.../admin: {CLIENT}, got '../admin'"),
    (
        URL,
        '"https://pki.lab.internal"',
        (
            "6: publish.url: expected plain http: a client that verifies a certificate cannot verify this server's certificate first, "
            "got 'https://pki.lab.internal'"
        ),
    ),
    (
        URL,
        '"http://pki.lab.internal/x"',
        "6: publish.url: expected scheme, host and port alone, without a path, got 'http://pki.lab.internal/x'",
    ),
    (
        URL,
        "pki.lab.internal",
        "6: publish.url: expected an address such as http://pki.lab.internal, got 'pki.lab.internal'",
    ),
]
INJECTIONS = [
    (UPSTREAM, '"http://127.0.0.1:8096; return 200"', f"42: {UPSTREAM_FORM} 'http://127.0.0.1:8096; return 200'"),
    (UPSTREAM, '"http://127.0.0.1:8096\\n}"', f"42: {UPSTREAM_FORM} 'http://127.0.0.1:8096\\n}}'"),
    (UPSTREAM, '"http://127.0.0.1:8096 {"', f"42: {UPSTREAM_FORM} 'http://127.0.0.1:8096 {{'"),
    (UPSTREAM, '"http://$host"', f"42: {UPSTREAM_FORM} 'http://$host'"),
    (UPSTREAM, '"http://{{ host }}"', f"42: {UPSTREAM_FORM} 'http://{{{{ host }}}}'"),
    (UPSTREAM, '"http://me:secret@127.0.0.1"', f"42: {UPSTREAM_FORM} 'http://me:secret@127.0.0.1'"),
    (UPSTREAM, '"file:///etc/passwd"', f"42: {UPSTREAM_FORM} 'file:///etc/passwd'"),
    (UPSTREAM, '"http://127.0.0.1:99999"', f"42: {UPSTREAM_FORM} 'http://127.0.0.1:99999'"),
    (UPSTREAM, '"127.0.0.1:8096"', f"42: {UPSTREAM_FORM} '127.0.0.1:8096'"),
    ("Example Lab", '"Example\\nLab"', f"3: organisation: {PRINTABLE}, got 'Example\\nLab'"),
    ("Example Lab", '""', f"3: organisation: {PRINTABLE}, got ''"),
    ("Example Lab", "x" * 41, f"3: organisation: {PRINTABLE}, got '{'x' * 41}'"),
    ("Example Lab", "Example; Lab", f"3: organisation: {LETTERS}, got 'Example; Lab'"),
    ("Example Lab", '"Example \\"Lab"', f"3: organisation: {LETTERS}, got 'Example \"Lab'"),
    ("Example Lab", "Example $Lab", f"3: organisation: {LETTERS}, got 'Example $Lab'"),
    (
        "Example Lab",
        "Sandbox Ltd",
        "3: organisation: the word SANDBOX is reserved for sandbox authorities, got 'Sandbox Ltd'",
    ),
    (
        ADMIN,
        '{email: "admin@lab.internal\\r\\nBcc: x@y.z"}',
        (
            "45: clients.admin.email: expected an e-mail address such as admin@lab.internal, "
            "got 'admin@lab.internal\\r\\nBcc: x@y.z'"
        ),
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [*LIFETIMES, *NAMING, *PLACES, *WORDS, *UPGRADES, *INJECTIONS],
    ids=lambda text: text.strip()[:40],
)
def test_each_fault_is_said_with_its_line_and_path(tmp_path: Path, old: str, new: str, fault: str) -> None:
    found = faults(tmp_path, edited((old, new)))
    assert len(found) == 1, found
    assert found[0] == f"pki.yaml:{fault}" or found[0].startswith(f"pki.yaml:{fault}, got ")


def test_a_certificate_longer_than_apple_accepts_is_a_fault(tmp_path: Path) -> None:
    text = edited(("lifetime: 90d", "lifetime: 826d"), ("server: {lifetime: 2y", "server: {lifetime: 9y"))
    assert faults(tmp_path, text) == [
        "pki.yaml:17: profiles.server.lifetime: more than 825d, the limit of Apple's systems"
    ]
    load(tmp_path, text.replace("826d", "825d"))


def test_one_request_cannot_serve_two_certificates_or_none(tmp_path: Path) -> None:
    request = ("network: av\n", "network: av\n    request: media.csr\n    names: [media.lab.internal]\n")
    load(tmp_path, edited(request))
    assert faults(tmp_path, edited(request, ("access: tls}", "access: mtls}"))) == [
        "pki.yaml:39: hosts.media.request: one request cannot serve two access levels; split the host into two"
    ]
    nothing = edited(("network: av\n", "network: av\n    request: media.csr\n"), (JELLYFIN, ""))
    assert faults(tmp_path, nothing) == [
        "pki.yaml:39: hosts.media.request: the host has no name to certify; give it names or services"
    ]


@pytest.mark.parametrize(
    ("old", "new", "place", "helpful"),
    [
        ("smtp: outbox", "smtp: inbox", "48: alerts.email.smtp: ", "outbox"),
        ("ledger: sqlite", "ledger: oracle", "9: ledger: ", "sqlite"),
        ("presigned: 2", "presigned: 0", "12: authorities.root.crl.presigned: ", "expected"),
        ("access: tls}", "access: tls, names: [10.30.0.300]}", f"42: {NAMES}: ", "expected an address such as"),
    ],
    ids=["smtp", "ledger", "presigned_crls", "address as a name"],
)
def test_a_fault_says_what_is_expected_there(tmp_path: Path, old: str, new: str, place: str, helpful: str) -> None:
    [fault] = faults(tmp_path, edited((old, new)))
    assert fault.startswith(f"pki.yaml:{place}")
    assert helpful in fault


# -- all faults at once -----------------------------------------------------------------------------------------------


def test_all_faults_are_said_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = edited(
        ("organisation: Example Lab", "organization: Example Lab"),
        ("url: " + URL, 'url: "https://pki.lab.internal"'),
        ("renew_before: 30d", "renew_before: 90d"),
        ("10.20.0.10", "10.40.0.10"),
        ("proxy: caddy", "proxy: lighttpd"),
        (JELLYFIN, 'forgejo: {upstream: "http://127.0.0.1:1", access: tls}'),
        (ADMIN, "{mail: admin@lab.internal}"),
    )
    found = faults(tmp_path, text)
    assert [line.split(": ")[0] + ": " + line.split(": ")[1] for line in found] == [
        "pki.yaml:1: organisation",
        "pki.yaml:3: organization",
        "pki.yaml:6: publish.url",
        "pki.yaml:17: profiles.server.renew_before",
        "pki.yaml:33: hosts.forge.address",
        "pki.yaml:40: hosts.media.proxy",
        "pki.yaml:42: hosts.media.services.forgejo",
        "pki.yaml:45: clients.admin.mail",
    ]


def test_a_fault_in_one_host_hides_none_in_another(tmp_path: Path) -> None:
    text = edited(("    network: dev\n", ""), ("10.10.0.10", "10.30.0.77"), ("8096", "99999"))
    assert [line.split(": ")[1] for line in faults(tmp_path, text)] == [
        "hosts.monitoring.address",
        "hosts.forge.network",
        "hosts.media.services.jellyfin.upstream",
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("networks: {mgmt: 10.10.0.0/24, dev: 10.20.0.0/24, av: 10.30.0.0/24}", "networks: 7", "20: networks: "),
        ("hosts:\n", "hosts: []\nclients_:\n", "22: hosts: "),
        ("[lab.internal]", '["*.lab.internal"]', "4: domains[0]: "),
        ("10.10.0.10", "nowhere", "25: hosts.monitoring.address: "),
        ("monitoring:\n    network", "monitoring:\n    netwrk", "23: hosts.monitoring.network: "),
    ],
    ids=["networks", "hosts", "domains", "address", "network"],
)
def test_one_fault_is_not_blamed_on_its_neighbours(tmp_path: Path, old: str, new: str, fault: str) -> None:
    """What was faulty in itself and left out is not missed elsewhere; an unknown key is a fault of its own."""
    found = [line for line in faults(tmp_path, edited((old, new))) if "unknown key" not in line]
    assert len(found) == 1, found
    assert found[0].startswith(f"pki.yaml:{fault}")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("{serial: 0}", "serial[0]: expected a number of hosts, or a part of them such as 20%, got '0'"),
        ("{serial: [5, 120%]}", "serial[1]: expected a number of hosts, or a part of them such as 20%, got '120%'"),
        ("{serial: []}", "serial: expected at least one, got a list"),
        ("{max_fail_percentage: 101}", "max_fail_percentage: expected at most 100, got '101'"),
        ("{forks: none}", "forks: expected a whole number, got 'none'"),
        ("{fork: 20}", "fork: unknown key (did you mean forks?)"),
        (
            "{command: ../runner}",
            "command: expected a file below the folder of pki.yaml, or an absolute path, without ..",
        ),
    ],
)
def test_what_ansible_cannot_be_told(tmp_path: Path, said: str, fault: str) -> None:
    (found,) = faults(tmp_path, f"{EXAMPLE}deploy: {{engine: ansible, ansible: {said}}}\n")
    assert found.partition(": ")[2].removeprefix("deploy.ansible.").startswith(fault)


def test_an_engine_needs_no_settings_and_one_batch_is_as_good_as_a_list(tmp_path: Path) -> None:
    said = load(tmp_path, f"{EXAMPLE}deploy: {{engine: ansible}}\n").deploy
    assert (said.ansible.serial, said.ansible.command) == (("20%",), "ansible-runner")
    said = load(tmp_path, f"{EXAMPLE}deploy: {{engine: ansible, ansible: {{serial: 5}}}}\n").deploy
    assert said.ansible.serial == ("5",)


# -- YAML itself ------------------------------------------------------------------------------------------------------

TAB = "indented with a tab; YAML is indented with spaces: sed -i 's/\\t/  /g' pki.yaml"
TABBED = (
    "a: b\n\tc: d\n",
    "a:\n\tb: c\n",
    "a:\n  \tb: c\n",
    "a:\n\t- b\n",
    "a:\n-\tb: c\n- d: e\n",
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("organisation: [\n", "pki.yaml:2: not valid YAML: did not find expected node content"),
        ('organisation: "x\n', "pki.yaml:2: not valid YAML: found unexpected end of stream"),
        *((text, f"pki.yaml:2: not valid YAML: {TAB}") for text in TABBED),
        ("a: b: c\n", "pki.yaml:1: not valid YAML: mapping values are not allowed in this context"),
        ("--- a\n--- b\n", "pki.yaml:2: not valid YAML: but found another document"),
        ("x: &a {b: *a}\n", "pki.yaml:1: not valid YAML: found unconstructable recursive node"),
        ("just text\n", "pki.yaml:1: expected a mapping, got 'just text'"),
        ("[]\n", "pki.yaml:1: expected a mapping, got a list"),
    ],
)
def test_what_is_not_yaml_or_no_mapping_is_said_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text) == [fault]


ALIASES = "".join(f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n" for one, two in pairwise("abcdefghijk"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: " + "[" * 500 + "]" * 500, "pki.yaml:1: is nested deeper than 64 levels"),
        ("a: " + "[" * 25_000, "pki.yaml:1: is nested deeper than 64 levels"),
        ("a: " + "{b: " * 25_000, "pki.yaml:1: is nested deeper than 64 levels"),
        ("- " * 25_000 + "a", "pki.yaml:1: is nested deeper than 64 levels"),
        ("".join(f"{' ' * level}a:\n" for level in range(500)), "pki.yaml:65: is nested deeper than 64 levels"),
        (f"a: &a [x, y]\n{ALIASES}", "pki.yaml:8: its aliases expand to more than 4000000 values"),
    ],
    ids=("flow", "unclosed", "mappings", "compact", "block", "aliases"),
)
def test_what_would_end_the_process_is_said_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, text) == [fault]


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_is_one_fault(tmp_path: Path, text: str) -> None:
    [fault] = faults(tmp_path, text)
    assert fault.startswith("pki.yaml:1: ")


def test_a_control_character_is_a_fault_and_no_traceback(tmp_path: Path) -> None:
    line = EXAMPLE.count("\n") + 1
    said = f"pki.yaml:{line}: not valid YAML: unacceptable character #x0000: control characters are not allowed"
    assert faults(tmp_path, EXAMPLE + "\0") == [said]


def test_what_is_missing_is_said_field_by_field(tmp_path: Path) -> None:
    assert faults(tmp_path, "organisation: x\n") == [
        "pki.yaml:1: domains: is missing",
        "pki.yaml:1: publish: is missing",
    ]


def test_a_key_that_stands_twice_is_a_fault_on_the_second_one(tmp_path: Path) -> None:
    text = edited(("  media:\n", "  media:\n    network: av\n"), ("  admin:", "  admin: {}\n  admin:"))
    found = faults(tmp_path, text)
    assert [line.split(": ", 1)[0] for line in found] == ["pki.yaml:39", "pki.yaml:47"]
    assert all("duplicate key" in line for line in found)
    assert "network" in found[0]
    assert "admin" in found[1]


def test_a_repeated_host_does_not_quietly_replace_the_first(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, edited(("hosts:\n", "hosts:\n  media: {network: av}\n")))
    assert "media: duplicate key" in fault


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    [fault] = faults(tmp_path, edited(("Example Lab", "!!python/object/apply:os.system [id]")))
    assert fault.startswith("pki.yaml:3: organisation: ")


def test_a_missing_file_says_how_to_name_its_folder(tmp_path: Path) -> None:
    with pytest.raises(PkiError) as caught:
        loader.load(tmp_path / "pki.yaml")
    assert caught.value.message == f"{tmp_path}/pki.yaml: there is no inventory"
    assert caught.value.hint == "name its folder: PKI_HOME=DIR ./run invoke plan"


def test_a_file_that_is_not_utf8_is_said_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "pki.yaml").write_bytes("organisation: Läb\n".encode("latin-1"))
    with pytest.raises(PkiError, match=r"pki\.yaml: cannot be read: 'utf-8' codec"):
        loader.load(tmp_path / "pki.yaml")


# -- where passphrases come from --------------------------------------------------------------------------------------

SOURCES = {
    "{server: {command: pass show pki/server}}": "`command: pass show pki/server`",
    "{server: {credential: pki-server}}": "`credential: pki-server`",
    "{server: {env: PKI_SERVER}}": "`env: PKI_SERVER`",
    "{server: {file: /run/keys/server}}": "`file: /run/keys/server`",
    "{server-2: {fd: 3}, server: prompt}": "`fd: 3`",
    "{file: kept/passphrases.yaml, server: prompt, root-1: prompt, backup: {env: X}}": "the prompt",
}


@pytest.mark.parametrize("said", SOURCES)
def test_a_passphrase_may_come_from_elsewhere(tmp_path: Path, said: str) -> None:
    found = load(tmp_path, edited(("secrets: secrets.yaml", f"secrets: {said}"))).secrets
    source = found.source("server-2")
    assert source is not None
    assert source.description == SOURCES[said]
    assert found.source("client-1") is None
    assert found.file == ("kept/passphrases.yaml" if "kept" in said else "secrets.yaml")


ANY_SOURCE = "expected exactly one of command, credential, env, file, fd, prompt"
A_SOURCE = "expected prompt, or a mapping such as {command: pass show pki/server}"


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("{server: hunter2}", f"server: {A_SOURCE}"),
        ("{server: [hunter2]}", f"server: {A_SOURCE}"),
        ("{server: }", f"server: {A_SOURCE}"),
        ("{server: {}}", f"server: {ANY_SOURCE}"),
        ("{server: {env: X, file: hunter2}}", f"server: {ANY_SOURCE}"),
        ("{server: {comand: hunter2}}", "server.comand: unknown key (did you mean command?)"),
        (
            '{server: {command: "a \'hunter2"}}',
            "server.command: expected a command line (no closing quotation)",
        ),
        ("{server: {env: hunter2 hunter2}}", "server.env: expected the name of an environment variable"),
        ("{server: {credential: ../hunter2}}", "server.credential: expected the name of a systemd credential"),
        (
            "{server: {file: ../hunter2}}",
            "server.file: expected a file below the folder of pki.yaml, or an absolute path, without ..",
        ),
        ("{server: {fd: hunter2}}", "server.fd: expected a whole number"),
        ("{server: {prompt: hunter2}}", "server.prompt: expected true"),
        (
            "{sever: {env: X}}",
            "sever: expected file, root, server, client, peer, a generation such as server-2, backup, smtp, ledger, notify-NAME, p12, p12-LEAF, or an adopted authority",
        ),
    ],
)
def test_a_source_that_is_none_is_a_fault_that_quotes_nothing_secret(tmp_path: Path, said: str, fault: str) -> None:
    """Whoever writes a passphrase where its source belongs finds it in no log."""
    assert faults(tmp_path, edited(("secrets: secrets.yaml", f"secrets: {said}"))) == [f"pki.yaml:8: secrets.{fault}"]


@pytest.mark.parametrize("file", [".secrets.yaml", "build/secrets.yaml", "offline/x/secrets.yaml"])
@pytest.mark.parametrize("key", ["{}", "{{file: {}}}", "{{server: {{file: {}}}}}"])
def test_a_file_with_passphrases_is_where_a_backup_contains_it(tmp_path: Path, key: str, file: str) -> None:
    text = edited(("secrets: secrets.yaml", f"secrets: {key.format(file)}"))
    fault = f"{file}: a backup contains no hidden file and nothing of build/ or offline/; "
    assert faults(tmp_path, text) == [
        f"pki.yaml:8: secrets: {fault}move it to a folder such as requests/, and write its new path here"
    ]


# -- the schema for editors -------------------------------------------------------------------------------------------

KEYWORDS = {
    *(
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "examples",
        "default",
        "type",
        "enum",
        "const",
        "format",
        "pattern",
    ),
    *("properties", "required", "additionalProperties", "patternProperties", "propertyNames", "items", "anyOf"),
    *("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "minProperties", "maxProperties"),
}
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
SCHEMA: dict[str, Any] = json.loads(editor_schemas.pki_yaml_schema())


def schemas(node: Any) -> list[dict[str, Any]]:
    """A schema and every schema within it."""
    inner = [
        *node.get("$defs", {}).values(),
        *node.get("properties", {}).values(),
        *node.get("patternProperties", {}).values(),
        *node.get("anyOf", []),
        *(node[key] for key in ("items", "additionalProperties", "propertyNames") if isinstance(node.get(key), dict)),
    ]
    return [node, *(found for child in inner for found in schemas(child))]


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """JSON Schema 2020-12, as far as this schema goes; a keyword for another type of value says nothing."""
    if reference := schema.get("$ref"):
        return accepts(SCHEMA["$defs"][reference.removeprefix("#/$defs/")], value)
    return (
        ("anyOf" not in schema or any(accepts(option, value) for option in schema["anyOf"]))
        and ("type" not in schema or isinstance(value, TYPES[schema["type"]]))
        and ("const" not in schema or value == schema["const"])
        and ("enum" not in schema or value in schema["enum"])
        and (not isinstance(value, str) or _accepts_text(schema, value))
        and (not isinstance(value, list) or _accepts_list(schema, value))
        and (not isinstance(value, dict) or _accepts_mapping(schema, value))
    )


def _accepts_text(schema: dict[str, Any], value: str) -> bool:
    return re.search(schema.get("pattern", ""), value) is not None and len(value) >= schema.get("minLength", 0)


def _accepts_list(schema: dict[str, Any], value: list[Any]) -> bool:
    inner = all(accepts(schema.get("items", {}), item) for item in value)
    return inner and len(value) >= schema.get("minItems", 0)


def _accepts_mapping(schema: dict[str, Any], value: dict[str, Any]) -> bool:
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    rest = schema.get("additionalProperties", True)
    for key, content in value.items():
        named = [known[key]] if key in known else [s for p, s in patterns.items() if re.search(p, key)]
        if not named and rest is False:
            return False
        other = [rest] if isinstance(rest, dict) else []
        if not all(accepts(each, content) for each in named or other):
            return False
    enough = schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value))
    return enough and set(schema.get("required", ())) <= value.keys()


def test_the_schema_is_json_schema() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for found in schemas(SCHEMA):
        assert found.keys() <= KEYWORDS, found.keys() - KEYWORDS
        assert found.get("type", "string") in TYPES
        assert found.get("$ref", "#/$defs/Host").removeprefix("#/$defs/") in SCHEMA["$defs"]
        re.compile(found.get("pattern", ""))


def test_the_schema_accepts_the_example_as_an_editor_reads_it() -> None:
    assert accepts(SCHEMA, yaml.safe_load(EXAMPLE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("organisation:", "organization:"),
        ("access: tls}", "access: mtsl}"),
        ("lifetime: 90d", "lifetime: 90"),
        ("proxy: caddy", "proxy: lighttpd"),
        ("    network: av\n", ""),
        ("presigned: 2", "presigned: two"),
        ("[lab.internal]", "[]"),
        ("smtp: outbox", "smtp: inbox"),
        ("ledger: sqlite", "metrics: {textfile: pki.prom}"),
        ("secrets: secrets.yaml", "secrets: {server: {comand: x}}"),
        ("secrets: secrets.yaml", "secrets: {server: {command: x, env: Y}}"),
        ("secrets: secrets.yaml", "secrets: {server: hunter2}"),
    ],
)
def test_the_schema_refuses_what_the_inventory_refuses(tmp_path: Path, old: str, new: str) -> None:
    text = edited((old, new))
    assert faults(tmp_path, text)
    assert not accepts(SCHEMA, yaml.safe_load(text))


def test_the_schema_accepts_the_short_form_of_a_list() -> None:
    assert accepts(SCHEMA, yaml.safe_load(edited(("[lab.internal]", "lab.internal"))))


@pytest.mark.parametrize("said", SOURCES)
def test_the_schema_accepts_every_source_of_a_passphrase(said: str) -> None:
    assert accepts(SCHEMA, yaml.safe_load(edited(("secrets: secrets.yaml", f"secrets: {said}"))))


def test_defaults_in_the_schema_are_what_pki_yaml_would_say() -> None:
    wrong = [
        (found.get("title"), found["default"])
        for found in schemas(SCHEMA)
        if "default" in found and not accepts(found, found["default"])
    ]
    assert wrong == []


# -- adopted authorities ----------------------------------------------------------------------------------------------

ADOPTED_AS = "expected a name such as legacy: lower-case letters, digits and hyphens, no number at its end"
IS_KEPT = "is reserved; expected a name such as legacy"


def adopting(*lines: str) -> str:
    return edited(("  client: {lifetime: 2y,", "".join(f"  {line}\n" for line in lines) + "  client: {lifetime: 2y,"))


def test_adopted_authorities_bear_names_of_their_own(tmp_path: Path) -> None:
    rule = "{adopt: /srv/vpn/, crl: {lifetime: 90d, refresh: 30d}}"
    found = load(tmp_path, adopting("legacy: {adopt: ca/legacy}", f"old-vpn: {rule}")).authorities.adopted
    assert {name: rule.adopt for name, rule in found.items()} == {"legacy": "ca/legacy", "old-vpn": "/srv/vpn"}
    assert (found["legacy"].crl.lifetime, found["old-vpn"].crl.refresh) == (timedelta(days=21), timedelta(days=30))
    assert load(tmp_path, EXAMPLE).authorities.adopted == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("servr: {lifetime: 2y}", "servr: unknown key (did you mean server?)"),
        ("legacy: {lifetime: 2y}", f"legacy: unknown key{UNKNOWN_AUTHORITY}"),
        ("legacy: ca/legacy", f"legacy: unknown key{UNKNOWN_AUTHORITY}"),
        ("legacy: {adopt: x, key: ec-p384}", "legacy.key: unknown key"),
        ("Legacy: {adopt: x}", f"Legacy: {ADOPTED_AS}, got 'Legacy'"),
        ("old-2: {adopt: x}", f"old-2: {ADOPTED_AS}, got 'old-2'"),
        ("client-old: {adopt: x}", f"client-old: client-old {IS_KEPT}, got 'client-old'"),
        ("cert: {adopt: x}", f"cert: cert {IS_KEPT}, got 'cert'"),
        (
            "legacy: {adopt: ca/../x}",
            "legacy.adopt: expected a folder below that of pki.yaml, or an absolute path, without .., got 'ca/../x'",
        ),
        (
            "legacy: {adopt: build/old}",
            "legacy.adopt: build/old is not in a backup; expected a folder such as ca/legacy",
        ),
        (
            "legacy: {adopt: ca/server/server-1}",
            "legacy.adopt: ca/server/server-1 is used by the project itself; expected a folder such as ca/legacy",
        ),
        (
            "legacy: {adopt: ca}",
            "legacy.adopt: ca is used by the project itself; expected a folder such as ca/legacy",
        ),
        (
            "legacy: {adopt: x, crl: {lifetime: 7d}}",
            "legacy.crl.refresh: 7d is not shorter than the CRL's lifetime of 7d",
        ),
    ],
)
def test_fault_in_an_adopted_authority_is_told(tmp_path: Path, line: str, fault: str) -> None:
    assert faults(tmp_path, adopting(line)) == [f"pki.yaml:14: authorities.{fault}"]


def test_one_folder_is_adopted_once(tmp_path: Path) -> None:
    text = adopting("one: {adopt: ca/old}", "two: {adopt: ca/old/}")
    assert faults(tmp_path, text) == ["pki.yaml:15: authorities.two.adopt: ca/old is already used by one"]


def test_passphrase_of_an_adopted_authority_has_a_source_like_any_other(tmp_path: Path) -> None:
    text = adopting("legacy: {adopt: ca/legacy}").replace("secrets: secrets.yaml", "secrets: {legacy: {env: OLD}}")
    source = load(tmp_path, text).secrets.source("legacy")
    assert source is not None
    assert source.description == "`env: OLD`"


@pytest.mark.parametrize(
    "host",
    ["adress: 10.0.0.1", "names: [x.lab.internal]", "network: lam", "names: [x.other.example]"],
    ids=("unknown key", "taken name", "unknown network", "outside"),
)
def test_one_slip_in_each_of_many_hosts_is_looked_up_once(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, compose = list[int](), yaml.compose
    monkeypatch.setattr(yaml, "compose", lambda *given, **more: composed.append(1) or compose(*given, **more))
    network = "" if host.startswith("network") else "network: lan, "
    hosts = "".join(f"  h{number}: {{{network}{host}}}\n" for number in range(200))
    head = 'organisation: x\ndomains: [lab.internal]\npublish: {url: "http://p.lab.internal", host: h0}\n'
    found = faults(tmp_path, f"{head}networks: {{lan: 10.0.0.0/8}}\nhosts:\n{hosts}")
    assert len(found) >= 199
    assert len(composed) == 1


def test_a_name_that_many_hosts_claim_is_compared_with_the_first_of_them() -> None:
    asked = list[str]()

    def is_upstream(host: str, _claim: Claim) -> bool:
        asked.append(host)
        return False

    names = NameRegistry(is_upstream)
    for number in range(200):
        claim = Claim("server", "x.lan", f"h{number}", ("hosts", f"h{number}", "names"))
        assert (names.conflict(claim) is None) is (number == 0)
        names.add([claim])
    assert len(asked) == 2 * 199
