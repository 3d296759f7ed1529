"""A ledger that lost events would let revoked clients in: with what it is compared, and what it may lack."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.errors import LedgerError
from pki.ledger.types import (
    MISSING,
    NEWEST_IS_BACK,
    OLDER,
    RESTORE_DATABASE,
    TRANSIENT,
    UNKNOWN_AUTHORITIES,
    UNREADABLE,
    Head,
    LedgerFault,
)
from pki.project.layout import Store
from pki.project.ledger_guard import Guard
from pki.x509 import certificate_signing, crl_signing, keys, profiles
from pki.x509.certificate_signing import Issuer
from tests.support.projects import START

DAY = timedelta(days=1)


def made_ca(name: str) -> Issuer:
    key = keys.new_key("ec-p256")
    subject = certificate_signing.subject_name("Example Lab", f"Example Lab {name} CA 1")
    dates, extensions = (START - DAY, START + 3650 * DAY), profiles.root_extensions()
    return Issuer(certificate_signing.sign_certificate(subject, key.public_key(), dates, extensions, key), key)


CLIENT, STRANGER = made_ca("Client"), made_ca("Client")
GENERATION: Any = SimpleNamespace(name="client-1", certificate=CLIENT.certificate, fingerprint="f")


def crl(number: int, issuer: Issuer = CLIENT) -> bytes:
    return crl_signing.sign_crl(issuer, number, START, START + 21 * DAY, []).public_bytes(Encoding.DER)


class FakeLedger:
    """A ledger with these events, CRLs and certificates."""

    def __init__(
        self, *, lost: Collection[Head] = (), recorded: Collection[bytes] = (), last: int | None = 7, knows: bool = True
    ) -> None:
        self.lost, self.recorded, self.last, self.knows = lost, recorded, last, knows

    def newest_event(self) -> object:
        return object()

    def missing_heads(self, heads: Collection[Head]) -> list[Head]:
        return [head for head in heads if head in self.lost]

    def has_recorded(self, issuer: str, der: bytes) -> bool:
        assert issuer == "client-1"
        return der in self.recorded

    def last_crl(self, issuer: str) -> tuple[int, Any] | None:
        assert issuer == "client-1"
        return None if self.last is None else (self.last, START)

    def certificates(self, serial: int) -> list[object]:
        return [object()] if self.knows and serial == CLIENT.certificate.serial_number else []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for folder in ("ca", "build/crl"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ca/ledger.db").write_bytes(b"")
    return Store(tmp_path)


def guard(store: Store, ledger: Any, *, heads: Collection[Head] = (), is_sqlite: bool = True) -> Guard:
    def generation(name: str) -> Any:
        return GENERATION if name == "client-1" else None

    return Guard(store, is_sqlite, lambda: ledger, list(heads), [GENERATION], generation)


def fault(*arguments: Any, **options: Any) -> LedgerFault:
    judged = guard(*arguments, **options).fault()
    assert judged is not None
    return judged


def test_a_ledger_that_has_everything_that_was_seen_can_be_trusted(store: Store) -> None:
    heads = [Head(4, "a" * 64, "build/.seen.json")]
    (store.build / "crl/client-1.crl").write_bytes(crl(7))
    assert guard(store, FakeLedger(), heads=heads).fault() is None


def test_events_that_were_seen_and_are_gone_are_named_once_and_in_order(store: Store) -> None:
    heads = [Head(9, "b" * 64, "the last backup"), Head(4, "a" * 64, "ca/"), Head(9, "b" * 64, "the cache")]
    judged = fault(store, FakeLedger(lost=heads), heads=heads)
    assert judged.kind == OLDER
    assert judged.evidence.endswith("it lacks event 4, which ca/ records; event 9, which the last backup records")
    assert judged.evidence.startswith("ca/ledger.db: is older than a state that was seen before")
    assert judged.remedy == NEWEST_IS_BACK
    database = fault(store, FakeLedger(lost=heads), heads=heads, is_sqlite=False)
    assert database.evidence.startswith("the ledger's database: is older")
    assert database.remedy == RESTORE_DATABASE


@pytest.mark.parametrize(("last", "is_older"), [(6, True), (7, False), (8, False), (None, True)])
def test_a_published_crl_that_is_newer_than_the_newest_of_the_ledger_shows_a_loss(
    store: Store, last: int | None, is_older: bool
) -> None:
    (store.build / "crl/client-1.crl").write_bytes(crl(7))
    judged = guard(store, FakeLedger(last=last))
    assert judged.has_unrecorded_crls is is_older
    if is_older:
        assert "it lacks CRL 7 of client-1, which is in build/crl/" in fault(store, FakeLedger(last=last)).evidence
    else:
        assert judged.fault() is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("client-1", crl(9, STRANGER)),
        ("client-1", b"hello"),
        ("client-1", b""),
        ("client-7", crl(9)),
    ],
    ids=["another key", "no CRL", "empty", "unknown generation"],
)
def test_a_file_that_no_ca_of_the_project_signed_shows_nothing(store: Store, name: str, content: bytes) -> None:
    """Otherwise whoever can write into `build/` could stop every run."""
    (store.build / f"crl/{name}.crl").write_bytes(content)
    assert guard(store, FakeLedger()).fault() is None


def test_a_damaged_crl_hides_no_other(store: Store) -> None:
    (store.build / "crl/client-0.crl").write_bytes(b"hello")
    (store.build / "crl/client-1.crl").write_bytes(crl(9))
    assert guard(store, FakeLedger()).has_unrecorded_crls


def test_a_crl_that_the_ledger_records_is_none_that_it_lacks(store: Store) -> None:
    """Its number may be higher than that of the newest one: a clock was ahead when it was issued."""
    (store.build / "crl/client-1.crl").write_bytes(crl(9))
    assert guard(store, FakeLedger(recorded=[crl(9)], last=8)).fault() is not None, "another CRL of the same number"
    der = (store.build / "crl/client-1.crl").read_bytes()
    assert guard(store, FakeLedger(recorded=[der], last=8)).fault() is None


def test_a_ledger_that_does_not_know_an_authority_is_that_of_another_project(store: Store) -> None:
    judged = fault(store, FakeLedger(knows=False))
    assert (judged.kind, judged.remedy) == (UNKNOWN_AUTHORITIES, NEWEST_IS_BACK)
    assert judged.evidence == (
        "ca/ledger.db: does not contain client-1: it was created again, or belongs to another project"
    )


def test_a_ledger_that_is_missing_is_lost_only_where_there_was_one(store: Store) -> None:
    (store.ca / "ledger.db").unlink()
    assert guard(store, FakeLedger()).fault() is None, "a new project has none yet"
    (store.ca / "root/root-1").mkdir(parents=True)
    (store.ca / "root/root-1/cert.pem").write_bytes(b"")
    assert fault(store, FakeLedger()).kind == MISSING
    assert guard(store, FakeLedger(), is_sqlite=False).fault() is None, "a database elsewhere has no such file"


@pytest.mark.parametrize(("kind", "expected"), [(TRANSIENT, TRANSIENT), ("", UNREADABLE)])
def test_a_ledger_that_cannot_be_read_keeps_the_reason_and_the_remedy(store: Store, kind: str, expected: str) -> None:
    class Unreadable(FakeLedger):
        def newest_event(self) -> object:
            raise LedgerError("ca/ledger.db: cannot be read", "free some space", kind)

    judged = fault(store, Unreadable())
    assert (judged.kind, judged.evidence, judged.remedy) == (
        expected,
        "ca/ledger.db: cannot be read",
        "free some space",
    )


def test_an_answer_of_the_guard_is_asked_for_again_after_any_change(store: Store) -> None:
    keys_seen = [guard(store, FakeLedger()).cache_key]
    (store.build / "crl/client-1.crl").write_bytes(crl(7))
    keys_seen.append(guard(store, FakeLedger()).cache_key)
    keys_seen.append(guard(store, FakeLedger(), heads=[Head(4, "a" * 64)]).cache_key)
    assert len(set(keys_seen)) == 3
    assert guard(store, FakeLedger()).cache_key == keys_seen[1]
