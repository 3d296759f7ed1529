"""Files as the program writes, names and reads them: durable before they are visible, and never something in between."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pki.common import filesystem, locks, sealed_records
from pki.common.errors import PkiError
from pki.common.filesystem import StagedFiles
from pki.config.identifiers import GenerationName
from pki.config.model import Leaf
from pki.ledger import last_seen, upgrade
from pki.ledger.types import Head, Pin
from pki.project.layout import Store


def refusal(attempt: Callable[[], object]) -> PkiError:
    with pytest.raises(PkiError) as caught:
        attempt()
    assert caught.value.hint or "cannot be" in caught.value.message
    return caught.value


def full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


# -- durable first ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_flushed_meanwhile_and_does_not_reach_the_disk_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tls.pem"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with StagedFiles({path: (b"new", filesystem.SECRET)}) as waiting:
        waiting.flush_meanwhile()
        assert "tls.pem: cannot be written: No space left on device" in refusal(waiting.place).message
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"tls.pem": b"old"}


def test_a_file_is_placed_only_after_it_was_flushed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, done = tmp_path / "tls.pem", list[str]()
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda _: (time.sleep(0.01), done.append("flushed")))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("placed"), replace(*names)))
    with StagedFiles({path: (b"new", filesystem.SECRET), tmp_path / "crl": (b"x", filesystem.PUBLIC)}) as waiting:
        waiting.flush_meanwhile()
        waiting.place()
    assert done == ["flushed", "flushed", "placed", "placed"]
    assert {one.name: filesystem.mode_of(one) for one in tmp_path.iterdir()} == {"tls.pem": 0o600, "crl": 0o644}


def test_what_was_written_beside_and_not_placed_is_gone(tmp_path: Path) -> None:
    with StagedFiles({tmp_path / "x": (b"new", filesystem.PUBLIC)}) as waiting:
        waiting.flush_meanwhile()
        assert (tmp_path / ".x.new").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_is_written_whole_although_the_system_takes_it_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    filesystem.write(tmp_path / "x", bytes(range(100)))
    assert (tmp_path / "x").read_bytes() == bytes(range(100))


@pytest.mark.parametrize(("mode", "is_written"), [(filesystem.PUBLIC, True), (filesystem.SECRET, False)])
def test_only_what_is_public_may_lie_where_the_file_system_knows_no_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_written: bool
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    if is_written:
        filesystem.write(tmp_path / "x", b"new", mode)
        assert (tmp_path / "x").read_bytes() == b"new"
    else:
        assert "x: cannot be written" in refusal(lambda: filesystem.write(tmp_path / "x", b"new", mode)).message
        assert list(tmp_path.iterdir()) == []


def test_a_file_beside_that_a_killed_run_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".x.new").write_bytes(b"half")
    filesystem.write(tmp_path / "x", b"whole")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"x": b"whole"}


def test_a_line_is_added_to_a_log_and_one_that_was_cut_short_is_ended_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for line in (b"one\n", b"two", b"three\n"):
        filesystem.append(log, line)
    assert log.read_bytes() == b"one\ntwo\nthree\n"
    (tmp_path / "folder").mkdir()
    assert "is a folder, not a file" in refusal(lambda: filesystem.append(tmp_path / "folder", b"x")).message
    assert "cannot be written" in refusal(lambda: filesystem.append(tmp_path / "none/log", b"x")).message


def test_folders_that_are_missing_are_made_with_their_mode_whatever_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        filesystem.make_folder(tmp_path / "a/b")
        filesystem.make_folder(tmp_path / "c", 0o700)
    finally:
        os.umask(mask)
    assert [filesystem.mode_of(tmp_path / name) for name in ("a", "a/b", "c")] == [0o755, 0o755, 0o700]
    filesystem.make_folder(tmp_path / "c", 0o755)
    assert filesystem.mode_of(tmp_path / "c") == 0o700, "a folder that is there stays as it is"
    (tmp_path / "file").write_bytes(b"")
    filesystem.make_folder(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    assert "is a named pipe, not a folder" in refusal(lambda: filesystem.make_folder(tmp_path / "pipe")).message
    assert "cannot be created" in refusal(lambda: filesystem.make_folder(tmp_path / "file/below")).message


def test_files_that_differ_in_content_or_mode_are_named(tmp_path: Path) -> None:
    wanted = {tmp_path / name: (b"x", 0o644) for name in ("same", "edited", "open", "gone")}
    for name in ("same", "edited", "open"):
        filesystem.write(tmp_path / name, b"x")
    (tmp_path / "edited").write_bytes(b"y")
    (tmp_path / "open").chmod(0o600)
    assert [path.name for path in filesystem.changed_files(wanted)] == ["edited", "open", "gone"]
    assert (filesystem.mode_of(tmp_path / "gone"), filesystem.size_of(tmp_path / "gone")) == (None, 0)
    assert filesystem.size_of(tmp_path / "same") == 1


def test_a_file_that_is_distrusted_has_another_time(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    os.utime(path, (1, 1))
    filesystem.invalidate_cached(path)
    assert path.stat().st_mtime > 1
    filesystem.invalidate_cached(tmp_path / "none")


# -- reading without waiting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 65536 + (1 << 20), 200_000])
def test_a_file_of_any_size_is_read_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(os.urandom(size))
    assert filesystem.read(tmp_path / "x") == (tmp_path / "x").read_bytes()


def odd(folder: Path) -> dict[str, Path]:
    """Everything that can bear the name of a file, and is none."""
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "lost").symlink_to("/nowhere/at all")
    (folder / "circle").symlink_to(folder / "circle")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(folder)  # the path of a socket may have a hundred letters
        server.bind("socket")
        os.chdir(here)
    found = {path.name: path for path in folder.iterdir()}
    return {**found, "device": Path("/dev/null")}


WORDS = {
    "folder": "is a folder, not a file",
    "pipe": "is a named pipe, not a file",
    "socket": "is a socket, not a file",
    "device": "is a device, not a file",
    "lost": "is a link to /nowhere/at all, which does not exist, not a file",
    "circle": "is a link to itself, not a file",
}


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    for name, path in odd(tmp_path).items():
        for attempt in (lambda path=path: filesystem.read(path), lambda path=path: filesystem.require_file(path)):
            fault = refusal(attempt)
            assert fault.message == f"{path}: {WORDS[name]}"
            assert fault.hint.startswith("ls -ld ")
        assert filesystem.read_if_possible(path) is None


def test_what_is_not_there_is_none_and_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"here")
    (tmp_path / "link").symlink_to("x")
    assert filesystem.read(tmp_path / "link") == b"here"
    assert filesystem.read(tmp_path / "none") is None is filesystem.read(tmp_path / "x/below")
    filesystem.require_file(tmp_path / "none")
    filesystem.require_file(tmp_path / "link")


def test_a_folder_that_is_no_folder_is_named(tmp_path: Path) -> None:
    found = odd(tmp_path)
    filesystem.require_folder(found["folder"])
    (tmp_path / "file").write_bytes(b"")
    filesystem.require_folder(tmp_path / "file")  # what is to be made below it says so
    for name in ("pipe", "socket", "lost", "circle"):
        assert refusal(lambda name=name: filesystem.require_folder(found[name])).message.endswith("not a folder")


def test_a_file_that_the_disk_does_not_give_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"x")

    def broken(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", broken)
    assert "x: cannot be read: Input/output error" in refusal(lambda: filesystem.read(tmp_path / "x")).message
    monkeypatch.undo()
    monkeypatch.setattr(os, "open", broken)
    assert "x: cannot be read: Input/output error" in refusal(lambda: filesystem.read(tmp_path / "x")).message


# -- owners -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("euid", "owner", "is_given"), [(0, 1000, True), (0, 0, False), (1000, 1000, False)])
def test_what_root_makes_is_left_to_the_owner_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, euid: int, owner: int, is_given: bool
) -> None:
    given: list[tuple[object, ...]] = []
    folder = os.stat(tmp_path)
    owned = os.stat_result((*folder[:4], owner, owner + 1, *folder[6:]))
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.setattr(os, "stat", lambda _: owned)
    monkeypatch.setattr(os, "fchown", lambda *what: given.append(what))
    monkeypatch.setattr(os, "chown", lambda *what, follow_symlinks: given.append((*what, follow_symlinks)))
    filesystem.give_to_folder_owner(7, tmp_path)
    filesystem.give_to_folder_owner(tmp_path / "x", tmp_path)
    assert given == ([(7, owner, owner + 1), (tmp_path / "x", owner, owner + 1, False)] if is_given else [])


def test_everything_below_a_folder_is_left_to_its_owner_by_root_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made/below").mkdir(parents=True)
    (tmp_path / "made/below/x").write_bytes(b"")
    given: list[tuple[Path, Path]] = []
    monkeypatch.setattr(filesystem, "give_to_folder_owner", lambda file, folder: given.append((file, folder)))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    filesystem.give_all_to_folder_owner(tmp_path / "made")
    assert given == []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    filesystem.give_all_to_folder_owner(tmp_path / "made")
    made = tmp_path / "made"
    assert given == [(made, tmp_path), (made / "below", made), (made / "below/x", made)]


@pytest.mark.parametrize("count", [1, 2, 9, 30])
def test_every_file_of_a_change_is_flushed_before_the_first_is_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    names = {tmp_path / f"{number}.pem" for number in range(count)}
    flushed = list[str]()
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(os.readlink(f"/proc/self/fd/{handle}")))
    with StagedFiles(dict.fromkeys(names, (b"x", filesystem.PUBLIC))) as waiting:
        waiting.flush()
        assert sorted(flushed) == sorted(str(filesystem.temporary_path(path)) for path in names)
        waiting.place()


@pytest.mark.parametrize("is_meanwhile", [True, False])
def test_files_are_flushed_where_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_meanwhile: bool
) -> None:
    """A limit of processes (`ulimit -u`, TasksMax) or of memory permits none."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    flushed = list[int]()
    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(os, "fsync", flushed.append)
    files = {tmp_path / name: (name.encode(), filesystem.PUBLIC) for name in "abc"}
    with StagedFiles(files) as waiting:
        (waiting.flush_meanwhile if is_meanwhile else waiting.flush)()
        waiting.place()
    assert len(set(flushed)) == 3
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {path: data for path, (data, _) in files.items()}


def test_the_first_file_that_did_not_reach_the_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    files = {tmp_path / name: (b"x", filesystem.PUBLIC) for name in ("b", "a", "c")}
    assert f"{tmp_path}/b: cannot be written" in refusal(lambda: filesystem.write_all(files)).message
    assert list(tmp_path.iterdir()) == []


# -- locks ------------------------------------------------------------------------------------------------------------


def test_a_lock_keeps_other_processes_out_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.exclusive(path):
        assert path.read_text() == f"{os.getpid()}\n"
        assert not locks.hold_shared(path)
    assert locks.hold_shared(path)


def test_a_forked_process_holds_no_lock_of_the_one_that_forked_it(tmp_path: Path) -> None:
    """flock(2): a lock is held until the last copy of its descriptor is closed, and workers live on for a while."""
    begun, go = os.pipe(), os.pipe()
    with locks.exclusive(tmp_path / "lock"):
        child = os.fork()
        if not child:
            os.write(begun[1], b"x")
            os.read(go[0], 1)
            os._exit(0)
    try:
        assert os.read(begun[0], 1) == b"x"
        assert locks.hold_shared(tmp_path / "lock")
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)


def test_whoever_waits_for_a_lock_is_told_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        with locks.exclusive(tmp_path / "lock"):
            os.write(held[1], b"x")
            os.read(go[0], 1)
        os._exit(0)
    assert os.read(held[0], 1) == b"x"

    def waiting(holder: str) -> str:
        os.write(go[1], b"x")
        return f"waiting for {holder}"

    with locks.exclusive(tmp_path / "lock", waiting):
        pass
    os.waitpid(child, 0)
    assert capsys.readouterr().err == f"waiting for {child}\n"


def test_a_lock_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / ".run.lock").mkdir()
    assert ".run.lock: is a folder, not a file" in refusal(lambda: locks.require_usable(tmp_path / ".run.lock")).message
    assert "cannot be written" in refusal(lambda: locks.require_usable(tmp_path / "none/lock")).message
    place = Store(tmp_path)
    place.check_locks()  # there is no ca/ yet
    (tmp_path / "ca/.run.lock").mkdir(parents=True)
    assert "is a folder" in refusal(place.check_locks).message


def test_a_run_waits_for_workers_of_the_run_before(tmp_path: Path) -> None:
    place = Store(tmp_path)
    with place.lock():
        assert {path.name for path in place.ca.iterdir()} == {".run.lock", ".workers.lock"}
        assert not locks.hold_shared(place.ca / ".run.lock")
    with place.hold_lock("workers.lock"):
        assert not place.join_current_run(), "the next run began: this worker belongs to none"
    (place.ca / ".workers.lock").unlink()
    (place.ca / ".run.lock").unlink()
    place.ca.rmdir()
    assert place.join_current_run()
    assert filesystem.mode_of(place.ca) == 0o700
    assert locks.hold_shared(place.ca / ".run.lock")
    assert filesystem.mode_of(place.ca) == 0o700


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Store:
    for name in (
        "server/server-1",
        "server/server-2",
        "server/server-10",
        "server/client-3",
        "server/old",
        "root/root-1",
    ):
        (tmp_path / "ca" / name).mkdir(parents=True)
        (tmp_path / "ca" / name / "cert.pem").write_bytes(b"")
    return Store(tmp_path)


def test_generations_are_those_with_a_certificate_in_the_order_of_their_numbers(place: Store, tmp_path: Path) -> None:
    (tmp_path / "ca/server/server-3").mkdir()
    assert place.generations("server") == ["server-1", "server-2", "server-10"]
    assert place.generations("client") == []
    (tmp_path / "ca/server/server-3/cert.pem").symlink_to("/nowhere")
    assert place.generations("server")[2] == "server-3", "a certificate that is lost is no generation less"


def test_a_project_has_authorities_or_is_new(place: Store, tmp_path: Path) -> None:
    assert place.is_initialised
    assert not Store(tmp_path / "elsewhere").is_initialised


def test_requests_wait_while_their_certificate_is_not_there(place: Store, tmp_path: Path) -> None:
    for name in ("server/server-2", "server/server-11", "client/client-1", "client/client-0", "root/root-2"):
        (tmp_path / "ca" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "ca" / name / "request.pem").write_bytes(b"")
    assert place.prepared() == ["client-1", "server-11"]
    assert [path.parent.name for path in place.files("request.pem")] == ["client-1", "server-11", "server-2"]


def test_files_of_an_authority_lie_in_its_folder_and_of_an_adopted_one_beside(place: Store) -> None:
    assert place.authority_file("server-1", "key.pem") == place.ca / "server/server-1/key.pem"
    assert place.authority_file("easyrsa", "cert.pem") == place.ca / "easyrsa/cert.pem"
    assert isinstance(place.generations("root")[0], GenerationName)


def test_presigned_crls_and_ceremonies_are_in_the_order_of_their_numbers(place: Store, tmp_path: Path) -> None:
    folder = tmp_path / "ca/root/root-1"
    (folder / "crl").mkdir()
    for number in (10, 9, 100):
        (folder / f"crl/{number}.pem").write_bytes(b"")
    (folder / "crl/notes.pem").write_bytes(b"")
    assert [path.stem for path in place.presigned_crls("root-1")] == ["9", "10", "100"]
    assert place.presigned_crls("root-2") == []
    for name in ("cross-root-1.pem", "cross-root-0.pem", "other.pem"):
        (folder / name).write_bytes(b"")
    assert [path.name for path in place.cross_certificates("root-1")] == ["cross-root-0.pem", "cross-root-1.pem"]
    for number in (2, 1, 3):
        place.ceremony(number).mkdir(parents=True)
        if number < 3:
            (place.ceremony(number) / "request.yaml").write_bytes(b"")
    assert [path.name for path in place.ceremonies()] == ["0001", "0002"]


def test_what_doit_makes_has_its_names_below_build(place: Store, tmp_path: Path) -> None:
    build = tmp_path / "build"
    assert (place.crl("server-1"), place.crl("root-1", "pem")) == (build / "crl/server-1.crl", build / "crl/root-1.pem")
    assert (place.client_crl_bundle(), place.ca_der("root-1")) == (
        build / "crl/bundle-client.pem",
        build / "trust/root-1.crt",
    )
    assert (place.host_root("ca"), place.receipt("ca")) == (build / "hosts/ca", build / "receipts/ca.json")
    assert (place.release("ca"), place.history("ca"), place.contact("ca")) == (
        build / "release/ca", build / "history/ca", build / "contacts/ca.json",
    )  # fmt: skip
    assert (place.report("x"), place.ansible()) == (build / "report/x", build / "ansible")


@pytest.mark.parametrize(
    ("name", "profile", "csr", "folder", "bundle"),
    [
        ("media", "server", None, "build/certs/media", "tls.pem"),
        ("client-admin", "client", None, "ca/clients/admin", "tls.pem"),
        ("client-x", "server", None, "build/certs/client-x", "tls.pem"),
        ("printer", "server", "pki/printer.csr", "build/certs/printer", "fullchain.pem"),
    ],
)
def test_files_of_a_leaf_lie_in_its_folder_and_a_clients_where_they_are_kept(
    place: Store, tmp_path: Path, name: str, profile: Any, csr: str | None, folder: str, bundle: str
) -> None:
    day = timedelta(days=1)
    leaf = Leaf(name, profile, name, (), (), (), "ec-p256", False, day, day, csr, "")
    assert place.leaf_file(leaf, "key.pem") == str(tmp_path / folder / "key.pem")
    assert place.bundle(leaf) == tmp_path / folder / bundle


def test_a_path_below_the_project_is_shown_relative_to_it(place: Store, tmp_path: Path) -> None:
    assert (place.shown(tmp_path / "ca/x"), place.shown(Path("/etc/x"))) == ("ca/x", "/etc/x")


# -- how far the ledger was seen --------------------------------------------------------------------------------------

HASH = "a" * 64
SOUND = {"events": 5, "head": HASH, "revocations": 2}


def noted(place: Store, name: str, said: object, *, sealed: bool = True) -> None:
    place.ca.mkdir(exist_ok=True)
    data = sealed_records.encode_sealed(said) if sealed else json.dumps(said).encode()  # type: ignore[arg-type]
    (place.ca / name).write_bytes(data)


def test_how_far_the_ledger_was_seen_is_read_from_both_notes(tmp_path: Path) -> None:
    place = Store(tmp_path)
    assert last_seen.observed_heads(place.ca) == []
    noted(place, last_seen.LEDGER_HEAD, SOUND)
    noted(place, last_seen.LAST_BACKUP, {"at": "x", "file": "y", "ledger": {"events": 4, "head": HASH}})
    assert last_seen.observed_heads(place.ca) == [
        Head(5, HASH, "ca/.ledger-head.json", 2),
        Head(4, HASH, "ca/.last-backup.json", None),
    ]


@pytest.mark.parametrize(
    "said",
    [
        {**SOUND, "events": "5"},
        {**SOUND, "events": 0},
        {**SOUND, "events": -1},
        {**SOUND, "head": 5},
        {"head": HASH, "revocations": 2},
        {"events": 5},
    ],
)
def test_a_note_that_says_nothing_sensible_counts_as_missing(tmp_path: Path, said: dict[str, object]) -> None:
    place = Store(tmp_path)
    noted(place, last_seen.LEDGER_HEAD, said)
    assert last_seen.observed_heads(place.ca) == []
    noted(place, last_seen.LAST_BACKUP, {"at": "x", "file": "y", "ledger": said})
    assert last_seen.observed_heads(place.ca) == []


def test_a_note_of_one_event_counts_and_one_of_an_earlier_program_has_no_digest(tmp_path: Path) -> None:
    place = Store(tmp_path)
    noted(place, last_seen.LEDGER_HEAD, {**SOUND, "events": 1}, sealed=False)
    assert [head.seq for head in last_seen.observed_heads(place.ca)] == [1]
    for said, is_sealed in (({**SOUND, "surplus": 1}, False), ({**SOUND, "revocations": "2"}, True)):
        noted(place, last_seen.LEDGER_HEAD, said, sealed=is_sealed)
        assert last_seen.observed_heads(place.ca) == []
    noted(place, last_seen.LAST_BACKUP, {"at": "x", "file": "y", "ledger": 7})
    assert last_seen.observed_heads(place.ca) == []


def test_the_identity_of_a_project_is_believed_only_as_it_was_written(tmp_path: Path) -> None:
    place = Store(tmp_path)
    place.ca.mkdir()
    path = place.ca / last_seen.PROJECT_ID
    assert last_seen.project_id(place.ca) == ""
    path.write_text(f"abc {sealed_records.short_digest({'project': 'abc'})}\n")
    assert last_seen.project_id(place.ca) == "abc"
    for text in (f"abd {sealed_records.short_digest({'project': 'abc'})}", "abc", "", "a b c"):
        path.write_text(text)
        assert last_seen.project_id(place.ca) == ""
    assert len(sealed_records.short_digest({"a": 1})) == 16
    assert (
        sealed_records.short_digest({"a": 1, "b": 2})
        == sealed_records.short_digest({"b": 2, "a": 1})
        != sealed_records.short_digest({"a": 2, "b": 1})
    )


def test_pins_of_an_earlier_program_are_read_and_damaged_ones_are_passed_over(tmp_path: Path) -> None:
    for host, manifest, since in (
        ("good", json.dumps({"release": HASH}), "2026-11-23T06:00:00+00:00"),
        ("late", json.dumps({"release": HASH}), "yesterday"),
        ("bare", "{}", "2026-11-23T06:00:00+00:00"),
        ("torn", "{", "2026-11-23T06:00:00+00:00"),
    ):
        folder = tmp_path / "build/history" / host / "held"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(manifest)
        (folder / "since").write_text(f"{since}\n")
    (tmp_path / "build/history/torn/held/since").unlink()
    assert list(upgrade.pins_in_files(tmp_path / "build")) == [
        ("good", Pin(HASH, datetime.fromisoformat("2026-11-23T06:00:00+00:00")))
    ]


def test_who_was_told_what_is_kept_in_ca_and_while_that_is_lost_among_the_reports(tmp_path: Path) -> None:
    place = Store(tmp_path)
    assert place.notification_folder == tmp_path / "build/report"
    place.ca.mkdir()
    assert place.notification_folder == place.ca
    assert stat.S_ISDIR(place.ca.stat().st_mode)


def test_a_lock_whose_file_is_another_one_each_time_is_refused_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system in a network that gives out inode numbers again."""
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with (
        pytest.raises(PkiError, match="is a different file each time it is opened"),
        locks.exclusive(tmp_path / "lock"),
    ):
        pass
    monkeypatch.undo()
    with locks.exclusive(tmp_path / "lock"):
        pass
