"""The key of an older generation signs its CRL until its last certificate expires: a fault in it is reported at once."""

from __future__ import annotations

from pki.ceremony.online.make_request import RequestOptions
from tests.support.ceremonies import RealHome

OLDER = "ca/server/server-1/key.pem"


def with_two_generations(home: RealHome) -> RealHome:
    home.ceremony(RequestOptions(generations=("server",)), 1)
    assert home.doit(days=1).status == 0
    return home


def test_a_damaged_key_of_an_older_generation_fails_the_run_before_its_crl_expires(real: RealHome) -> None:
    home = with_two_generations(real)
    path, before = home.path / OLDER, home.read(OLDER)
    path.write_bytes(before[:200] + bytes([before[200] ^ 1]) + before[201:])
    for day in (2, 9):  # on the second of them, the CRL is due and stays as it is
        report = home.doit(days=day)
        assert report.status != 0
        assert list(report.failed) == ["key:server-1"]
        assert report.failed["key:server-1"].startswith(OLDER)
        assert "./run invoke restore FILE" in report.failed["key:server-1"]
    path.write_bytes(before)
    report = home.doit(days=10)
    assert (report.status, "crl:server-1" in report.made) == (0, True), report.failed


def test_the_key_of_a_revoked_generation_is_not_missed(real: RealHome) -> None:
    home = with_two_generations(real)
    home.ceremony(RequestOptions(revoke=(("server-1", "superseded"),)), 2)
    assert home.doit(days=2).status == 0
    (home.path / OLDER).unlink()
    assert home.doit(days=3).failed == {}
