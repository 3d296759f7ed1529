"""Cleanup: what a killed run left beside files that nothing makes any more."""

from __future__ import annotations

from tests.support.projects import Home


def test_an_unfinished_file_goes_with_the_name_that_it_was_for(home: Home) -> None:
    """A file that is still made takes its own over the next time it is written; here another run may be writing it."""
    home.doit()
    home.write("build/p12/.old.p12.new", "a key")
    home.write("build/trust/.old.pem.new", "half a certificate")
    home.write("build/crl/.server-1.pem.new", "half a CRL")
    assert set(home.doit().made) == {"cleanup:build"}
    left = {path.name for path in (home.path / "build").rglob(".*.new")}
    assert left == {".server-1.pem.new"}
