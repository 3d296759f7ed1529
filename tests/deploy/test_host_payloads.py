"""Which release a host must have: its own, or the one at which it is pinned, and always the newest CRLs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pki.deploy.host_payloads import HostPayloads
from pki.deploy.payload import Payload
from pki.deploy.release import File, Release
from tests.support.projects import START

OLD, NEW = Path("/old"), Path("/new")


def payload_in(folder: Path, *names: str) -> Payload:
    """A release in a folder; files whose names end in .crl are CRLs."""
    files = tuple(
        File(f"/etc/{name}", "0644", "root:root", f"{folder}/{name}", "x", "", "", crl=name.endswith(".crl"))
        for name in sorted(names)
    )
    return Payload(Release("media", files, {}, {}), {file.path: folder for file in files})


CURRENT, PINNED = payload_in(NEW, "tls.pem", "a.crl", "b.crl"), payload_in(OLD, "tls.pem", "site.conf", "a.crl")


@pytest.fixture(autouse=True)
def _current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Payload, "of", lambda folder: {"media": CURRENT}.get(folder.name))


def payloads(
    *, pin: str | None = None, receipt: str | None = None, host: str = "media", is_contacted: bool = True
) -> HostPayloads:
    """The releases of a host; `pin` is the digest at which it stays, `receipt` that of the release that it got."""
    records: Any = SimpleNamespace(
        host=host,
        is_contacted=is_contacted,
        receipt=SimpleNamespace(release=receipt) if receipt is not None else None,
        history=SimpleNamespace(payload={"pinned": PINNED}.get),
        store=SimpleNamespace(release=lambda name: Path("/build/release") / name),
    )
    pinned: Any = SimpleNamespace(release=pin, since=START) if pin is not None else None
    return HostPayloads(records, lambda: pinned)


def described(payload: Payload | None) -> dict[str, Path] | None:
    """Each file of a release with the folder that has its content."""
    return {file.path: payload.folders[file.path] for file in payload.release.files} if payload else None


def test_a_host_has_its_release() -> None:
    assert payloads().desired() == CURRENT
    assert payloads(host="new").desired() is None


def test_a_pinned_host_keeps_its_files_and_gets_the_newest_crls() -> None:
    """Revocation never goes back, also where a release does."""
    assert described(payloads(pin="pinned").desired()) == {
        "/etc/tls.pem": OLD,
        "/etc/site.conf": OLD,
        "/etc/a.crl": NEW,
        "/etc/b.crl": NEW,
    }
    assert payloads(pin="pinned", host="new").desired() == PINNED


def test_a_host_that_was_pinned_without_a_release_stays_at_the_one_that_it_got() -> None:
    assert "/etc/site.conf" in (described(payloads(pin="", receipt="pinned").desired()) or {})


@pytest.mark.parametrize(("pin", "receipt"), [("lost", None), ("", "lost"), ("", None), ("lost", "pinned")])
def test_a_pinned_host_whose_release_is_lost_gets_crls_and_nothing_else(pin: str, receipt: str | None) -> None:
    host = payloads(pin=pin, receipt=receipt)
    desired = host.desired()
    assert described(desired) == {"/etc/a.crl": NEW, "/etc/b.crl": NEW}
    assert desired is not None
    assert host.is_pinned_without_files(desired)
    assert payloads(pin=pin, receipt=receipt, host="new").desired() is None


def test_a_folder_is_never_pinned() -> None:
    folder = payloads(pin="pinned", receipt="pinned", is_contacted=False)
    assert folder.pin is None
    assert folder.desired() == CURRENT == folder.delivered
    assert not folder.is_pinned_without_files(CURRENT.crls())


def test_only_a_pinned_host_gets_only_crls() -> None:
    assert not payloads().is_pinned_without_files(CURRENT.crls())
    assert not payloads(pin="pinned").is_pinned_without_files(CURRENT)


def test_a_host_has_what_its_receipt_names_if_that_is_kept() -> None:
    assert payloads(receipt="pinned").delivered == PINNED
    assert payloads(receipt="lost").delivered is None
    assert payloads().delivered is None
