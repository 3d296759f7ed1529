"""What stops a release before it leaves, what a CRL must not take back, and when a host may be changed; all in memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding

from pki.common import sealed_records
from pki.common.errors import PkiError
from pki.common.reasons import Why
from pki.common.timestamps import instant
from pki.config.delivery_window import is_in_window
from pki.config.model import Leaf
from pki.deploy import crl_files, preflight
from pki.deploy import receipt as receipts
from pki.deploy.contact import Contact
from pki.deploy.delivery import Delivery
from pki.deploy.host_payloads import HostPayloads
from pki.deploy.host_records import HostRecords
from pki.deploy.preflight import Trust
from pki.deploy.protocol import ServiceRefusal
from pki.deploy.receipt import Receipt
from pki.deploy.release import File, Release
from pki.deploy.ssh import UnreachableError
from pki.deploy.verification import Verdict, Verification
from pki.project.layout import Store
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding, profiles
from pki.x509.certificate_signing import Issuer
from pki.x509.keys import LeafKey, PrivateKey
from pki.x509.revocation import CrlEntry
from tests.support.projects import START

DAY, HOUR, MINUTE, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
NAME = "media.lab.internal"
LEAF = Leaf("media", "server", NAME, (NAME,), (), (), "ec-p256", False, 90 * DAY, 30 * DAY, None, "hosts.media")


@dataclass(frozen=True)
class Given:
    """A payload whose files are in memory."""

    release: Release
    contents: dict[str, bytes]

    def content(self, file: File) -> bytes:
        return self.contents[file.path]


def given(contents: dict[str, bytes], *, upstream: str = "") -> Any:
    """A release of these files; what is called `.crl` are CRLs."""
    files = tuple(
        File(
            path, "0644", "root:root", hashlib.sha256(data).hexdigest(), "x", "", "",
            crl=path.endswith(".crl"), upstream=path == upstream,
        )
        for path, data in contents.items()
    )  # fmt: skip
    return Given(Release("media", files, {}, {}), contents)


def made_ca(name: str, issuer: Issuer | None = None) -> Issuer:
    key = keys.new_key("ec-p256")
    extensions = (
        profiles.intermediate_extensions("server", ("lab.internal",), ()) if issuer else profiles.root_extensions()
    )
    subject = certificate_signing.subject_name("Example Lab", f"Example Lab {name} CA 1")
    dates = START - DAY, START + 3650 * DAY
    return Issuer(
        certificate_signing.sign_certificate(subject, key.public_key(), dates, extensions, issuer or key), key
    )


@dataclass(frozen=True)
class Pki:
    """A root, an intermediate, and a leaf with its key."""

    root: Issuer
    server: Issuer
    leaf: x509.Certificate
    key: PrivateKey
    ended: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)

    @property
    def trust(self) -> Trust:
        return Trust(
            pem_encoding.pem_of([self.root.certificate]),
            pem_encoding.pem_of([self.server.certificate]),
            is_revoked=self.gone.__contains__,
            has_expired=self.ended.__contains__,
        )

    @property
    def chain(self) -> bytes:
        return pem_encoding.pem_of([self.leaf, self.server.certificate])

    @property
    def bundle(self) -> bytes:
        return keys.private_pem(self.key) + self.chain

    def crl(
        self, number: int = 7, since: datetime = START - HOUR, days: float = 21, serials: tuple[int, ...] = ()
    ) -> bytes:
        entries = [CrlEntry(serial, since, "keyCompromise") for serial in serials]
        signed = crl_signing.sign_crl(self.server, number, since, since + days * DAY, entries)
        return signed.public_bytes(Encoding.PEM)

    def look(self, contents: dict[str, bytes], names: tuple[str, ...] = (), at: datetime = START, **more: Any) -> Any:
        return preflight.check_release(given(contents, **more), self.trust, names, at)

    def refusal(
        self, contents: dict[str, bytes], names: tuple[str, ...] = (), at: datetime = START, **more: Any
    ) -> str:
        with pytest.raises(PkiError) as caught:
            self.look(contents, names, at, **more)
        assert caught.value.hint
        assert caught.value.message.startswith("nothing was sent: ")
        return caught.value.message.removeprefix("nothing was sent: ")


def leaf_of(issuer: Issuer, key: LeafKey, names: tuple[str, ...] = (NAME,)) -> x509.Certificate:
    extensions = profiles.leaf_extensions(replace(LEAF, dns=names), key.public_key())
    subject = certificate_signing.subject_name("Example Lab", names[0] if names else "media")
    return certificate_signing.sign_certificate(
        subject, key.public_key(), (START, START + 90 * DAY), extensions, issuer
    )


@pytest.fixture(scope="module")
def pki_once() -> Pki:
    root = made_ca("Root")
    server, key = made_ca("Server", root), keys.new_key("ec-p256")
    return Pki(root, server, leaf_of(server, key), key)


@pytest.fixture
def pki(pki_once: Pki) -> Pki:
    return replace(pki_once, ended=set(), gone=set())


# -- keys and certificates --------------------------------------------------------------------------------------------


def test_a_sound_release_tells_what_it_holds_and_when_the_first_of_it_ends(pki: Pki) -> None:
    found = pki.look({"/tls.pem": pki.bundle, "/x.crl": pki.crl(serials=(5,)), "/site.conf": b"hello"}, (NAME,))
    assert found.leaves == {NAME: pki.leaf}
    assert found.first_expiry == START - HOUR + 21 * DAY
    assert (found.lists(5), found.lists(6)) == (True, False)
    assert pki.look({"/tls.pem": pki.bundle}, (NAME,)).first_expiry == pki.leaf.not_valid_after_utc
    assert pki.look({"/site.conf": b"hello"}, (NAME,)).first_expiry is None, (
        "a host without certificates needs none for a name"
    )


def test_a_key_that_belongs_to_no_certificate_of_the_release_never_leaves(pki: Pki) -> None:
    stray = keys.private_pem(keys.new_key("ec-p256"))
    assert pki.refusal({"/key.pem": stray, "/cert.pem": pki.chain}) == "the key in /key.pem matches no certificate"
    assert pki.refusal({"/key.pem": stray}) == "the key in /key.pem matches no certificate"
    both = keys.private_pem(pki.key) + stray
    assert pki.refusal({"/key.pem": both, "/cert.pem": pki.chain}) == "the key in /key.pem matches no certificate"
    assert pki.look({"/key.pem": keys.private_pem(pki.key), "/cert.pem": pki.chain}).first_expiry


def test_a_key_beside_another_certificate_never_leaves_even_if_its_own_is_elsewhere(pki: Pki) -> None:
    key = keys.new_key("ec-p256")
    other = leaf_of(pki.server, key, ("forge.lab.internal",))
    crossed = keys.private_pem(key) + pki.chain
    own = keys.private_pem(key) + pem_encoding.pem_of([other, pki.server.certificate])
    said = pki.refusal({"/tls.pem": crossed, "/own.pem": own})
    assert said == "the key in /tls.pem does not match the certificate beside it"
    upside_down = pki.bundle.replace(pki.chain, pem_encoding.pem_of([pki.server.certificate, pki.leaf]))
    assert "does not match the certificate beside it" in pki.refusal({"/tls.pem": upside_down})


def test_an_ml_dsa_key_is_compared_with_its_certificate_too(pki: Pki) -> None:
    key, other = keys.new_leaf_key("ml-dsa-65"), keys.new_leaf_key("ml-dsa-65")
    chain = pem_encoding.pem_of([leaf_of(pki.server, key, (NAME,)), pki.server.certificate])
    assert pki.look({"/tls.pem": keys.private_pem(key) + chain}).leaves.keys() == {NAME}
    refused = pki.refusal({"/tls.pem": keys.private_pem(other) + chain})
    assert "the key in /tls.pem does not match the certificate beside it" in refused


def test_a_key_that_cannot_be_read_or_is_encrypted_never_leaves(pki: Pki) -> None:
    for data in (
        keys.encrypted_pem(pki.key, "correct-horse"),
        keys.private_pem(pki.key).replace(b"\nM", b"\nAAAA", 1),
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    ):
        assert pki.refusal({"/key.pem": data, "/cert.pem": pki.chain}) == "the key in /key.pem cannot be read"


def test_keys_in_the_forms_of_openssl_are_looked_at_too(pki: Pki) -> None:
    stray = keys.new_key("ec-p256").private_bytes(
        Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    assert b"BEGIN EC PRIVATE KEY" in stray
    assert "matches no certificate" in pki.refusal({"/key.pem": stray, "/cert.pem": pki.chain})


@pytest.mark.parametrize(
    ("at", "is_good"),
    [(START - SECOND, False), (START, True), (START + 90 * DAY - SECOND, True), (START + 90 * DAY, False)],
)
def test_a_certificate_leaves_only_while_it_is_valid(pki: Pki, at: datetime, is_good: bool) -> None:
    if is_good:
        assert pki.look({"/tls.pem": pki.bundle}, at=at).leaves
    else:
        said = pki.refusal({"/tls.pem": pki.bundle}, at=at)
        assert said == f"CN={NAME},O=Example Lab in /tls.pem is valid from 2026-11-23 to 2027-02-21 only"


def test_a_revoked_certificate_never_leaves(pki: Pki) -> None:
    pki.gone.add(pki.leaf.serial_number)
    assert pki.refusal({"/tls.pem": pki.bundle}).endswith("is revoked")


def test_a_certificate_of_another_ca_never_leaves(pki: Pki) -> None:
    same_name = made_ca("Server", pki.root)
    for issuer in (made_ca("Foreign"), same_name):
        bundle = keys.private_pem(pki.key) + pem_encoding.pem_of([leaf_of(issuer, pki.key), pki.server.certificate])
        assert "is not signed by an authority of this project" in pki.refusal({"/tls.pem": bundle})


def test_a_certificate_leaves_with_its_intermediate(pki: Pki) -> None:
    alone = pem_encoding.pem_of([pki.leaf])
    key = keys.private_pem(pki.key)
    assert pki.refusal({"/tls.pem": key + alone}).endswith("is delivered without its intermediate")
    assert pki.refusal({"/tls.pem": key + alone, "/chain.pem": pem_encoding.pem_of([pki.server.certificate])})
    assert pki.refusal({"/tls.pem": key + alone + pem_encoding.pem_of([pki.root.certificate])})
    apart = {"/cert.pem": alone, "/key.pem": key}
    assert pki.refusal(apart)
    assert pki.look({**apart, "/chain.pem": pem_encoding.pem_of([pki.server.certificate])}).leaves
    again = certificate_signing.sign_certificate(  # the same key and name with other dates: what a renewed intermediate is
        pki.server.certificate.subject, pki.server.key.public_key(), (START - DAY, START + 99 * DAY),
        profiles.intermediate_extensions("server", ("lab.internal",), ()), pki.root,
    )  # fmt: skip
    assert pki.look({"/tls.pem": key + alone + pem_encoding.pem_of([again])}).leaves


def test_a_root_never_leaves_in_a_file_for_a_server_that_uses_gnutls(pki: Pki) -> None:
    for content, is_good in ((pki.trust.roots_pem, False), (pem_encoding.pem_of([pki.server.certificate]), True)):
        payload = given({"/trust.pem": content})
        assert preflight.check_release(payload, pki.trust, (), START, without_root={"other"}).leaves == {}
        with (
            nullcontext()
            if is_good
            else pytest.raises(PkiError, match=r"/trust\.pem has the root, and is for a server")
        ):
            preflight.check_release(payload, pki.trust, (), START, without_root={"x"})


def test_each_name_of_a_service_needs_a_certificate(pki: Pki) -> None:
    assert (
        pki.refusal({"/tls.pem": pki.bundle}, (NAME, "forge.lab.internal"))
        == "no certificate is valid for forge.lab.internal"
    )


def test_every_fault_of_a_release_is_told_at_once_and_once(pki: Pki) -> None:
    pki.gone.add(pki.leaf.serial_number)
    said = pki.refusal({"/tls.pem": pki.bundle, "/tls\n.pem": pki.bundle}, ("x.lab.internal",), START + 90 * DAY)
    assert [part in said for part in ("contains characters that a target must not have", "is revoked", "only", "no certificate is valid for")] == 4 * [True]  # fmt: skip
    assert said.count("no certificate is valid for") == 1


def test_certificates_of_an_upstream_are_those_of_others(pki: Pki) -> None:
    foreign = made_ca("Foreign")
    theirs = pem_encoding.pem_of([leaf_of(foreign, keys.new_key("ec-p256"))])
    assert pki.look({"/tls.pem": pki.bundle, "/upstream.pem": theirs}, upstream="/upstream.pem").leaves == {
        NAME: pki.leaf
    }
    assert "not signed by an authority of this project" in pki.refusal(
        {"/tls.pem": pki.bundle, "/upstream.pem": theirs}
    )
    payload = given({"/tls.pem": pki.bundle, "/upstream.pem": theirs}, upstream="/upstream.pem")
    assert preflight.read_contents(payload).leaves == {NAME: pki.leaf}
    assert not preflight.has_unknown_ca(payload, pki.trust)


def test_a_certificate_that_cannot_be_read_never_leaves(pki: Pki) -> None:
    broken = pki.chain.replace(b"\nM", b"\nAAAA", 1)
    assert pki.refusal({"/cert.pem": broken}) == "a certificate in /cert.pem cannot be read"
    with pytest.raises(PkiError, match=r"a certificate in /cert[.]pem cannot be read"):
        preflight.read_contents(given({"/cert.pem": broken}))


def test_the_roots_of_a_release_are_those_that_its_certificates_lead_to(pki: Pki) -> None:
    print_of = preflight.fingerprint(pki.root.certificate)
    subject = pki.root.certificate.subject.rfc4514_string()
    foreign = leaf_of(made_ca("Foreign"), keys.new_key("ec-p256"))
    payload = given(
        {
            "/tls.pem": pki.bundle,
            "/roots.pem": pem_encoding.pem_of([pki.root.certificate, foreign]),
            "/x.crl": pki.crl(),
        }
    )
    assert preflight.root_subjects(payload, pki.trust) == {print_of: subject}
    assert preflight.root_subjects(given({"/x.pem": pem_encoding.pem_of([foreign])}), pki.trust) == {}
    broken = given({"/x.pem": pki.chain.replace(b"\nM", b"\nAAAA", 1)})
    assert preflight.root_subjects(broken, pki.trust) == {print_of: subject}, "one section is damaged, the other is not"


def test_a_release_with_a_ca_that_is_named_like_ours_and_unknown_is_noticed(pki: Pki) -> None:
    foreign = leaf_of(made_ca("Server"), keys.new_key("ec-p256"))
    assert preflight.has_unknown_ca(given({"/x.pem": pem_encoding.pem_of([foreign])}), pki.trust)
    assert not preflight.has_unknown_ca(given({"/x.pem": pki.chain}), pki.trust)
    assert not preflight.has_unknown_ca(given({"/x.crl": pem_encoding.pem_of([foreign])}), pki.trust)


# -- CRLs in a release ------------------------------------------------------------------------------------------------


def test_a_crl_of_nobody_of_ours_never_leaves(pki: Pki) -> None:
    foreign = replace(pki, server=made_ca("Server", pki.root))
    assert pki.refusal({"/x.crl": foreign.crl()}) == (
        "the CRL of CN=Example Lab Server CA 1,O=Example Lab in /x.crl is not signed by an authority of this project"
    )
    assert pki.refusal({"/x.crl": b"no crl"}) == "/x.crl holds no CRL"
    trust = replace(pki.trust, adopted_pem=pem_encoding.pem_of([foreign.server.certificate]))
    assert preflight.check_release(given({"/x.crl": foreign.crl()}), trust, (), START).crls


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (START - HOUR - SECOND, "thisUpdate in the future"),
        (START - HOUR, ""),
        (START - HOUR + 21 * DAY - SECOND, ""),
        (START - HOUR + 21 * DAY, "has expired"),
    ],
)
def test_a_crl_leaves_only_while_servers_can_use_it(pki: Pki, at: datetime, said: str) -> None:
    if said:
        assert said in pki.refusal({"/x.crl": pki.crl()}, at=at)
    else:
        assert len(pki.look({"/x.crl": pki.crl()}, at=at).crls) == 1


def test_only_a_new_revocation_is_urgent_and_the_canary_is_none(pki: Pki) -> None:
    def more(new: tuple[int, ...], old: tuple[int, ...], canary: int = 0) -> bool:
        before, after = (given({"/x.crl": pki.crl(serials=serials), "/y": b""}) for serials in (old, new))
        return preflight.revokes_more(after, before, canary)

    assert more((5, 6), (5,))
    assert not more((5,), (5, 6))
    assert not more((5, 6), (5,), canary=6)
    assert more((5, 6, 7), (5,), canary=6)


# -- what a CRL takes back --------------------------------------------------------------------------------------------


def back(pki: Pki, new: bytes, old: bytes, now: datetime = START) -> list[str]:
    (first,), (second,) = crl_files.parse_crls(new), crl_files.parse_crls(old)
    return list(crl_files.regression_faults(first, second, pki.trust.has_expired, now))


def test_a_revoked_certificate_that_has_ended_may_leave_the_crl(pki: Pki) -> None:
    """Otherwise every host would refuse every release for ever, once the first revoked certificate has expired."""
    before, after = pki.crl(7, serials=(5, 6)), pki.crl(8, since=START)
    pki.ended.update({5, 6})
    assert back(pki, after, before) == []
    pki.ended.discard(6)
    assert back(pki, after, before) == ["lacks the revoked 6, which number 7 on the host lists"]
    assert back(pki, pki.crl(8, since=START, serials=(6, 7)), before) == []


def test_the_number_of_a_crl_never_falls(pki: Pki) -> None:
    assert back(pki, pki.crl(7, since=START), pki.crl(7)) == []
    said = back(pki, pki.crl(6, since=START), pki.crl(7))
    assert said == ["has number 6, the host has 7: revocation never goes back"]


def test_a_crl_never_begins_before_the_one_that_it_replaces(pki: Pki) -> None:
    assert back(pki, pki.crl(8), pki.crl(7)) == []
    said = back(pki, pki.crl(8, since=START - HOUR - SECOND), pki.crl(7))
    assert said == ["has thisUpdate 2026-11-23 04:59:59, the one on the host 2026-11-23 05:00:00"]
    assert back(pki, pki.crl(8), pki.crl(7, since=START)) != [], "now is no future"


def test_a_crl_from_the_future_gives_way_to_an_older_one_that_lists_as_much(pki: Pki) -> None:
    ahead = pki.crl(9, since=START + 5 * MINUTE + SECOND, serials=(5,))
    assert back(pki, pki.crl(7, serials=(5,)), ahead) == []
    assert back(pki, pki.crl(7), ahead) == ["lacks the revoked 5, which number 9 on the host lists"]
    hardly = pki.crl(9, since=START + 5 * MINUTE, serials=(5,))
    assert back(pki, pki.crl(7, serials=(5,)), hardly) == ["has number 7, the host has 9: revocation never goes back"]


def test_a_crl_is_read_in_each_form_and_nothing_else_is_one(pki: Pki) -> None:
    pem = pki.crl()
    der = x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)
    assert [one.number for one in crl_files.parse_crls(pem + pki.crl(8))] == [7, 8]
    assert crl_files.parse_crls(der) == crl_files.parse_crls(pem)
    for data in (b"", b"hello", der[:-1], pem.replace(b"\nM", b"\nAAAA", 1), pem_encoding.pem_of([pki.leaf])):
        assert crl_files.parse_crls(data) == ()


def test_a_crl_without_a_number_counts_as_the_first(pki: Pki) -> None:
    builder = x509.CertificateRevocationListBuilder().issuer_name(pki.server.certificate.subject)
    bare = builder.last_update(START).next_update(START + DAY).sign(pki.server.key, keys.signature_hash(pki.server.key))
    assert crl_files.parse_crls(bare.public_bytes(Encoding.DER))[0].number == 0


def test_serial_numbers_are_named_up_to_four() -> None:
    assert crl_files.format_serials([3, 255, 1, 2]) == "1, 2, 3, ff"
    assert crl_files.format_serials([5, 4, 3, 2, 1]) == "1, 2, 3, 4, and 1 more"


# -- when a host may be changed ---------------------------------------------------------------------------------------


def moment(hours: int, minutes: int = 0, seconds: int = 0) -> Any:
    return datetime(2026, 11, 23, hours, minutes, seconds, tzinfo=UTC).time()


@pytest.mark.parametrize(
    ("window", "opened", "closed"),
    [
        ("22:00-05:00", [(22, 0), (23, 59, 59), (0, 0), (4, 59, 59)], [(5, 0), (12, 0), (21, 59, 59)]),
        ("02:00-04:00", [(2, 0), (3, 30), (3, 59, 59)], [(1, 59, 59), (4, 0), (14, 0), (0, 0)]),
        ("00:00-23:59", [(0, 0), (23, 58, 59)], [(23, 59)]),
    ],
)
def test_a_window_is_open_from_its_begin_up_to_its_end_also_over_midnight(
    window: str, opened: list[tuple[int, ...]], closed: list[tuple[int, ...]]
) -> None:
    assert [is_in_window(moment(*at), window) for at in opened] == [True] * len(opened)
    assert [is_in_window(moment(*at), window) for at in closed] == [False] * len(closed)


@pytest.fixture
def local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def delivery(tmp_path: Path, *, window: str = "", wanted: Any = None, receipt: Receipt | None = None) -> Delivery:
    """A host that is delivered to by ssh, as far as files here tell of it."""

    class Known(HostPayloads):
        def desired(self) -> Any:
            return wanted

    store = Store(tmp_path)
    if receipt:
        receipts.save(store.receipt("media"), receipt)
    return Delivery(Known(HostRecords("media", store, "ssh")), window=window)


def taken(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "host": "media", "release": "r" * 64, "delivered_at": instant(START), "transport": "ssh", "files": (),
    }  # fmt: skip
    return Receipt(**{**values, **changes})


@pytest.mark.usefixtures("local_time")
def test_a_new_host_waits_for_its_window_and_ends_no_run(pki: Pki, tmp_path: Path) -> None:
    wanted = given({"/tls.pem": pki.bundle})
    new = delivery(tmp_path, window="22:00-05:00", wanted=wanted)
    noon, night = START.replace(hour=12), START.replace(hour=23)
    assert (new.may_change(noon), new.may_change(night)) == (False, True)
    assert not new.is_urgent(noon), "nothing on a host that has nothing runs out"
    assert not delivery(tmp_path, window="22:00-05:00").is_urgent(noon), "there is no release yet"
    assert delivery(tmp_path, wanted=wanted).may_change(noon)


def test_a_host_on_which_something_soon_runs_out_waits_for_no_window(pki: Pki, tmp_path: Path) -> None:
    wanted = given({"/x.crl": pki.crl()})
    hurried = delivery(tmp_path, wanted=wanted, receipt=taken(first_expiry=instant(START + 2 * DAY)))
    assert not hurried.records.history.is_damaged("r" * 64)
    assert (hurried.is_urgent(START), hurried.is_urgent(START + SECOND)) == (False, True)


def test_the_state_of_a_host_names_services_that_are_not_verified_and_no_others(tmp_path: Path) -> None:
    """Services that an upstream answers for are verified too, and named apart."""
    seen = {
        "good": Verification(Verdict.VERIFIED, "verified"),
        "half": Verification(Verdict.NO_UPSTREAM, "no upstream"),
        "passed": Verification(Verdict.PASSED_ON, "passed on"),
        "bad": Verification(Verdict.WRONG, "serves another certificate"),
        "gone": Verification(Verdict.UNREACHED, "does not answer"),
        "open": Verification(Verdict.UNDECIDED, "undecided"),
    }
    assert delivery(tmp_path, receipt=taken(verification=seen)).state(START) == (
        "not verified: bad, gone, open; the probe is passed on: passed"
    )
    assert delivery(tmp_path, receipt=taken(verification={"good": seen["good"]})).state(START) == ""
    assert delivery(tmp_path, receipt=taken()).state(START) == ""


@pytest.mark.usefixtures("local_time")
def test_the_state_of_a_host_says_that_it_waits_only_while_it_does(pki: Pki, tmp_path: Path) -> None:
    noon, night = START.replace(hour=12), START.replace(hour=23)
    waiting = delivery(tmp_path, window="22:00-05:00", wanted=given({"/tls.pem": pki.bundle}))
    assert waiting.state(noon) == "waits for its window 22:00-05:00"
    assert waiting.state(night) == ""


def test_a_host_is_looked_at_again_after_twelve_hours_or_by_a_clock_that_went_back() -> None:
    seen = Contact(checked_at=instant(START))
    assert [seen.is_old(START + span) for span in (timedelta(), 12 * HOUR - SECOND, 12 * HOUR, -SECOND)] == [
        False,
        False,
        True,
        True,
    ]
    assert Contact().is_old(START)


def test_a_contact_keeps_since_when_a_host_fails_unless_that_is_in_the_future() -> None:
    fault = PkiError("no answer", "look")
    first = Contact(checked_at=instant(START)).failed(START + DAY, fault)
    later = first.failed(START + 3 * DAY, fault)
    assert (later.failing_since, later.days_failing(START + 3 * DAY)) == (instant(START + DAY), 2)
    assert later.failed(START + DAY, fault).failing_since == instant(START + DAY)
    assert later.failed(START, fault).failing_since == instant(START), "a clock was ahead"
    assert first.failed(START + DAY, fault).failing_since == first.failing_since
    assert (Contact().days_failing(START), first.days_failing(START + 2 * DAY - SECOND)) == (0, 0)
    assert later.succeeded(START + 4 * DAY) == Contact(checked_at=instant(START + 4 * DAY))


def test_a_contact_record_is_read_as_it_was_written_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "media.json"
    refused = ServiceRefusal("nginx says no", "look", services=("jellyfin",))
    kept = Contact(checked_at=instant(START), drift=(Why.FILE_LINK(file="/x", to="/y"),)).failed(START, refused)
    assert kept.services == ("jellyfin",)
    kept.save(path)
    assert Contact.load(path) == kept
    path.write_bytes(path.read_bytes()[:-1])
    assert Contact.load(path) == Contact() == Contact.load(tmp_path / "none")
    path.write_bytes(sealed_records.encode_sealed({"checked_at": "", "surplus": 1}))
    assert Contact.load(path) == Contact()


@pytest.mark.parametrize("said", ["x" * 2000, "x" * 2001])
def test_a_message_of_a_host_is_kept_up_to_two_thousand_characters(said: str) -> None:
    kept = Contact().failed(START, PkiError(said, "look")).message
    assert (kept == said, len(kept) <= 2000) == (len(said) == 2000, True)


def test_only_a_host_that_did_not_answer_counts_as_unreached() -> None:
    silent = Contact().failed(START, UnreachableError("no answer", "look", ""))
    assert silent.is_unreached
    assert not Contact().failed(START, PkiError("no", "look")).is_unreached
    assert not replace(silent, failing_since="").is_unreached


def test_crls_of_a_release_alone_decide_whether_it_revokes_more(pki: Pki) -> None:
    """What else lies in a release may look like a CRL and is none."""
    before = given({"/x.crl": pki.crl()})
    assert not preflight.revokes_more(given({"/x.crl": pki.crl(), "/copy.pem": pki.crl(serials=(5,))}), before, 0)
    found = pki.look({"/x.crl": pki.crl(), "/copy.pem": pki.crl(serials=(5,), since=START + DAY)})
    assert len(found.crls) == 1


def test_a_certificate_without_extensions_is_a_leaf_of_nobody(pki: Pki) -> None:
    key = keys.new_key("ec-p256")
    name = certificate_signing.subject_name("Example Lab", "bare")
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(pki.server.certificate.subject).serial_number(5)
    builder = builder.public_key(key.public_key()).not_valid_before(START).not_valid_after(START + DAY)
    bare = pem_encoding.pem_of([builder.sign(pki.server.key, keys.signature_hash(pki.server.key))])
    assert "is delivered without its intermediate" in pki.refusal({"/x.pem": bare})
    assert pki.look({"/x.pem": bare + pem_encoding.pem_of([pki.server.certificate])}).leaves == {}


def test_a_certificate_whose_names_cannot_be_read_never_leaves(pki: Pki) -> None:
    key = keys.new_key("ec-p256")
    dates = START, START + DAY
    builder = certificate_signing.draft_certificate(
        certificate_signing.subject_name("Example Lab", "x"), key.public_key(), dates, [], pki.server.certificate
    )
    junk = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"junk")
    odd = builder.add_extension(junk, critical=False).sign(pki.server.key, keys.signature_hash(pki.server.key))
    assert pki.refusal({"/x.pem": pem_encoding.pem_of([odd])}) == "a certificate in /x.pem cannot be read"


def test_a_release_is_judged_by_revocations_and_ends_only_where_they_are_known(pki: Pki) -> None:
    bare = Trust(pki.trust.roots_pem, pki.trust.authorities_pem)
    assert not bare.is_revoked(5)
    assert not bare.has_expired(5)
