"""IPv6: which addresses each program accepts below our name constraints, and hosts that have it, alone or beside IPv4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration import address_judges
from tests.integration.address_judges import Case

Judge = Callable[[Sequence[Case], Path], Mapping[Case, bool]]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return address_judges.write_cases(tmp_path_factory.mktemp("addresses"))


@pytest.mark.parametrize(
    "judge",
    [address_judges.openssl, address_judges.gnutls, address_judges.java, address_judges.nss, address_judges.go],
    ids=lambda judge: judge.__name__,
)
def test_each_program_accepts_the_permitted_addresses_and_no_other(cases: list[Case], judge: Judge) -> None:
    accepted = judge(cases, cases[0].folder / "root.pem")
    assert {case.name: accepted[case] for case in cases} == {case.name: case.is_permitted for case in cases}
