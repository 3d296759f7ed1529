"""Parts exchange values: a reason has a code, an outcome a verb, a remedy its command and place; text is made once."""

from __future__ import annotations

import json
import pickle
import string
from pathlib import Path

import pytest

from pki.common import remedies
from pki.common.errors import ErrorCode, PkiError
from pki.common.reasons import PAST, UNCHANGED, Outcome, Reason, Verb, Why
from pki.common.remedies import Place, at, here
from pki.config.identifiers import ArtifactId, GenerationName
from pki.monitor.check_result import Finding, Level
from tests.support.projects import PROJECT, Home


def test_an_artifact_is_built_and_taken_apart_in_one_place() -> None:
    media = ArtifactId("cert", "media")
    assert (media, media.kind, media.name) == ("cert:media", "cert", "media")
    assert ArtifactId.parse("template:web/a:b.conf").name == "web/a:b.conf"
    assert (ArtifactId.parse("ledger").kind, ArtifactId.parse("ledger").name) == ("", "ledger")


def test_a_generation_knows_its_authority_its_number_and_its_successor() -> None:
    tenth = GenerationName.parse("root-10")
    assert (tenth, tenth.authority, tenth.number, tenth.following) == ("root-10", "root", 10, "root-11")
    assert tenth.is_root
    external = GenerationName.parse("acme-2")
    assert (external.authority, external.number, external.is_root, external.is_external) == ("acme", 2, False, True)
    adopted = GenerationName.parse("old")
    assert (adopted.authority, adopted.number, adopted.is_root, adopted.is_external) == ("old", 0, False, False)


@pytest.mark.parametrize("value", [ArtifactId("cert", "media"), GenerationName("root", 2), GenerationName("old")])
def test_names_survive_the_way_to_another_process_and_to_json(value: ArtifactId | GenerationName) -> None:
    again = pickle.loads(pickle.dumps(value))  # noqa: S301 - as doit -n does
    assert (again, type(again), json.loads(json.dumps(value))) == (value, type(value), str(value))


@pytest.mark.parametrize("why", list(Why))
def test_every_reason_has_one_text_and_survives_a_report(why: Why) -> None:
    names = [name for _, name, _, _ in string.Formatter().parse(why.value) if name]
    reason = why(**{name: f"<{name} {{x}}>" for name in names})
    assert all(f"<{name} {{x}}>" in str(reason) for name in names)
    assert Reason.from_json(json.loads(json.dumps(reason.as_json()))) == reason


@pytest.mark.parametrize("why", list(PAST))
def test_what_a_run_mended_is_told_in_the_past_with_the_same_data(why: Why) -> None:
    fields = {name for _, name, _, _ in string.Formatter().parse(why.value) if name}
    assert {name for _, name, _, _ in string.Formatter().parse(PAST[why]) if name} == fields


def test_a_run_does_not_claim_that_something_is_missing_which_it_made() -> None:
    missing = Why.MISSING_FILE(file="key.pem")
    assert (str(missing), str(Outcome(Verb.UPDATED, (missing,)))) == ("key.pem is missing", "key.pem was missing")


def test_an_outcome_takes_the_reasons_of_its_run_only_where_it_has_none() -> None:
    due, edited = Why.NOT_CREATED(), Why.EDITED(file="/etc/x")
    assert Outcome(Verb.ISSUED).because([due]).reasons == (due,)
    assert Outcome(Verb.DEPLOYED, (edited,)).because([due]).reasons == (edited,)
    assert UNCHANGED.because([due]) == UNCHANGED
    assert Outcome.from_json(json.loads(json.dumps(Outcome(Verb.DEPLOYED, (edited,)).as_json()))).reasons == (edited,)


def test_a_remedy_is_typed_as_the_program_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PKI_HOME", "/srv/the project")
    renew = here("invoke", "renew", "a name")
    assert str(renew) == "PKI_HOME='/srv/the project' ./run invoke renew 'a name'"
    assert str(here("invoke", "plan", home=PROJECT)) == "./run invoke plan"
    restore = here("invoke", "restore", "FILE", home=PROJECT, placeholders=["FILE"])
    assert (str(restore), restore.placeholders) == ("./run invoke restore FILE", ("FILE",))


def test_what_an_error_or_a_finding_says_is_typed_for_the_project_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PKI_HOME", "/srv/the project")
    run, other = "PKI_HOME='/srv/the project' ./run", "PKI_HOME=DIR ./run"
    hint = f"set it right, then: ./run doit (sudo ./run invoke plan), or {other} doit; not ../run x"
    typed = f"set it right, then: {run} doit (sudo {run} invoke plan), or {other} doit; not ../run x"
    assert PkiError("x", hint).hint == typed
    assert PkiError("x", typed).hint == typed, "once"
    assert PkiError("x", here("invoke", "plan")).hint == f"{run} invoke plan"
    assert str(Finding("x", Level.NOTICE, "x", hint).remedy) == typed
    monkeypatch.setenv("PKI_HOME", str(PROJECT))
    assert PkiError("x", hint).hint == hint


FULL = "PKI_HOME=/srv/pki /opt/doit-pki/run invoke plan"
STARTED = {  # how the program was started, in which folder → how a command is printed
    "in the clone": ("/opt/doit-pki", {}, "PKI_HOME=/srv/pki ./run invoke plan"),
    "the clone's run, in the project": ("/srv/pki", {}, "/opt/doit-pki/run invoke plan"),
    "the clone's run, below the project": ("/srv/pki/templates", {}, "/opt/doit-pki/run invoke plan"),
    "cron with the clone": ("/root", {}, FULL),
    "the project's run": ("/srv/pki", {"PKI_RUN": "/srv/pki/run"}, "./run invoke plan"),
    "cron with the project's run": ("/root", {"PKI_RUN": "/srv/pki/run"}, "/srv/pki/run invoke plan"),
    "another project's run": ("/root", {"PKI_RUN": "/srv/lab/run"}, FULL),
    "installed, in the project": ("/srv/pki", {"PKI_COMMAND": "doit-pki"}, "doit-pki plan"),
    "installed, elsewhere": ("/root", {"PKI_COMMAND": "doit-pki"}, "PKI_HOME=/srv/pki doit-pki plan"),
    "cron with an installation": (
        "/root",
        {"PKI_COMMAND": "/x/bin/doit-pki"},
        "PKI_HOME=/srv/pki /x/bin/doit-pki plan",
    ),
}


@pytest.mark.parametrize("started", STARTED)
def test_a_command_is_printed_as_it_is_typed_where_the_program_was_started(
    monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    folder, environment, typed = STARTED[started]
    monkeypatch.setattr(remedies, "PROGRAM", Path("/opt/doit-pki"))
    monkeypatch.setattr(remedies, "IS_INSTALLED", "PKI_COMMAND" in environment)
    for name, value in {"PKI_HOME": "/srv/pki", "PKI_CALLED_FROM": folder, **environment}.items():
        monkeypatch.setenv(name, value)
    assert PkiError("x", "first: ./run invoke plan").hint == f"first: {typed}"
    program = typed.removeprefix("PKI_HOME=/srv/pki ").replace("/srv/pki/run", "/opt/doit-pki/run")
    assert PkiError("x", "PKI_HOME=DIR ./run invoke plan").hint == f"PKI_HOME=DIR {program}"
    documents = "" if folder == "/opt/doit-pki" else "/opt/doit-pki/"
    plain = "read CHANGELOG.md and docs/how-to/upgrade.md"
    hint = f"read {documents}CHANGELOG.md and {documents}docs/how-to/upgrade.md"
    assert PkiError("x", plain).hint == PkiError("x", hint).hint == hint
    assert PkiError("x", f"first: {typed}").hint == f"first: {typed}", "once"
    doit = typed.replace("invoke plan", "doit").replace("doit-pki plan", "doit-pki doit")
    assert PkiError("x", "./run doit").hint == doit
    assert PkiError("x", here("invoke", "plan")).hint == typed
    beside = "" if folder == "/opt/doit-pki" else "/opt/doit-pki/"
    assert PkiError("x", "see docs/how-to/deploy.md#a-new-root").hint == f"see {beside}docs/how-to/deploy.md#a-new-root"
    assert PkiError("x", f"see {beside}docs/how-to/deploy.md").hint == f"see {beside}docs/how-to/deploy.md", "once"


def test_the_commands_of_mails_and_pages_are_typed_in_one_folder_whatever_started_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would change with each run, if cron and a user start them in turn."""
    printed: dict[str, set[str]] = {"clone": set(), "run": set()}
    for folder, environment, _ in STARTED.values():
        if "PKI_COMMAND" in environment or environment.get("PKI_RUN") == "/srv/lab/run":
            continue
        with monkeypatch.context() as patch:
            patch.setattr(remedies, "PROGRAM", Path("/opt/doit-pki"))
            for name, value in {"PKI_HOME": "/srv/pki", "PKI_CALLED_FROM": folder, **environment}.items():
                patch.setenv(name, value)
            hint = PkiError("x", "first: ./run invoke plan (docs/how-to/deploy.md)").hint
            printed["run" if environment else "clone"].add(remedies.for_commands_folder(hint))
    assert printed == {
        "clone": {"first: PKI_HOME=/srv/pki ./run invoke plan (docs/how-to/deploy.md)"},
        "run": {"first: ./run invoke plan (/opt/doit-pki/docs/how-to/deploy.md)"},
    }


def test_a_project_with_its_own_run_has_the_same_commands_on_its_page_for_every_installation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The metrics too: an alert would be a new one with each other start."""
    (tmp_path / "run").touch(mode=0o755)
    printed = set()
    for is_installed in (True, False):
        for environment in ({}, {"PKI_RUN": str(tmp_path / "run")}, {"PKI_COMMAND": "/opt/bin/doit-pki"}):
            with monkeypatch.context() as patch:
                patch.setattr(remedies, "IS_INSTALLED", is_installed)
                for name, value in {"PKI_HOME": str(tmp_path), "PKI_CALLED_FROM": "/root", **environment}.items():
                    patch.setenv(name, value)
                hint = PkiError("x", "first: ./run invoke plan, then: ./run doit").hint
                printed.add(remedies.for_commands_folder(hint))
    assert printed == {"first: ./run invoke plan, then: ./run doit"}


def test_a_remedy_says_where_it_is_typed() -> None:
    assert str(at(Place.HOST, "nginx -t", "web")) == "on web: nginx -t"
    assert str(at(Place.CONSOLE, "ip link", "web")) == "in a console of web: ip link"


def test_an_error_keeps_its_code_between_processes() -> None:
    error = PkiError(Why.NOT_CREATED(), here("invoke", "plan", home=PROJECT), ErrorCode.UNREACHABLE)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - as doit -n does
    assert (again.message, again.hint, again.code) == ("does not exist", "./run invoke plan", ErrorCode.UNREACHABLE)


def test_a_run_reports_what_became_of_each_artifact(home: Home) -> None:
    """The verb is a field of the report, beside the codes of the reasons."""
    (home.path / "build/certs/media/cert.pem").unlink()
    made = {one["name"]: one for one in home.doit("cert:media").data["changed"]}
    assert (made["cert:media"]["verb"], [one["code"] for one in made["cert:media"]["codes"]]) == (
        "updated",
        ["MISSING_FILE"],
    )
    home.add_service("extra", "media", access="tls")
    renewed = {one["name"]: one["verb"] for one in home.doit("cert:media", "cert:forge-mtls", days=80).data["changed"]}
    assert (renewed["cert:media"], renewed["cert:forge-mtls"]) == ("reissued", "renewed")
