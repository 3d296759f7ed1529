"""IPv4 and IPv6 addresses and networks in pki.yaml: their canonical form, and those that are refused."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from pathlib import Path

import pytest
import yaml

from pki.cli import init_questions
from pki.common.errors import InventoryError
from pki.config import fields, ip_addresses, loader, scaffold
from pki.config.leaf_certificates import address_claims, host_leaves, listens_on_ipv6, permitted_addresses
from pki.config.model import Inventory
from pki.x509 import certificate_signing, keys, profiles
from pki.x509.export import chrome_policy
from tests.support.projects import PROJECT

REFUSED_ADDRESSES = [
    ("fe80::1", "link-local addresses are valid on one link only"),
    ("fe80::1%eth0", "link-local addresses are valid on one link only"),
    ("fd00::1%2", "expected an address without %2"),
    ("::ffff:10.0.0.1", "write 10.0.0.1"),
    ("::ffff:a00:1", "write 10.0.0.1"),
    ("ff02::1", "multicast"),
    ("::", "names every address"),
    ("fd00::g", ip_addresses.EXPECTED),
    ("fd00:::1", ip_addresses.EXPECTED),
    ("[fd00::1]", ip_addresses.EXPECTED),
    ("fd00::/64", ip_addresses.EXPECTED),
    ("10.0.0.300", ip_addresses.EXPECTED),
]
REFUSED_NETWORKS = [
    ("fd00::1/64", "did you mean fd00::/64?"),
    ("10.0.0.1/24", "did you mean 10.0.0.0/24?"),
    ("fe80::/64", "link-local"),
    ("ff00::/8", "multicast"),
    ("::ffff:0:0/97", "IPv4-mapped"),
    ("100::/64", "discard-only"),
    ("192.0.0.8/32", "dummy"),
    ("lan", ip_addresses.EXPECTED_NETWORK),
]


def load(folder: Path, **changes: object) -> Inventory:
    """Return the example with other keys: `media` changes its third host."""
    tree = yaml.safe_load((PROJECT / "pki.yaml").read_text())
    media = changes.pop("media", {})
    assert isinstance(media, dict)
    tree |= changes
    tree["hosts"]["media"] |= media
    (folder / "pki.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return loader.load(folder / "pki.yaml")


def faults(folder: Path, **changes: object) -> str:
    with pytest.raises(InventoryError) as caught:
        load(folder, **changes)
    return str(caught.value)


DUAL = {"mgmt": "10.10.0.0/24", "dev": "10.20.0.0/24", "av": ["10.30.0.0/24", "fd00:30::/64"]}


@pytest.mark.parametrize(("text", "fault"), REFUSED_ADDRESSES)
def test_an_address_that_no_client_could_use_is_refused_with_a_reason(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        ip_addresses.parse_address(text)


@pytest.mark.parametrize(("text", "fault"), REFUSED_NETWORKS)
def test_a_network_without_addresses_of_services_is_refused_with_a_reason(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        ip_addresses.parse_network(text)


def test_every_spelling_of_an_address_becomes_its_canonical_form() -> None:
    """RFC 5952: lower case, no leading zeros, the longest run of zeros shortened."""
    for text in ("FD00:0:0:0:0:0:0:1", "fd00::0001", "fd00:0::0:1", "fd00::0.0.0.1"):
        assert str(ip_addresses.parse_address(text)) == "fd00::1"
    assert ip_addresses.canonical_address("FD00::1") == "fd00::1"
    assert [ip_addresses.canonical_address(text) for text in ("10.0.0.1", "WEB", "52:54:00:12:34:56")] == [
        *("10.0.0.1", "WEB", "52:54:00:12:34:56")
    ]


def test_urls_have_ipv6_addresses_in_brackets() -> None:
    assert fields.upstream_address("https://[FD00:0::1]:8443/") == "https://[fd00::1]:8443"
    assert fields.upstream_address("http://[::1]") == "http://[::1]"
    for text, fault in (
        ("http://fd00::1:3000", "an IPv6 address is written in brackets"),
        ("http://[fe80::1]:3000", "link-local"),
        ("http://[::ffff:10.0.0.1]", "write 10.0.0.1"),
        ("http://[fd00::1", "expected an address such as"),
    ):
        with pytest.raises(ValueError, match=re.escape(fault)):
            fields.upstream_address(text)
    assert ip_addresses.url_host("fd00::1") == "[fd00::1]"
    assert ip_addresses.url_host("pki.lab") == "pki.lab"


def test_a_host_may_have_an_address_of_each_family(tmp_path: Path) -> None:
    config = load(tmp_path, networks=DUAL, media={"address": ["10.30.0.10", "FD00:30::0:10"]})
    host = config.hosts["media"]
    assert host.addresses == (IPv4Address("10.30.0.10"), IPv6Address("fd00:30::10"))
    assert {claim.name for claim in address_claims(config) if claim.owner == "media"} == {"10.30.0.10", "fd00:30::10"}
    assert config.blocks("av") == (ip_network("10.30.0.0/24"), ip_network("fd00:30::/64"))
    single = load(tmp_path).hosts["media"]
    assert (single.address, single.addresses) == (IPv4Address("10.30.0.10"), (IPv4Address("10.30.0.10"),))
    assert load(tmp_path, networks=DUAL, media={"address": ["fd00:30::10"]}).hosts["media"].address == ip_address(
        "fd00:30::10"
    )


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("fd00:31::10", "hosts.media.address: fd00:31::10 is outside network av (10.30.0.0/24, fd00:30::/64)"),
        (["10.30.0.10", "fd00:31::10"], "hosts.media.address: fd00:31::10 is outside network av"),
        (["fd00:30::10", "FD00:30:0::10"], "hosts.media.address: fd00:30::10 is listed twice"),
        (["10.30.0.10", "fe80::1%eth0"], "hosts.media.address[1]: link-local addresses"),
        ([], "hosts.media.address: expected at least one"),
        ({"fd00:30:": None}, "write one that ends in a colon in quotes"),
    ],
)
def test_a_wrong_address_of_a_host_is_a_fault_with_its_place(tmp_path: Path, address: object, fault: str) -> None:
    assert fault in faults(tmp_path, networks=DUAL, media={"address": address})


def test_an_address_belongs_to_one_host_in_every_spelling(tmp_path: Path) -> None:
    names = {"names": ["FD00:30::7"], "address": "fd00:30::10"}
    config = load(tmp_path, networks=DUAL, media=names, permit_addresses=["10.0.0.0/8", "fd00::/16"])
    assert [leaf.addresses for leaf in host_leaves(config, "media", config.hosts["media"])] == [("fd00:30::7",)]
    other = {"network": "av", "address": "fd00:30::7"}
    tree = yaml.safe_load((PROJECT / "pki.yaml").read_text())["hosts"]
    hosts = {**tree, "media": {**tree["media"], **names}, "other": other}
    assert "fd00:30::7 is already used by hosts.other.address" in faults(
        tmp_path, networks=DUAL, hosts=hosts, permit_addresses=["10.0.0.0/8", "fd00::/16"]
    )


@pytest.mark.parametrize(
    ("networks", "permitted"),
    [
        (["10.30.0.0/24"], ["10.0.0.0/8"]),
        (["10.30.0.0/24", "fd00:30::/64"], ["10.0.0.0/8", "fc00::/7"]),
        (["fd00:30::/64"], ["10.0.0.0/8", "fc00::/7"]),
        (["2001:db8:30::/64", "203.0.113.0/24"], ["10.0.0.0/8", "203.0.113.0/24", "2001:db8:30::/64"]),
    ],
)
def test_certificates_may_name_the_private_blocks_around_the_networks(
    tmp_path: Path, networks: list[str], permitted: list[str]
) -> None:
    tree = yaml.safe_load((PROJECT / "pki.yaml").read_text())
    del tree["permit_addresses"], tree["hosts"]["media"]["address"]
    tree["networks"]["av"] = networks
    (tmp_path / "pki.yaml").write_text(yaml.safe_dump(tree))
    assert permitted_addresses(loader.load(tmp_path / "pki.yaml")) == tuple(map(ip_network, permitted))


def test_a_name_outside_the_permitted_networks_is_a_fault(tmp_path: Path) -> None:
    assert "fd00:30::7 is outside permit_addresses (10.0.0.0/8)" in faults(tmp_path, media={"names": ["fd00:30::7"]})
    assert "link-local addresses" in faults(tmp_path, media={"names": ["fe80::7"]})


@pytest.mark.parametrize(
    ("networks", "address", "listens"),
    [
        ("10.30.0.0/24", "10.30.0.10", False),
        ("10.30.0.0/24", None, False),
        (["10.30.0.0/24", "fd00:30::/64"], "10.30.0.10", False),
        (["10.30.0.0/24", "fd00:30::/64"], ["10.30.0.10", "fd00:30::10"], True),
        (["10.30.0.0/24", "fd00:30::/64"], None, True),
    ],
)
def test_a_proxy_listens_on_ipv6_only_where_the_host_has_it(
    tmp_path: Path, networks: object, address: object, listens: bool
) -> None:
    """A kernel without IPv6 refuses the socket, and then nginx and HAProxy do not start."""
    config = load(tmp_path, networks={**DUAL, "av": networks}, media={"address": address} if address else {})
    if address is None:
        config = config.model_copy(
            update={"hosts": {**config.hosts, "media": config.hosts["media"].model_copy(update={"address": None})}}
        )
    assert listens_on_ipv6(config, "media") is listens


def test_the_publishing_host_listens_where_its_url_says(tmp_path: Path) -> None:
    config = load(tmp_path, publish={"url": "http://[FD00:10::5]:8080", "host": "monitoring"})
    publish = config.publish
    assert (publish.url, publish.hostname) == ("http://[fd00:10::5]:8080", "fd00:10::5")
    assert (publish.url_host, publish.port) == ("[fd00:10::5]", 8080)
    assert listens_on_ipv6(config, "monitoring")
    assert not listens_on_ipv6(config, "forge")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("bastion:2222", ("", "bastion", 2222)),
        ("[FD00::1]", ("", "fd00::1", 0)),
        ("jump@[fd00:0::1]:2222", ("jump", "fd00::1", 2222)),
    ],
)
def test_a_jump_host_may_be_an_address_in_brackets(tmp_path: Path, text: str, parts: tuple[str, str, int]) -> None:
    route = load(tmp_path, media={"probe": text}).hosts["media"].probe or ""
    assert fields.parse_jump_host(route) == parts


def test_ssh_and_mail_may_have_addresses(tmp_path: Path) -> None:
    assert load(tmp_path, media={"ssh": {"name": "FD00::1"}}).hosts["media"].ssh.name == "fd00::1"
    email = {"to": "a@lab.internal", "from": "b@lab.internal", "smtp": "smtp://[FD00::25]:2525"}
    alerts = load(tmp_path, alerts={"email": email}).alerts
    assert alerts.email
    assert alerts.email.smtp == "smtp://[fd00::25]:2525"
    for change, fault in (
        ({"media": {"probe": "fd00::1"}}, "an IPv6 address is written in brackets: [fd00:10::1]:2222"),
        ({"media": {"probe": "[fe80::1]"}}, "link-local"),
        ({"media": {"probe": "[fd00::1]:0"}}, "expected a port"),
        ({"media": {"ssh": {"name": "fe80::1"}}}, "link-local"),
        (
            {"alerts": {"email": {**email, "smtp": "smtp://fd00::25:25"}}},
            "written in brackets: smtp://[fd00:10::25]:25",
        ),
    ):
        assert fault in faults(tmp_path, **change)


def test_networks_are_compared_within_their_family() -> None:
    blocks = (IPv4Network("10.0.0.0/8"), ip_network("fc00::/7"))
    assert [ip_addresses.is_within(ip_network(block), blocks) for block in ("10.1.0.0/16", "fd00::/8")] == [True, True]
    assert [ip_addresses.is_within(ip_network(block), blocks) for block in ("11.0.0.0/8", "::/0")] == [False, False]


def test_init_takes_two_networks_and_two_addresses(tmp_path: Path) -> None:
    options = init_questions.Options(
        organisation="Lab",
        domains=["lab.internal"],
        networks=["lan=192.168.1.0/24", "lan=fd00:1::/64", "iot=fd00:2::/64"],
        publish="http://[fd00:1::10]=web",
        hosts=["web,address=192.168.1.10,address=FD00:1::10,proxy=nginx"],
        services=["web/wiki=http://[::1]:3000,tls"],
    )
    tree = init_questions.tree_of(options)
    (tmp_path / "pki.yaml").write_text(scaffold.render_pki_yaml(tree))
    config = loader.load(tmp_path / "pki.yaml")
    assert config.blocks("lan") == (ip_network("192.168.1.0/24"), ip_network("fd00:1::/64"))
    assert config.networks["iot"] == ip_network("fd00:2::/64")
    assert list(map(str, config.hosts["web"].addresses)) == ["192.168.1.10", "fd00:1::10"]
    assert config.publish.url == "http://[fd00:1::10]"


def test_the_policy_of_a_browser_has_addresses_in_brackets_and_networks_of_both_families() -> None:
    """chromeenterprise.google: #AutoSelectCertificateForUrls has URL patterns, #CACertificatesWithConstraints CIDRs."""
    key = keys.new_key("ec-p256")
    dates = (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 30, tzinfo=UTC))
    name = certificate_signing.subject_name("Lab", "Root 1")
    root = certificate_signing.sign_certificate(name, key.public_key(), dates, profiles.root_extensions(), key)
    networks = [ip_network("10.0.0.0/8"), ip_network("fc00::/7")]
    data = chrome_policy.policy(["fd00::1", "10.0.0.1", "*.lab"], [root], [root], ["lab"], networks)
    policy = json.loads(data)
    patterns = [json.loads(choice)["pattern"] for choice in policy["AutoSelectCertificateForUrls"]]
    assert patterns == ["https://[fd00::1]", "https://10.0.0.1", "https://[*.]lab"]
    [trusted] = policy["CACertificatesWithConstraints"]
    assert trusted["constraints"]["permitted_cidrs"] == ["10.0.0.0/8", "fc00::/7"]
