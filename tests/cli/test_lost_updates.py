"""Commands that change pki.yaml or the ledger read, change and write while they hold the project alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509

from pki.common.errors import PkiError
from pki.config import editing
from pki.ledger.recorder import SqlRecorder
from pki.monitor.report.run import Run
from pki.project.layout import Store
from tests.support.commands import Invoke, Said, said_by
from tests.support.projects import START, Home

BOB = "  bob: {email: bob@lab.internal}\n"
ADD_EVE = ("client.add", "eve@x", "--email", "eve@lab.internal")
REVOKE_ADMIN = ("client.revoke", "admin", "--reason", "key-compromise", "--yes")


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def invoke(home: Home, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """`./run invoke …` in this process."""

    def call(*arguments: str, days: float = 0) -> Said:
        return said_by(capsys, *arguments, pki_home=str(home.path), pki_now=home.moment(days))

    return call


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let somebody else act while the next command that asks for the lock waits for it."""

    def arrange(act: Callable[[], object]) -> None:
        lock, left = Store.lock, [act]

        @contextmanager
        def waited(store: Store) -> Iterator[None]:
            while left:
                left.pop()()
            with lock(store):
                yield

        monkeypatch.setattr(Store, "lock", waited)

    return arrange


def clients(home: Home) -> list[str]:
    return sorted(home.project().inventory.clients)


def serial(home: Home, client: str = "admin") -> int:
    return x509.load_pem_x509_certificate(home.read(f"ca/clients/{client}/cert.pem")).serial_number


def add_bob(home: Home) -> None:
    home.edit("clients:\n", f"clients:\n{BOB}")


def test_two_clients_added_at_once_are_both_in_pki_yaml(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: add_bob(home))
    assert invoke(*ADD_EVE).status == 0
    assert clients(home) == ["admin", "bob", "eve@x"]


def test_an_edit_made_while_a_command_waits_is_not_undone(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    add_bob(home)
    meanwhile(lambda: home.edit(BOB, ""))
    assert invoke(*ADD_EVE).status == 0
    assert clients(home) == ["admin", "eve@x"]


def test_an_edit_made_between_reading_and_writing_is_not_undone(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = editing.add_client

    def slow(*given: object) -> object:
        found = read(*given)  # type: ignore[arg-type]
        add_bob(home)
        return found

    monkeypatch.setattr(editing, "add_client", slow)
    said = invoke(*ADD_EVE)
    assert said.status == 1
    assert "pki.yaml: changed since it was read; it was not written\n→ type the same command again" in said.error
    assert clients(home) == ["admin", "bob"]


def test_a_revocation_that_was_agreed_to_is_not_carried_out_in_a_changed_project(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: add_bob(home))
    said = invoke(*REVOKE_ADMIN)
    assert said.status == 1
    assert "pki.yaml: changed since it was read; nothing was revoked\n→ ./run invoke client.revoke admin" in said.error
    assert clients(home) == ["admin", "bob"]
    assert home.project().ledger.revoked_serials(expiring_after=START) == frozenset()


def test_a_client_without_a_certificate_leaves_a_changed_pki_yaml_too(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    add_bob(home)
    meanwhile(lambda: home.edit(BOB, f"{BOB}  ben: {{email: ben@lab.internal}}\n"))
    assert invoke("client.revoke", "bob", "--yes").status == 0
    assert clients(home) == ["admin", "ben"]


@pytest.mark.parametrize("command", ["revoke", "client.revoke"])
def test_certificates_that_were_issued_after_the_question_are_not_left_out(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None], command: str
) -> None:
    meanwhile(lambda: invoke("renew", "admin"))
    said = invoke(command, "admin", "--reason", "key-compromise", "--yes")
    assert said.status == 1
    assert "admin: its valid certificates are no longer those that were shown; nothing was revoked" in said.error
    assert home.project().ledger.revoked_serials(expiring_after=START) == frozenset()


def test_a_certificate_that_waited_to_be_renewed_is_not_renewed_once_it_left(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: invoke(*REVOKE_ADMIN))
    said = invoke("renew", "admin")
    assert said.status == 1
    assert "admin: not declared in pki.yaml" in said.error
    assert [
        one.artifact for one in home.project().revocations.unexpired() if one.common_name == "admin" and not one.revoked
    ] == []


@pytest.mark.parametrize("form", ["pem", "p12"])
def test_what_is_exported_is_what_the_client_has_when_it_is_recorded(
    home: Home,
    invoke: Invoke,
    meanwhile: Callable[[Callable[[], object]], None],
    tmp_path: Path,
    form: str,
) -> None:
    """A certificate that was renewed while the command waited is handed out, one that was revoked is not."""
    secret = ["--passphrase-to", str(tmp_path / "words")] if form == "p12" else []
    given = ("client.export", "admin", "--format", form, *secret, "--yes", "--output")
    old = serial(home)
    meanwhile(lambda: invoke("renew", "admin"))
    assert invoke(*given, str(tmp_path / "out")).status == 0
    assert serial(home) != old
    [exported] = [one.detail for one in home.project().ledger.decisions() if one.decision == "exported"]
    assert exported == f"{serial(home):x} {form}"
    if form == "pem":
        [certificate, *_] = x509.load_pem_x509_certificates((tmp_path / "out/tls.pem").read_bytes())
        assert certificate.serial_number == serial(home)
    (tmp_path / "words").unlink(missing_ok=True)
    meanwhile(lambda: invoke(*REVOKE_ADMIN))
    said = invoke(*given, str(tmp_path / "again"))
    assert (said.status, "unknown client 'admin'" in said.error) == (1, True)
    assert not (tmp_path / "again").exists()
    assert not (tmp_path / "words").exists()


def test_a_run_that_waits_for_a_revocation_issues_nothing_to_the_revoked(
    home: Home, invoke: Invoke, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: invoke(*REVOKE_ADMIN))
    assert Run(home.path, START).main([]) == 0
    assert [
        one.artifact for one in home.project().revocations.unexpired() if one.common_name == "admin" and not one.revoked
    ] == []


def test_a_run_that_waits_plans_what_pki_yaml_says_afterwards(
    home: Home, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    meanwhile(lambda: add_bob(home))
    assert "cert:client-bob" in home.doit().made


@pytest.mark.parametrize("place", ["before pki.yaml is written", "after it was written"])
def test_whoever_was_revoked_gets_no_new_certificate_wherever_the_command_was_killed(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write, before = editing.write, serial(home)

    def killed(*given: object) -> None:
        if place.startswith("after"):
            write(*given)  # type: ignore[arg-type]
        raise KilledError

    monkeypatch.setattr(editing, "write", killed)
    with pytest.raises(KilledError):
        invoke(*REVOKE_ADMIN)
    monkeypatch.undo()
    assert home.project().ledger.revoked_serials(expiring_after=START) == {before}
    home.doit()
    valid = [
        one for one in home.project().revocations.unexpired() if one.artifact == "cert:client-admin" and not one.revoked
    ]
    assert valid == []
    if place.startswith("before"):  # the same command ends what it began
        assert invoke(*REVOKE_ADMIN).status == 0
    assert clients(home) == []
    assert invoke("client.add", "admin", "--email", "admin@lab.internal").status == 0
    assert serial(home) != before


@pytest.mark.parametrize("line", [REVOKE_ADMIN, ("revoke", "admin", "--reason", "superseded", "--no-replace", "--yes")])
def test_a_revocation_and_that_nothing_replaces_it_are_recorded_together_or_not_at_all(
    home: Home, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, line: tuple[str, ...]
) -> None:
    recording = SqlRecorder._recording  # noqa: SLF001 - each transaction

    @contextmanager
    def killed(ledger: SqlRecorder) -> Iterator[object]:
        with recording(ledger) as db:
            yield db
        raise KilledError

    monkeypatch.setattr(SqlRecorder, "_recording", killed)
    with pytest.raises(KilledError):
        invoke(*line)
    monkeypatch.undo()
    project = home.project()
    assert project.ledger.revoked_serials(expiring_after=START) == {serial(home)}
    assert list(project.revocations.replacement_stopped) == ["cert:client-admin"]


def test_the_text_of_an_edit_is_written_only_over_what_it_was_made_of(home: Home) -> None:
    path = home.path / "pki.yaml"
    edit = editing.add_client(path, "eve", {"email": "eve@lab.internal"})
    path.unlink()
    with pytest.raises(PkiError, match="changed since it was read"):
        editing.write(edit)
    assert not path.exists()
