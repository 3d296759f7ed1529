"""Ceremonies that the project lost, as by an older `ca/` that was copied back: the lines that are printed bring them back."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from unittest.mock import Mock

import pytest
from cryptography import x509

from pki.backup import lost_ledger
from pki.ceremony import words
from pki.ceremony.online import accept_response
from pki.ceremony.online.make_request import RequestOptions
from pki.common.errors import PkiError
from pki.x509.canonical import fingerprint
from tests.support import consoles
from tests.support.ceremonies import Typist, fit_typist
from tests.support.copies import copy_project

CRLS, SERVER, ROOT = (
    RequestOptions(crls=True),
    RequestOptions(generations=("server",)),
    RequestOptions(generations=("root",)),
)
REVOKED = RequestOptions(revoke=(("client-1", "keyCompromise"),))
LATER = 40.0  # days: after all that is lost


@pytest.fixture(scope="module")
def desk_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk after the first ceremony and a whole run."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        home = fit_typist(tmp_path_factory.mktemp("first"), None, monkeypatch).home  # type: ignore[arg-type] # types nothing
        home.ceremony()
        assert home.doit().status == 0
    return home.path.parent


@pytest.fixture
def typist(
    desk_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Typist:
    found = fit_typist(tmp_path, capsys, monkeypatch)
    shutil.rmtree(found.desk)
    copy_project(desk_once, found.desk)
    monkeypatch.setenv("PKI_HOME", str(found.home.path))
    return found


def lose(
    typist: Typist, ceremonies: Sequence[RequestOptions], *, keep_keys: bool = False, revoke: str = ""
) -> list[x509.Certificate]:
    """Hold a ceremony for each, then put the `ca/` from before all of them back; returns what was ever certified.

    `revoke` names a leaf that is revoked at the end.
    """
    home, ca = typist.home, typist.home.path / "ca"
    old, newest = typist.desk / "old-ca", typist.desk / "newest-ca"
    copy_project(ca, old)
    for number, options in enumerate(ceremonies):
        home.ceremony(options, 10 * number + 5)
        assert home.doit(days=10 * number + 6).status == 0
    if revoke:
        status, said = typist("revoke", revoke, "--reason", "superseded", "--yes", days=10 * len(ceremonies))
        assert status == 2, said  # it is in a folder, and nobody proved that a host has it
    ca.rename(newest)
    copy_project(old, ca)
    for path in newest.glob("*/*/key.pem") if keep_keys else ():
        if not (copy := ca / path.relative_to(newest)).exists():
            copy.parent.mkdir()
            shutil.copy(path, copy)
            shutil.copy(path.with_name("request.pem"), copy.with_name("request.pem"))
    shutil.rmtree(home.out)  # the exchange drive was formatted since
    home.out.mkdir()
    return [one.certificate for past in home.vault.history() for one in past.response.certificates]


def typed(said: str, command: str) -> list[str]:
    """The arguments of a command as it is printed, at this machine or at the offline one."""
    lines = re.findall(rf"(?:\./run|sh run) invoke ({re.escape(command)}(?: [^\n;]*)?)", said)
    assert lines, said
    return shlex.split(lines[-1])


def refused_by_vault(typist: Typist, *asked: str) -> str:
    """What the vault says to the next request of the project."""
    status, said = typist("ceremony.request", *asked, "--output", "out", days=LATER)
    assert status == 0, said
    [request] = (path.name for path in typist.home.out.glob("request-*.yaml"))
    spoken = typist.words_of(f"out/{request}")
    line = (f"out/{request}", "--vault", "vault", "--passphrase-file", "secret", "--words", spoken)
    status, said = typist("ceremony.sign", *line, "--output", "out", days=LATER)
    assert status == 1
    assert "accept the response of ceremony" in said
    return said


def accept(typist: Typist, said: str) -> tuple[int, str]:
    """Type the line that the vault printed, with the words that it showed."""
    spoken = " ".join(re.findall(r"\b\d+ ([a-z]+)", said.rpartition("SHA-256 ")[2])[: words.WORDS_TO_TYPE])
    command, folder = typed(said, "ceremony.accept")
    return typist(command, f"out/{folder}", "--words", spoken, days=LATER)


def insist_on_all(typist: Typist, certificates: list[x509.Certificate]) -> None:
    """Everything that a ceremony certified is in the ledger, `ca/` verifies, and the next ceremony works."""
    home = typist.home
    ledger = home.project(LATER).ledger
    assert all(ledger.certificates(serial=one.serial_number) for one in certificates)
    status, said = typist("ceremony.verify", days=LATER)
    assert status == 0, said
    heads = [re.findall(r"head (\w+)", typist("ceremony.verify", *place, days=LATER)[1]) for place in ((), ("vault",))]
    assert heads[0] == heads[1] != []
    home.ceremony(CRLS, LATER)


def answer_again(typist: Typist, *request: str) -> str:
    """What the vault says when it hands its last response out again, by the line that it printed for a refused request."""
    status, said = typist(*typed(refused_by_vault(typist, *request), "ceremony.sign"), days=LATER)
    assert status == 0, said
    return said


def accept_loss(typist: Typist) -> None:
    assert typist.home.doit(days=LATER).status == 1
    status, said = typist("ledger.accept-loss", "--yes", days=LATER)
    assert status == 0, said


def replace_keys(typist: Typist, said: str) -> None:
    """Type the line for intermediates whose keys are lost, and hold the ceremony that it asks for."""
    assert "the key is not in ca/" in said
    status, told = typist(*typed(said, "ceremony.request"), days=LATER)
    assert status == 0, told
    typist.home.ceremony(days=LATER)


def insist_on_run(typist: Typist) -> None:
    report = typist.home.doit(days=LATER)
    assert report.status == 0, report.failed


def test_new_crls_that_an_older_ca_does_not_know_are_accepted_again(typist: Typist) -> None:
    lose(typist, [CRLS])
    newest = [path.name for path in (typist.desk / "newest-ca/root/root-1/crl").iterdir()]
    accept_loss(typist)
    status, said = accept(typist, answer_again(typist, "--crls"))
    assert (status, "the key is not in ca/" in said) == (0, False), said
    assert {path.name for path in typist.home.project().store.presigned_crls("root-1")} == set(newest)
    insist_on_run(typist)
    insist_on_all(typist, [])


def test_crls_are_accepted_again_where_the_second_of_them_was_published_already(typist: Typist) -> None:
    """The ledger knows the number of the published one, which is above that of the first of the same ceremony."""
    home, later = typist.home, 800.0
    ca, old = home.path / "ca", typist.desk / "old-ca"
    copy_project(ca, old)
    home.ceremony(RequestOptions(generations=("server", "client"), crls=True), 400)
    numbers = [int(path.stem) for path in home.project().store.presigned_crls("root-1")]
    assert [home.doit(days=day).failed for day in (401, later)] == [{}, {}]
    shutil.rmtree(ca)
    copy_project(old, ca)
    assert home.doit(days=later).status == 1
    project = home.project(later)
    lost_ledger.accept(project, "the newest copy is lost")
    project.close(run_succeeded=False)
    home.accept(home.answer_again(later), later)
    assert [int(path.stem) for path in home.project().store.presigned_crls("root-1")] == numbers
    ledger = home.project(later).ledger
    assert [ledger.has_crl("root-1", number) for number in numbers] == [False, True]
    assert ledger.certificates(artifact="authority:server")[-1].serial == home.certificate("server-2").serial_number


def test_crls_that_are_all_older_than_the_recorded_one_are_refused_and_nothing_is_recorded(typist: Typist) -> None:
    home, response, ca = typist.home, typist.desk / "drive/response", typist.home.path / "ca"
    old = typist.desk / "old-ca"
    copy_project(ca, old)
    home.ceremony(CRLS, 400)
    copy_project(home.answer_again(400), response)
    home.ceremony(CRLS, 500)
    assert home.doit(days=800).failed.keys() <= {"authority:server", "authority:client"}
    crl = (home.path / "build/crl/root-1.crl").read_bytes()
    shutil.rmtree(ca)
    copy_project(old, ca)
    project = home.project(800)
    project.ledger.recovery.record_crl(
        x509.load_der_x509_crl(crl),
        issuer="root-1",
        default_expiry=home.moment(5000),
        source="a host",
        at=home.moment(800),
    )
    events = len(project.ledger.events())
    project.close(run_succeeded=False)
    with pytest.raises(PkiError, match="is recorded already") as refused:
        home.accept(response, 800)
    assert "ceremony.request --crls" in refused.value.hint
    assert len(home.project(800).ledger.events()) == events


def test_intermediate_whose_key_is_lost_is_accepted_again_and_replaced(typist: Typist) -> None:
    """The project made another key of that name for its new request: it stays, aside, and is not taken for the lost one."""
    certificates = lose(typist, [SERVER])
    accept_loss(typist)
    said = answer_again(typist, "--new", "server")
    key = (typist.home.path / "ca/server/server-2/key.pem").read_bytes()
    status, said = accept(typist, said)
    assert status == 0, said
    assert (typist.home.path / "ca/server/server-2.unused-1/key.pem").read_bytes() == key
    replace_keys(typist, said)
    insist_on_run(typist)
    [listed] = typist.home.published("root-1")
    assert listed.serial_number == certificates[-1].serial_number
    insist_on_all(typist, certificates)


def test_three_lost_ceremonies_come_back_with_one_response_and_a_revocation_is_not_undone(
    typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first of them was accepted, the same line goes on; a revoked leaf of a lost CA stays revoked."""
    certificates = lose(typist, [SERVER, CRLS, REVOKED], keep_keys=True, revoke="media")
    accept_loss(typist)
    said = answer_again(typist, "--crls")
    with monkeypatch.context() as patched:
        patched.setattr(accept_response, "render_transcript", Mock(side_effect=[b"of the first", KeyboardInterrupt]))
        with suppress(KeyboardInterrupt):
            accept(typist, said)
    accepted = typist.home.path.glob("ca/ceremonies/*/response.yaml")
    assert sorted(path.parent.name for path in accepted) == ["0001", "0002"]
    status, said = accept(typist, said)
    assert (status, "the key is not in ca/" in said) == (0, False), said
    insist_on_run(typist)
    assert [one.serial_number for one in typist.home.published("root-1")] == [certificates[2].serial_number]
    assert len(list(typist.home.published("server-2"))) == 1
    insist_on_all(typist, certificates)


def test_the_lines_of_the_page_bring_them_back(typist: Typist) -> None:
    def at_desk(command: str) -> list[str]:
        line = command.replace("/mnt/vault", "vault").replace("/mnt/exchange", "out").replace("/media/exchange", "out")
        return shlex.split(line.partition(" invoke ")[2])

    certificates = lose(typist, [CRLS, CRLS])
    accept_loss(typist)
    sign, take, run = consoles.block(
        "lost-data.md",
        "sh run invoke ceremony.sign /mnt/vault/ceremonies/0003/request.yaml --vault /mnt/vault --output /mnt/exchange",
    )
    status, printed = typist(*at_desk(sign.command), days=LATER)
    assert status == 0, printed
    assert (at_desk(take.command), run.command) == (["ceremony.accept", "out/response-0003"], "./run doit")
    status, said = accept(typist, printed)
    assert status == 0, said
    insist_on_run(typist)
    insist_on_all(typist, certificates)


def test_new_root_that_an_older_ca_does_not_know_is_accepted_again(typist: Typist) -> None:
    certificates = lose(typist, [ROOT])
    line = typed(typist("plan", days=LATER)[1], "ceremony.sign")
    assert line == ["ceremony.sign", "DIR/ceremonies/NNNN/request.yaml", "--vault", "DIR", "--output", "DIR"]
    sign = ("ceremony.sign", "vault/ceremonies/0002/request.yaml", "--vault", "vault", "--output", "out")
    status, printed = typist(*sign, days=LATER)
    assert status == 0, printed
    status, said = accept(typist, printed)
    assert status == 1
    status, said = typist(*typed(said, "ledger.accept-loss"), "--yes", days=LATER)
    assert status == 0, said
    status, said = accept(typist, printed)
    assert status == 0, said
    replace_keys(typist, said)
    insist_on_run(typist)
    insist_on_all(typist, certificates)


def test_project_that_lost_all_of_ca_accepts_the_root_that_pki_yaml_names(typist: Typist) -> None:
    """Where pki.yaml does not name it, the lines to write are shown, and nothing is accepted before."""
    certificates = lose(typist, [])
    for folder in ("ca", "build"):
        shutil.rmtree(typist.home.path / folder)
    text = typist.home.read("pki.yaml").decode()
    named = text.index("roots:")
    typist.home.write("pki.yaml", text[:named] + text[text.index("\n\n", named) :])
    sign = ("ceremony.sign", "vault/ceremonies/0001/request.yaml", "--vault", "vault", "--output", "out")
    status, printed = typist(*sign, days=LATER)
    assert status == 0, printed
    status, said = accept(typist, printed)
    assert status == 1
    assert not list(typist.home.path.glob("ca/root/*"))
    lines = said.partition("repeat the command:\n")[2]
    assert f"  - {fingerprint(certificates[0])}\n" in lines, said
    typist.home.write("pki.yaml", f"{text[:named]}{lines}{text[text.index(chr(10) * 2, named) :]}")
    status, said = accept(typist, printed)
    assert status == 0, said
    replace_keys(typist, said)
    insist_on_run(typist)
    insist_on_all(typist, certificates)


def test_project_with_its_build_folder_accepts_the_root_that_it_shows_and_goes_on_without_the_ledger(
    typist: Typist,
) -> None:
    certificates = lose(typist, [])
    shutil.rmtree(typist.home.path / "ca")
    sign = ("ceremony.sign", "vault/ceremonies/0001/request.yaml", "--vault", "vault", "--output", "out")
    printed = typist(*sign, days=LATER)[1]
    status, said = typist("ceremony.accept", "out/response-0001", "--words", "acid", days=LATER)
    assert (status, "this is not the response that the ceremony showed" in said) == (1, True), said
    assert not (typist.home.path / "ca").exists() or not [*typist.home.path.glob("ca/*/*")]
    status, said = accept(typist, printed)
    assert status == 0, said
    replace_keys(typist, said)
    insist_on_run(typist)
    insist_on_all(typist, certificates)


def test_request_that_follows_a_ceremony_the_vault_does_not_know_is_told_so(typist: Typist) -> None:
    """The drive of an earlier day has no response to hand out that would help."""
    copy_project(typist.desk / "vault", typist.desk / "older")
    typist.home.ceremony(CRLS, 5)
    shutil.rmtree(typist.desk / "vault")
    (typist.desk / "older").rename(typist.desk / "vault")
    said = refused_by_vault(typist, "--crls")
    assert "to write the last response again" not in said
    assert typed(said, "ceremony.copy") == ["ceremony.copy", "--vault", "DIR", "--to", str(typist.home.vault.folder)]


def test_request_of_an_earlier_ceremony_is_answered_with_the_line_for_the_last_one(typist: Typist) -> None:
    typist.home.ceremony(CRLS, 5)
    line = ("vault/ceremonies/0001/request.yaml", "--vault", "vault", "--output", "out", "--passphrase-file", "secret")
    spoken = typist.words_of("vault/ceremonies/0001/request.yaml")
    status, said = typist("ceremony.sign", *line, "--words", spoken, days=LATER)
    assert (status, "ceremony 2 was performed since" in said) == (1, True), said
    status, said = typist(*typed(said, "ceremony.sign"), days=LATER)
    assert (status, "this request was answered already" in said) == (0, True), said
