"""When a leaf certificate is due, to the second: its own dates, those of its issuer, and whether that one can sign."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from pki.authority import ca_state, renewal
from pki.authority.renewal import CertificateSummary
from pki.common.reasons import Reason, Why
from pki.config.model import Leaf
from tests.support.projects import START

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
LEAF = Leaf(
    "media", "server", "media.lab", ("media.lab",), (), (), "ec-p256", True, 90 * DAY, 30 * DAY, None, "hosts.media"
)
END = START + 90 * DAY
CURRENT = CertificateSummary(START, END, 5)
DUE = END - LEAF.renew_before


def issuer(end: datetime, begin: datetime = START - DAY, name: str = "server-1") -> Any:
    """What is asked of a generation here: its name, its end and the dates of its certificate."""
    certificate = SimpleNamespace(not_valid_before_utc=begin, not_valid_after_utc=end)
    return SimpleNamespace(name=name, not_after=end, certificate=certificate)


def signing_keys(*, can_sign: bool) -> Any:
    return SimpleNamespace(can_sign=lambda _: can_sign)


LONG_LIVED = issuer(START + 3650 * DAY)


def codes(reasons: list[Reason]) -> list[Any]:
    return [reason.code for reason in reasons]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (START - SECOND, [Why.NOT_YET_VALID]),
        (START, []),
        (DUE - SECOND, []),
        (DUE, [Why.DUE]),
        (END, [Why.DUE]),
        (END + SECOND, [Why.EXPIRED]),
    ],
)
def test_a_certificate_is_due_from_the_second_on_at_which_its_renewal_starts(
    now: datetime, expected: list[Any]
) -> None:
    """Both dates of a certificate are inclusive (RFC 5280 §4.1.2.5): in its last second it is still valid."""
    assert codes(renewal.due_reasons(now, LEAF, CURRENT, LONG_LIVED)) == expected
    assert codes(renewal.due_reasons(now, LEAF, CURRENT, None)) == expected


def test_the_reason_names_what_is_left_of_the_whole_lifetime() -> None:
    current = replace(CURRENT, not_before=END + SECOND - 90 * DAY)
    (reason,) = renewal.due_reasons(END - 28 * DAY, LEAF, current, None)
    assert dict(reason.data) == {"left": "28", "life": "90 days", "starts": "30"}
    shorter = replace(current, not_before=current.not_before + SECOND)
    (reason,) = renewal.due_reasons(END - 28 * DAY, LEAF, shorter, None)
    assert dict(reason.data)["life"] == "89 days", "a second is missing to ninety days"
    (expired,) = renewal.due_reasons(END + 3 * DAY, LEAF, current, None)
    assert dict(expired.data) == {"date": f"{END:%Y-%m-%d}"}


@pytest.mark.parametrize(("gain", "is_renewed"), [(DAY, True), (DAY - SECOND, False)])
def test_a_renewal_that_gains_less_than_a_day_waits_for_a_ceremony(gain: timedelta, is_renewed: bool) -> None:
    """A certificate never outlives its issuer: without this rule it would be renewed with each run to no avail."""
    short_lived = issuer(END + gain)
    assert renewal.gains_time(DUE, LEAF, CURRENT, short_lived) is is_renewed
    assert codes(renewal.due_reasons(DUE, LEAF, CURRENT, short_lived)) == ([Why.DUE] if is_renewed else [])


def test_a_certificate_that_is_not_valid_yet_is_replaced_whatever_its_issuer_gains() -> None:
    assert codes(renewal.due_reasons(START - DAY, LEAF, CURRENT, issuer(END))) == [Why.NOT_YET_VALID]


@pytest.mark.parametrize(
    ("now", "expected"), [(DUE, []), (END, []), (END + SECOND, [Why.EXPIRED]), (START - SECOND, [Why.NOT_YET_VALID])]
)
def test_a_leaf_waits_for_an_authority_that_cannot_sign_only_while_its_certificate_is_valid(
    now: datetime, expected: list[Any]
) -> None:
    without_key = signing_keys(can_sign=False)
    assert codes(renewal.renewal_reasons(now, without_key, LEAF, CURRENT, LONG_LIVED)) == expected
    with_key = signing_keys(can_sign=True)
    assert codes(renewal.renewal_reasons(now, with_key, LEAF, CURRENT, LONG_LIVED))
    assert codes(renewal.renewal_reasons(now, without_key, LEAF, CURRENT, None)), (
        "no authority, so nothing waits for it"
    )


def test_a_certificate_is_valid_from_its_first_second_on() -> None:
    """One that its issuer cut short is due at once; it waits for an authority that cannot sign all the same."""
    begun = replace(CURRENT, not_before=DUE)
    assert renewal.renewal_reasons(DUE, signing_keys(can_sign=False), LEAF, begun, LONG_LIVED) == []


@pytest.mark.parametrize(
    ("can_sign", "authority", "expected"),
    [(False, LONG_LIVED, [Why.DUE]), (True, LONG_LIVED, []), (False, None, [])],
)
def test_what_waits_for_an_authority_that_cannot_sign_is_reported(
    can_sign: bool, authority: Any, expected: list[Any]
) -> None:
    authorities: Any = SimpleNamespace(issuing=lambda name: authority if name == "server" else None)
    keys = signing_keys(can_sign=can_sign)
    assert codes(renewal.postponed_reasons(DUE, authorities, keys, LEAF, CURRENT)) == expected
    assert renewal.postponed_reasons(DUE - SECOND, authorities, keys, LEAF, CURRENT) == []


@pytest.mark.parametrize(
    ("server", "client", "peer", "is_shortened"),
    [
        (90 * DAY, None, None, True),
        (90 * DAY + SECOND, None, None, False),
        (91 * DAY, 30 * DAY, None, True),
        (91 * DAY, 30 * DAY + SECOND, None, False),
        (91 * DAY, 31 * DAY, 7 * DAY, True),
        (91 * DAY, 31 * DAY, 7 * DAY + SECOND, False),
        (None, None, None, False),
    ],
)
def test_renewals_are_shortened_once_an_authority_has_no_more_time_than_its_leaves(
    server: timedelta | None, client: timedelta | None, peer: timedelta | None, is_shortened: bool
) -> None:
    rules = SimpleNamespace(server=SimpleNamespace(lifetime=90 * DAY), client=SimpleNamespace(lifetime=30 * DAY))
    rules.peer = SimpleNamespace(lifetime=7 * DAY)
    left = {"server": server, "client": client, "peer": peer}
    inventory: Any = SimpleNamespace(profiles=rules)
    authorities: Any = SimpleNamespace(issuing=lambda name: issuer(START + left[name]) if left[name] else None)
    assert ca_state.can_shorten_renewals(inventory, START, authorities) is is_shortened
