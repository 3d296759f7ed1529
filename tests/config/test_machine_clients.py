"""Clients that are machines: DNS names and SPIFFE IDs instead of an e-mail address, and that each belongs to one client."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from pki.common.errors import InventoryError
from pki.config import loader
from pki.config.leaf_certificates import client_leaf
from pki.config.model import Inventory
from pki.config.name_fields import MAX_SPIFFE_ID, spiffe_id
from pki.monitor import forecast
from tests.support import judges
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home

PROJECT = """
organisation: Lab
domains: [lab.internal, example.test]
publish: {url: "http://pki.lab.internal", host: web}
networks: {lan: 10.0.0.0/24}
hosts: {web: {network: lan, deliver: none, names: db.lab.internal}}
clients:
"""
DB, SPIFFE = "db.lab.internal", "spiffe://lab.internal/backup"


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process."""

    def call(*arguments: str) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment())

    return call


def load(folder: Path, *clients: str) -> Inventory:
    (folder / "pki.yaml").write_text(PROJECT + "".join(f"  {client}\n" for client in clients))
    return loader.load(folder / "pki.yaml")


def faults(folder: Path, *clients: str) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        load(folder, *clients)
    return [str(fault).partition(" clients.")[2] for fault in caught.value.faults]


# -- what may be declared ---------------------------------------------------------------------------------------------


def test_a_machine_needs_no_e_mail_address(tmp_path: Path) -> None:
    """A DNS name may also be that of a server: the two certificates have different purposes."""
    inventory = load(tmp_path, f"db: {{dns: {DB}, uri: '{SPIFFE}'}}", "job: {uri: 'spiffe://example.test/a/B_c'}")
    leaves = {name: client_leaf(inventory, name, client) for name, client in inventory.clients.items()}
    assert (leaves["db"].emails, leaves["db"].dns, leaves["db"].uris) == ((), (DB,), (SPIFFE,))
    assert leaves["db"].names == (DB, SPIFFE)
    assert (leaves["job"].dns, leaves["job"].uris) == (("job.client.lab.internal",), ("spiffe://example.test/a/B_c",))


@pytest.mark.parametrize(
    ("client", "fault"),
    [
        ("db: {}", "has no name: write email for a person, dns or uri for a machine"),
        ("db: {dns: db.example.org}", "db.example.org is outside domains"),
        ("db: {dns: '*.lab.internal'}", "without a wildcard"),
        ("db: {dns: [db.lab.internal, db.lab.internal]}", "db.lab.internal is listed twice"),
        ("db: {dns: doit-pki-probe.lab.internal}", "reserved for the test identities"),
        ("db: {uri: 'spiffe://example.org/db'}", "its trust domain example.org is outside domains"),
        ("db: {uri: 'https://lab.internal/db'}", "expected a SPIFFE ID such as spiffe://lab.internal/backup"),
        ("db: {uri: ['spiffe://lab.internal/a', 'spiffe://lab.internal/b']}", "uri"),
    ],
)
def test_a_name_that_no_machine_may_have_is_refused(tmp_path: Path, client: str, fault: str) -> None:
    (only,) = faults(tmp_path, client)
    assert only.startswith("db")
    assert fault in only


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (f"a: {{dns: {DB}}}", f"b: {{dns: {DB}}}", DB),
        (f"a: {{uri: '{SPIFFE}'}}", f"b: {{uri: '{SPIFFE}'}}", SPIFFE),
        ("a: {email: a@lab.internal}", "b: {dns: a.client.lab.internal}", "a.client.lab.internal"),
        (f"{DB}: {{email: a@lab.internal}}", f"b: {{dns: {DB}}}", DB),
        (f"a: {{uri: '{SPIFFE}'}}", "b: {uri: 'spiffe://lab.internal/Backup'}", "spiffe://lab.internal/Backup"),
    ],
    ids=["DNS name", "SPIFFE ID", "the name that a client has without asking", "a CN", "capitals"],
)
def test_two_clients_have_no_name_in_common(tmp_path: Path, first: str, second: str, name: str) -> None:
    (only,) = faults(tmp_path, first, second)
    assert f"{name} is already a name of clients.{first.partition(':')[0]} (pki.yaml:8)" in only
    load(tmp_path, first, "b: {dns: other.lab.internal}")


def test_the_fault_of_one_name_is_reported_once(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "db: {dns: 'a b'}")) == 1


# -- SPIFFE IDs (SPIFFE-ID §2, X509-SVID §2) --------------------------------------------------------------------------

LONGEST = f"spiffe://a/{'b' * (MAX_SPIFFE_ID - len('spiffe://a/'))}"


@pytest.mark.parametrize(
    "text", ["spiffe://a/b", "spiffe://lab.internal/ns/prod/sa/web-1", "spiffe://a_b-c/D.e_f", LONGEST]
)
def test_a_spiffe_id_is_accepted(text: str) -> None:
    assert spiffe_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://a",  # a leaf has a path
        "spiffe://a/",
        "spiffe://a/b/",
        "spiffe://a//b",
        "spiffe://a/./b",
        "spiffe://a/../b",
        "spiffe://A/b",
        "SPIFFE://a/b",
        "spiffe:///b",
        "spiffe://a:443/b",
        "spiffe://u@a/b",
        "spiffe://a/b?c",
        "spiffe://a/b#c",
        "spiffe://a/b%20c",
        "spiffe://a/ü",
        "spiffe://a/b\n",
        f"{LONGEST}b",
        f"spiffe://{'a' * 256}/b",
    ],
)
def test_what_is_no_spiffe_id_of_a_leaf_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a SPIFFE ID"):
        spiffe_id(text)


# -- certificates -----------------------------------------------------------------------------------------------------


def names_of(home: Home, client: str) -> x509.SubjectAlternativeName:
    leaf = judges.Identity.read(home.path / f"ca/clients/{client}/tls.pem").leaf
    return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_the_certificate_of_a_machine_has_its_names_and_no_other_and_follows_pki_yaml(home: Home) -> None:
    home.edit("  admin: {", f"  backup: {{dns: {DB}, uri: '{SPIFFE}'}}\n  admin: {{")
    assert home.doit().status == 0
    assert list(names_of(home, "backup")) == [x509.DNSName(DB), x509.UniformResourceIdentifier(SPIFFE)]
    identity = judges.Identity.read(home.path / "ca/clients/backup/tls.pem")
    roots = [judges.certificate(home.path / "build/trust/roots.pem")]
    crls = [x509.load_pem_x509_crl(home.read(f"build/crl/{name}.pem")) for name in ("root-1", "client-1")]
    assert judges.openssl_fault(identity, roots, START, crls) == ""
    assert home.doit().made == {}
    home.edit(SPIFFE, f"{SPIFFE}-2")
    assert home.doit().made["cert:client-backup"] == f"lacked {SPIFFE}-2; still named {SPIFFE}"
    assert list(names_of(home, "backup"))[1:] == [x509.UniformResourceIdentifier(f"{SPIFFE}-2")]


def test_a_domain_that_the_client_authority_does_not_permit_needs_a_ceremony_first(home: Home) -> None:
    home.edit("domains: [lab.internal]", "domains: [lab.internal, example.test]")
    home.edit("  admin: {", "  backup: {dns: db.example.test}\n  admin: {")
    project = home.project()
    actions = [action for action in forecast.required_actions(project, home.plan()) if "db.example.test" in action.text]
    assert [action.subject for action in actions] == ["cert:client-backup"]
    assert "client-1 does not permit it; needs a ceremony" in actions[0].text
    assert "client-backup" not in home.plan().leaves


def test_a_name_that_moves_to_another_client_is_named_in_the_plan(home: Home, invoke: Invoke) -> None:
    home.edit("  admin: {", f"  backup: {{uri: '{SPIFFE}'}}\n  admin: {{")
    assert home.doit().status == 0
    home.edit("  backup: {", "  spare: {")
    assert f"takes {SPIFFE} over from cert:client-backup" in invoke("plan").out


# -- commands ---------------------------------------------------------------------------------------------------------


def test_a_machine_is_added_listed_and_explained(home: Home, invoke: Invoke) -> None:
    added = invoke("client.add", "backup", "--dns", DB, "--dns", "db2.lab.internal", "--uri", SPIFFE)
    assert added.status == 0, added.error
    assert f"  backup: {{dns: [{DB}, db2.lab.internal], uri: " in home.read("pki.yaml").decode()
    row = next(line for line in invoke("client.list").out.splitlines() if line.startswith("backup"))
    assert DB in row
    listed = invoke("client.list", "--json").out
    assert f'"other_names": "{DB}, db2.lab.internal, {SPIFFE}"' in listed
    for name in (SPIFFE, "db2.lab.internal", "backup"):
        assert "cert:client-backup" in invoke("explain", name).out


def test_nobody_is_added_without_a_name(home: Home, invoke: Invoke) -> None:
    before = home.read("pki.yaml")
    refused = invoke("client.add", "backup")
    assert refused.status == 1
    assert "--dns NAME or --uri ID for a machine" in refused.error
    assert home.read("pki.yaml") == before
