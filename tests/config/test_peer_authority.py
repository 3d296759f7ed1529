"""The authority of clusters in pki.yaml: what declares it and its members, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pki.common.errors import InventoryError
from pki.config import loader
from pki.config.authority_rules import IntermediateRule
from pki.config.leaf_certificates import host_leaves
from pki.config.model import Inventory
from tests.support.projects import PROJECT

EXAMPLE = (PROJECT / "pki.yaml").read_text()
AUTHORITY, HOST, PROFILE = "  client: {lifetime: 2y,", "    address: 10.30.0.10\n", "  client: {lifetime: 180d,"
MEMBER = "peer: [media.lab.internal, 10.30.0.10]"


def load(folder: Path, authority: str = "", host: str = "", profile: str = "") -> Inventory:
    text = EXAMPLE
    for place, line, before in ((AUTHORITY, authority, "  "), (PROFILE, profile, "  ")):
        assert place in text
        text = text.replace(place, f"{before}{line}\n{place}") if line else text
    text = text.replace(HOST, f"{HOST}    {host}\n") if host else text
    (folder / "pki.yaml").write_text(text)
    return loader.load(folder / "pki.yaml")


@pytest.mark.parametrize("authority", ["peer: {}", "peer:"])
def test_empty_mapping_and_no_value_declare_the_authority_with_its_defaults(authority: str, tmp_path: Path) -> None:
    rules = load(tmp_path, authority).authorities
    assert rules.peer == IntermediateRule()
    assert rules.lifetime("peer") == timedelta(days=730)
    assert rules.overlap("root-peer") == rules.root.overlap
    assert (rules.adopted, rules.externals) == ({}, {})


def test_without_the_key_there_is_no_such_authority(tmp_path: Path) -> None:
    inventory = load(tmp_path)
    assert inventory.authorities.peer is None
    assert [leaf.profile for leaf in host_leaves(inventory, "media", inventory.hosts["media"])] == ["server"]


def test_member_gets_a_certificate_of_its_own_with_exactly_its_names(tmp_path: Path) -> None:
    inventory = load(tmp_path, "peer: {}", MEMBER, "peer: {lifetime: 40d, renew_before: 10d, key: rsa-3072}")
    server, peer = host_leaves(inventory, "media", inventory.hosts["media"])
    assert (server.name, server.profile, server.names) == ("media", "server", ("jellyfin.lab.internal",))
    assert (peer.name, peer.profile, peer.authority) == ("media-peer", "peer", "peer")
    assert (peer.dns, peer.addresses) == (("media.lab.internal",), ("10.30.0.10",))
    assert (peer.lifetime, peer.renew_before, peer.key) == (timedelta(days=40), timedelta(days=10), "rsa-3072")
    assert (peer.declared, peer.request) == ("hosts.media", None)


def test_key_of_the_host_is_that_of_its_peer_certificate_too(tmp_path: Path) -> None:
    inventory = load(tmp_path, "peer: {}", f"{MEMBER}\n    key: ec-p384")
    assert [leaf.key for leaf in host_leaves(inventory, "media", inventory.hosts["media"])] == ["ec-p384", "ec-p384"]


def test_name_of_a_service_may_be_in_the_peer_certificate_of_the_same_host(tmp_path: Path) -> None:
    inventory = load(tmp_path, "peer: {}", "peer: jellyfin.lab.internal")
    assert inventory.hosts["media"].peer == ("jellyfin.lab.internal",)


def test_request_of_a_device_is_for_its_server_certificate_alone(tmp_path: Path) -> None:
    inventory = load(tmp_path, "peer: {}", f"{MEMBER}\n    request: requests/media.csr")
    leaves = host_leaves(inventory, "media", inventory.hosts["media"])
    assert [leaf.request for leaf in leaves] == ["requests/media.csr", None]


def test_root_must_be_able_to_certify_the_authority_of_clusters(tmp_path: Path) -> None:
    assert load(tmp_path, "peer: {lifetime: 1y}").authorities.longest_intermediate == timedelta(days=730)
    assert load(tmp_path, "peer: {lifetime: 3y}").authorities.longest_intermediate == timedelta(days=1095)


@pytest.mark.parametrize(
    ("authority", "host", "profile", "fault"),
    [
        ("", MEMBER, "", "hosts.media.peer: needs the authority of clusters: write authorities: {peer: {}}"),
        (
            "peer: {}",
            "peer: [media.example.com]",
            "",
            "hosts.media.peer: media.example.com is outside domains (lab.internal)",
        ),
        ("peer: {}", "peer: [192.0.2.1]", "", "hosts.media.peer: 192.0.2.1 is outside permit_addresses (10.0.0.0/8)"),
        (
            "peer: {}",
            "peer: [a.lab.internal, a.lab.internal]",
            "",
            "hosts.media.peer: a.lab.internal is listed twice",
        ),
        (
            "peer: {}",
            "peer: [forgejo.lab.internal]",
            "",
            "hosts.media.peer: forgejo.lab.internal is already used by hosts.forge.services.forgejo (pki.yaml:37); if both hosts serve it: hosts.media.shared: true",
        ),
        ("peer: {}", MEMBER, "peer: {lifetime: 3y}", "profiles.peer.lifetime: 1095d is not shorter than the peer authority's 730d"),
        ("peer: {lifetime: 20y}", "", "", "authorities.peer.lifetime: 7300d outlives the root's 3650d"),
        ("peer: {crl: {lifetime: 7d}}", "", "", "authorities.peer.crl.refresh: 7d is not shorter than the CRL's lifetime of 7d"),
        ("peer: {presigned: 2}", "", "", "authorities.peer.presigned: unknown key"),
        ("peer-two: {adopt: ca/old}", "", "", "authorities.peer-two: peer-two is reserved; expected a name such as legacy, got 'peer-two'"),
    ],
)  # fmt: skip
def test_fault_names_the_place_and_what_to_write(
    authority: str, host: str, profile: str, fault: str, tmp_path: Path
) -> None:
    with pytest.raises(InventoryError) as refused:
        load(tmp_path, authority, host, profile)
    assert [text.partition(": ")[2] for text in refused.value.message.splitlines()] == [fault]
