"""Who has a valid certificate for a name: expired, revoked and foreign ones count for nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pki.authority import certificate_holders
from pki.authority.certificates import LeafCertificates
from pki.config.identifiers import ArtifactId, GenerationName
from pki.config.model import Leaf
from pki.ledger.types import Issued
from tests.support.projects import START

MEDIA = Issued(
    5, GenerationName.parse("server-1"), ArtifactId("cert", "media"), "server", "CN=media.lab,O=Example Lab",
    ("media.lab", "10.0.0.7"), START, START + timedelta(days=90), "", "", "",
)  # fmt: skip
ADMIN = replace(MEDIA, artifact=ArtifactId("cert", "client-admin"), profile="client", subject="CN=admin", names=())


def revocations(*issued: Issued) -> Any:
    return SimpleNamespace(unexpired=lambda: issued)


def test_a_certificate_that_is_revoked_or_that_of_a_ca_holds_no_name() -> None:
    revoked = replace(MEDIA, revoked="keyCompromise")
    authority = replace(MEDIA, artifact=ArtifactId("authority", "server"))
    found = certificate_holders.valid_certificates(revocations(MEDIA, revoked, authority, ADMIN))
    assert [*found] == [MEDIA, ADMIN]


def test_a_server_holds_the_names_in_its_certificate_and_a_client_its_common_name() -> None:
    admin = replace(ADMIN, names=("admin@lab.internal",))
    assert certificate_holders.holders(revocations(MEDIA, admin)) == {
        ("media", ("server", "media.lab")),
        ("media", ("server", "10.0.0.7")),
        ("client-admin", ("client", "admin")),
    }


@pytest.mark.parametrize(
    ("issued", "is_its"),
    [
        (ADMIN, True),
        (replace(ADMIN, artifact=ArtifactId("cert", "other"), subject="CN=ADMIN"), True),
        (replace(ADMIN, profile="server"), False),
        (replace(ADMIN, artifact=ArtifactId("authority", "client")), False),
        (replace(ADMIN, subject="CN=administrator"), False),
    ],
)
def test_certificates_of_a_client_are_found_by_its_common_name_alone(issued: Issued, is_its: bool) -> None:
    """A client that was renamed in pki.yaml keeps its certificates: all of them are revoked with it."""
    assert certificate_holders.certificates_of_client([issued], "admin") == ([issued] if is_its else [])


# -- names that move from one leaf to another --------------------------------------------------------------------------

DAY = timedelta(days=1)
END = MEDIA.not_after
WEB = Leaf(
    "web", "server", "media.lab", ("media.lab",), ("10.0.0.7",), (), "ec-p256", True, DAY, DAY, None, "hosts.web"
)
LAPTOP = replace(WEB, name="client-laptop", profile="client", common_name="admin", dns=(), addresses=())


def moves(
    *leaves: Leaf,
    issued: tuple[Issued, ...] = (MEDIA, ADMIN),
    recalled: frozenset[str] = frozenset(),
    has_ledger: bool = True,
) -> list[tuple[str, str, str]]:
    """What moves to which leaf, and from which one; `recalled` are leaves that this run found unchanged."""
    project: Any = SimpleNamespace(
        now=START,
        cache=SimpleNamespace(checked_in_this_run=lambda artifact: True if artifact.name in recalled else None),
        revocations=revocations(*issued),
        ledger_view=SimpleNamespace(has_ledger=has_ledger, cached=lambda _name, _key, compute, **_: compute()),
    )
    found = certificate_holders.moves(project, {leaf.name: leaf for leaf in leaves})
    assert all(move.not_after == END for move in found)
    return [(move.name, move.previous_leaf, move.leaf) for move in found]


@pytest.fixture
def _all_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No leaf is as an earlier run found it, but those that are called `same`."""
    monkeypatch.setattr(LeafCertificates, "is_cached", lambda _, leaf: leaf.name == "same")


@pytest.mark.usefixtures("_all_changed")
def test_a_name_moves_with_its_valid_certificate_to_the_leaf_that_asks_for_it_now() -> None:
    """The old certificate stays valid until it expires: whoever has its key can still serve the name."""
    assert moves(WEB, LAPTOP) == [
        ("media.lab", "media", "web"),
        ("10.0.0.7", "media", "web"),
        ("admin", "client-admin", "client-laptop"),
    ]


@pytest.mark.usefixtures("_all_changed")
def test_a_name_that_both_leaves_ask_for_or_that_the_leaf_has_already_does_not_move() -> None:
    media = replace(WEB, name="media", dns=("media.lab",), addresses=())
    assert moves(WEB, media) == [("10.0.0.7", "media", "web")]
    own = replace(MEDIA, artifact=ArtifactId("cert", "web"), names=("media.lab",))
    assert moves(WEB, issued=(MEDIA, own)) == [("10.0.0.7", "media", "web")]
    gone = replace(WEB, name="media", dns=("other.lab",), addresses=())
    assert moves(WEB, gone)[0] == ("media.lab", "media", "web"), (
        "a leaf that gave it up holds it only in its certificate"
    )
    like_a_client = replace(LAPTOP, name="other", common_name="media.lab")
    assert moves(WEB, like_a_client, issued=(MEDIA,))[0] == ("media.lab", "media", "web")


@pytest.mark.usefixtures("_all_changed")
def test_nothing_moves_to_a_leaf_that_is_as_it_was_or_without_a_ledger() -> None:
    assert moves(WEB, recalled=frozenset({"web"})) == []
    assert moves(replace(WEB, name="same")) == []
    assert moves(WEB, has_ledger=False) == []
    assert moves() == []
