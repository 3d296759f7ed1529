"""CRLs that a host has already: what is read of them, and that no release takes a revocation back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common.errors import PkiError
from pki.common.reasons import Why
from pki.deploy import installed_crls
from pki.deploy.installed_crls import BYTES_PER_ENTRY, MAX_CRL_BYTES, InstalledCrl
from pki.deploy.preflight import Trust
from pki.deploy.release import File, Release
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.revocation import CrlEntry
from tests.support.projects import START

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PATH = "/etc/doit-pki/client.crl"


def made_ca(name: str) -> Issuer:
    key = keys.new_key("ec-p256")
    subject = certificate_signing.subject_name("Example Lab", f"Example Lab {name} CA 1")
    dates = START - DAY, START + 3650 * DAY
    extensions = profiles.root_extensions()
    return Issuer(certificate_signing.sign_certificate(subject, key.public_key(), dates, extensions, key), key)


CLIENT, SERVER, FOREIGN = made_ca("Client"), made_ca("Server"), made_ca("Foreign")
SAME_NAME = replace(made_ca("Client"))
TRUST = Trust(b"", pem_encoding.pem_of([CLIENT.certificate, SERVER.certificate]))


def crl(
    number: int, *serials: int, issuer: Issuer = CLIENT, since: datetime = START - HOUR, form: Encoding = Encoding.PEM
) -> bytes:
    entries = [CrlEntry(serial, since, "keyCompromise") for serial in serials]
    return crl_signing.sign_crl(issuer, number, since, since + 21 * DAY, entries).public_bytes(form)


def payload_of(contents: dict[str, bytes]) -> Any:
    """A release of these files; those whose names end in .crl are CRLs."""
    files = tuple(
        File(path, "0644", "root:root", hashlib.sha256(data).hexdigest(), "x", "", "", crl=path.endswith(".crl"))
        for path, data in contents.items()
    )
    release = Release("media", files, {}, {})
    return SimpleNamespace(release=release, content=lambda file: contents[file.path])


def refused(release_crl: bytes, *installed: bytes, trust: Trust = TRUST) -> str:
    host_crls = [InstalledCrl(PATH, content) for content in installed]
    with pytest.raises(PkiError) as caught:
        installed_crls.check_no_regression(payload_of({PATH: release_crl}), host_crls, trust, START)
    assert caught.value.hint == "./run invoke ledger.recover media"
    return caught.value.message


def foreign(release_crl: bytes, *installed: bytes) -> list[Any]:
    host_crls = [InstalledCrl(PATH, content) for content in installed]
    reasons = installed_crls.check_no_regression(payload_of({PATH: release_crl}), host_crls, TRUST, START)
    assert all(dict(reason.data) == {"file": PATH} for reason in reasons)
    return [reason.code for reason in reasons]


# -- what may replace them --------------------------------------------------------------------------------------------


def test_a_release_that_lacks_a_revocation_of_the_host_is_not_sent() -> None:
    said = refused(crl(8, 6), crl(7, 5))
    assert said.startswith(
        "nothing was sent: media has newer CRLs than this project (was it restored from a backup?): "
    )
    assert said.endswith(f"in {PATH} lacks the revoked 5, which number 7 on the host lists")


def test_a_release_that_lists_as_much_replaces_the_crl_of_the_host() -> None:
    assert foreign(crl(8, 5, 6), crl(7, 5)) == []
    assert foreign(crl(8, 5, 6), crl(7, 5, form=Encoding.DER)) == []


def test_each_fault_of_each_crl_of_the_host_is_named_once() -> None:
    said = refused(crl(8), crl(7, 5) + crl(9), crl(7, 5))
    assert said.count("lacks the revoked 5") == 1
    assert said.count("has number 8, the host has 9") == 1


def test_a_crl_is_compared_with_those_of_its_own_issuer_alone() -> None:
    assert foreign(crl(8), crl(9, 5, issuer=SERVER)) == []
    both = crl(8, 5) + crl(3, issuer=SERVER)
    assert "lacks the revoked 6" in refused(both, crl(2, 6, issuer=SERVER))


def test_a_crl_that_nobody_of_ours_signed_is_replaced_and_reported() -> None:
    """Whoever can write on the host could else keep every release away with a CRL that lists a number of his own."""
    for content in (crl(9, 5, issuer=FOREIGN), crl(9, 5, issuer=SAME_NAME), b"no crl", b""):
        assert foreign(crl(8), content) == [Why.FOREIGN_CRL]
    assert foreign(crl(8), crl(7) + crl(9, 5, issuer=FOREIGN)) == [Why.FOREIGN_CRL]
    assert "lacks the revoked 5" in refused(crl(8), crl(7, 5) + crl(9, issuer=FOREIGN))


def test_a_certificate_that_has_ended_may_leave_the_crl_of_a_host() -> None:
    assert "lacks the revoked 6" in refused(
        crl(8), crl(7, 5, 6), trust=replace(TRUST, has_expired=lambda serial: serial == 5)
    )
    ended = replace(TRUST, has_expired=lambda serial: serial in {5, 6})
    release = payload_of({PATH: crl(8)})
    assert installed_crls.check_no_regression(release, [InstalledCrl(PATH, crl(7, 5, 6))], ended, START) == []


def test_only_crls_that_may_be_replaced_are_permitted_to_the_host_by_their_digest() -> None:
    old, newer, other = (InstalledCrl(PATH, content) for content in (crl(7), crl(9, 5), crl(9, issuer=FOREIGN)))
    permitted = installed_crls.replaceable_digests(payload_of({PATH: crl(8)}), [old, newer, other], TRUST, START)
    assert permitted == [hashlib.sha256(old.content).hexdigest(), hashlib.sha256(other.content).hexdigest()]


# -- what is read of them ----------------------------------------------------------------------------------------------


def state(content: bytes | None, *, is_crl: bool = True, is_removal: bool = False) -> Any:
    row = SimpleNamespace(file=SimpleNamespace(path=PATH, crl=is_crl), is_removal=is_removal)
    return SimpleNamespace(row=row, sha256=hashlib.sha256(content).hexdigest() if content is not None else "")


def read(states: Iterable[Any], shown: bytes = b"", known: bytes = b"") -> tuple[list[bytes], list[int]]:
    """The contents that are read, and for each that the host was asked for, how many bytes are read at most."""
    limits = list[int]()

    def show(_: Any, limit: int) -> bytes:
        limits.append(limit)
        return shown

    session: Any = SimpleNamespace(show=show)

    def recall(digest: str) -> bytes | None:
        return known if digest == hashlib.sha256(known).hexdigest() else None

    release = payload_of({PATH: crl(8, 5), "/etc/site.conf": b"x" * 5000})
    found = installed_crls.read_from_session(session, states, release, recall)
    return [one.content for one in found], limits


def test_only_crls_that_the_host_has_are_read() -> None:
    others = [state(b"x", is_crl=False), state(b"x", is_removal=True), state(None)]
    assert read(others) == ([], [])
    (content,), (limit,) = read([state(b"theirs")], shown=b"theirs")
    assert content == b"theirs"
    assert limit == MAX_CRL_BYTES + BYTES_PER_ENTRY


def test_a_crl_that_is_known_here_or_empty_is_not_transferred() -> None:
    assert read([state(b"ours"), state(b"")], known=b"ours") == ([b"ours", b""], [])


def test_a_crl_that_cannot_be_read_may_revoke_more_and_stops_the_release() -> None:
    with pytest.raises(PkiError, match="it may revoke more than ours") as caught:
        read([state(b"theirs")], shown=b"")
    assert caught.value.hint.endswith(f"chmod 0644 {PATH}")


def test_a_crl_that_is_another_one_than_the_host_named_stops_the_release() -> None:
    """Otherwise a host could name a harmless CRL, and the one that is replaced is never compared."""
    with pytest.raises(PkiError, match="changed while it was read"):
        read([state(b"theirs")], shown=b"others")


def test_a_larger_crl_of_ours_permits_a_larger_one_on_the_host() -> None:
    both = payload_of({PATH: crl(8, *range(1, 11)), "/etc/other.crl": crl(9, 5)})
    assert installed_crls.max_crl_bytes(both) == MAX_CRL_BYTES + 11 * BYTES_PER_ENTRY


def test_the_crls_of_a_folder_are_read_where_its_release_puts_them(tmp_path: Path) -> None:
    (tmp_path / "etc/doit-pki").mkdir(parents=True)
    (tmp_path / "etc/doit-pki/client.crl").write_bytes(b"theirs")
    (tmp_path / "etc/doit-pki/tls.pem").write_bytes(b"no crl")
    release = payload_of({PATH: crl(8), "/etc/doit-pki/missing.crl": b"", "/etc/doit-pki/tls.pem": b""})
    assert [*installed_crls.read_from_folder(tmp_path, release)] == [InstalledCrl(PATH, b"theirs")]


def test_of_what_was_sent_before_only_crls_that_change_are_compared() -> None:
    same = crl(7)
    before = payload_of({PATH: crl(6, 5), "/etc/same.crl": same, "/etc/tls.pem": b"old"})
    after = payload_of({PATH: crl(8, 5), "/etc/same.crl": same, "/etc/tls.pem": b"new"})
    assert [one.path for one in installed_crls.delivered_crls(before, after)] == [PATH]
