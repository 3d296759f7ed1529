"""What crosses the air gap when it is damaged, forged, stale or foreign: refused in a sentence, with nothing written."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pki.ceremony import audit, request_response, second_opinion, shares, transcript_chain, words
from pki.ceremony.offline import key_storage, machine_check, session, steps
from pki.ceremony.online import accept_response
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.request_response import Request, RequestedCrossCertificate, RequestedRoot, Response, RevokedCa
from pki.common.errors import PkiError
from pki.x509 import certificate_signing, crl_signing, keys, pem_encoding
from tests.support.ceremonies import SECRET, RealHome, real_home
from tests.support.projects import START

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
COMPROMISED = RequestOptions(revoke=(("client-1", "keyCompromise"),))
TODAY = 30
SEED = 20261123
SAMPLES = int(os.environ.get("PKI_SAMPLES", "6"))  # bits of a file


@pytest.fixture(scope="module")
def unaccepted_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[RealHome, Path]:
    """A project before it accepts the answer to its first request, and that answer."""
    home = real_home(tmp_path_factory.mktemp("first"))
    return home, home.answer(home.ask().path)


@pytest.fixture(scope="module")
def revoked_once(unaccepted_once: tuple[RealHome, Path], tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    """A project that held two ceremonies: the first, and one that revoked its client authority."""
    home = unaccepted_once[0].copy(tmp_path_factory.mktemp("revoked") / "copy")
    home.accept(home.out / "response-0001")
    home.ceremony(COMPROMISED, days=10)
    return home


@pytest.fixture(scope="module")
def answered_once(revoked_once: RealHome, tmp_path_factory: pytest.TempPathFactory) -> RealHome:
    """The same with a third ceremony answered, which brings both intermediates and was not accepted yet."""
    home = revoked_once.copy(tmp_path_factory.mktemp("answered") / "copy")
    home.answer(home.ask(RequestOptions(generations=("server", "client")), TODAY).path, TODAY)
    return home


@pytest.fixture
def real(revoked_once: RealHome, tmp_path: Path) -> RealHome:
    return revoked_once.copy(tmp_path / "copy")


@pytest.fixture
def first(unaccepted_once: tuple[RealHome, Path], tmp_path: Path) -> RealHome:
    return unaccepted_once[0].copy(tmp_path / "copy")


@pytest.fixture
def answered(answered_once: RealHome, tmp_path: Path) -> RealHome:
    return answered_once.copy(tmp_path / "copy")


def contents(*folders: Path) -> dict[Path, bytes]:
    """Every file below some folders, the transcript of a vault and SQLite's own files for reading aside."""
    return {
        path: path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / "transcript.jsonl" and not path.name.startswith(("ledger.db-", ".run."))
    }


def everything(home: RealHome) -> dict[Path, bytes]:
    return contents(home.path, home.vault.folder, home.out)


def records(home: RealHome) -> list[transcript_chain.Record]:
    path = home.vault.transcript
    return transcript_chain.load(path.read_bytes(), "transcript.jsonl") if path.exists() else []


def refused(home: RealHome, attempt: Callable[[], object]) -> str:
    """What an attempt at the offline machine was refused with: a vault's transcript has it, and nothing else is written.

    A drive that is no vault yet stays as it was.
    """
    before, count = everything(home), len(records(home))
    with pytest.raises(PkiError) as caught:
        attempt()
    assert everything(home) == before
    if count:
        told = [record for record in records(home)[count:] if record.step == "refused"]
        assert [record.facts["message"] for record in told] == [caught.value.message]
    else:
        assert not list(home.vault.folder.iterdir())
    assert caught.value.hint
    return caught.value.message


def written(home: RealHome, data: bytes, name: str = "request-0009.yaml") -> Path:
    path = home.path.parent / name
    path.write_bytes(data)
    return path


def refusal_of(home: RealHome, data: bytes, days: float = TODAY, secret: str = SECRET) -> str:
    """Why a request is not signed, its words typed as its own digest has them."""
    for response in home.out.iterdir():  # a number that was used must not be why
        shutil.rmtree(response)
    return refused(home, lambda: home.answer(written(home, data), days, secret))


def edited(request: Request, field: str, /, **values: Any) -> Request:
    """A request whose first item of a field has other values."""
    items = getattr(request, field)
    return request.model_copy(update={field: (items[0].model_copy(update=values), *items[1:])})


# -- requests that are not as they were written -----------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.7, 0.999])
def test_a_truncated_request_is_refused(real: RealHome, part: float) -> None:
    data = real.ask(RequestOptions(crls=True), TODAY).path.read_bytes()
    assert "request-0009.yaml" in refusal_of(real, data[: int(len(data) * part)])


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: data + b"# approved\n",
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"number: 3", b"number: 03"),
        lambda data: data.replace(b"number: 3", b'number: "3"'),
        lambda data: data.replace(b"number: 3", b"number:  3"),
        lambda data: data.replace(b"sandbox: false", b"sandbox: no"),
        lambda data: data.replace(b"sandbox: false", b"sandbox: false\nsandbox: false"),
        lambda data: data.replace(b"destroy: []", b"destroy: []\nextra: 1"),
        lambda data: data.replace(b"destroy: []", b"destroy: [root-1/../x]"),
        lambda data: data.replace(b"format: doit-pki ceremony request 1", b"format: doit-pki ceremony request 2"),
        lambda data: data.replace(b"number: 3", b"number: 10000"),
        lambda data: data.replace(b"number: 3", b"number: -3"),
        lambda data: data.replace(b"number: 3", b"number: " + b"9" * 5000),
        lambda data: data.replace(b"prepared: '2026", b"prepared: '9999").replace(b"prepared: 2026", b"prepared: 9999"),
        lambda data: data.replace(b"this_update: 2026", b"this_update: 1049"),
        lambda data: data.replace(b"serial: ", b"serial: -"),
        lambda data: data.replace(b"serial: ", b"serial: " + b"f" * 40),
        lambda _: b"[" * 100_000,
        lambda _: b"- " * 100_000,
        lambda _: b"{a: " * 100_000,
        lambda _: b"a: &a [x, x]\nb: &b [*a, *a]\nc: *b\n",
        lambda _: b"\x00\xff\xfe" * 100,
        lambda _: b"",
        lambda data: data + b"#" * (1 << 20),
        lambda data: data.replace(b"request 1", b"response 1"),
        lambda _: b"- 1\n",
        lambda _: b"null\n",
    ],
)
def test_a_request_in_any_other_form_is_refused(real: RealHome, change: Callable[[bytes], bytes]) -> None:
    data = real.ask(RequestOptions(crls=True), TODAY).path.read_bytes()
    assert change(data) != data
    assert "request-0009.yaml" in refusal_of(real, change(data))


def test_a_request_with_any_byte_changed_is_not_the_one_that_was_printed(real: RealHome) -> None:
    data = real.ask(RequestOptions(crls=True), TODAY).path.read_bytes()
    printed, chance = words.first(request_response.digest(data)), random.Random(SEED)  # noqa: S311 - no secret hangs on it
    for _ in range(40):
        place = chance.randrange(len(data))
        path = written(real, data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])

        def attempt(path: Path = path) -> None:
            session.confirm_request(real.open(path, TODAY), [], printed)

        assert refused(real, attempt)


def test_wrong_words_are_refused(real: RealHome) -> None:
    asked = real.ask(RequestOptions(crls=True), TODAY)
    given = words.first(request_response.digest(b"another one"))
    assert "this is not the request that was printed: word 1" in refused(
        real, lambda: session.confirm_request(real.open(asked.path, TODAY), [], given)
    )


def test_a_wrong_passphrase_is_refused(real: RealHome) -> None:
    data = real.ask(RequestOptions(crls=True), TODAY).path.read_bytes()
    assert "its key cannot be opened" in refusal_of(real, data, secret="tuna-river-cabin-moss-kettle-orbits")


def test_a_request_of_another_project_is_refused(real: RealHome, tmp_path: Path) -> None:
    other = real_home(tmp_path / "other")
    assert "it does not follow the ceremony 2" in refusal_of(real, other.ask().path.read_bytes(), 0)


def test_a_request_that_does_not_follow_the_last_ceremony_is_refused(answered: RealHome) -> None:
    said = refusal_of(answered, answered.ask(RequestOptions(crls=True), TODAY + 1).path.read_bytes(), TODAY + 1)
    assert said.startswith("the request is refused: it does not follow the ceremony 3, which is the last one here")


def test_an_older_request_is_not_answered_again_once_another_ceremony_was_held(real: RealHome) -> None:
    shutil.rmtree(real.out / "response-0001")
    path = real.path / "ca/ceremonies/0001/request.yaml"
    assert "ceremony 2 was performed since" in refused(real, lambda: real.answer(path, TODAY))


# -- requests for what is never right ---------------------------------------------------------------------------------


UNUSUAL: dict[str, Callable[[], Any]] = {
    "ec-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa-3072 with exponent 3": lambda: rsa.generate_private_key(3, 3072),
}


def made_request(kind: str, cn: str = "x") -> str:
    """A certificate request of a fresh key."""
    key = UNUSUAL[kind]() if kind in UNUSUAL else keys.new_key(kind)
    builder = x509.CertificateSigningRequestBuilder().subject_name(certificate_signing.subject_name("Example Lab", cn))
    algorithm = None if kind == "ed25519" else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode()


def forged_request() -> str:
    der = x509.load_pem_x509_csr(made_request("ec-p384").encode()).public_bytes(serialization.Encoding.DER)
    return pem_encoding.encode_pem("CERTIFICATE REQUEST", der[:-1] + bytes([der[-1] ^ 1])).decode()


def moved(request: Request, index: int, **changes: Any) -> Request:
    """A request whose first series of pre-signed CRLs has one pre-signed CRL with other values."""
    presigned_crls = list(request.crl_series[0].presigned_crls)
    presigned_crls[index] = presigned_crls[index].model_copy(update=changes)
    return edited(request, "crl_series", presigned_crls=tuple(presigned_crls))


def of_present_root(**changes: Any) -> RequestedRoot:
    now = START + TODAY * DAY
    values = {"name": "root-1", "common_name": "Example Lab Root CA 1", "key": "ec-p384"}
    return RequestedRoot.model_validate({**values, "not_before": now, "not_after": now + 3650 * DAY, **changes})


def cross(name: str, issuer: str) -> RequestedCrossCertificate:
    now = START + TODAY * DAY
    return RequestedCrossCertificate(name=name, issuer=issuer, not_before=now, not_after=now + 90 * DAY)


FORBIDDEN: dict[str, tuple[Callable[[Request, RealHome], Request], str]] = {
    "an intermediate that outlives the root": (
        lambda r, h: edited(r, "intermediates", not_after=h.certificate("root-1").not_valid_after_utc + SECOND),
        "server-2: would be valid outside the lifetime of root-1",
    ),
    "an intermediate that begins elsewhen": (
        lambda r, _: edited(r, "intermediates", not_before=r.prepared + 3 * DAY),
        "server-2: would begin on 2026-12-26, far from the day of the request",
    ),
    "an intermediate that ends before it begins": (
        lambda r, _: edited(r, "intermediates", not_after=r.prepared - 2 * HOUR),
        "server-2: would end on 2026-12-23, before it begins",
    ),
    "the name of another CA": (
        lambda r, _: edited(r, "intermediates", common_name="Example Lab Client CA 2"),
        "server-2: would be called 'Example Lab Client CA 2'",
    ),
    "a generation that exists": (
        lambda r, _: edited(r, "intermediates", name="server-1", common_name="Example Lab Server CA 1"),
        "server-1: was created in an earlier ceremony; every generation needs a new name",
    ),
    "one name twice": (
        lambda r, _: r.model_copy(update={"intermediates": r.intermediates * 2}),
        "server-2: was created in an earlier ceremony",
    ),
    "one key for two": (
        lambda r, _: r.model_copy(
            update={
                "intermediates": (
                    r.intermediates[0],
                    r.intermediates[0].model_copy(
                        update={"name": "client-3", "common_name": "Example Lab Client CA 3"}
                    ),
                )
            }
        ),
        "client-3: its key is also that of server-2",
    ),
    "the key of an earlier generation": (
        lambda r, h: edited(r, "intermediates", request=h.read("ca/client/client-1/request.pem").decode()),
        "server-2: its key is that of an earlier certificate; a new generation needs a new key",
    ),
    "a certificate request that nobody signed": (
        lambda r, _: edited(r, "intermediates", request=forged_request()),
        "the request's signature does not verify",
    ),
    "something that is no certificate request": (
        lambda r, _: edited(r, "intermediates", request="hello"),
        "the request of server-2: not a PEM certificate request",
    ),
    "an RSA key of 2048 bits": (
        lambda r, _: edited(r, "intermediates", request=made_request("rsa-2048")),
        "server-2: a key of kind rsa-2048",
    ),
    "an RSA key whose exponent is 3": (
        lambda r, _: edited(r, "intermediates", request=made_request("rsa-3072 with exponent 3")),
        "server-2: its key is weak: its exponent is 3, expected at least 65537",
    ),
    "a P-521 key": (
        lambda r, _: edited(r, "intermediates", request=made_request("ec-p521")),
        "a key of kind ec-p521",
    ),
    "an Ed25519 key": (
        lambda r, _: edited(r, "intermediates", request=made_request("ed25519")),
        "server-2: a key of kind ed25519",
    ),
    "an issuer that nobody knows": (
        lambda r, _: edited(r, "intermediates", issuer="root-7"),
        "root-7 is needed, and neither in the vault nor requested",
    ),
    "a series of pre-signed CRLs of a root that nobody knows": (
        lambda r, _: edited(r, "crl_series", root="root-7"),
        "root-7 is needed, and neither in the vault nor requested",
    ),
    "a revoked intermediate left out": (
        lambda r, _: edited(r, "crl_series", revoked=()),
        "was revoked in an earlier ceremony and is not listed",
    ),
    "a revoked serial number that no root gave": (
        lambda r, _: edited(
            r,
            "crl_series",
            revoked=(
                *r.crl_series[0].revoked,
                RevokedCa(generation="server-1", serial=0xDEADBEEF, reason="keyCompromise", at=r.prepared),
            ),
        ),
        "the series of pre-signed CRLs of root-1: server-1 with the serial number deadbeef was never signed by root-1",
    ),
    "a revocation under the name of another": (
        lambda r, h: edited(
            r,
            "crl_series",
            revoked=(
                *r.crl_series[0].revoked,
                RevokedCa(
                    generation="client-2",
                    serial=h.certificate("server-1").serial_number,
                    reason="keyCompromise",
                    at=r.prepared,
                ),
            ),
        ),
        "was never signed by root-1",
    ),
    "a revocation that stands twice": (
        lambda r, _: edited(r, "crl_series", revoked=r.crl_series[0].revoked * 2),
        "client-1 is listed twice",
    ),
    "a gap between two pre-signed CRLs": (
        lambda r, _: moved(r, 1, this_update=r.crl_series[0].presigned_crls[0].next_update + SECOND),
        "would leave a gap after CRL",
    ),
    "a pre-signed CRL number that is not above the last one": (
        lambda r, h: moved(r, 0, number=max(int(path.stem) for path in h.project().store.presigned_crls("root-1"))),
        "does not have a higher number than",
    ),
    "pre-signed CRL numbers that fall": (
        lambda r, _: moved(r, 1, number=r.crl_series[0].presigned_crls[0].number),
        "does not have a higher number than",
    ),
    "a pre-signed CRL that does not replace an old one": (
        lambda r, _: moved(r, 0, this_update=r.prepared - 60 * DAY),
        "nothing replaces CRL",
    ),
    "a pre-signed CRL that replaces an old one days too late": (
        lambda r, _: moved(r, 1, this_update=r.crl_series[0].presigned_crls[1].this_update + 2 * DAY),
        "nothing replaces CRL",
    ),
    "a series of pre-signed CRLs that ends before the one that it replaces": (
        lambda r, _: edited(
            moved(r, 1, next_update=r.crl_series[0].presigned_crls[1].this_update + DAY),
            "crl_series",
            presigned_crls=moved(r, 1, next_update=r.crl_series[0].presigned_crls[1].this_update + DAY)
            .crl_series[0]
            .presigned_crls[:2],
        ),
        "before the one that it replaces",
    ),
    "a series of pre-signed CRLs that begins in the future": (
        lambda r, _: moved(r, 0, this_update=r.prepared + SECOND),
        "its first CRL would begin in the future",
    ),
    "a pre-signed CRL for four years": (
        lambda r, _: moved(r, 1, next_update=r.crl_series[0].presigned_crls[1].this_update + 4 * 366 * DAY),
        "would be valid from",
    ),
    "a pre-signed CRL that ends before it begins": (
        lambda r, _: moved(r, 1, next_update=r.crl_series[0].presigned_crls[1].this_update - SECOND),
        "would be valid from",
    ),
    "two series of pre-signed CRLs for one root": (
        lambda r, _: r.model_copy(update={"crl_series": r.crl_series * 2}),
        "root-1 would have two series of pre-signed CRLs",
    ),
    "the end of the only root": (
        lambda r, _: r.model_copy(update={"destroy": ("root-1",)}),
        "root-1 is the root that signs; there must be another one before its key is destroyed",
    ),
    "the end of a root that nobody knows": (
        lambda r, _: r.model_copy(update={"destroy": ("root-7",)}),
        "root-7 is to be destroyed and is not in this vault",
    ),
    "a root that exists": (
        lambda r, _: r.model_copy(update={"roots": (of_present_root(),)}),
        "root-1 is requested and exists already",
    ),
    "a cross-certificate for a root that nobody knows": (
        lambda r, _: r.model_copy(update={"cross_certificates": (cross("root-7", "root-1"),)}),
        "root-7 is not a root that this ceremony creates",
    ),
    "a root that certifies itself": (
        lambda r, _: r.model_copy(update={"cross_certificates": (cross("root-1", "root-1"),)}),
        "root-1 cannot certify itself",
    ),
    "another organisation": (
        lambda r, _: r.model_copy(update={"organisation": "Other Lab"}),
        "it speaks of Other Lab, the vault is that of Example Lab",
    ),
    "a sandbox": (
        lambda r, _: r.model_copy(update={"sandbox": True}),
        "a sandbox and a real project never share a root",
    ),
    "a number that was there": (
        lambda r, _: r.model_copy(update={"number": 2}),
        "its number 2 is not above that of the last ceremony, 2",
    ),
    "another last ceremony": (
        lambda r, _: r.model_copy(update={"previous": "0" * 64}),
        "it does not follow the ceremony 2",
    ),
    "no last ceremony": (
        lambda r, _: r.model_copy(update={"previous": "none"}),
        "it does not follow the ceremony 2",
    ),
    "another root of the same name": (
        lambda r, _: r.model_copy(update={"pinned": {"root-1": "0" * 64}}),
        "root-1 in this vault is not the root-1 of the request",
    ),
    "a root more than the vault has": (
        lambda r, _: r.model_copy(update={"pinned": {**r.pinned, "root-2": "0" * 64}}),
        "root-2 is not in this vault",
    ),
    "a root fewer than the vault has": (
        lambda r, _: r.model_copy(update={"pinned": {}}),
        "the vault has root-1, which the request does not mention",
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_request_is_refused_that_asks_for(real: RealHome, what: str) -> None:
    change, expected = FORBIDDEN[what]
    request = change(real.ask(RequestOptions(generations=("server",)), TODAY).request, real)
    assert expected in refusal_of(real, request_response.dump(request))


def test_the_request_that_those_were_made_from_is_signed(real: RealHome) -> None:
    real.ceremony(RequestOptions(generations=("server",)), TODAY)
    assert audit.verify(real.vault.folder).faults == []


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("it says no", "server-2 by root-1: OpenSSL refuses it: it says no"),
        ("", "client-1 by root-1: OpenSSL accepts it, and it is revoked"),
    ],
)
def test_nothing_is_handed_out_unless_openssl_accepts_it_and_refuses_what_is_revoked(
    real: RealHome, monkeypatch: pytest.MonkeyPatch, verdict: str, said: str
) -> None:
    asked = real.ask(RequestOptions(generations=("server",)), TODAY)
    monkeypatch.setattr(second_opinion, "openssl_fault", lambda *_: verdict)
    assert said in refused(real, lambda: real.answer(asked.path, TODAY))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"not_after": START + 26 * 365 * DAY}, "root-1 would be valid from 2026-11-23 to 2052-"),
        ({"not_after": START - DAY}, "root-1 would be valid from"),
        ({"not_before": START + 3 * DAY}, "root-1 would begin on 2026-11-26, far from the day of the request"),
        ({"common_name": "Example Lab Root CA 2"}, "root-1: would be called 'Example Lab Root CA 2'"),
    ],
)
def test_a_root_is_not_made_that_nobody_should_have(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    home = real_home(tmp_path / "new")
    data = request_response.dump(edited(home.ask().request, "roots", **changes))
    assert expected in refusal_of(home, data, 0)
    assert not list(home.vault.folder.glob("root-*"))


def test_a_root_is_not_made_without_a_ladder_and_not_twice(tmp_path: Path) -> None:
    home = real_home(tmp_path / "new")
    asked = home.ask()
    bare = asked.request.model_copy(update={"crl_series": ()})
    assert "root-1 would have no CRL" in refusal_of(home, request_response.dump(bare), 0)
    home.answer(asked.path)
    other = edited(asked.request, "roots", not_after=asked.request.roots[0].not_after - DAY)
    assert "does not follow the ceremony 1" in refusal_of(home, request_response.dump(other), 0)


def test_nothing_is_signed_before_its_root_was_made(tmp_path: Path) -> None:
    home = real_home(tmp_path / "new")
    asked = home.ask()
    said = refused(home, lambda: steps.sign(home.open(asked.path), lambda _: SECRET, home.out))
    assert (
        said == "the request is refused: root-1 is not on this drive; is this the vault on which ceremony.root made it?"
    )


def test_a_root_in_the_vault_that_was_made_for_another_request_is_not_used(tmp_path: Path) -> None:
    home = real_home(tmp_path / "new")
    asked = home.ask()
    steps.make_roots(home.open(asked.path), lambda _, kind: key_storage.store_in_file(keys.new_key(kind), SECRET))
    other = edited(asked.request, "roots", not_after=asked.request.roots[0].not_after - DAY)
    assert "root-1 in the vault was made for another request: its dates are" in refusal_of(
        home, request_response.dump(other), 0
    )


# -- the offline machine ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (TODAY * DAY - 2 * HOUR, "before the request was prepared, 2026-12-23 06:00"),
        (TODAY * DAY + 91 * DAY, "more than 90 days after the request was prepared"),
        (5 * DAY, "before the newest record, 2026-12-03 06:00"),
    ],
)
def test_a_clock_that_cannot_be_right_is_refused_or_recorded(real: RealHome, now: timedelta, expected: str) -> None:
    asked = real.ask(RequestOptions(crls=True), TODAY)
    held = real.open(asked.path, now / DAY)
    found = machine_check.check_machine(
        START + now, held.request.prepared, held.last_moment, swaps=Path("/nowhere"), interfaces=list
    )
    said = refused(real, lambda: session.check_machine_is_fit(held, found, ""))
    assert "this machine is not fit for a ceremony" in said
    assert expected in said
    session.check_machine_is_fit(held, found, "its battery is flat")
    told = records(real)[-1]
    assert (told.step, told.facts["reason"]) == ("deviation", "its battery is flat")
    assert expected in told.facts["text"]


def is_below(path: Any, folder: Path) -> bool:
    return str(path).startswith(f"{folder}/")


@pytest.mark.parametrize("medium", ["vault", "out"])
def test_a_medium_that_cannot_be_written_is_refused(
    real: RealHome, monkeypatch: pytest.MonkeyPatch, medium: str
) -> None:
    asked, folder, opened = real.ask(RequestOptions(crls=True), TODAY), real.path.parent / medium, os.open
    before, size = everything(real), real.vault.transcript.stat().st_size

    def read_only(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if is_below(path, folder) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(30, "Read-only file system")
        return opened(path, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        with pytest.raises(PkiError, match="cannot be written: Read-only file system") as caught:
            real.answer(asked.path, TODAY)
    assert "read-only, or full" in caught.value.hint
    assert everything(real) == before
    assert (real.vault.transcript.stat().st_size == size) == (medium == "vault")
    real.answer(asked.path, TODAY)


@pytest.mark.parametrize("room", [0, 1000, 1 << 20, (1 << 20) + 2000, (1 << 20) + 20_000, (1 << 20) + 45_000])
def test_a_medium_that_fills_up_leaves_no_half_response(
    real: RealHome, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """At any point: what had been there is there, no part of an answer is, and with room the ceremony goes on."""
    asked, write, left = real.ask(RequestOptions(generations=("server",)), TODAY), os.write, room
    before = everything(real)

    def full(handle: int, data: Any) -> int:
        nonlocal left
        if left < len(data):
            raise OSError(28, "No space left on device")
        left -= len(data)
        return write(handle, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(PkiError, match="cannot be written: No space left on device"):
            real.answer(asked.path, TODAY)
    assert {path: data for path, data in everything(real).items() if path in before} == before
    assert all("0003" in path.parent.name for path in everything(real).keys() - before.keys())
    real.accept(real.answer(asked.path, TODAY), TODAY)
    assert audit.verify(real.vault.folder).faults == []


def test_signing_again_gives_the_same_response_once_more(answered: RealHome) -> None:
    """Also where it is already: its words were not written down, or a file of it was damaged on its way."""
    folder = answered.out / "response-0003"
    before = {name: data for name, data in contents(folder).items() if "transcript" not in name.name}
    path = answered.path / "ca/ceremonies/0003/request.yaml"
    presigned_crl = next(folder.glob("*-crl-*.pem"))
    presigned_crl.write_bytes(presigned_crl.read_bytes()[:100])
    again = answered.answer(path, TODAY, secret="which nobody asks for")
    assert {name: data for name, data in contents(again).items() if "transcript" not in name.name} == before
    shutil.rmtree(folder)
    again = answered.answer(path, TODAY + 1, secret="which nobody asks for")
    assert {name: data for name, data in contents(again).items() if "transcript" not in name.name} == before
    answered.accept(again, TODAY + 1)
    assert audit.verify(answered.vault.folder).faults == []
    heads = {
        transcript_chain.load((place / "transcript.jsonl").read_bytes(), "")[-1].hash
        for place in (answered.vault.folder, again)
    }
    assert len(heads) == 1


@pytest.mark.parametrize("name", ["response.yaml", "holiday.jpg"])
def test_folder_that_holds_something_else_is_never_written_to(answered: RealHome, name: str) -> None:
    folder = answered.out / "response-0003"
    data = (folder / "response.yaml").read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / name).write_bytes(data.replace(b"root-1", b"root-7", 1))
    path = answered.path / "ca/ceremonies/0003/request.yaml"
    assert f"{folder}: exists already" in refused(answered, lambda: answered.answer(path, TODAY))
    assert [one.name for one in folder.iterdir()] == [name]


# -- killed anywhere --------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The power is gone: from now on nothing is written, not even by who would clean up."""


WRITES = ("write", "rename", "replace", "unlink", "rmdir", "mkdir", "truncate", "ftruncate")


@contextmanager
def killed_at(number: int) -> Iterator[list[str]]:
    """Let the n-th change to the disk, and each one after it, not happen; the list tells what they were."""
    changes: list[str] = []

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            changes.append(name)
            if number and len(changes) >= number:
                raise Killed
            return real(*arguments, **options)

        return instead

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(os, name, dying(name, getattr(os, name)))
        yield changes


def dies(number: int, action: Callable[[], object]) -> bool:
    with killed_at(number):
        try:
            action()
        except Killed:
            return True
    return False


def moments(action: Callable[[], object], stride: int) -> list[int]:
    """When to kill something: before each change of a name, and before some of the other changes, which come in rows."""
    with killed_at(0) as changes:
        action()
    naming = {"rename", "replace", "unlink"}
    found = [number for number, name in enumerate(changes, 1) if name in naming or not number % stride]
    assert len(naming.intersection(changes)) >= 2
    return found


def test_a_first_ceremony_that_is_killed_at_any_write_is_completed_by_a_second_try(tmp_path: Path) -> None:
    asked_once = real_home(tmp_path / "new")
    path = asked_once.ask().path.relative_to(asked_once.path)
    whole = asked_once.copy(tmp_path / "whole")
    for number in moments(lambda: whole.answer(whole.path / path), 12):
        home = asked_once.copy(tmp_path / str(number))
        assert dies(number, lambda home=home: home.answer(home.path / path)), number
        home.accept(home.answer(home.path / path))
        assert audit.verify(home.vault.folder).faults == [], number
        assert not list(home.vault.folder.rglob(".*.new")), number
        shutil.rmtree(tmp_path / str(number))


def test_a_ceremony_that_replaces_a_ladder_is_completed_wherever_it_was_killed(real: RealHome, tmp_path: Path) -> None:
    path = real.ask(RequestOptions(crls=True), TODAY).path.relative_to(real.path)
    whole = real.copy(tmp_path / "whole")
    for number in moments(lambda: whole.answer(whole.path / path, TODAY), 8):
        home = real.copy(tmp_path / str(number))
        assert dies(number, lambda home=home: home.answer(home.path / path, TODAY)), number
        home.accept(home.answer(home.path / path, TODAY), TODAY)
        assert audit.verify(home.vault.folder).faults == [], number
        assert audit.verify(home.path / "ca").faults == [], number
        shutil.rmtree(tmp_path / str(number))


@contextmanager
def suppress_accepted() -> Iterator[None]:
    """What was killed after its last change has nothing left to do, and says so."""
    try:
        yield
    except PkiError as error:
        assert "was accepted already" in error.message  # noqa: PT017 - both ends are well


def test_accepting_is_completed_wherever_it_was_killed(answered: RealHome, tmp_path: Path) -> None:
    folder = Path("out/response-0003")
    whole = answered.copy(tmp_path / "whole")
    killing = moments(lambda: whole.accept(whole.path.parent / folder, TODAY), 5)
    expected = {path.relative_to(whole.path): data for path, data in contents(whole.path).items()}
    for number in killing:
        home = answered.copy(tmp_path / str(number))
        assert dies(number, lambda home=home: home.accept(home.path.parent / folder, TODAY)), number
        with suppress_accepted():
            home.accept(home.path.parent / folder, TODAY)
        found = {path.relative_to(home.path): data for path, data in contents(home.path).items()}
        assert found.keys() == expected.keys(), number
        assert {p for p in found if found[p] != expected[p]} <= {Path("ca/ledger.db")}, number
        ledger = home.project(TODAY).ledger
        assert ledger.verify() == []
        assert [one.kind for one in ledger.events()] == [one.kind for one in whole.project(TODAY).ledger.events()]
        ledger.close()
        shutil.rmtree(tmp_path / str(number))


# -- responses --------------------------------------------------------------------------------------------------------


def accept(home: RealHome, folder: Path, spoken: str, days: float = TODAY) -> None:
    """As `ceremony.accept` does it, with the words that the operator reads from the paper."""
    project = home.project(days)
    try:
        found = accept_response.ResponseAcceptance(project).verify(folder)
        accept_response.confirm_words(found, words.first(spoken))
        accept_response.ResponseAcceptance(project).store(found)
    finally:
        project.close(run_succeeded=False)


def assert_not_accepted(home: RealHome, folder: Path, spoken: str, days: float = TODAY) -> str:
    before = contents(home.path)
    with pytest.raises(PkiError) as caught:
        accept(home, folder, spoken, days)
    assert contents(home.path) == before
    assert caught.value.message
    return caught.value.message


READ_BY_ACCEPT = ("response.yaml", "transcript.jsonl", "*.pem")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file as a worn stick, or somebody with an editor, leaves it."""
    place = chance.randrange(len(data))
    kind = chance.randrange(5)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + data[place + 1 :]
    if kind == 2:
        return data[:place] + chance.randbytes(1 + chance.randrange(8)) + data[place:]
    if kind == 3:
        return data[:place] + bytes(512) + data[place + 512 :]
    return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]


@pytest.mark.parametrize("batch", range(8))
@pytest.mark.parametrize("which", ["first", "later"])
def test_no_mutation_of_a_response_is_accepted_even_by_a_careless_operator(
    unaccepted_once: tuple[RealHome, Path], answered_once: RealHome, tmp_path: Path, which: str, batch: int
) -> None:
    """Two hundred of them: refused with the words on the paper, and with those of the mutated response too."""
    once, days = (unaccepted_once[0], 0) if which == "first" else (answered_once, TODAY)
    home = once.copy(tmp_path / "copy")
    (folder,) = [path for path in home.out.iterdir() if path.name == f"response-{1 if which == 'first' else 3:04}"]
    original = request_response.digest((folder / "response.yaml").read_bytes())
    chance = random.Random(SEED + batch)  # noqa: S311 - as above
    members = sorted(path for pattern in READ_BY_ACCEPT for path in folder.glob(pattern))
    for _ in range(13):
        path = chance.choice(members)
        data = path.read_bytes()
        changed = mutated(data, chance)
        if changed == data:
            continue
        path.write_bytes(changed)
        assert_not_accepted(home, folder, original, days)
        assert_not_accepted(home, folder, request_response.digest((folder / "response.yaml").read_bytes()), days)
        path.write_bytes(data)
    accept(home, folder, original, days)


def test_a_response_that_lacks_a_file_is_not_accepted(answered: RealHome) -> None:
    folder = answered.out / "response-0003"
    digest = request_response.digest((folder / "response.yaml").read_bytes())
    for path in sorted(path for pattern in READ_BY_ACCEPT for path in folder.glob(pattern)):
        data = path.read_bytes()
        path.unlink()
        assert path.name in assert_not_accepted(answered, folder, digest)
        path.write_bytes(data)


def test_files_that_nobody_needs_do_not_matter(answered: RealHome) -> None:
    folder = answered.out / "response-0003"
    for name in ("transcript.html", "request.yaml"):
        (folder / name).write_bytes(b"x")
    accept(answered, folder, request_response.digest((folder / "response.yaml").read_bytes()))


def forge(folder: Path, change: Callable[[Response], Response]) -> str:
    """Change a response and make the transcript tell of it, as an attacker would; returns its new digest."""
    response = request_response.load((folder / "response.yaml").read_bytes(), "response.yaml", Response)
    data = request_response.dump(change(response))
    (folder / "response.yaml").write_bytes(data)
    told = transcript_chain.load((folder / "transcript.jsonl").read_bytes(), "transcript.jsonl")
    *before, last = told
    members = {
        path.name: request_response.digest(path.read_bytes()) for path in folder.iterdir() if path.suffix == ".pem"
    }
    facts = {**last.facts, "sha256": request_response.digest(data), "files": members}
    forged = transcript_chain.next_record(before[-1], last.at, last.step, facts)
    (folder / "transcript.jsonl").write_bytes(b"".join(record.line for record in (*before, forged)))
    return request_response.digest(data)


def with_certificate(response: Response, name: str, pem: str) -> Response:
    made = tuple(one.model_copy(update={"pem": pem}) if one.name == name else one for one in response.certificates)
    return response.model_copy(update={"certificates": made})


def pem_of(response: Response, name: str) -> str:
    return next(one.pem for one in response.certificates if one.name == name)


def own_root(home: RealHome) -> certificate_signing.Issuer:
    """A root of the attacker's: the same but for its key."""
    real, key = home.certificate("root-1"), keys.new_key("ec-p384")
    dates = real.not_valid_before_utc, real.not_valid_after_utc
    extensions = [(one.value, one.critical) for one in real.extensions if one.oid.dotted_string != "2.5.29.14"]
    return certificate_signing.Issuer(
        certificate_signing.sign_certificate(real.subject, key.public_key(), dates, extensions, key), key
    )


def resigned(pem: str, root: certificate_signing.Issuer) -> str:
    cert = x509.load_pem_x509_certificate(pem.encode())
    skip = {"2.5.29.14", "2.5.29.35"}
    extensions = [(one.value, one.critical) for one in cert.extensions if one.oid.dotted_string not in skip]
    dates = cert.not_valid_before_utc, cert.not_valid_after_utc
    return pem_encoding.pem_of(
        [certificate_signing.sign_certificate(cert.subject, cert.public_key(), dates, extensions, root)]
    ).decode()


FORGED: dict[str, Callable[[Response, RealHome], Response]] = {
    "that of the other authority": lambda r, _: with_certificate(
        with_certificate(r, "server-2", pem_of(r, "client-3")), "client-3", pem_of(r, "server-2")
    ),
    "that of an earlier ceremony": lambda r, h: with_certificate(
        r, "server-2", h.read("ca/server/server-1/cert.pem").decode()
    ),
    "one of another root": lambda r, h: with_certificate(r, "server-2", resigned(pem_of(r, "server-2"), own_root(h))),
    "another root": lambda r, h: with_certificate(
        r, "server-2", pem_encoding.pem_of([own_root(h).certificate]).decode()
    ),
    "half of it": lambda r, _: with_certificate(r, "server-2", pem_of(r, "server-2")[:400]),
    "no certificate": lambda r, _: with_certificate(
        r, "server-2", pem_encoding.encode_pem("CERTIFICATE", b"0\3\2\1\1").decode()
    ),
    "none": lambda r, _: r.model_copy(update={"certificates": r.certificates[1:]}),
    "one more": lambda r, _: r.model_copy(
        update={"certificates": (*r.certificates, r.certificates[0].model_copy(update={"name": "server-7"}))}
    ),
}


@pytest.mark.parametrize("what", FORGED)
def test_no_certificate_is_accepted_but_the_one_that_the_root_signed_for_this_request(
    answered: RealHome, what: str
) -> None:
    """Although the transcript agrees with it, and the operator confirms whatever the words are."""
    folder = answered.out / "response-0003"
    assert_not_accepted(answered, folder, forge(folder, lambda response: FORGED[what](response, answered)))


def test_no_bit_of_a_certificate_can_be_flipped(answered: RealHome) -> None:
    folder, chance = answered.out / "response-0003", random.Random(SEED)  # noqa: S311 - no secret hangs on it
    response = request_response.load((folder / "response.yaml").read_bytes(), "response.yaml", Response)
    der = x509.load_pem_x509_certificate(pem_of(response, "server-2").encode()).public_bytes(serialization.Encoding.DER)
    for _ in range(SAMPLES):
        place = chance.randrange(len(der))
        bad = der[:place] + bytes([der[place] ^ 1 << chance.randrange(8)]) + der[place + 1 :]
        digest = forge(
            folder,
            lambda _, bad=bad: with_certificate(
                response, "server-2", pem_encoding.encode_pem("CERTIFICATE", bad).decode()
            ),
        )
        assert_not_accepted(answered, folder, digest)


def test_no_bit_of_a_crl_can_be_flipped(answered: RealHome) -> None:
    folder, chance = answered.out / "response-0003", random.Random(SEED)  # noqa: S311 - no secret hangs on it
    path = min(folder.glob("*.pem"))
    der = x509.load_pem_x509_crl(path.read_bytes()).public_bytes(serialization.Encoding.DER)
    for _ in range(SAMPLES):
        place = chance.randrange(len(der))
        bad = der[:place] + bytes([der[place] ^ 1 << chance.randrange(8)]) + der[place + 1 :]
        path.write_bytes(pem_encoding.encode_pem("X509 CRL", bad))

        def change(response: Response) -> Response:
            digests = {
                presigned_crl.file: request_response.digest((folder / presigned_crl.file).read_bytes())
                for presigned_crl in response.presigned_crls
            }
            presigned_crls = tuple(
                presigned_crl.model_copy(update={"sha256": digests[presigned_crl.file]})
                for presigned_crl in response.presigned_crls
            )
            return response.model_copy(update={"presigned_crls": presigned_crls})

        assert_not_accepted(answered, folder, forge(folder, change))


def crl_by(root: certificate_signing.Issuer, real: x509.CertificateRevocationList, entries: list[Any]) -> bytes:
    number = real.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    assert real.next_update_utc
    return pem_encoding.pem_of(
        [crl_signing.sign_crl(root, number, real.last_update_utc, real.next_update_utc, entries)]
    )


@pytest.mark.parametrize("what", ["swapped", "older", "emptied", "fewer", "another number"])
def test_no_crl_is_accepted_but_the_one_that_the_root_signed_for_this_request(answered: RealHome, what: str) -> None:
    folder = answered.out / "response-0003"
    one, two, *_ = sorted(folder.glob("*.pem"))
    data = one.read_bytes()
    if what == "swapped":
        one.write_bytes(two.read_bytes())
        two.write_bytes(data)
    elif what == "older":
        one.write_bytes(min((answered.path / "ca/root/root-1/crl").iterdir()).read_bytes())
    elif what == "emptied":
        one.write_bytes(crl_by(own_root(answered), x509.load_pem_x509_crl(data), []))

    def change(response: Response) -> Response:
        presigned_crls = [
            presigned_crl.model_copy(
                update={"sha256": request_response.digest((folder / presigned_crl.file).read_bytes())}
            )
            for presigned_crl in response.presigned_crls
        ]
        if what == "fewer":
            presigned_crls = presigned_crls[:1]
        if what == "another number":
            presigned_crls[1] = presigned_crls[1].model_copy(update={"number": presigned_crls[1].number + 1})
        return response.model_copy(update={"presigned_crls": tuple(presigned_crls)})

    assert_not_accepted(answered, folder, forge(folder, change))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"number": 4}, "its number is 4, that of the request 3"),
        ({"request": "0" * 64}, "answers another request"),
        ({"destroyed": ("root-1",)}, "its destroyed roots are not those of the request"),
        ({"transcript": "0" * 64}, "has no record of response 3"),
        ({"signed": START}, "before the request was prepared"),
        ({"signed": START + 200 * DAY}, "was signed in the future"),
    ],
)
def test_no_statement_of_a_response_can_be_another(answered: RealHome, changes: dict[str, Any], expected: str) -> None:
    folder = answered.out / "response-0003"
    digest = forge(folder, lambda response: response.model_copy(update=changes))
    assert expected in assert_not_accepted(answered, folder, digest)


def test_wrong_words_are_not_accepted(answered: RealHome) -> None:
    said = assert_not_accepted(answered, answered.out / "response-0003", request_response.digest(b"another"))
    assert said.startswith("this is not the response that the ceremony showed: word 1")


def test_an_older_response_is_not_accepted_again(answered: RealHome) -> None:
    for number in (1, 2):
        folder = answered.out / f"response-{number:04}"
        digest = request_response.digest((folder / "response.yaml").read_bytes())
        said = assert_not_accepted(answered, folder, digest)
        assert f"was accepted already, as ca/ceremonies/{number:04}" in said


def test_accepting_twice_says_that_nothing_is_left_to_do(answered: RealHome) -> None:
    folder = answered.out / "response-0003"
    digest = request_response.digest((folder / "response.yaml").read_bytes())
    accept(answered, folder, digest)
    assert "was accepted already, as ca/ceremonies/0003" in assert_not_accepted(answered, folder, digest)


def test_a_response_of_another_project_is_not_accepted(answered: RealHome, tmp_path: Path) -> None:
    other = real_home(tmp_path / "other")
    folder = other.answer(other.ask(days=1).path, 1)
    said = assert_not_accepted(answered, folder, request_response.digest((folder / "response.yaml").read_bytes()))
    assert "answers another request" in said


def test_of_two_open_requests_either_may_be_answered_and_the_other_is_then_closed(real: RealHome) -> None:
    older, newer = (
        real.ask(RequestOptions(generations=("server",)), TODAY),
        real.ask(RequestOptions(generations=("client",)), TODAY + 1),
    )
    copy = real.copy(real.path.parent.parent / "second")
    real.accept(real.answer(older.path, TODAY + 2), TODAY + 2)
    folder = copy.answer(copy.path / newer.path.relative_to(real.path), TODAY + 2)
    said = assert_not_accepted(
        real, folder, request_response.digest((folder / "response.yaml").read_bytes()), TODAY + 2
    )
    assert "answers another request" in said
    assert "this project waits for no response" not in said or real.certificate("server-2")
    assert audit.verify(real.path / "ca").faults == []


def test_the_transcript_of_another_vault_or_a_shorter_one_is_not_accepted(answered: RealHome, tmp_path: Path) -> None:
    folder = answered.out / "response-0003"
    digest, path = request_response.digest((folder / "response.yaml").read_bytes()), folder / "transcript.jsonl"
    whole = path.read_bytes()
    other = real_home(tmp_path / "other")
    foreign = (other.answer(other.ask().path) / "transcript.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for data, expected in {
        foreign: "does not continue that of the last ceremony",
        b"".join(lines[:-1]): "has no export of response 3",
        b"".join(lines[:10]): "does not continue that of the last ceremony",
        b"".join(lines[1:]): "transcript.jsonl:1",
        whole + lines[-1]: f"transcript.jsonl:{len(lines) + 1}",
        b"": "has no record",
    }.items():
        path.write_bytes(data)
        assert expected in assert_not_accepted(answered, folder, digest)


# -- years later ------------------------------------------------------------------------------------------------------


def verdict(folder: Path) -> str:
    """Everything that an auditor is told, as text."""
    try:
        return "\n".join(audit.verify(folder).faults)
    except PkiError as error:
        return error.message


@pytest.mark.parametrize("place", ["vault", "project/ca"])
def test_any_file_that_was_changed_is_named(real: RealHome, place: str) -> None:
    folder, chance = real.path.parent / place, random.Random(SEED)  # noqa: S311 - no secret hangs on it
    assert verdict(folder) == ""
    looked_at = [path for path in folder.rglob("*") if path.name in {"cert.pem", "response.yaml", "request.yaml"}]
    looked_at += [path for path in folder.rglob("*.pem") if "crl" in str(path.relative_to(folder))]
    looked_at.append(folder / "transcript.jsonl")
    assert len(looked_at) >= 8
    for path in looked_at:
        data = path.read_bytes()
        for at, bit in ((chance.randrange(len(data)), chance.randrange(7)), (chance.randrange(len(data)), 7)):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            said, place = verdict(folder), f"{path.parent.name}/{path.name}"
            assert place in said or f"ceremony {int(path.parent.name)}" in said, path
        path.write_bytes(data)


@pytest.mark.parametrize("place", ["vault", "project/ca"])
def test_any_record_of_a_transcript_that_was_taken_away_is_missed(real: RealHome, place: str) -> None:
    folder = real.path.parent / place
    path = folder / "transcript.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for number in range(len(lines)):
        path.write_bytes(b"".join([*lines[:number], *lines[number + 1 :]]))
        assert verdict(folder), number


def test_certificates_and_crls_that_no_ceremony_made_are_named(real: RealHome) -> None:
    alien = pem_encoding.pem_of([own_root(real).certificate])
    presigned_crl = min((real.path / "ca/root/root-1/crl").iterdir())
    for path, content in {
        "ca/server/server-9/cert.pem": alien,
        "ca/root/root-2/cert.pem": alien,
        "ca/root/root-1/cross-root-9.pem": alien,
        "ca/root/root-1/crl/1.pem": presigned_crl.read_bytes(),
        f"ca/ceremonies/0002/root-1-crl-{presigned_crl.stem}.pem": alien,
    }.items():
        target = real.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        assert str(target) in verdict(real.path / "ca"), path
        target.unlink()
    assert verdict(real.path / "ca") == ""


def test_a_client_may_be_called_like_an_authority(real: RealHome) -> None:
    target = real.path / "ca/clients/server-1/cert.pem"
    target.parent.mkdir(parents=True)
    target.write_bytes(pem_encoding.pem_of([own_root(real).certificate]))
    assert verdict(real.path / "ca") == ""


def test_a_certificate_that_is_gone_is_missed(real: RealHome) -> None:
    for place in ("ca/root/root-1", "ca/server/server-1", "ca/client/client-2"):
        path = real.path / place / "cert.pem"
        data = path.read_bytes()
        path.unlink()
        assert f"the certificate of {path.parent.name} is missing" in verdict(real.path / "ca")
        path.write_bytes(data)


def test_a_destroyed_rung_is_no_fault_and_a_replaced_one_that_is_still_there_is(
    real: RealHome, unaccepted_once: tuple[RealHome, Path]
) -> None:
    (line,) = [line for line in audit.verify(real.vault.folder).lines if line.startswith("ceremony 1")]
    assert line.endswith("0 CRLs (2 destroyed since)")
    old = min(unaccepted_once[1].glob("root-1-crl-*.pem"))
    target = real.vault.folder / "ceremonies/0001" / old.name
    target.write_bytes(old.read_bytes())
    assert (
        verdict(real.vault.folder)
        == f"{target}: is not a CRL of the newest series of pre-signed CRLs of root-1; destroy it"
    )


def test_neither_words_of_shares_nor_passphrases_can_be_written_into_a_transcript(real: RealHome) -> None:
    passphrase, parts = shares.split(2, 3)
    held = real.open(real.ask(RequestOptions(crls=True), TODAY).path, TODAY)
    held.forbid(passphrase)
    with pytest.raises(ValueError, match="contains a secret"):
        held.transcript.record("written", text=f"by {passphrase.replace('-', ' ').upper()}")
    assert parts[0] not in real.vault.transcript.read_text()
