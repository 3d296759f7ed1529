"""The console blocks of docs/ that one project can answer: they are typed, and print what is shown.

Blocks that need other machines, root, drives or other people's programs are in `tests/integration/test_docs_consoles.py`.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Callable
from datetime import timedelta

import pytest

from pki.project.clock_guard import Evidence, HostClock
from tests.support import consoles
from tests.support.adopted_cas import adopt
from tests.support.left_sandbox import out_of_the_sandbox
from tests.support.live_host import CRL, delivered, delivered_once, kind
from tests.support.oldca import OldCa
from tests.support.projects import PROJECT
from tests.support.remedy_bench import Bench, as_printed, bench, deployed, outside, replaced

__all__ = ["bench", "delivered", "delivered_once", "deployed", "kind", "outside"]


ELSEWHERE = [
    PROJECT / "tests" / name for name in ("integration/test_docs_consoles.py", "ceremony/test_lost_ceremonies.py")
]


def nothing(_bench: Bench) -> None:
    """The project as it was built."""


def identity(bench: Bench) -> None:
    """A laptop of its own, which the first block of the page adds."""
    assert bench.invoke("client.add", "admin@laptop", "--email", "admin@lab.internal").status == 0


def adopted(bench: Bench) -> None:
    """A CA of easy-rsa, in the project's folder, that is named in pki.yaml."""
    old = OldCa()
    for number in range(1, 501):
        old.issue(f"user-{number}", number, days=400 if number > 12 else -30)
    for number in range(13, 53):
        old.revoke(number)
    old.easy_rsa(bench.path("ca/legacy"))
    adopt(bench.home)


def older_ledger(bench: Bench) -> None:
    before = bench.path("ca/ledger.db").read_bytes()
    bench.days = 1
    assert bench.invoke("revoke", "admin", "--reason", "key-compromise", "--yes").status == 2
    bench.path("ca/ledger.db").write_bytes(before)


def restored_without_build(bench: Bench) -> None:
    """A backup from before a revocation, whose CRL is on a host, was restored on a new machine."""
    bench.days = 1
    assert bench.invoke("revoke", "admin", "--reason", "key-compromise", "--yes").status in {0, 2}
    shutil.rmtree(bench.path("build"))
    shutil.rmtree(bench.path("ca"))
    assert bench.invoke("restore", bench.fills["FILE"], "--yes").status == 0


def without_ca(bench: Bench) -> None:
    shutil.rmtree(bench.path("ca"))


def another_root(bench: Bench) -> None:
    """The project left the sandbox, and `media` was deployed in it."""
    bench.path(CRL).unlink()  # the name of its target bears no generation
    out_of_the_sandbox(bench.home)
    assert bench.doit().status == 0


def two_faults(bench: Bench) -> None:
    replaced(bench.home, "secrets.yaml", "server-1: ", "server-1: x")
    max(bench.path("ca/root/root-1/crl").glob("*.pem"), key=lambda path: int(path.stem)).unlink()
    bench.days = 1
    bench.doit()


def wrong_clock(bench: Bench) -> None:
    bench.days = 400
    hosts = HostClock("forge", timedelta(days=-400, minutes=2)), HostClock("media", None)
    bench.evidence = lambda _: Evidence(hosts=hosts)


def host_of(page: str) -> Callable[[Bench], None]:
    """The host that the page of a recipe names, where the example of the repository has none of that name."""

    def prepare(bench: Bench) -> None:
        host = consoles.first_command(page).split()[-1]
        """Add it to pki.yaml."""
        if f"  {host}:\n" not in bench.path("pki.yaml").read_text():
            deliver = "    deliver: ssh\n" if page == "recipes.md" else ""  # it shows the line for such hosts
            bench.home.edit("hosts:\n", f"hosts:\n  {host}:\n    network: dev\n    address: 10.20.0.77\n{deliver}")

    return prepare


RECIPES = sorted(path.name for path in (PROJECT / "docs/how-to").glob("recipe*.md"))
BLOCKS: dict[tuple[str, str], tuple[str, Callable[[Bench], None], int]] = {
    ("adopt.md", "./run invoke ledger.import ca/legacy --dry-run"): ("bench", adopted, 0),
    ("backup.md", "./run doit"): ("deployed", restored_without_build, 2),
    ("lost-data.md", "./run invoke health"): ("bench", nothing, 0),
    ("lost-data.md", "./run doit"): ("outside", without_ca, 3),
    ("lost-data.md", "./run invoke ledger.accept-loss"): ("bench", older_ledger, 0),
    ("clients.md", "./run doit"): ("bench", identity, 0),
    ("continuous-integration.md", "./run invoke check"): ("bench", nothing, 0),
    ("deploy.md", "./run invoke deploy.accept-root"): ("deployed", another_root, 0),
    ("revoke.md", "./run invoke client.add admin@laptop --email admin@lab.internal"): ("bench", nothing, 0),
    ("timeline.md", "./run invoke timeline --years 3"): ("outside", nothing, 0),
    ("install-root.md", "openssl x509 -in ca/root/root-1/cert.pem -noout -fingerprint -sha256"): ("bench", nothing, 0),
    ("monitor.md", "./run invoke health"): ("bench", two_faults, 4),
    ("clock.md", "./run doit"): ("bench", wrong_clock, 2),
    **{(page, consoles.first_command(page)): ("bench", host_of(page), 0) for page in RECIPES},
}
PACKAGES = {
    ("ansible.md", "./run pip install --require-hashes -r requirements-ansible.lock"),
    ("postgresql.md", "./run pip install --require-hashes -r requirements-postgresql.lock"),
    ("tokens.md", "./run pip install --require-hashes -r requirements-hsm.lock"),
    ("tokens.md", "apt install softhsm2 opensc"),
    ("alerts.md", "./run pip install --require-hashes -r requirements-notify.lock"),
    ("first-hour.md", "apt update"),
}


def test_each_block_is_typed_here_or_by_the_integration_tests_or_installs_packages() -> None:
    calls = (node for path in ELSEWHERE for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    elsewhere = {
        (call.args[0].value, call.args[1].value) for call in calls if ast.unparse(call.func) == "consoles.block"
    }
    assert BLOCKS.keys() | elsewhere | PACKAGES == consoles.blocks().keys()
    commands = [typed.command for key in PACKAGES for typed in consoles.block(*key)]
    assert all(re.match(r"(\./run pip install|apt install|apt update$|git clone)", command) for command in commands), (
        commands
    )


def test_the_readme_has_at_most_120_lines_and_its_sessions_fit_a_terminal_of_80_columns() -> None:
    text = (PROJECT / "README.md").read_text()
    assert text.count("\n") <= 120
    sessions = re.findall(r"(?m)^```console\n(.*?)^```", text, re.DOTALL)
    assert len(sessions) == 2
    assert [line for session in sessions for line in session.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("key", BLOCKS, ids=" ".join)
def test_a_block_prints_what_is_shown(key: tuple[str, str], request: pytest.FixtureRequest) -> None:
    """A line `…` stands for any lines, `3f0c…` for hexadecimal digits; a command that is shown alone may print anything."""
    project, prepare, status = BLOCKS[key]
    bench: Bench = request.getfixturevalue(project)
    prepare(bench)
    bench.is_in_project = True
    for typed in consoles.block(*key):
        said = bench.type(typed.command)
        printed = as_printed(said.out + said.error).replace(str(bench.home.path), "/srv/pki")
        printed = printed.replace(f"{bench.home.path.parent}/host/", "/")
        assert typed.is_shown_by(printed), f"{typed.command} prints:\n{printed}\nshown is:\n{typed.shown}"
        assert said.status == status, said
        status = 0
