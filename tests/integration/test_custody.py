"""Every kind of ceremony under every kind of custody: a passphrase, shares, a token."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pki.ceremony import audit, shares, words
from pki.ceremony.offline import key_storage, session, steps
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import PkiError
from pki.x509 import keys
from tests.integration.conftest import SoftHsm, run
from tests.support import judges
from tests.support.ceremonies import SECRET, RealHome, real_home


@dataclass(frozen=True)
class Kept(RealHome):
    """A project whose roots are kept in one way; `secrets` are what opens them, by the root's name."""

    way: str = "passphrase"
    hsm: Any = None
    secrets: dict[str, Any] = field(default_factory=dict)

    def new_key(self, name: str, kind: str) -> NewKey:
        if self.way == "token":
            self.secrets[name] = self.hsm.pin
            return key_storage.generate_in_token(name, kind, self.hsm.uri(), self.hsm.pin, "a test")
        if self.way == "shares":
            passphrase, parts = shares.split(2, 3)
            self.secrets[name] = parts
            return key_storage.store_in_file(keys.new_key(kind), passphrase, "2of3")
        self.secrets[name] = SECRET
        return key_storage.store_in_file(keys.new_key(kind), SECRET)

    def secret_of(self, name: str) -> str:
        kept = self.secrets[name]
        return shares.combine(kept[1:]) if self.way == "shares" else str(kept)

    def answer(self, path: Path, days: float = 0, secret: str = "") -> Path:  # noqa: ARG002 - overrides
        held = self.open(path, days)
        session.confirm_request(held, [], words.first(held.digest))
        if any(root.name not in held.contents.roots for root in held.request.roots):
            steps.make_roots(held, self.new_key)
        return steps.sign(held, self.secret_of, self.out)


@pytest.mark.parametrize("way", ["passphrase", "shares", "token"])
def test_every_kind_of_ceremony_is_held_under_this_custody(way: str, tmp_path: Path, softhsm: SoftHsm) -> None:
    home = Kept(real_home(tmp_path).path, way, softhsm)
    kinds = (
        (0, RequestOptions()),
        (30, RequestOptions(generations=("server",))),
        (60, RequestOptions(crls=True)),
        (90, RequestOptions(revoke=(("client-1", "keyCompromise"),))),
        (120, RequestOptions(generations=("root",))),
        (150, RequestOptions(destroy=("root-1",))),
        (180, RequestOptions(generations=("client",))),
    )
    for day, options in kinds:
        home.ceremony(options, days=day)
        assert home.doit(days=day).status == 0
        assert home.doit(days=day).made == {}
        for place in (home.path / "ca", home.vault.folder):
            assert audit.verify(place).faults == []
    assert home.vault.open_key("root-2", home.secret_of("root-2"), "a test")
    with pytest.raises(PkiError, match="the key of root-1 is missing"):
        home.vault.open_key("root-1", home.secret_of("root-1"), "a test")
    for root in ("root-1", "root-2"):
        judges.assert_is_root(judges.certificate(home.path / f"ca/root/{root}/cert.pem"))
    chain = home.path / "build/certs/media"
    for root in ("root-1", "root-2"):
        trust = home.path / f"ca/root/{root}/cert.pem"
        moment = str(int(home.project(180).now.timestamp()))
        verify = ("openssl", "verify", "-x509_strict", "-attime", moment, "-purpose", "sslserver", "-CAfile", trust)
        assert run(*verify, "-untrusted", chain / "chain.pem", chain / "cert.pem").endswith(": OK\n")
    if way == "token":
        shown = softhsm.tool("--list-objects", "--type", "privkey")
        assert "root-2" in shown
        assert "root-1" not in shown
        assert not list(home.vault.folder.rglob("key.pem"))
