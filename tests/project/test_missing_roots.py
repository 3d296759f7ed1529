"""A root that is missing: every command that writes stops before it writes, and names `restore`."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from invoke import Collection

import tasks
from pki.common.errors import PkiError
from pki.monitor.report.run import Run
from pki.project import missing_roots
from tests.support.ceremonies import RealHome
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home, bare_home

REPORTS = {"build", "build/report"}  # and what is below it: it tells of what is missing


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process, typed in `tmp_path`."""

    def call(*arguments: str, home: Path, days: float = 0) -> Said:
        moment = {"pki_now": START + timedelta(days=days), "pki_called_from": str(tmp_path)}
        return said_by(capsys, *arguments, pki_home=str(home), **moment)

    return call


def lose(home: Home, *paths: str) -> None:
    for path in paths:
        if (home.path / path).is_dir():
            shutil.rmtree(home.path / path)
        else:
            (home.path / path).unlink(missing_ok=True)


def cloned(home: Home, folder: Path) -> Home:
    """What a clone of the user's git holds: pki.yaml and templates."""
    folder.mkdir()
    shutil.copy(home.path / "pki.yaml", folder)
    shutil.copytree(home.path / "templates", folder / "templates")
    return Home(folder)


def state(home: Home) -> dict[str, bytes]:
    """Every file and folder of a project, reports aside."""
    found = {str(path.relative_to(home.path)): path for path in home.path.rglob("*")}
    return {
        name: path.read_bytes() if path.is_file() else b""
        for name, path in found.items()
        if name not in REPORTS and not name.startswith("build/report/")
    }


def without_roots(home: Home) -> None:
    """pki.yaml as it was before roots were named in it."""
    text = home.read("pki.yaml").decode()
    start = text.index("roots:")
    end = text.index("\n", text.index("# root-1", start)) + 1
    home.write("pki.yaml", text[:start] + text[end:])


# -- which commands stop ----------------------------------------------------------------------------------------------

STOPS = {  # whatever writes into the project, to hosts, or hands out what is in it
    "backup": ["b.age", "--passphrase-file", "words"],
    "ca.change-passphrase": ["server-1"],
    "ceremony.accept": ["response-0002"],  # one that does not bring the root: see test_lost_ceremonies.py
    "ceremony.kit": ["."],
    "ceremony.rehearse": [],
    "ceremony.request": ["--new", "server"],
    "client.add": ["x@y", "--email", "x@lab.internal"],
    "client.export": ["admin", "--format", "p12"],
    "client.installed": ["admin"],
    "client.revoke": ["admin", "--reason", "superseded", "--yes"],
    "deploy.accept-root": ["--yes"],
    "deploy.bootstrap": ["media"],
    "deploy.collect": ["events"],
    "deploy.export": ["project"],
    "deploy.push": ["media"],
    "deploy.rollback": ["media"],
    "deploy.run": ["media"],
    "ledger.accept-loss": ["--yes"],
    "ledger.import": ["issuance_records"],
    "ledger.recover": ["--all"],
    "renew": ["media"],
    "ledger.restore": [],
    "retire": ["media", "--yes"],
    "revoke": ["media", "--reason", "superseded", "--yes"],
    "schedule": ["--install", "--cron", "--yes"],
    "recipe.add": ["postgres", "media"],
    "templates.accept": ["caddy/Caddyfile"],
    "templates.eject": ["caddy/Caddyfile"],
    "templates.remove-copies": [],
}
CHECKS: dict[str, tuple[list[str], set[int]]] = {  # with the statuses that each may end with
    "ceremony.verify": ([], {0, 1}),
    "check": ([], {0}),
    "client.list": ([], {0}),
    "deploy.diff": (["media"], {0, 1, 2}),
    "deploy.drift": (["media"], {0, 1, 2}),
    "deploy.history": (["media"], {0, 1}),
    "doctor": ([], {0, 1, 2, 3}),  # of a machine that is not the subject here
    "explain": (["media"], {0}),
    "health": ([], {4}),
    "ledger.list": ([], {0, 1}),
    "ledger.show": (["1"], {1}),
    "ledger.verify": ([], {0, 1}),
    "plan": ([], {2}),
    "schema": ([], {0}),
    "status": ([], {0}),
    "recipe.list": ([], {0}),
    "templates.diff": ([], {0}),
    "templates.list": ([], {0}),
    "timeline": ([], {0, 1, 2}),
}
ELSEWHERE = {  # what needs no project, or makes one; `restore` is what helps
    *(
        "bench",
        "campaign",
        "ceremony.copy",
        "ceremony.change-passphrase",
        "ceremony.root",
        "ceremony.sign",
        "demo.vlans",
        "docs",
        "init",
    ),
    *("integration", "lint", "mutants", "restore", "test"),
}


def every_command(collection: Collection, prefix: str = "") -> Iterator[str]:
    yield from (f"{prefix}{name}" for name in collection.tasks)
    for name, inner in collection.collections.items():
        yield from every_command(inner, f"{prefix}{name}.")


def test_every_command_is_known_to_stop_to_look_or_to_need_no_project() -> None:
    lists = [set(STOPS), set(CHECKS), ELSEWHERE]
    assert set().union(*lists) == set(every_command(tasks.ns))
    assert sum(map(len, lists)) == len(set().union(*lists))


@pytest.fixture
def lost(real: RealHome, tmp_path: Path) -> Home:
    """A clone of the user's git, of a project that is gone."""
    (tmp_path / "words").write_text("trumpet velvet cactus orbit mango thistle\n")
    (tmp_path / "events").mkdir()
    (tmp_path / "issuance_records").mkdir()
    shutil.copytree(real.out / "response-0001", tmp_path / "response-0001")
    return cloned(real, tmp_path / "clone")


@pytest.mark.parametrize("name", STOPS)
def test_a_command_that_writes_stops_before_it_writes(
    lost: Home, real: RealHome, tmp_path: Path, invoke: Invoke, name: str
) -> None:
    before, beside = state(lost), {path.name for path in tmp_path.iterdir()}
    said = invoke(name, *STOPS[name], home=lost.path)
    assert said.status == 1, said
    assert f"root-1 (SHA-256 {real.project().authorities.existing('root-1').fingerprint}) is missing" in said.error
    assert "→ ./run invoke restore FILE" in said.error
    assert "remove these in a copy: `roots:` in pki.yaml" in said.error.splitlines()[-1]
    assert state(lost) == before
    assert {path.name for path in tmp_path.iterdir()} == beside


@pytest.mark.parametrize("name", CHECKS)
def test_a_command_that_looks_works_and_writes_nothing(lost: Home, invoke: Invoke, name: str) -> None:
    before = state(lost)
    arguments, statuses = CHECKS[name]
    said = invoke(name, *arguments, home=lost.path)
    assert said.status in statuses, said
    assert "Traceback" not in said.out + said.error
    assert "ceremony.request" not in said.out or name in {"timeline", "explain"}
    typed = [line for line in said.error.splitlines() if line.startswith("→ ./run")]
    assert all(line == "→ ./run invoke restore FILE" for line in typed), said
    assert state(lost) == before


@pytest.mark.parametrize("name", ["root", "server", "authority:client", "root-1"])
def test_explain_says_of_an_authority_that_is_lost_what_is_missing(lost: Home, invoke: Invoke, name: str) -> None:
    said = invoke("explain", name, home=lost.path)
    assert said.status == 0, said
    assert "root-1 (SHA-256" in said.out
    assert "./run invoke restore FILE" in said.out
    assert "ceremony.request" not in said.out


@pytest.mark.parametrize("name", ["root", "server", "authority:client"])
def test_explain_says_of_an_authority_that_is_to_come_what_is_to_be_done(
    tmp_path: Path, invoke: Invoke, name: str
) -> None:
    home = bare_home(tmp_path / "new")
    home.edit("sandbox: true", "sandbox: false")
    said = invoke("explain", name, home=home.path)
    assert said.status == 0, said
    assert "ceremony.request" in said.out
    assert "restore" not in said.out


def test_status_asks_for_no_ceremony_where_a_root_is_missing(lost: Home, invoke: Invoke) -> None:
    said = invoke("status", home=lost.path)
    assert re.search(r"authority:root +missing +restore it with \./run invoke restore FILE", said.out), said.out
    assert "ceremony" not in said.out


@pytest.mark.parametrize("arguments", [(), ("cert:media",), ("-n", "2"), ("list",)])
def test_the_first_doit_in_a_clone_stops_and_names_restore(
    lost: Home, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    before = state(lost)
    assert Run(lost.path, START).main(list(arguments)) == 3
    said = capsys.readouterr().err
    assert "root-1 (SHA-256" in said
    assert "./run invoke restore FILE" in said
    assert said.rstrip().endswith("remove these in a copy: `roots:` in pki.yaml")
    assert state(lost) == before


# -- what tells of it -------------------------------------------------------------------------------------------------


def test_page_mail_and_health_tell_it_as_critical_and_name_restore(lost: Home, invoke: Invoke) -> None:
    assert Run(lost.path, START).main([]) == 3
    page = lost.read("build/report/status.html").decode()
    assert "root-1 (SHA-256" in page
    assert "./run invoke restore FILE" in page
    [mail] = (lost.path / "build/report/outbox").iterdir()
    assert "CRITICAL" in mail.read_text()
    assert "restore FILE" in mail.read_text()
    assert Run(lost.path, START + timedelta(hours=1)).main([]) == 3
    assert len(list((lost.path / "build/report/outbox").iterdir())) == 1
    checks = json.loads(invoke("health", "--json", home=lost.path).out)["checks"]
    [critical] = [one for one in checks if one["level"] == "critical"]
    assert critical["subject"] == "authority:root"
    assert critical["remedy"].startswith("./run invoke restore FILE")


def test_plan_tells_every_fault_of_templates_and_the_root_in_one_line(lost: Home, invoke: Invoke) -> None:
    for name in ("one", "two"):
        lost.write(f"templates/{name}.conf", "# deploy-target: /etc/x\n# deploy-hosts: nobody\nx\n")
    said = invoke("plan", home=lost.path)
    assert said.status == 2
    assert "templates/one.conf:2" in said.out
    assert "templates/two.conf:2" in said.out
    assert len([line for line in said.out.splitlines() if "is missing" in line]) == 1
    lost.edit("domains:", "domain:")
    said = invoke("plan", home=lost.path)
    assert (said.status, "domain: unknown key" in said.error) == (3, True)


# -- what shows that there was one ------------------------------------------------------------------------------------


def found(home: Home) -> tuple[missing_roots.MissingRoot, ...]:
    return home.project().roots.missing


@pytest.mark.parametrize(
    "parts", [*itertools.combinations(("ca", "secrets.yaml", "build"), 1), ("ca", "secrets.yaml", "build")]
)
def test_roots_that_pki_yaml_names_are_missing_where_ca_lacks_them(real: RealHome, parts: tuple[str, ...]) -> None:
    fingerprint = real.project().authorities.existing("root-1").fingerprint
    lose(real, *parts)
    expected = [("root-1", fingerprint)] if "ca" in parts else []
    assert [(one.name, one.fingerprint) for one in found(real)] == expected


def test_one_root_of_two_is_missing_by_its_own_name(real: RealHome) -> None:
    real.write("pki.yaml", real.read("pki.yaml").decode().replace("# root-1\n", f"# root-1\n  - {'ab' * 32}\n"))
    assert [(one.name, one.fingerprint) for one in found(real)] == [("root-2", "ab" * 32)]


def test_a_fingerprint_that_is_mistyped_is_told_beside_the_root_that_is_there(real: RealHome) -> None:
    fingerprint = real.project().authorities.existing("root-1").fingerprint
    real.edit(fingerprint, "ab" * 32)
    with pytest.raises(PkiError) as refused:
        real.project().roots.check()
    assert f"the root with SHA-256 {'ab' * 32} is missing" in refused.value.message
    assert f"ca/ contains root-1 (SHA-256 {fingerprint})" in refused.value.message


def test_a_root_whose_file_is_damaged_counts_as_missing(real: RealHome) -> None:
    path = real.path / "ca/root/root-1/cert.pem"
    path.write_bytes(path.read_bytes()[:200])
    assert [one.name for one in found(real)] == ["root-1"]


SHOWN = {
    "trust": "root-1.crt",
    "crl": "server-1.crl",
    "certs": "media/cert.pem",
    "release": "media",
    "hosts": "monitoring",
    "receipts": "media.json",
}


@pytest.mark.parametrize("part", SHOWN)
def test_whatever_a_ca_left_in_build_shows_it_where_pki_yaml_names_none(real: RealHome, part: str) -> None:
    fingerprint = real.project().authorities.existing("root-1").fingerprint
    without_roots(real)
    assert found(real) == ()
    lose(real, "ca", "secrets.yaml", "build/.seen.json")
    lose(real, *(f"build/{path.name}" for path in (real.path / "build").iterdir() if path.name != part))
    [missing, *_more] = found(real)
    assert missing.evidence.startswith(f"build/{part}/")
    assert missing.fingerprint in ({fingerprint} if part in {"trust", "receipts"} else {""}), missing
    before = state(real)
    assert Run(real.path, START).main([]) == 3
    assert state(real) == before


@pytest.mark.parametrize("parts", [("ca",), ("ca", "secrets.yaml"), ("ca", "secrets.yaml", "offline"), ("ca", "build")])
def test_what_a_sandbox_left_behind_shows_nothing(home: Home, parts: tuple[str, ...]) -> None:
    lose(home, *parts)
    assert found(home) == ()
    home.edit("sandbox: true", "sandbox: false")
    assert found(home) == ()


def test_build_is_not_read_while_ca_has_a_root(real: RealHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> Iterator[missing_roots.MissingRoot]:
        raise AssertionError("build/ was read")

    monkeypatch.setattr(missing_roots, "roots_shown_by_files", read)
    assert found(real) == ()
    without_roots(real)
    assert found(real) == ()


def test_the_ca_of_others_in_a_template_or_adopted_shows_no_root(home: Home, real: RealHome) -> None:
    foreign = real.read("build/trust/root-1.crt")
    lose(home, "ca")
    home.edit("Example Lab", "Another Lab")
    (home.path / "build/crl/legacy.crl").write_bytes(real.read("build/crl/root-1.crl"))
    target = home.path / "build/release/media/files/etc/public.pem"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(real.read("ca/root/root-1/cert.pem"))
    assert found(home) == ()
    (home.path / "build/trust/root-1.crt").write_bytes(foreign)
    assert [one.name for one in found(home)] == ["root-1"]


def test_a_restore_that_was_interrupted_shows_the_root(real: RealHome, fresh: Home) -> None:
    fresh.edit("sandbox: true", "sandbox: false")
    assert found(fresh) == ()
    shutil.copytree(real.path / "ca", fresh.path / "ca.before-restore-20261123T060000Z/ca")
    assert [one.name for one in found(fresh)] == ["root-1"]


# -- the sandbox ------------------------------------------------------------------------------------------------------


def test_a_sandbox_is_refused_where_build_shows_a_real_root(real: RealHome, capsys: pytest.CaptureFixture[str]) -> None:
    without_roots(real)
    lose(real, "ca", "secrets.yaml")
    real.edit("sandbox: false", "sandbox: true")
    before = state(real)
    assert Run(real.path, START).main([]) == 3
    assert "sandbox: true is refused" in capsys.readouterr().err
    assert state(real) == before


def test_a_sandbox_is_refused_beside_a_real_root(real: RealHome, capsys: pytest.CaptureFixture[str]) -> None:
    without_roots(real)
    real.edit("sandbox: false", "sandbox: true")
    assert Run(real.path, START).main([]) == 3
    assert "root-1 in ca/" in capsys.readouterr().err


@pytest.mark.parametrize("transport", ["ssh", "local", "ansible", "folder"])
def test_a_sandbox_is_refused_where_a_real_host_was_deployed_under_a_real_root(home: Home, transport: str) -> None:
    path = home.path / "build/receipts/media.json"
    receipt = json.loads(path.read_text())
    assert "SANDBOX" in str(receipt["roots"])
    assert found(home) == ()
    path.unlink()
    path.write_text(json.dumps({**receipt, "transport": transport, "roots": {"ab" * 32: "O=X,CN=X Root CA 1"}}))
    expected = [] if transport == "folder" else ["root-1"]
    assert [one.name for one in found(home)] == expected


LOST: list[Callable[[Home], None]] = [
    lambda home: lose(home, "ca", "build", "offline", "secrets.yaml"),
    lambda home: lose(home, "ca", "offline"),
    lambda home: lose(home, "ca", "build", "offline"),
    lambda home: lose(home, "ca", "offline", "secrets.yaml"),
    lambda home: lose(home, "ca"),
    lambda home: lose(home, "ca", "build", "secrets.yaml"),
]


@pytest.mark.parametrize("deleted", LOST)
def test_a_deleted_sandbox_starts_again(home: Home, deleted: Callable[[Home], None]) -> None:
    deleted(home)
    assert home.doit().failed == {}
    assert home.doit().made == {}


def test_a_new_project_waits_for_its_first_ceremony(tmp_path: Path) -> None:
    home = bare_home(tmp_path / "new")
    home.edit("sandbox: true", "sandbox: false")
    assert found(home) == ()
    assert home.doit("ceremony:request").made
