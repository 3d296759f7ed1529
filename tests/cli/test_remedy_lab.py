"""A fault is created, what is printed for it is typed as it stands, and the fault is gone or another one says why.

Each of these labs runs in this process, on a copy of one built project. The faults of real hosts are in
`tests/integration/test_remedies.py` and `test_remedies_typed.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.adopted_cas import adopt
from tests.support.clocks import nobody
from tests.support.live_host import Live, delivered, delivered_once, kind
from tests.support.oldca import OldCa
from tests.support.projects import two_hosts_agree
from tests.support.remedy_bench import Bench, as_printed, bench, deployed, outside, replaced

__all__ = ["bench", "delivered", "delivered_once", "deployed", "kind", "outside"]


@dataclass(frozen=True)
class Lab:
    """How a fault is made, under which subject health tells it, and the lines that are printed for it.

    `between` is what a person does after the first line, in words that are printed too. `left` is what is found
    afterwards instead.
    """

    provoke: Callable[[Bench], object]
    subject: str
    lines: tuple[str, ...]
    between: Callable[[Bench], object] = lambda _: None
    left: Mapping[str, str] = field(default_factory=dict)
    runs: bool = True


def shut(path: str, mode: int) -> Callable[[Bench], object]:
    return lambda bench: bench.path(path).chmod(mode)


def gone(path: str) -> Callable[[Bench], object]:
    return lambda bench: bench.path(path).unlink()


def spoilt(path: str) -> Callable[[Bench], object]:
    return lambda bench: bench.path(path).write_text("x")


def at(days: float, *, confirmed: bool = True) -> Callable[[Bench], object]:
    def move(bench: Bench) -> None:
        bench.days, bench.evidence = days, two_hosts_agree if confirmed else nobody

    return move


def put_back(name: str) -> Callable[[Bench], object]:
    """What `put … back from a backup (restore FILE --to DIR)` says in words."""

    def copy(bench: Bench) -> None:
        source = Path(bench.fills["DIR"]) / name
        (shutil.copytree if source.is_dir() else shutil.copy)(
            source, bench.path(name), **({"dirs_exist_ok": True} if source.is_dir() else {})
        )

    return copy


def last_rung(bench: Bench) -> None:
    max(bench.path("ca/root/root-1/crl").glob("*.pem"), key=lambda path: int(path.stem)).unlink()


def linked(bench: Bench) -> None:
    (bench.home.path.parent / "x.pem").write_text("# deploy-target: /etc/x.pem\nx\n")
    bench.path("templates/x.pem").symlink_to(bench.home.path.parent / "x.pem")


def in_place_of(path: str) -> Callable[[Bench], object]:
    def make(bench: Bench) -> None:
        bench.path(path).unlink()
        bench.path(path).mkdir()

    return make


def waiting_identity(bench: Bench) -> None:
    assert bench.invoke("client.installed", "admin").status == 0
    bench.days = 151
    bench.doit()
    bench.days = 166


def adopted_ca(bench: Bench) -> None:
    old = OldCa()
    old.issue("alice", 1)
    adopt(bench.home)
    old.keep(bench.path("ca/legacy"))
    old.openssl_ca(bench.home.path.parent / "issuance_records")
    bench.fills["DIR"] = str(bench.home.path.parent / "issuance_records")


def one_letter(bench: Bench) -> None:
    path = bench.path("ca/server/server-1/cert.pem")
    data = path.read_bytes()
    path.write_bytes(data[:200] + (b"A" if data[200:201] != b"A" else b"B") + data[201:])


def revoked(bench: Bench) -> None:
    said = bench.invoke("revoke", "media", "--reason", "superseded", "--no-replace", "--yes")
    assert said.status in {0, 2}, said


RESTORE = "./run invoke restore FILE"
BACK = "./run invoke restore FILE --to DIR"
SECRETS, CLIENT_KEY = "secrets.yaml", "ca/client/client-1/key.pem"
LABS: dict[str, Lab] = {
    "secrets that others can read": Lab(shut(SECRETS, 0o644), SECRETS, (f"chmod 600 {SECRETS}",)),
    "a key that others can read": Lab(shut(CLIENT_KEY, 0o640), CLIENT_KEY, (f"chmod 600 {CLIENT_KEY}",)),
    "a folder that others can read": Lab(shut("ca", 0o755), "ca", ("chmod 700 ca",)),
    "a folder that others can write": Lab(shut("build/release", 0o777), "build/release", ("chmod go-w build/release",)),
    "lost secrets": Lab(gone(SECRETS), "key:server-1", (RESTORE,)),
    "a wrong passphrase": Lab(
        lambda bench: replaced(bench.home, SECRETS, "server-1: ", "server-1: x"), "key:server-1", (RESTORE,)
    ),
    "a lost key": Lab(gone("ca/server/server-1/key.pem"), "key:server-1", (RESTORE,)),
    "a damaged key": Lab(spoilt("ca/server/server-1/key.pem"), "key:server-1", (RESTORE,)),
    "a damaged CA certificate": Lab(spoilt("ca/server/server-1/cert.pem"), "doit", (RESTORE,)),
    "a missing pre-signed CRL": Lab(last_rung, "crl:root-1", (BACK,), between=put_back("ca/root/root-1/crl")),
    "a lost ledger with a backup": Lab(
        gone("ca/ledger.db"),
        "ledger",
        (BACK, "./run invoke ledger.recover --all"),
        between=put_back("ca/ledger.db"),
    ),
    "a lost ledger without a backup": Lab(gone("ca/ledger.db"), "ledger", ("./run invoke ledger.accept-loss",)),
    "a damaged ledger": Lab(
        spoilt("ca/ledger.db"),
        "ledger",
        (BACK, "./run invoke ledger.recover --all"),
        between=put_back("ca/ledger.db"),
    ),
    "a clock that nobody confirms": Lab(at(200, confirmed=False), "clock", ("./run doit --clock-is-right",)),
    "a certificate whose replacement is stopped": Lab(revoked, "cert:media", ("./run invoke renew media",)),
    "a file that was changed in the folder of a host": Lab(
        lambda bench: bench.path("build/hosts/media/etc/caddy/Caddyfile").write_text("x"),
        "drift:media",
        ("./run doit",),
        runs=False,
    ),
    "a damaged certificate": Lab(
        spoilt("build/certs/media/tls.pem"), "cert:media", ("./run doit cert:media",), runs=False
    ),
    "a CA certificate of which the ledger has a copy": Lab(
        one_letter, "ca/server/server-1/cert.pem", ("./run doit authority",), runs=False
    ),
    "a damaged CRL": Lab(spoilt("build/crl/client-1.crl"), "crl:client-1", ("./run doit crl:client-1",), runs=False),
    "text in UTF-16": Lab(
        lambda bench: bench.path("templates/x.conf").write_bytes(
            "# deploy-target: /etc/x.conf\n# deploy-hosts: media\nok\n".encode("utf-16")
        ),
        "release:media",
        (
            "iconv -f UTF-16LE -t UTF-8 templates/x.conf >templates/x.conf.new && mv templates/x.conf.new templates/x.conf",
        ),
    ),
    "a template that others can write": Lab(
        shut("templates/caddy/Caddyfile", 0o666), "release:media", ("chmod o-w templates/caddy/Caddyfile",)
    ),
    "a link out of the templates": Lab(linked, "template:x.pem", ("rm templates/x.pem",)),
    "templates that are gone": Lab(
        lambda bench: bench.path("templates").rename(bench.path("aside")),
        "template:.",
        ("mkdir templates",),
    ),
    "a folder in the place of a CRL": Lab(
        in_place_of("build/crl/client-1.crl"),
        "crl:client-1",
        ("mv {home}/build/crl/client-1.crl {home}/build/crl/client-1.crl.odd",),
    ),
    "a leaf that left pki.yaml": Lab(
        lambda bench: replaced(bench.home, "pki.yaml", "  media:\n", "  films:\n"),
        "cert:media",
        ("./run invoke retire media",),
    ),
    "another lifetime": Lab(
        lambda bench: replaced(bench.home, "pki.yaml", "server: {lifetime: 90d", "server: {lifetime: 60d"),
        "profile:server",
        ("./run invoke renew NAME",),
        between=lambda bench: [bench.invoke("renew", name) for name in ("forge-mtls", "monitoring-mtls")],
    ),
    "an identity that waits to be installed": Lab(
        waiting_identity, "cert:client-admin", ("./run invoke client.installed admin",)
    ),
    "an adopted CA whose certificates nobody knows": Lab(
        adopted_ca, "crl:legacy", ("./run invoke ledger.import DIR --authority legacy",)
    ),
    "no run for days": Lab(at(4), "doit", ("./run doit",), runs=False),
}


@pytest.mark.parametrize("name", LABS)
def test_what_is_printed_for_a_fault_ends_it_when_it_is_typed(bench: Bench, name: str) -> None:
    lab = LABS[name]
    assert lab.subject not in bench.findings()
    lab.provoke(bench)
    if lab.runs:
        bench.doit()
    found = bench.findings()
    assert lab.subject in found, found
    for number, shown in enumerate(lab.lines):
        line = shown.replace("{home}", str(bench.home.path))
        assert line in as_printed(found[lab.subject]), found[lab.subject]
        said = bench.type(line)
        assert said.status == 0, (line, said)
        if not number:
            lab.between(bench)
    bench.doit()
    left = bench.findings()
    assert lab.subject not in left or lab.left, left[lab.subject]


# -- errors of commands -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """A command that is refused, and the line that is printed with it; after that line it works, or says why not."""

    command: tuple[str, ...]
    line: str
    provoke: Callable[[Bench], object] = lambda _: None
    again: str = ""  # what the same command says afterwards; empty where it works


REFUSED: dict[str, Refused] = {
    "an unknown serial number": Refused(
        ("ledger.show", "ff"), "./run invoke ledger.list", again="no certificate with this serial number"
    ),
    "a certificate that is still declared": Refused(
        ("retire", "media"), "./run invoke revoke media", again="is still in pki.yaml"
    ),
    "a client that is there": Refused(
        ("client.add", "admin", "--email", "a@lab.internal"),
        "./run invoke explain admin",
        again="is in pki.yaml already",
    ),
    "a certificate authority": Refused(
        ("revoke", "server-1", "--reason", "superseded"),
        "./run invoke explain server-1",
        again="is a certificate authority",
    ),
    "recover without a source": Refused(
        ("ledger.recover",), "./run invoke ledger.recover --all", again="expected one of"
    ),
    "an option without a project": Refused(
        ("timeline", "--years", "99"), "./run invoke timeline --years 3", again="expected a number"
    ),
    "an argument that is missing": Refused(
        ("client.installed",), "./run invoke client.installed --help", again="positional arguments"
    ),
    "a lost ledger": Refused(
        ("ledger.list",), "./run invoke ledger.accept-loss", lambda bench: bench.path("ca/ledger.db").unlink()
    ),
    "a project that others can write": Refused(
        ("plan",), "chmod -R o-w {home}/ca", lambda bench: bench.path("ca").chmod(0o777)
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_printed_with_a_refusal_works_when_it_is_typed(bench: Bench, name: str) -> None:
    case = REFUSED[name]
    case.provoke(bench)
    said = bench.invoke(*case.command)
    line = case.line.replace("{home}", str(bench.home.path))
    assert said.status, said
    assert line in as_printed(said.error + said.out), said
    typed = bench.type(line)
    assert typed.status in {0, 2}, typed  # 2: done, and a host in a folder proves nothing
    after = bench.invoke(*case.command)
    assert case.again in after.error + after.out
    assert bool(after.status) == bool(case.again), after


# -- outside the sandbox ----------------------------------------------------------------------------------------------


def without_rungs(bench: Bench) -> None:
    for path in bench.path("ca/root/root-1/crl").glob("*.pem"):
        path.unlink()


REAL: dict[str, Lab] = {
    "an intermediate that ended": Lab(
        at(740), "authority:server", ("./run invoke ceremony.request",), left={"ceremony": "a root ceremony is due now"}
    ),
    "all pre-signed CRLs are lost, and the backup too": Lab(
        without_rungs,
        "crl:root-1",
        ("./run invoke ceremony.request --crls",),
        left={"crl:root-1": "→ put ca/root/root-1/crl/ back from a backup"},
    ),
    "a backup that is old": Lab(
        lambda bench: (at(40)(bench), bench.fills.update(FILE=bench.fills["FILE"] + ".new")),
        "backup",
        ("./run invoke backup FILE",),
    ),
    "a root that is lost": Lab(lambda bench: shutil.rmtree(bench.path("ca/root")), "authority:root", (RESTORE,)),
}


@pytest.mark.parametrize("name", REAL)
def test_what_is_printed_outside_the_sandbox_ends_a_fault_or_asks_for_the_ceremony(outside: Bench, name: str) -> None:
    lab = REAL[name]
    lab.provoke(outside)
    outside.doit()
    found = outside.findings()
    assert lab.subject in found, found
    for line in lab.lines:
        assert line in as_printed(found[lab.subject]), found[lab.subject]
        said = outside.type(line)
        assert said.status == 0, (line, said)
    outside.doit()
    left = outside.findings()
    for subject, part in lab.left.items():
        assert part in left[subject], left
    assert lab.left or lab.subject not in left, left[lab.subject]


def test_a_project_that_leaves_the_sandbox_asks_for_its_ceremony_after_what_is_printed(bench: Bench) -> None:
    replaced(bench.home, "pki.yaml", "sandbox: true", "sandbox: false")
    said = bench.invoke("plan")
    assert "move ca/ and offline/ away, then perform a root ceremony: ./run invoke ceremony.request" in as_printed(
        said.error
    )
    for name in ("ca", "offline"):
        bench.path(name).rename(bench.path(f"{name}.sandbox"))
    assert bench.type("./run invoke ceremony.request").status == 0
    assert "ceremony" in bench.findings()


def test_a_held_host_follows_again_after_what_is_printed(delivered: Live, deployed: Bench) -> None:
    delivered.home.edit("auto_https off", "auto_https off # still", "templates/caddy/Caddyfile")
    assert deployed.doit().status == 0
    assert deployed.invoke("deploy.rollback", "media", "--yes").status == 0
    held = deployed.findings()["pinned:media"]
    assert "./run invoke deploy.push media" in as_printed(held)
    assert deployed.type("./run invoke deploy.push media").status == 0
    assert "pinned:media" not in deployed.findings()


def test_a_host_that_failed_is_brought_up_to_date_after_what_is_printed(delivered: Live, deployed: Bench) -> None:
    (delivered.host.root / "broken").touch()
    delivered.home.edit("auto_https off", "auto_https off # still", "templates/caddy/Caddyfile")
    assert deployed.doit().status != 0
    deployed.path("build/report/status.json").unlink()  # of the run that could say more
    told = deployed.findings()["deploy:media"]
    assert "./run invoke deploy.run media" in as_printed(told)
    (delivered.host.root / "broken").unlink()
    assert deployed.type("./run invoke deploy.run media").status == 0
    assert "deploy:media" not in deployed.findings()


def test_who_asked_for_new_crls_is_told_to_hold_the_ceremony_and_not_to_ask_again(outside: Bench) -> None:
    without_rungs(outside)
    outside.doit()
    assert outside.type("./run invoke ceremony.request --crls").status == 0
    answer = "request 2, which asks for them, then: ./run invoke ceremony.accept DIR/response-0002"
    assert answer in as_printed(outside.findings()["crl:root-1"])
    assert answer in as_printed(outside.doit().out)


def test_a_response_is_looked_for_in_the_project_and_its_own_keys_are_not_to_be_destroyed(outside: Bench) -> None:
    adopted = outside.home.path / "others/legacy"
    outside.home.edit("authorities:\n", "authorities:\n  legacy: {adopt: others/legacy}\n")
    outside.home.write("others/legacy/ca.key", outside.home.read("build/certs/media/key.pem").decode())
    for folder in (outside.home.path / "ca", outside.home.path / "build", adopted):
        said = outside.invoke("ceremony.accept", str(folder))
        assert f"{folder}: has no response.yaml" in said.error
        assert "shred" not in said.error
