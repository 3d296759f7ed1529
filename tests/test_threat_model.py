"""docs/explanation/threat-model.md: every line names tests that exist, and what it calls unprotected can be done."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql
from cryptography import x509

from pki.common.hash_chain import START_HASH
from pki.ledger import chain
from pki.ledger.tables import events, head
from pki.x509 import certificate_signing, keys, profiles
from tests.support import judges
from tests.support.hierarchy import client, every_crl, intermediate_of, root_of, server, signed_on_purpose
from tests.support.judges import DAY, Identity
from tests.support.projects import PROJECT, START, Home

DOCUMENT = PROJECT / "docs/explanation/threat-model.md"
JELLYFIN = x509.DNSName("jellyfin.lab.internal")


def lines() -> Iterator[tuple[str, list[str]]]:
    """Each line of each table, and the tests that its last column names."""
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[-1] != "tests" and set(cells[-1]) != {"-"}:
            yield line, re.findall(r"`(test_\w+)`", cells[-1])


def names_of_tests() -> Counter[str]:
    """The name of every test function, and how often it exists."""
    found: Counter[str] = Counter()
    for path in Path(PROJECT, "tests").rglob("*.py"):
        tree = ast.walk(ast.parse(path.read_text()))
        found.update(node.name for node in tree if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
    return found


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    there = names_of_tests()
    assert len(list(lines())) > 30
    for line, named in lines():
        assert named, line
        assert [name for name in named if not there[name]] == [], line


def test_a_ledger_that_somebody_wrote_again_from_its_beginning_is_whole(home: Home) -> None:
    """Whoever holds the file computes every digest again: no hash chain can show that."""
    engine = sql.create_engine(f"sqlite:///{home.path / 'ca/ledger.db'}")
    with engine.begin() as db:
        db.execute(sql.text("UPDATE events SET actor = 'somebody else' WHERE seq = 2"))
        assert list(chain.find_faults(db)) != []
        previous = START_HASH
        for event in db.execute(sql.select(events).order_by(events.c.seq)).mappings().all():
            values = {**event, "previous": previous}
            values.pop("hash")
            previous = chain.CHAIN.digest(values)  # the one who forges it knows how
            row = events.update().where(events.c.seq == event["seq"])
            db.execute(row.values(previous=values["previous"], hash=previous))
        db.execute(head.update().values(hash=previous))
        assert list(chain.find_faults(db)) == []
    engine.dispose()


@pytest.mark.parametrize(
    "name",
    [x509.RFC822Name("ceo@example.org"), x509.UniformResourceIdentifier("spiffe://example.org/admin")],
    ids=["e-mail", "uri"],
)
def test_name_constraints_do_not_cover_e_mail_and_uri_names(home: Home, name: x509.GeneralName) -> None:
    forged = signed_on_purpose(home, "client-admin", [name])
    assert judges.openssl_fault(forged, [root_of(home)], START, every_crl(home)) == ""
    assert judges.handshake_fault(server(home), forged, [root_of(home)], START, every_crl(home)) == ""


def test_whoever_holds_the_key_of_the_client_authority_is_any_client(home: Home) -> None:
    forged = signed_on_purpose(home, "client-admin", [x509.RFC822Name("admin@lab.internal")])
    assert forged.leaf.subject == client(home).leaf.subject
    assert forged.leaf.public_key() != client(home).leaf.public_key()
    assert judges.handshake_fault(server(home), forged, [root_of(home)], START, every_crl(home)) == ""


@pytest.mark.parametrize("authority", ["server", "client"])
def test_an_intermediate_signs_no_authority(home: Home, authority: str) -> None:
    """Its path length is 0 (RFC 5280 §4.2.1.9)."""
    signing, key = home.project().signing_keys.issuer(authority), keys.new_key("ec-p384")
    below = certificate_signing.sign_certificate(
        certificate_signing.subject_name("Example Lab", "Below"),
        key.public_key(),
        certificate_signing.validity_dates(START, 90 * DAY, signing.certificate),
        profiles.root_extensions(),
        signing,
    )
    like = "media" if authority == "server" else "client-admin"
    leaf = signed_on_purpose(home, like, [JELLYFIN], issuer=certificate_signing.Issuer(below, key))
    whole = Identity(leaf.leaf, below, leaf.key, (intermediate_of(home, authority),))
    assert judges.openssl_fault(whole, [root_of(home)], START, []) == "path length constraint exceeded"
