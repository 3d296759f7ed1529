"""Revocation: what is asked and said before, what follows or is withheld, and the life of client identities."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sqlite3
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pki.authority import crl_size, recover_revocations
from pki.cli.revoke_command import MEANINGS, ask_reason, verdict
from pki.common.errors import ErrorCode, PkiError
from pki.config import editing
from pki.monitor import forecast
from pki.monitor.check_result import Finding, Level
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report, status_table
from pki.monitor.report.run import Run
from pki.monitor.revocation_check import Observation
from pki.x509 import crl_signing
from pki.x509.revocation import CrlEntry
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import Home

LAPTOP = ("client.add", "admin@laptop", "--email", "admin@lab.internal")


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, with the clock `days` after the first run."""

    def call(*arguments: str, days: float = 0) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment(days))

    return call


def types(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Somebody sits at a terminal and types these."""
    keyboard = io.StringIO("".join(f"{line}\n" for line in lines))
    keyboard.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", keyboard)


def certificate(home: Home, client: str = "admin") -> x509.Certificate:
    return x509.load_pem_x509_certificate(home.read(f"ca/clients/{client}/cert.pem"))


def listed(home: Home) -> set[int]:
    """Serial numbers on the CRL of the client authority."""
    return {entry.serial_number for entry in x509.load_der_x509_crl(home.read("build/crl/client-1.crl"))}


def notes(home: Home, days: float = 0) -> dict[str, tuple[str, str]]:
    project, plan = home.project(days), home.plan(days)
    return {note.subject: (note.text, note.remedy) for note in forecast.required_actions(project, plan)}


# -- what is asked and said before ------------------------------------------------------------------------------------


def test_before_the_first_run_there_is_nothing_to_revoke(fresh: Home, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ("revoke", "media", "--reason", "superseded")
    said = said_by(capsys, *typed, pki_home=str(fresh.path), pki_now=fresh.moment())
    assert said.error == "media: the ledger contains no valid certificate\n→ ./run doit\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("revok admin", "No idea what 'revok' is!\n→ did you mean revoke?"),
        ("ledger", "No idea what 'ledger' is!\n→ ./run invoke --list ledger"),
        ("revoke", "positional arguments: 'name'\n→ ./run invoke revoke --help"),
        ("revoke admin --reason", "--reason needs a value\n→ ./run invoke revoke --help"),
        ("revoke admin --raison x", "No idea what '--raison' is!\n→ ./run invoke revoke --help"),
        ("ledger.recover --host", "--host needs a value\n→ ./run invoke ledger.recover --help"),
        ("ledger.recover --host nobody", "unknown host 'nobody'\n→ defined: forge, media, monitoring"),
        ("deploy.drift nobody", "unknown host 'nobody'\n→ defined: forge, media, monitoring"),
    ],
)
def test_whoever_mistypes_a_command_is_told_what_to_type(invoke: Invoke, typed: str, said: str) -> None:
    answer = invoke(*typed.split())
    assert (answer.status, answer.out) == (1, "")
    assert answer.error.endswith(f"{said}\n")


@pytest.mark.parametrize("given", [(), ("--reason", "lost")])
def test_a_reason_that_is_missing_or_wrong_explains_every_one_in_a_line(
    home: Home, invoke: Invoke, given: tuple[str, ...]
) -> None:
    said = invoke("revoke", "admin", *given, "--yes")
    assert said.status == 1
    assert [line.split()[0] for line in said.error.splitlines()[2:]] == list(MEANINGS)
    assert listed(home) == set()


def test_without_a_terminal_nothing_is_revoked_and_the_command_that_does_is_named(home: Home, invoke: Invoke) -> None:
    serial = certificate(home).serial_number
    said = invoke("revoke", "admin", "--reason", "key-compromise")
    assert said.status == 1
    assert f"client-admin, serial {serial:x}, valid until 2027-05-22" in said.out
    assert "will be refused by  grafana, prometheus, loki on monitoring (nginx); forgejo on forge (haproxy)" in said.out
    assert listed(home) == set()
    command = re.search(r"→ \./run invoke (.*)", said.error)
    assert command
    assert invoke(*shlex.split(command[1])).status == 2
    assert listed(home) == {serial}


def test_at_a_terminal_the_reason_and_a_yes_are_asked_for(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = certificate(home).serial_number
    types(monkeypatch, "superseded", "perhaps")
    said = invoke("revoke", "admin")
    assert (said.status, said.error) == (1, "cancelled; nothing was changed\n")
    assert listed(home) == set()
    types(monkeypatch, "superseded", "yes")
    assert invoke("revoke", "admin").status == 2
    assert listed(home) == {serial}


@pytest.mark.usefixtures("home")
def test_at_a_narrow_terminal_the_impact_stays_in_two_columns(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    types(monkeypatch, "no")
    lines = invoke("revoke", "admin", "--reason", "superseded").out.splitlines()
    assert lines[2:7] == [
        "  used by             admin.client.lab.internal, admin@lab.internal",
        "  will be refused by  grafana, prometheus, loki on monitoring (nginx); forgejo",
        "                      on forge (haproxy)",
        "  then                a new certificate with a new key follows at once; its",
        "                      owner must install it",
    ]


def test_a_proxy_that_cannot_refuse_is_named_before_and_after(home: Home, invoke: Invoke) -> None:
    home.edit("    proxy: haproxy\n", "    proxy: traefik\n")
    home.doit()
    said = invoke("revoke", "admin", "--reason", "superseded", "--yes")
    assert "will still be accepted by  forgejo on forge (traefik), until it expires: traefik reads no CRLs" in said.out
    assert re.search(
        r"^folder +forge +written to a folder, not verified; accepts the certificate until the certificate expires on 2027-05-22",
        said.out,
        re.MULTILINE,
    )


PLACES = [Observation("forge/forgejo", "verified", ""), Observation("media", "folder", "")]
OPEN, FAILED = Observation("media/films", "unverified", ""), Observation("media/films", "failed", "")
DOWN = {"deploy:media": ErrorCode.UNREACHABLE}


@pytest.mark.parametrize(
    ("findings", "failures", "expected"),
    [
        ([], {}, (0, "revoked and published; there is no service to verify it at")),
        (PLACES[:1], {}, (0, "revoked, published, and verified at forge/forgejo")),
        (PLACES, {}, (2, "revoked and published; verified at forge/forgejo; not verified: media;")),
        (PLACES[1:], {}, (2, "revoked and published; not verified: media;")),
        ([*PLACES, OPEN], {}, (2, "revoked and published; not verified: media/films, media;")),
        ([*PLACES, OPEN], DOWN, (2, "revoked and published; not verified: media/films, media;")),
        (PLACES, DOWN, (2, "revoked and published; not verified: deploy:media, media;")),
        ([*PLACES, FAILED], {}, (1, "revoked, but STILL ACCEPTED by media/films;")),
        ([*PLACES, FAILED, OPEN], DOWN, (1, "revoked, but STILL ACCEPTED by media/films;")),
        (PLACES, {"crl:client-1": ErrorCode.OTHER}, (1, "revoked; failed: crl:client-1;")),
        (PLACES, {"doit": ErrorCode.OTHER}, (1, "revoked; failed: doit;")),
    ],
)
def test_the_exit_status_says_what_is_proven(
    findings: list[Observation], failures: dict[str, ErrorCode], expected: tuple[int, str]
) -> None:
    code, text = verdict(findings, failures)
    assert (code, text[: len(expected[1])]) == expected


def test_a_revocation_that_cannot_be_published_is_recorded_and_fails(home: Home, invoke: Invoke) -> None:
    (home.path / "secrets.yaml").unlink()
    said = invoke("revoke", "admin", "--reason", "key-compromise", "--yes")
    assert said.status == 1
    assert "revoked; failed: " in said.out
    assert "crl:client-1" in said.out.splitlines()[-1]
    [issued] = home.project().ledger.certificates(artifact="cert:client-admin")
    assert issued.revoked == "keyCompromise"


def test_a_run_that_breaks_off_is_no_evidence_that_anything_was_published(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report of an earlier run, which went well, is still there."""
    monkeypatch.setattr(Run, "main", lambda *_: 3)
    said = invoke("revoke", "admin", "--reason", "key-compromise", "--yes")
    assert said.status == 1
    assert said.out.splitlines()[-1].startswith("revoked; failed: crl:client-1, doit; ")
    assert "written to a folder" not in said.out
    assert "not deployed: its folder has the old files" in said.out


def test_a_run_that_ends_badly_without_a_word_is_a_failure(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    ends_well = Run.main
    monkeypatch.setattr(Run, "main", lambda *arguments: ends_well(*arguments) or 1)
    said = invoke("revoke", "admin", "--reason", "key-compromise", "--yes")
    assert (said.status, said.out.splitlines()[-1].partition(";")[2][:14]) == (1, " failed: doit;")


@pytest.mark.parametrize("part", ["crl", "release"])
def test_only_a_host_that_took_the_new_list_counts_as_delivered_to(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    everything = Run.main
    monkeypatch.setattr(Run, "main", lambda run, _arguments: everything(run, [part]))
    serial = certificate(home).serial_number
    said = invoke("revoke", "admin", "--reason", "key-compromise", "--yes")
    assert listed(home) == {serial}
    assert said.status == 2
    assert "written to a folder" not in said.out
    assert said.out.splitlines()[-1].startswith("revoked and published; not verified: monitoring, forge;")


@pytest.mark.parametrize("damage", [None, b"", b"no CRL"])
def test_a_list_that_was_lost_again_is_not_said_to_be_published(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    everything, path = Run.main, home.path / "build/crl/client-1.crl"

    def run_and_damage(run: Run, arguments: list[str]) -> int:
        status = everything(run, arguments)
        path.unlink() if damage is None else path.write_bytes(damage)
        return status

    monkeypatch.setattr(Run, "main", run_and_damage)
    said = invoke("revoke", "admin", "--reason", "key-compromise", "--yes")
    assert said.status == 1
    assert "revoked; failed: crl:client-1;" in said.out.splitlines()[-1]


# -- what is withheld -------------------------------------------------------------------------------------------------


@pytest.fixture
def withheld(home: Home, invoke: Invoke) -> Home:
    said = invoke("revoke", "admin", "--reason", "key-compromise", "--no-replace", "--yes")
    assert said.status == 2, said.error
    assert "  then                nothing replaces it until: ./run invoke renew client-admin" in said.out
    return home


def checked(home: Home, days: float = 0) -> list[Finding]:
    """What `invoke health` finds, without probes."""
    project = home.project(days)
    project.cache.read_all()
    return health_report.run_checks(project, home.plan(days), LastRun.load(project.store))


def test_a_withheld_certificate_is_issued_by_no_run_before_somebody_renews_it(withheld: Home, invoke: Invoke) -> None:
    old = certificate(withheld).serial_number
    for days in (0, 1):
        assert "cert:client-admin" not in withheld.doit(days=days).made
    assert listed(withheld) == {old}
    text = "was revoked; replacement stopped since 2026-11-23"
    assert notes(withheld)["cert:client-admin"] == (text, "./run invoke renew client-admin")
    [row] = [
        row
        for row in status_table.StatusTable(withheld.project()).rows(withheld.plan())
        if row.name == "cert:client-admin"
    ]
    assert (row.state, row.next) == ("stopped", text)
    said = [str(one.what) for one in checked(withheld, 1) if one.subject == row.name]
    assert said == [text], "its missing count is explained, and no run issues it"
    assert "cert:client-admin" not in withheld.doit(days=200).made, "nor after it ended"
    assert invoke("renew", "admin", days=200).status == 0
    assert certificate(withheld).serial_number != old
    assert "cert:client-admin" not in notes(withheld, 200)
    assert withheld.doit(days=200).made == {}


def test_a_run_with_nothing_to_do_opens_no_ledger_for_what_is_withheld(withheld: Home) -> None:
    withheld.doit()
    run = Run(withheld.path, withheld.moment())
    assert run.main([]) == 0
    assert not run.project.ledger_view.is_open


def test_a_withheld_server_certificate_that_was_lost_stops_its_host_alone(home: Home, invoke: Invoke) -> None:
    assert invoke("revoke", "media", "--reason", "superseded", "--no-replace", "--yes").status == 2
    shutil.rmtree(home.path / "build")
    said = {str(one.what): str(one.remedy) for one in checked(home) if one.subject == "cert:media"}
    assert said == {"was revoked; replacement stopped since 2026-11-23": "./run invoke renew media"}
    report = home.doit()
    assert report.failed == {
        "cert:media": "was revoked; replacement stopped since 2026-11-23 → ./run invoke renew media"
    }
    assert [one["name"] for one in report.data["blocked"]] == ["release:media", "deploy:media"]
    assert "deploy:forge" in report.made
    assert invoke("renew", "media").status == 0


def test_an_older_certificate_of_a_name_is_revoked_and_the_present_one_stays(home: Home, invoke: Invoke) -> None:
    old = certificate(home).serial_number
    invoke("renew", "admin")
    new = certificate(home).serial_number
    said = invoke("revoke", f"{old:x}", "--reason", "superseded", "--no-replace", "--yes")
    assert "  then                the present certificate of this name is not affected" in said.out
    assert (listed(home), certificate(home).serial_number) == ({old}, new)
    assert home.project().revocations.replacement_stopped == {}


def test_server_and_client_of_one_name_are_told_apart(home: Home, invoke: Invoke) -> None:
    home.edit("clients:\n", "clients:\n  media: {email: media@lab.internal}\n")
    assert home.doit().status == 0
    said = invoke("revoke", "cert:media", "--reason", "superseded", "--no-replace", "--yes")
    assert f"revoked   cert:media{' ' * 15}serial" in said.out, said
    assert "client-media" not in said.out
    both = invoke("revoke", "media", "--reason", "superseded", "--yes")
    assert "client-media" in both.out + both.error
    assert (
        invoke("revoke", "client-media", "--reason", "superseded", "--yes").out.count("revoked   cert:client-media")
        == 1
    )


def test_service_of_a_server_is_not_taken_for_the_client_of_its_name(home: Home, invoke: Invoke) -> None:
    home.edit("clients:\n", "clients:\n  media: {email: media@lab.internal}\n")
    assert home.doit().status == 0
    said = invoke("revoke", "jellyfin", "--reason", "superseded")
    assert "jellyfin is a service on media: cert:media" in said.out
    assert "client-media" not in said.out


def test_retire_takes_no_serial_number_of_a_declared_certificate(home: Home, invoke: Invoke) -> None:
    serial = f"{certificate(home).serial_number:x}"
    said = invoke("retire", serial, "--yes")
    assert said.status == 1
    assert "client-admin is still in pki.yaml" in said.error
    assert f"./run invoke revoke {serial}" in said.error
    assert listed(home) == set()


def test_decisions_are_sealed_like_all_else_and_older_ledgers_get_their_table(withheld: Home) -> None:
    path = withheld.path / "ca/ledger.db"
    assert withheld.project().ledger.verify() == []
    with sqlite3.connect(path) as db:
        [before] = db.execute("select seq from decisions").fetchone()
        db.execute("update decisions set decision = 'released'")
    db.close()
    assert withheld.project().ledger.verify() == [f"event {before}: its decision of cert:client-admin was changed"]
    with sqlite3.connect(path) as db:
        db.execute("drop table decisions")
    db.close()
    assert withheld.project().ledger.decisions() == []
    assert withheld.project().ledger.verify() == [f"event {before}: its decision of cert:client-admin is missing"]


# -- client identities ------------------------------------------------------------------------------------------------


def test_one_identity_for_each_device_has_a_key_of_its_own_and_is_revoked_alone(home: Home, invoke: Invoke) -> None:
    text = home.read("pki.yaml").decode()
    assert invoke(*LAPTOP).status == 0
    entry = "  admin: {email: admin@lab.internal}\n"
    line = "  admin@laptop: {email: admin@lab.internal}\n"
    assert home.read("pki.yaml").decode() == text.replace(entry, entry + line)
    admin, laptop = certificate(home), certificate(home, "admin@laptop")
    assert admin.public_key() != laptop.public_key()
    assert [name.value for name in laptop.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["admin@laptop"]
    names = laptop.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.RFC822Name) == ["admin@lab.internal"]
    said = invoke("client.revoke", "admin@laptop", "--reason", "key-compromise", "--yes")
    assert said.status == 2, said.error
    assert "  then                it is removed from pki.yaml, and nothing replaces it" in said.out
    assert listed(home) == {laptop.serial_number}
    assert certificate(home) == admin
    assert home.read("pki.yaml").decode() == text
    assert home.doit().made == {}
    assert notes(home) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "clients:\n    # people\n    admin:\n        email: a@lab.internal  # me\n\n\n# next\n",
            "clients:\n    # people\n    admin:\n        email: a@lab.internal  # me\n    NEW\n\n\n# next\n",
        ),
        ("clients:   # none yet\n", "clients:   # none yet\n  NEW\n"),
        ("", "\nclients:\n  NEW\n"),
        ("clients:\n  admin: {email: a@lab.internal}", "clients:\n  admin: {email: a@lab.internal}\n  NEW\n"),
        ("clients:\r\n  b: {email: a@lab.internal}\r\n", "clients:\r\n  b: {email: a@lab.internal}\r\n  NEW\r\n"),
    ],
)
def test_a_client_is_added_as_a_person_would_write_it(home: Home, before: str, after: str) -> None:
    path = home.path / "pki.yaml"
    rest = path.read_text().partition("clients:")[0]
    path.write_bytes((rest + before).encode())
    line = 'x@y: {email: "a{b@lab.internal"}'
    assert editing.add_client(path, "x@y", {"email": "a{b@lab.internal"}).text == rest + after.replace("NEW", line)


@pytest.mark.parametrize(
    "section",
    ["clients: {admin: {email: a@lab.internal}}\n", "clients: {\n  admin: {email: a@lab.internal}\n}\n"],
)
def test_a_layout_that_is_not_understood_is_left_alone_and_the_line_is_shown(home: Home, section: str) -> None:
    path = home.path / "pki.yaml"
    path.write_text(path.read_text().partition("clients:")[0] + section)
    with pytest.raises(PkiError, match="has a layout that this program cannot edit") as refused:
        editing.add_client(path, "x", {"email": "x@lab.internal"})
    assert "`x: {email: x@lab.internal}`" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "email", "said"),
    [
        ("admin", "a@lab.internal", "clients.admin is in pki.yaml already"),
        ("a.b", "a@lab.internal", "looks like a DNS name"),
        ("a", "a", "expected an e-mail address"),
    ],
)
def test_a_client_that_cannot_be_is_refused_and_nothing_is_written(
    home: Home, invoke: Invoke, name: str, email: str, said: str
) -> None:
    before = home.read("pki.yaml")
    answer = invoke("client.add", name, "--email", email)
    assert answer.status == 1
    assert said in answer.error
    assert home.read("pki.yaml") == before


def test_a_renewed_identity_is_reminded_of_until_it_is_installed_and_only_once_it_is_in_use(
    home: Home, invoke: Invoke
) -> None:
    home.doit(days=140)
    assert "cert:client-admin" not in notes(home, 140)
    assert invoke("client.installed", "admin", days=140).status == 0
    assert "cert:client-admin" in home.doit(days=151).made
    text = "a new certificate was issued on 2027-04-23 and is not installed yet; the old one expires on 2027-05-22"
    assert notes(home, 151) == {
        "cert:client-admin": (text, "install it on its device, then: ./run invoke client.installed admin")
    }
    assert "install the newer one" in invoke("client.list", days=151).out
    assert "expired on 2027-05-22" in notes(home, 185)["cert:client-admin"][0]
    said = invoke("client.installed", "admin", days=152)
    assert "is valid too, until 2027-05-22; to revoke it:" in said.out
    assert notes(home, 152) == {}
    assert "2027-04-24" in invoke("client.list", days=152).out


def test_an_identity_that_was_handed_out_is_in_use_whether_or_not_anybody_said_that_it_is_installed(
    home: Home, invoke: Invoke, tmp_path: Path
) -> None:
    def export(name: str, days: float) -> None:
        said = invoke("client.export", "admin", "--format", "pem", "--output", str(tmp_path / name), "--yes", days=days)
        assert said.status == 0, said

    export("first", 1)
    assert notes(home, 1) == {}
    home.doit(days=151)
    text = "a new certificate was issued on 2027-04-23 and is not installed yet; the old one expires on 2027-05-22"
    assert notes(home, 151)["cert:client-admin"][0] == text
    assert "a newer one is not installed yet" in invoke("explain", "admin", days=151).out
    export("second", 152)
    assert notes(home, 152)["cert:client-admin"][0] == text
    assert invoke("client.installed", "admin", days=153).status == 0
    assert notes(home, 153) == {}


def test_a_revoked_identity_in_use_is_reminded_of_until_its_replacement_is_installed(
    home: Home, invoke: Invoke
) -> None:
    invoke("client.installed", "admin")
    invoke("revoke", "admin", "--reason", "key-compromise", "--yes", days=1)
    assert notes(home, 1)["cert:client-admin"][0].endswith("is not installed yet; the old one is revoked")


# -- explanations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("admin", ["ca/clients/admin/tls.pem", "client-1", "grafana, prometheus, loki on monitoring", "renew admin"]),
        ("cert:media", ["jellyfin on media (caddy)", "server-1", "from 2027-01-22 on", "if revoked", "renew media"]),
        ("server", ["authority:server-1", "3 certificates", "ca/server/server-1/key.pem, encrypted", "--new server"]),
        ("root-1", ["in offline/", "itself"]),
        ("crl:client", ["crl:client-1", "0 certificates", "monitoring, forge", "refuse every client"]),
    ],
)
def test_a_thing_is_explained_in_plain_words(invoke: Invoke, name: str, expected: list[str]) -> None:
    said = invoke("explain", name)
    assert said.status == 0, said.error
    assert [part for part in expected if part not in said.out] == []


def test_a_serial_number_is_explained_with_what_became_of_it(home: Home, invoke: Invoke) -> None:
    serial = certificate(home).serial_number
    invoke("renew", "admin")
    assert "valid, replaced by a newer one" in invoke("explain", f"{serial:x}").out
    invoke("revoke", f"{serial:x}", "--reason", "superseded", "--yes")
    assert "revoked: superseded" in invoke("explain", f"{serial:x}").out
    unknown = invoke("explain", "admn")
    assert (unknown.status, unknown.error.splitlines()[1]) == (1, "→ did you mean admin?")


def test_a_crl_that_its_publisher_is_too_small_for_is_left_out_and_said(home: Home, invoke: Invoke) -> None:
    """HAProxy does not start with a file beyond its buffer, and would learn of no revocation any more."""
    home.edit("host: monitoring}", "host: forge}")
    revoke_unknown(home, 150)
    assert home.doit().status == 0
    assert checks_of(home)["crl:client-1"] == []
    revoke_unknown(home, 225)
    assert home.doit().status == 0
    near = "has 12 kB, and haproxy at forge serves files of at most 15 kB: beyond that it is no longer published there"
    assert checks_of(home)["crl:client-1"] == [(Level.NOTICE, near, crl_size.REMEDY)]
    assert "/crl/client-1.crl" in home.read(CONFIGURATION).decode()
    revoke_unknown(home, 320)
    assert home.doit().status == 0
    beyond = "has 17 kB, and haproxy at forge serves files of at most 15 kB: it is no longer published there"
    assert checks_of(home)["crl:client-1"] == [(Level.WARNING, beyond, crl_size.REMEDY)]
    assert f"{beyond}\n" in invoke("plan").out
    assert "it is no longer published there" in " ".join(invoke("status").out.split())
    served = home.read(CONFIGURATION).decode()
    assert "/crl/client-1.crl" not in served
    assert "/crl/server-1.crl" in served
    assert home.doit().made == {}
    home.edit("host: forge}", "host: monitoring}")
    home.doit()
    assert checks_of(home)["crl:client-1"] == []


CONFIGURATION = "build/hosts/forge/etc/haproxy/haproxy.cfg"


def revoke_unknown(home: Home, count: int) -> None:
    """Let the ledger know of so many revocations below the client authority, all in all."""
    project = home.project()
    issuer = project.signing_keys.issuer("client")
    entries = [CrlEntry(number + (1 << 156), home.moment(), "superseded") for number in range(count)]
    crl = crl_signing.sign_crl(issuer, 1, home.moment(), home.moment(7), entries)
    recover_revocations.recover_from_crl(project, crl, "a test")
    project.ledger.close()


def checks_of(home: Home) -> dict[str, list[tuple[Level, str, str]]]:
    project = home.project()
    found = defaultdict(list)
    for one in health_report.run_checks(project, home.plan(), LastRun.load(project.store), thorough=False):
        if one.level:
            found[one.subject].append((one.level, one.message, str(one.remedy)))
    return found


def test_reasons_are_broken_between_words_at_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("pki.cli.revoke_command.ask", lambda _: "superseded")
    assert ask_reason("") == "superseded"
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert lines[0] == "  key-compromise          another person has the key, or may have it: a lost"
    assert lines[1] == " " * 26 + "device, a stolen backup"
