"""The online side of a ceremony at the command line: each line that it prints works as it stands, and slips get the line to type."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from pki.ceremony.online import ceremony_archive
from pki.ceremony.online import kit as kits
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.online.request_changes import changed_settings
from pki.common.remedies import PROGRAM, run_for
from tests.support.ceremonies import Typist, drives_at, fit_typist


@pytest.fixture
def typist(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typist:
    """Before the first request."""
    return fit_typist(tmp_path, capsys, monkeypatch)


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A desk after the first ceremony was signed, and before its response is accepted."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        place = tmp_path_factory.mktemp("signed")
        home = fit_typist(place, None, monkeypatch).home  # type: ignore[arg-type] # types nothing
        asked = home.ask()
        shutil.copy(asked.path, home.out / "request-0001.yaml")
        home.answer(asked.path)
    return home.path.parent


@pytest.fixture
def signed(signed_once: Path, typist: Typist, tmp_path: Path) -> Typist:
    shutil.rmtree(typist.desk)
    shutil.copytree(signed_once, typist.desk)
    (typist.desk / "mnt").mkdir()
    (typist.desk / "out").rename(typist.desk / "mnt/exchange")
    drives_at({"sdb": typist.desk / "mnt/exchange"}, tmp_path / "mounts")
    return typist


def accept(typist: Typist, folder: str) -> tuple[int, str]:
    spoken = typist.words_of("mnt/exchange/response-0001/response.yaml")
    return typist("ceremony.accept", folder, "--words", spoken)


def typed(typist: Typist, said: str) -> list[str]:
    """The arguments of the line behind the arrow, which must be for this project."""
    [line] = re.findall(r"PKI_HOME=\S+ \./run invoke .+", said)
    project, run, invoke, *rest = shlex.split(line)
    assert (project, run, invoke) == (f"PKI_HOME={typist.home.path}", "./run", "invoke")
    return rest


# -- lines of this project --------------------------------------------------------------------------------------------


def test_project_is_named_in_a_line_unless_it_is_the_folder_of_the_program() -> None:
    assert run_for(PROGRAM) == "./run"
    assert run_for("/srv/the project") == "PKI_HOME='/srv/the project' ./run"


def test_every_line_that_is_typed_online_names_the_project(signed: Typist) -> None:
    """Without it, the line would be for a project in the folder of the program."""
    told = [
        signed("ceremony.request")[1],
        accept(signed, "mnt/exchange/response-0001")[1],
        signed("ceremony.rehearse")[1],
    ]
    run = f"PKI_HOME={signed.home.path} ./run"
    for line in (
        "invoke ceremony.rehearse",
        "invoke ceremony.kit DIR",
        "invoke ceremony.accept DIR/response-0001",
        "doit",
    ):
        assert f"  {run} {line}" in told[0], line
    assert f"now: {run} doit" in told[1]
    assert f"→ {run} invoke ceremony.request" in told[2]
    bare = re.compile(r"(?<!PROJECT )\./run (?:doit|invoke ceremony\.(?:request|rehearse|kit|accept))")
    lines = "\n".join(told).replace(f"PKI_HOME={signed.home.path}", "PROJECT").splitlines()
    assert not [line for line in lines if bare.search(line)]


def test_run_without_a_root_names_the_project_in_the_line_for_a_ceremony(typist: Typist) -> None:
    [error, *_] = typist.home.doit().failed.values()
    assert f"perform a root ceremony: PKI_HOME={typist.home.path} ./run invoke ceremony.request" in str(error)


# -- which response ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["mnt/exchange", "mnt/exchange/response-0002", "mnt/exchange/doit-pki-kit"])
def test_folder_beside_the_response_is_told_with_the_line_that_names_the_response(signed: Typist, named: str) -> None:
    """The one that answers the open request, and not the newest."""
    shutil.copytree(signed.desk / "mnt/exchange/response-0001", signed.desk / "mnt/exchange/response-0009")
    path = signed.desk / "mnt/exchange/response-0009/response.yaml"
    path.write_text(re.sub(r"(?m)^request: .*", f"request: {'0' * 64}", path.read_text()))
    (signed.desk / "mnt/exchange/doit-pki-kit").mkdir()
    status, said = accept(signed, named)
    assert status == 1
    assert f"{named}: has no response.yaml; found {signed.desk}/mnt/exchange/response-0001, " in said
    command, folder = typed(signed, said)
    assert (command, folder) == ("ceremony.accept", f"{signed.desk}/mnt/exchange/response-0001")
    assert accept(signed, folder)[0] == 0


@pytest.mark.parametrize("named", ["mnt/exchange", "mnt/exchange/response-0001", "media/gone"])
def test_folder_without_a_drive_is_told_with_the_line_that_mounts_it(
    signed: Typist, tmp_path: Path, named: str
) -> None:
    shutil.rmtree(signed.desk / "mnt/exchange")
    (signed.desk / "mnt/exchange").mkdir()
    drives_at({}, tmp_path / "mounts")
    status, said = signed("ceremony.accept", named)
    place = signed.desk / named.removesuffix("/response-0001")
    assert status == 1
    assert f"{signed.desk}/{named}: has no response.yaml: no drive is mounted there" in said
    assert f"mkdir -p {place} && mount LABEL=exchange {place}" in said
    assert typed(signed, said) == ["ceremony.accept", f"{place}/response-0001"]


def test_drive_without_a_response_is_not_said_to_be_missing(signed: Typist, tmp_path: Path) -> None:
    (signed.desk / "mnt/empty").mkdir()
    drives_at({"sdb": signed.desk / "mnt/empty"}, tmp_path / "mounts")
    status, said = accept(signed, "mnt/empty")
    assert (status, "no drive" in said) == (1, False)
    assert typed(signed, said) == ["ceremony.accept", f"{signed.desk}/mnt/empty/response-0001"]


def test_response_that_was_accepted_names_the_one_that_is_waited_for(signed: Typist) -> None:
    assert accept(signed, "mnt/exchange/response-0001")[0] == 0
    status, said = accept(signed, "mnt/exchange/response-0001")
    assert (status, f"nothing is left to do: PKI_HOME={signed.home.path} ./run doit" in said) == (1, True), said
    assert signed("ceremony.request", "--crls")[0] == 0
    status, said = accept(signed, "mnt/exchange/response-0001")
    assert (status, "request 2 waits for its response, response-0002" in said) == (1, True), said
    assert "perform its ceremony" in said
    assert typed(signed, said) == ["ceremony.accept", f"{signed.desk}/mnt/exchange/response-0002"]


def test_transcript_that_was_cut_on_its_way_is_copied_again_and_no_other_vault_is_fetched(signed: Typist) -> None:
    path = signed.desk / "mnt/exchange/response-0001/transcript.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    status, said = accept(signed, "mnt/exchange/response-0001")
    assert status == 1
    assert "copy the response again from the offline machine" in said
    assert "other drive" not in said


# -- a request that pki.yaml left behind ------------------------------------------------------------------------------


CHANGES = {
    "organisation": ("organisation: Example Lab", "organisation: Example Labs"),
    "publish.url": ("http://pki.lab.internal", "http://crl.lab.internal"),
    "domains or permit_addresses": ("domains: [", "domains: [new.internal, "),
    "authorities.root.key": ("10y, key: ec-p384", "10y, key: ec-p256"),
    "authorities.root.lifetime": ("lifetime: 10y", "lifetime: 9y"),
    "authorities.server.lifetime": ("server: {lifetime: 2y", "server: {lifetime: 20mo"),
    "authorities.root.crl.lifetime": ("lifetime: 13mo", "lifetime: 12mo"),
    "authorities.root.crl.presigned": ("presigned: 2", "presigned: 3"),
}


@pytest.mark.parametrize("key", CHANGES)
def test_request_is_made_anew_after_what_it_says_was_changed_in_pki_yaml(
    typist: Typist, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no kit is made for the old one; a request that was made again stays."""
    assert typist("ceremony.request")[0] == 0
    typist.home.edit(*CHANGES[key])
    (typist.desk / "drive").mkdir()
    monkeypatch.setattr(kits, "write_kit", lambda *_, **__: pytest.fail("a kit was made"))
    for command in (("ceremony.kit", "drive"), ("ceremony.rehearse",)):
        status, said = typist(*command)
        assert (status, f"request 1 is out of date: {key}" in said) == (1, True), said
        assert typed(typist, said) == ["ceremony.request"]
    status, said = typist("ceremony.request", days=0.5)
    assert (status, f"replaces request 1, whose printed page and kit are void: {key}" in said) == (0, True), said
    status, said = typist("ceremony.request", days=1)
    assert (status, "request 2, prepared" in said, "in place of" in said) == (0, True, False), said


def test_run_makes_a_request_anew_that_names_another_organisation(typist: Typist) -> None:
    typist.home.doit()
    typist.home.edit(*CHANGES["organisation"])
    for days in (1, 2):
        typist.home.doit(days=days)
        assert [
            one.request.organisation for one in ceremony_archive.open_requests(typist.home.project(days).store)
        ] == [
            "Example Lab",
            "Example Labs",
        ]


def test_request_that_was_only_wished_is_made_anew_too_and_keeps_the_wish(signed: Typist) -> None:
    assert accept(signed, "mnt/exchange/response-0001")[0] == 0
    assert signed("ceremony.request", "--new", "server")[0] == 0
    signed.home.edit(*CHANGES["authorities.server.lifetime"])
    status, said = signed("ceremony.request", days=1)
    assert (status, "request 3, prepared" in said, "certify server-2" in said) == (0, True, True), said
    assert "authorities.server.lifetime changed" in said


@pytest.mark.parametrize(
    "options",
    [
        RequestOptions(generations=("server",)),
        RequestOptions(generations=("root",)),
        RequestOptions(generations=("root",), destroy=("root-1",)),
        RequestOptions(crls=True),
        RequestOptions(revoke=(("client-1", "keyCompromise"),)),
    ],
)
def test_request_stays_as_long_as_pki_yaml_does(signed: Typist, options: RequestOptions) -> None:
    """Also one with fractions of a second, which a request does not have, and when earlier CRLs are continued."""
    home = signed.home
    home.accept(signed.desk / "mnt/exchange/response-0001")
    asked = home.ask(options, days=40.123456789)
    [read] = ceremony_archive.open_requests(home.project(41).store)
    assert read.digest == asked.digest
    assert changed_settings((project := home.project(41)).inventory, project.authorities, read.request) == []
