"""External authorities in pki.yaml: what declares one, and what is refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pki.common.errors import InventoryError
from pki.config import loader
from pki.config.model import Inventory
from tests.support.projects import PROJECT

EXAMPLE = (PROJECT / "pki.yaml").read_text()
ACME = "acme: {external: requests/acme.csr, domains: [acme.lab.internal]"


def load(folder: Path, *lines: str) -> Inventory:
    place = "  client: {lifetime: 2y,"
    assert place in EXAMPLE
    (folder / "pki.yaml").write_text(EXAMPLE.replace(place, "".join(f"  {line}\n" for line in lines) + place))
    return loader.load(folder / "pki.yaml")


def test_external_authority_has_a_request_domains_and_defaults(tmp_path: Path) -> None:
    k8s = "k8s: {external: requests/k8s.csr, domains: [k8s.lab.internal, cluster.local], lifetime: 2y, overlap: 90d}"
    rules = load(tmp_path, f"{ACME}}}", k8s).authorities
    assert list(rules.externals) == ["acme", "k8s"]
    acme, other = rules.externals.values()
    assert (acme.external, acme.domains) == ("requests/acme.csr", ("acme.lab.internal",))
    assert (acme.lifetime, acme.overlap) == (timedelta(days=365), timedelta(days=60))
    assert (other.domains, other.lifetime) == (("k8s.lab.internal", "cluster.local"), timedelta(days=730))
    assert rules.adopted == {}


def test_adopted_and_external_authorities_are_two_kinds(tmp_path: Path) -> None:
    rules = load(tmp_path, f"{ACME}}}", "legacy: {adopt: ca/legacy}").authorities
    assert (list(rules.externals), list(rules.adopted)) == (["acme"], ["legacy"])
    assert not rules.is_adopted("acme")


def test_root_must_be_able_to_certify_the_longest_external_authority(tmp_path: Path) -> None:
    assert load(tmp_path).authorities.longest_intermediate == timedelta(days=730)
    assert load(tmp_path, f"{ACME}, lifetime: 3y}}").authorities.longest_intermediate == timedelta(days=1095)


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        ([f"{ACME}, key: ec-p256}}"], ["pki.yaml:14: authorities.acme.key: unknown key"]),
        ([f"{ACME}, livetime: 1y}}"], ["pki.yaml:14: authorities.acme.livetime: unknown key (did you mean lifetime?)"]),
        (["acme: {external: requests/acme.csr}"], ["pki.yaml:14: authorities.acme.domains: is missing"]),
        (
            ["acme: {external: requests/acme.csr, domains: []}"],
            ["pki.yaml:14: authorities.acme.domains: expected at least one, got a list"],
        ),
        (
            [f"{ACME}, overlap: 1y}}"],
            ["pki.yaml:14: authorities.acme.overlap: 365d is not shorter than the lifetime of 365d"],
        ),
        (
            [ACME.replace("acme:", "clients:") + "}"],
            [
                "pki.yaml:14: authorities.clients: ca/clients is used by the project itself; expected a name such as acme"
            ],
        ),
        (
            [f"{ACME}}}", "legacy: {adopt: ca/acme/old}"],
            [
                "pki.yaml:15: authorities.legacy.adopt: ca/acme/old is used by the project itself; expected a folder such as ca/legacy"
            ],
        ),
        (
            [f"{ACME}, lifetime: 20y}}"],
            [
                "pki.yaml:14: authorities.acme.lifetime: 7300d outlives the root's 3650d",
            ],
        ),
        (
            [f"{ACME.replace('requests/', 'build/')}}}"],
            [
                (
                    "pki.yaml:14: authorities.acme.external: build/acme.csr is in a folder of the program; expected a file such as requests/acme.csr"
                )
            ],
        ),
        (
            [f"{ACME}}}", f"{ACME.replace('acme:', 'k8s:')}}}"],
            [
                (
                    "pki.yaml:15: authorities.k8s.external: requests/acme.csr is already used by authorities.acme: each intermediate needs a key of its own"
                )
            ],
        ),
        (
            ["server-acme: {external: requests/acme.csr, domains: [lab.internal]}"],
            [
                (
                    "pki.yaml:14: authorities.server-acme: server-acme is reserved; expected a name such as legacy, got 'server-acme'"
                )
            ],
        ),
    ],
)
def test_faults_name_the_key_and_what_is_expected(tmp_path: Path, lines: list[str], faults: list[str]) -> None:
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, *lines)
    assert caught.value.faults == faults
