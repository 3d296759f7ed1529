"""The script that runs on hosts, by itself: what it refuses, and that a release is there as a whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pki.deploy import host_output
from tests.support.hosts import ME, FolderHost, Row, Shell, kill_session, manifest, placing, tarred, whole
from tests.support.pki_apply import COMMANDS
from tests.support.releases import contents, pair, release, wanted


@pytest.fixture
def shell() -> Shell | None:
    """The system's sh; the integration tests have others."""
    return None


@pytest.fixture
def host(tmp_path: Path, shell: Shell | None) -> FolderHost:
    made = FolderHost.new(tmp_path / "host", shell, COMMANDS)
    made.permit(f"run note echo ran >>{made.root}/ran")
    return made


def ran(host: FolderHost) -> int:
    """How often the command `note` was run."""
    log = host.root / "ran"
    return len(log.read_text().splitlines()) if log.exists() else 0


# -- power failures ----------------------------------------------------------------------------------------------------

FLUSHING = """\
#!/bin/sh
printf '%s\\n' "$@" >>{log}
exec /usr/bin/sync "$@"
"""


def test_what_an_undo_puts_back_is_on_disk_before_anything_is_replaced(host: FolderHost) -> None:
    """A copy that was never flushed is empty after a power failure, and would replace the good file."""
    host.deliver(release(host, "old"))
    (host.root / "bin").mkdir()
    (host.root / "bin/sync").write_text(FLUSHING.format(log=host.root / "flushed"))
    (host.root / "bin/sync").chmod(0o755)
    host.adapt("PATH=/usr", f"PATH={host.root}/bin:/usr")
    host.adapt("    swap 2>>", f'    ls "$txn/old" >{host.root}/copies; swap 2>>')
    host.deliver(release(host, "new"))
    copies = {f"{host.state}/txn.new/old/{name}" for name in (host.root / "copies").read_text().split()}
    assert len(copies) == 4, "three files, and where the link of a set points"
    assert copies <= set((host.root / "flushed").read_text().splitlines())


# -- what is refused --------------------------------------------------------------------------------------------------


def member(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def sent(rows: Sequence[Row], members: Sequence[tuple[str, bytes] | tarfile.TarInfo], numbers: str = "1") -> bytes:
    """A delivery with a tar of one's own."""
    files = tarred(members)
    return manifest(rows) + f"place {len(files) // 512} {numbers}\n".encode() + files + b"keep\nend\n"


def row(host: FolderHost, name: str = "good.pem", content: bytes | None = b"good", **columns: Any) -> Row:
    return Row(host.path(name), content, **columns)


def column(host: FolderHost, **columns: str) -> bytes:
    """A delivery of one file, with some columns of its manifest as they are given."""
    return whole([row(host, more=columns)])


def rebuilt(host: FolderHost, old: bytes, new: bytes) -> bytes:
    words = whole([row(host)])
    assert old in words
    return words.replace(old, new, 1)


HOSTILE: dict[str, Callable[[FolderHost], bytes]] = {
    "nothing": lambda _: b"",
    "another language": lambda _: b"GET / HTTP/1.1\r\nHost: media\r\n\r\n",
    "binary": lambda _: bytes(range(256)) * 40,
    "another version": lambda h: rebuilt(h, b"doit-pki 1 ", b"doit-pki 2 "),
    "another host": lambda h: rebuilt(h, b" media\n", b" forge\n"),
    "rows before the hello": lambda h: manifest([row(h)]).split(b"\n", 1)[1],
    "a manifest that does not end": lambda h: manifest([row(h)]).rpartition(b"end")[0],
    "a manifest that counts wrongly": lambda h: rebuilt(h, b"end 1\n", b"end 2\n"),
    "a row of garbage": lambda h: rebuilt(h, b"end 1\n", b"\xff\xfe\x00\x01\n"),
    "a number twice": lambda h: manifest([row(h), row(h, "b", more={"n": "1"})]),
    "a number with a zero": lambda h: column(h, n="01"),
    "a number that is a word": lambda h: column(h, n="one"),
    "a path twice": lambda h: whole([row(h), row(h, content=b"other")]),
    "outside": lambda h: column(h, path="/etc/passwd"),
    "dots": lambda h: column(h, path=h.path("../escaped")),
    "dots in the middle": lambda h: column(h, path=h.path("a/../../escaped")),
    "a dot": lambda h: column(h, path=h.path("./good.pem")),
    "dots at the end": lambda h: column(h, path=h.path("a/..")),
    "two slashes": lambda h: column(h, path=h.path("a//b")),
    "a slash at the end": lambda h: column(h, path=h.path("a/")),
    "the folder itself": lambda h: column(h, path=str(h.etc)),
    "a relative path": lambda h: column(h, path="etc/good.pem"),
    "a sibling": lambda h: column(h, path=f"{h.etc}x/good.pem"),
    "a tab in a path": lambda h: column(h, path=h.path("a\tb")),
    "a newline in a path": lambda h: column(h, path=h.path("a\nb")),
    "a blank in a path": lambda h: column(h, path=h.path("a b")),
    "a quote in a path": lambda h: column(h, path=h.path("a'b")),
    "a substitution in a path": lambda h: column(h, path=h.path(f"$(touch${{IFS}}{h.root}/hacked)")),
    "a wildcard in a path": lambda h: column(h, path=h.path("*")),
    "no path": lambda h: column(h, path=""),
    "the permissions": lambda h: column(h, path=str(h.conf)),
    "the state": lambda h: column(h, path=f"{h.state}/rows"),
    "the script": lambda h: column(h, path=str(h.program)),
    "a staged name": lambda h: column(h, path=h.path(".good.pem.pki-new")),
    "a kept name": lambda h: column(h, path=h.path(".good.pem.pki-old")),
    "a folder called like a staged set": lambda h: column(h, path=h.path("crt.pki-new/x")),
    "another kind": lambda h: column(h, kind="link"),
    "setuid": lambda h: column(h, mode="4755"),
    "a mode in letters": lambda h: column(h, mode="u+s"),
    "no mode": lambda h: column(h, mode="-"),
    "an option as owner": lambda h: column(h, owner="-R:root"),
    "a reference as owner": lambda h: column(h, owner="--reference=/etc/shadow"),
    "an owner with a command": lambda h: column(h, owner="root:root;id"),
    "no group": lambda h: column(h, owner="root:"),
    "an owner in other letters": lambda h: column(h, owner="r\u00f6\u00f6t:root"),
    "a dash as group": lambda h: column(h, owner="root:ro*t"),
    "an owner that is nobody here": lambda h: column(h, owner="nosuch:nosuch"),
    "no digest": lambda h: column(h, sha256="0"),
    "a digest of another file": lambda h: column(h, sha256="0" * 64),
    "a digest that is too long": lambda h: column(h, sha256="0" * 65),
    "a command by its words": lambda h: column(h, reload="systemctl reload nginx"),
    "a command of its own": lambda h: column(h, check=f"touch {h.root}/hacked"),
    "a command from its second word on": lambda h: column(h, check="note echo"),
    "a wildcard as a command": lambda h: column(h, reload="*"),
    "no command": lambda h: column(h, reload=""),
    "an unknown command": lambda h: column(h, check="reboot"),
    "a command with metacharacters": lambda h: column(h, reload=f"note;touch${{IFS}}{h.root}/hacked"),
    "a set elsewhere": lambda h: column(h, set="/etc"),
    "a set above": lambda h: column(h, path=h.path("a/b/c"), set=h.path("a")),
    "the permitted folder as a set": lambda h: column(h, set=str(h.etc)),
    "a set of dots": lambda h: column(h, path=h.path("a/x"), set=h.path("b/../a")),
    "a set that is a folder on the host": lambda h: whole([row(h, "folder/x", set=h.path("folder"))]),
    "a set of CRLs": lambda h: manifest([row(h, "s/x", set=h.path("s"))]) + placing([row(h, "s/x")], "settle"),
    "a target that is a folder": lambda h: whole([row(h, "folder")]),
    "a target that is a link to a folder": lambda h: whole([row(h, "link")]),
    "a target that is a FIFO": lambda h: whole([row(h, "fifo")]),
    "a target that is a device": lambda h: whole([row(h, "null")]),
    "a target below a file": lambda h: whole([row(h, "file/below")]),
    "a target below another": lambda h: whole([row(h, "a"), row(h, "a/b")]),
    "a key that everybody may read": lambda h: whole([row(h, content=pair("x")[0])]),
    "a key that a group may change": lambda h: whole([row(h, content=pair("x")[0], mode="0660")]),
    "a member that is a link": lambda h: sent([row(h)], [member("1", tarfile.SYMTYPE, "/etc/shadow")]),
    "a member that is a hard link": lambda h: sent([row(h)], [member("1", tarfile.LNKTYPE, "/etc/shadow")]),
    "a member that is a device": lambda h: sent([row(h)], [member("1", tarfile.CHRTYPE)]),
    "a member that is a folder": lambda h: sent([row(h)], [member("1", tarfile.DIRTYPE)]),
    "a member with an absolute name": lambda h: sent([row(h)], [(h.path("good.pem"), b"good")]),
    "a member beside the others": lambda h: sent([row(h)], [("1", b"good"), (h.path("more"), b"x")]),
    "a member that climbs": lambda h: sent([row(h)], [("1", b"good"), ("../../hacked", b"x")]),
    "a member twice": lambda h: sent([row(h)], [("1", b"go"), ("1", b"od")]),
    "a member of no row": lambda h: sent([row(h)], [("1", b"good"), ("2", b"x")]),
    "a member missing": lambda h: sent([row(h), row(h, "b")], [("1", b"good")], "1 2"),
    "a number of no row": lambda h: sent([row(h)], [("1", b"good")], "1 7"),
    "a number asked for twice": lambda h: sent([row(h), row(h, "b")], [("1", b"good")], "1 1"),
    "no tar": lambda h: manifest([row(h)]) + b"place 4 1\n" + b"x" * 2048 + b"keep\nend\n",
    "too few blocks": lambda h: manifest([row(h)]) + placing([row(h)]).replace(b"place 20", b"place 1"),
    "too many blocks": lambda h: manifest([row(h)]) + placing([row(h)]).replace(b"place 20", b"place 21"),
    "more blocks than any disk has": lambda h: manifest([row(h)]) + b"place 99999999999999999999 1\n",
    "blocks below zero": lambda h: manifest([row(h)]) + b"place -1 1\n",
    "no blocks": lambda h: manifest([row(h)]) + b"place\n",
    "place twice": lambda h: manifest([row(h), row(h, "b")]) + placing([row(h)]) + placing([row(h)]),
    "an unknown word": lambda h: manifest([row(h)]) + b"exec id\n",
    "a word with a command": lambda h: manifest([row(h)]) + f"keep; touch {h.root}/hacked\n".encode(),
    "show of a path": lambda h: manifest([row(h)]) + b"show /etc/shadow\n",
    "show of nothing": lambda h: manifest([row(h)]) + b"show\n",
    "back at the beginning": lambda h: manifest([row(h)]) + b"back\n",
}


def furnished(host: FolderHost) -> None:
    """What a hostile stream might stumble over."""
    for name in ("folder", "elsewhere"):
        (host.etc / name).mkdir()
    (host.etc / "link").symlink_to("elsewhere")
    (host.etc / "file").write_text("a file")
    (host.etc / "null").symlink_to("/dev/null")
    os.mkfifo(host.etc / "fifo")


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_stream_is_refused_in_a_sentence_and_nothing_changes(
    host: FolderHost, words: Callable[[FolderHost], bytes]
) -> None:
    furnished(host)
    before, outside = host.holds(), sorted(path.name for path in host.root.parent.iterdir())
    answers = host.speak(words(host))
    said = [answer.get("error") or answer.get("why") or "" for answer in answers]
    assert [text for text in said if text], answers
    assert all("\n" not in text and len(text) < 2100 for text in said)
    assert not any(answer.get("state") == "kept" for answer in answers)
    assert host.holds() == before
    assert host.litter() == []
    assert sorted(path.name for path in host.root.parent.iterdir()) == outside
    assert sorted(path.name for path in host.root.iterdir()) == ["etc", "pki-apply", "pki-apply.conf", "var"]


def test_each_good_stream_that_the_hostile_ones_are_made_of_is_taken(host: FolderHost) -> None:
    """Or the test above would prove nothing."""
    assert host.speak(whole([row(host)]))[-1] == {"state": "kept"}
    assert host.speak(sent([row(host, content=b"new")], [("1", b"new")]))[-1] == {"state": "kept"}
    assert column(host) == whole([row(host)])
    assert host.holds().keys() == {"good.pem"}


def test_its_own_files_are_never_replaced_or_removed_whatever_its_permissions_say(host: FolderHost) -> None:
    own = [host.conf, host.program, host.state / "rows"]
    host.permit(f"under {host.root}", *(f"{word} {path}" for word in ("file", "remove", "roots") for path in own))
    others = host.root / "other.pem"
    assert host.speak(whole([Row(str(others), b"x")]))[-1] == {"state": "kept"}, "the folder is permitted"
    before = [path.read_bytes() for path in own[:2]]
    for path in own:
        for content in (b"", None):
            answers = host.speak(whole([Row(str(path), content)]))
            assert answers[-1]["state"] == "refused", answers
            assert answers[-1]["why"] == f"{path} may not be placed here: {host.conf} does not permit it"
    assert [path.read_bytes() for path in own[:2]] == before


def test_a_manifest_that_names_a_file_twice_is_refused_before_anything_is_done(host: FolderHost) -> None:
    said = {"error": "the manifest names a file twice, or one below another"}
    for second in (row(host, content=b"other"), row(host, content=None), row(host, "good.pem/below")):
        assert host.speak(manifest([row(host), second]) + b"end\n")[1:] == [said]
    assert host.speak(manifest([row(host), row(host, "good.pem2")]) + b"end\n")[-1] == {"looked": True}


def test_nobody_else_can_read_what_it_keeps_whatever_mask_it_was_started_with(host: FolderHost) -> None:
    mask = os.umask(0)
    try:
        host.deliver([row(host, "made/tls.pem", pair("x")[0], mode="0600"), row(host, "made/more", b"x")])
        host.deliver([row(host, "made/tls.pem", pair("y")[0], mode="0600"), row(host, "made/more", b"y")])
    finally:
        os.umask(mask)
    kept = [host.state, *host.state.rglob("*")]
    assert (host.state / "last/old/1").exists()
    copies = {path for path in kept if path.parent.name == "old"}  # with the modes that the files had
    assert [path for path in kept if path not in copies and path.lstat().st_mode & 0o077] == []
    assert stat.S_IMODE(Path(host.path("made")).stat().st_mode) == 0o755, "services go through folders that it makes"


# -- on disk before it is visible -------------------------------------------------------------------------------------


def watched(host: FolderHost, *, failing: str = "") -> Callable[[], list[str]]:
    """Record what is synced and renamed, in order, as paths below the host's folder; a sync whose words match fails."""
    tools, log = host.root.parent / "tools", host.root.parent / "log"
    tools.mkdir()
    line = re.search(r"\bPATH=(\S+)", host.program.read_text())
    assert line
    for name in ("sync", "mv"):
        real, path = shutil.which(name, path=line[1]), f"{shutil.which('realpath')} -sm"
        lines = f'#!/bin/sh\nfor word in "$@"; do case $word in -*) ;; *) printf "%s " "$({path} "$word")" ;; esac; done >>{log}\n'
        lines += f"echo {name} >>{log}\n" + (
            f'case "$*" in {failing}) exit 1 ;; esac\n' if failing and name == "sync" else ""
        )
        (tools / name).write_text(f'{lines}exec {real} "$@"\n')
        (tools / name).chmod(0o755)
    host.adapt(line[0], f"PATH={tools}:{line[1]}")

    def events() -> list[str]:
        text = re.sub(r"[0-9]+-[0-9]+-[0-9]+", "ID", log.read_text().replace(f"{host.root}/", ""))
        return text.splitlines()

    return events


def test_a_file_is_on_disk_before_it_gets_its_name_and_its_folder_before_it_is_kept(host: FolderHost) -> None:
    events = watched(host)
    host.deliver([row(host, "a/tls.pem", b"new")])
    seen = events()
    staged = "etc/a/.ID.pki-new"
    order = [
        "var/txn.new/id var/txn.new/rows var/txn.new sync",
        f"{staged}/new.1 {staged} etc/a sync",
        "var/txn.new/rows var/txn.new/old var/txn.new sync",
        "var/txn.new var/txn mv",
        "var sync",
        f"{staged}/new.1 etc/a/tls.pem mv",
        "etc/a sync",
        "var/txn sync",
    ]
    assert [line for line in seen if line in order] == order, seen


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        ("*/txn.new/id*", ""),
        ("new.1*", "the files could not be flushed to disk"),
        ("*/txn.new/old*", "the files could not be flushed to disk"),
    ],
)
def test_a_disk_that_does_not_take_a_release_changes_nothing(host: FolderHost, failing: str, why: str) -> None:
    host.deliver([row(host, content=b"old")])
    watched(host, failing=failing)
    last = host.speak(whole([row(host, content=b"new")]))[-1]
    if why:
        assert (last["state"], last["why"]) == ("refused", why)
    else:
        assert last == {"error": "the change could not be started"}
    assert Path(host.path("good.pem")).read_bytes() == b"old"
    host.speak(b"", "recover")
    assert host.litter() == []


def test_a_word_that_undoes_or_keeps_nothing_does_nothing(host: FolderHost) -> None:
    host.deliver([row(host)])
    before, words = host.touched(), b"keep\nundo\nkeep extra\nplace 0\nend\n"
    answers = host.speak(manifest([row(host)]) + words)
    assert [answer["state"] for answer in answers if "state" in answer] == ["same"] * 4
    assert host.touched() == before


def test_a_line_without_an_end_does_not_fill_the_memory(host: FolderHost) -> None:
    host.adapt("ulimit -S -v 1000000", "ulimit -S -v 12000")
    answers = host.speak(b"doit-pki 1 " + b"x" * 10_000_000)
    assert not any("pki-apply" in answer for answer in answers)


def test_only_what_everybody_may_read_is_shown(host: FolderHost) -> None:
    key, certificate = pair("x")
    rows = [
        Row(host.path("key.pem"), key, mode="0600"),
        Row(host.path("cert.pem"), certificate),
        Row(host.path("closed"), b"secret", mode="0640"),
        Row(host.path("gone"), None),
    ]
    host.deliver(rows)
    (host.etc / "key.pem").chmod(0o644)
    asked = manifest(rows) + b"".join(b"show %d\n" % number for number in (1, 2, 3, 4, 5, 0)) + b"end\n"
    for folder in (host.root, *list(host.root.parents)[:-2]):
        if not folder.stat().st_mode & 1 and folder.owner() == host.root.owner():
            folder.chmod(folder.stat().st_mode | 0o111)
    done = subprocess.run([host.program], input=asked, capture_output=True, check=True).stdout
    sizes = [int(found) for found in re.findall(rb'\{"bytes":(\d+)\}', done)]
    assert sizes == [0, len(certificate), 0, 0, 0, 0]
    assert key not in done
    host.etc.chmod(0o700)
    done = subprocess.run([host.program], input=asked, capture_output=True, check=True).stdout
    assert certificate not in done


@pytest.mark.parametrize(("mode", "is_taken"), [(0o755, True), (0o777, False), (0o775, False), (0o1777, True)])
def test_a_folder_that_others_may_write_to_is_refused_unless_it_is_trusted(
    host: FolderHost, mode: int, is_taken: bool
) -> None:
    (host.etc / "open").mkdir()
    (host.etc / "open").chmod(mode)
    distrusted = "".join(line for line in host.conf.open() if not line.startswith("trust ") or os.getuid())
    host.conf.write_text(distrusted)
    if mode == 0o775:
        os.chown(host.etc / "open", -1, 100 if os.getuid() == 0 else os.getgid())
        host.conf.write_text(distrusted.replace(f"trust {host.etc.group()}\n", ""))
    answers = host.speak(whole([row(host, "open/x")]))
    assert (answers[-1] == {"state": "kept"}) == is_taken
    folder, looked = str(host.etc / "open"), [one for one in answers if "writable" in one]
    assert [(one["writable"], one["sort"]) for one in looked if one["writable"] == folder] == (
        [] if is_taken else [(folder, "everybody" if mode == 0o777 else "group")]
    ), "a look tells of it, before anything is placed"
    if not is_taken:
        assert "can be written by users other than root" in answers[-1]["why"]


def test_a_look_names_each_folder_and_link_that_others_can_change(host: FolderHost) -> None:
    """Whatever differs, and however the name of the folder is to be written: what a look finds is one answer each."""
    for name, mode in (("a", 0o777), ("b", 0o755), ("c", 0o777)):
        (host.etc / name).mkdir()
        (host.etc / name).chmod(mode)
    (host.etc / "a" / "way").symlink_to(host.etc / "b")
    rows = [row(host, name) for name in ("a/x", "b/x", "c/x")]
    found = host.speak(manifest(rows) + b"end\n")
    folders = [one["writable"] for one in found if "writable" in one]
    assert folders == [str(host.etc / "a"), str(host.etc / "c")]
    linked = [one for one in host.speak(manifest([row(host, "a/way/x")]) + b"end\n") if "writable" in one]
    assert {(one["writable"], one["sort"]) for one in linked} == {
        (str(host.etc / "a" / "way"), "link"),
        (str(host.etc / "a"), "everybody"),
    }
    assert all(host_output.validated(one) for one in (*found, *linked)), "each answer has a shape that is permitted"


# -- as a whole -------------------------------------------------------------------------------------------------------


def test_a_release_that_is_there_is_not_touched(host: FolderHost) -> None:
    rows = release(host, "old")
    host.deliver(rows)
    before, commands = host.touched(), ran(host)
    assert commands == 1
    answers = host.speak(manifest(rows) + b"end\n")
    assert {answer["is"] for answer in answers if "is" in answer} == {"same"}
    needed = placing(rows).replace(b"place 20 ", b"place 20 needed ")
    assert b"needed" in needed
    assert host.speak(manifest(rows) + needed + b"keep\nend\n")[-1] == {"state": "same"}
    assert (host.touched(), ran(host)) == (before, commands)


def test_each_command_is_run_once_after_all_files_are_there(host: FolderHost) -> None:
    rows = [row(host, name, reload="note", check="ok") for name in ("a", "b", "c")]
    answers = host.speak(whole(rows))
    assert [answer["ran"] for answer in answers if "ran" in answer] == ["ok", "note"]
    assert ran(host) == 1


def test_drift_is_named_and_repaired(host: FolderHost) -> None:
    rows = release(host, "old")
    host.deliver(rows)
    before = host.holds()
    Path(host.path("tls.pem")).write_text("edited")
    Path(host.path("crt/cert.pem")).unlink()
    Path(host.path("conf.d/site.conf")).chmod(0o777)
    Path(host.path("conf.d/more.conf")).unlink()
    Path(host.path("conf.d/more.conf")).symlink_to("/etc/passwd")
    answers = host.speak(whole(rows))
    found = [answer["is"] for answer in answers if "is" in answer]
    assert found == ["edited", "set", "absent", "mode", "link", "same"]
    assert contents(host) == wanted(host, rows)
    folder = os.readlink(host.path("crt"))
    assert host.holds().keys() - before.keys() == {folder, f"{folder}/key.pem", f"{folder}/cert.pem"}
    assert host.litter() == []


def test_accounts_with_capitals_and_dots_are_looked_up_like_any_other(host: FolderHost) -> None:
    for owner in ("Debian-exim:Debian-exim", "root:First.Last", "nosuch:Nobody_here"):
        [*_, answer] = host.speak(whole([row(host, owner=owner)]))
        assert answer["why"] == f"{host.path('good.pem')} could not be given the owner {owner}"


LINKS = {
    "a file": "../real/site.conf",
    "nothing": "/nowhere/at all",
    "a file beside it": "more.conf",
    "quotes and controls": 'x"y\\z\t\n\x1b[31m',
}


@pytest.mark.parametrize("to", LINKS.values(), ids=LINKS)
def test_a_target_that_is_a_link_is_named_before_it_becomes_a_file(host: FolderHost, to: str) -> None:
    rows = [row(host, "conf.d/site.conf", b"new\n"), row(host, "conf.d/more.conf", b"more\n")]
    host.deliver(rows)
    target, real = Path(host.path("conf.d/site.conf")), Path(host.path("real/site.conf"))
    real.parent.mkdir()
    real.write_text("old\n")
    target.unlink()
    target.symlink_to(to)
    looked = [
        answer
        for answer in map(host_output.validated, host.speak(manifest(rows) + b"end\n"))
        if answer and "is" in answer
    ]
    assert [answer["is"] for answer in looked] == ["link", "same"]
    assert looked[0]["to"].replace("\\n", "\n") == to.replace("\t", " ").replace("\x1b", "").rstrip("\n")
    host.deliver(rows)
    assert (target.read_text(), target.is_symlink(), real.read_text()) == ("new\n", False, "old\n")
    assert {one["is"] for one in host.speak(manifest(rows) + b"end\n") if "is" in one} == {"same"}


def test_a_link_to_a_folder_is_refused_and_a_link_that_is_to_go_goes(host: FolderHost) -> None:
    Path(host.path("folder")).mkdir()
    Path(host.path("link")).symlink_to("folder")
    [*_, answer] = host.speak(whole([row(host, "link")]))
    assert answer["why"] == f"{host.path('link')} is a folder on the host"
    Path(host.path("old")).symlink_to(host.etc / "folder" / "kept")
    (host.etc / "folder" / "kept").write_text("kept\n")
    host.deliver([row(host, "old", None)])
    assert host.holds().keys() == {"folder", "folder/kept", "link"}


@pytest.mark.parametrize("name", ["fails", "hangs"])
@pytest.mark.parametrize("part", ["check", "reload"])
def test_a_command_that_fails_or_hangs_brings_everything_back(host: FolderHost, name: str, part: str) -> None:
    if name == "hangs":
        host.adapt("command_limit=60", "command_limit=2")
        host.adapt("timeout -k 5", "timeout -k 1")
    old = release(host, "old")
    host.deliver(old)
    before = host.holds()
    new = [*release(host, "new"), row(host, "last", **{part: name})]
    answers = host.speak(whole(new))
    (failed,) = [answer for answer in answers if answer.get("ran") == name][:1]
    assert failed["status"] == 3 if name == "fails" else failed["status"] >= 124
    assert failed["said"] == ("it is broken" if name == "fails" else "waiting")
    assert answers[-1] == {"state": "undone"}
    assert (host.holds(), host.litter()) == (before, [])
    assert contents(host) == wanted(host, old)


def test_services_are_told_that_the_old_files_are_back_each_of_them(host: FolderHost) -> None:
    host.deliver([row(host, "a", reload="note"), row(host, "b")])
    assert ran(host) == 1
    host.speak(whole([row(host, "a", b"new", reload="note"), row(host, "b", b"new", reload="fails")]))
    assert ran(host) == 3


def test_crls_stay_whatever_services_say_and_the_others_are_told(host: FolderHost) -> None:
    crls = [
        row(host, "a.crl", b"1", check="fails", reload="ok"),
        row(host, "b.crl", b"1", check="ok", reload="note"),
    ]
    answers = host.speak(manifest(crls) + placing(crls, "settle") + b"undo\nback\nend\n")
    assert [answer["ran"] for answer in answers if "ran" in answer] == ["fails", "ok", "note"]
    assert {"state": "kept"} in answers
    assert answers[-1] == {"error": "there is no change to undo"}
    assert host.holds().keys() == {"a.crl", "b.crl"}
    assert host.litter() == []


def test_undo_puts_back_everything_but_crls(host: FolderHost) -> None:
    old, new = release(host, "old"), release(host, "new")
    host.deliver(old)
    before = host.holds()
    crl = row(host, "client.crl", b"2")
    host.speak(manifest([crl]) + placing([crl], "settle") + b"end\n")
    answers = host.speak(manifest(new) + placing(new) + b"undo\nend\n")
    assert answers[-1] == {"state": "undone"}
    host.deliver(new)
    assert host.speak(b"", "undo")[-1] == {"state": "undone"}
    assert host.holds() == {**before, "client.crl": host.holds()["client.crl"]}
    assert contents(host) == wanted(host, old)
    assert host.speak(b"", "undo") == [{"error": "there is no change to undo"}]


def test_a_contact_can_put_back_what_the_one_before_kept(host: FolderHost) -> None:
    old, new = release(host, "old"), release(host, "new")
    host.deliver(old)
    host.deliver(new)
    assert host.speak(manifest(new) + b"back\nend\n")[-1] == {"state": "undone"}
    assert contents(host) == wanted(host, old)


def told(host: FolderHost, rows: Sequence[Row]) -> dict[str, str]:
    """What a host says that it has from doit-pki beyond a manifest: path → mode, owner, set and reload."""
    answers = host.speak(manifest(rows) + b"end\n")
    assert answers.count({"looked": True}) == 1
    more = [one for answer in answers if "more" in answer for one in str(answer["more"]).split()]
    return {one.rpartition("|")[2]: one.rpartition("|")[0] for one in more}


def test_a_host_says_which_files_it_had_from_us_and_is_not_asked_for(host: FolderHost) -> None:
    rows = release(host, "old")
    host.deliver(rows)
    (host.etc / "mine.conf").write_text("of the admin\n")
    assert told(host, rows) == {}
    assert told(host, rows[3:4]) == {
        host.path("tls.pem"): f"0600|{ME}|-|note",
        host.path("crt/key.pem"): f"0600|{ME}|{host.path('crt')}|-",
        host.path("crt/cert.pem"): f"0644|{ME}|{host.path('crt')}|-",
        host.path("conf.d/more.conf"): f"0644|{ME}|-|-",
    }


def test_a_host_forgets_a_file_that_was_taken_away_until_it_is_put_back(host: FolderHost) -> None:
    host.deliver(release(host, "old"))
    host.deliver(release(host, "new"))
    (host.etc / "conf.d/more.conf").write_text("of the admin\n")
    site = release(host, "new")[3:4]
    assert host.path("conf.d/more.conf") not in told(host, site)
    (host.etc / "conf.d/more.conf").unlink()
    host.speak(manifest(site) + b"back\nend\n")
    assert host.path("conf.d/more.conf") in told(host, site)
    assert host.path("conf.d/added.conf") not in told(host, site)


def test_a_change_that_is_undone_leaves_no_file_on_the_list(host: FolderHost) -> None:
    rows = release(host, "old")
    host.speak(manifest(rows) + placing(rows) + b"undo\nend\n")
    (host.etc / "tls.pem").write_text("of the admin\n")
    assert told(host, rows[3:4]) == {}


def test_a_set_is_switched_in_one_rename_and_its_last_folder_is_kept_for_going_back(host: FolderHost) -> None:
    for number in range(4):
        host.deliver(release(host, str(number)))
        folders = [path for path in host.etc.glob("crt.*") if path.is_dir()]
        assert len(folders) == min(number + 1, 2)
    gone = [Row(one.path, None, set=one.set) for one in release(host, "x")]
    host.deliver(gone)
    assert not (host.etc / "crt").is_symlink()
    assert host.speak(b"", "undo")[-1] == {"state": "undone"}
    assert len(contents(host)) == 5


def test_a_link_that_somebody_else_made_is_never_followed_to_remove_what_it_names(host: FolderHost) -> None:
    (host.root / "theirs").mkdir()
    (host.etc / "theirs here").mkdir()
    for target in ("../theirs", "theirs here"):
        (host.etc / "crt").unlink(missing_ok=True)
        (host.etc / "crt").symlink_to(target)
        for name in ("old", "new", "newer"):
            host.deliver(release(host, name))
    assert (host.root / "theirs").is_dir()
    assert (host.etc / "theirs here").is_dir()


# -- interrupted ------------------------------------------------------------------------------------------------------


def test_a_connection_lost_at_any_byte_leaves_the_old_or_the_new_and_no_litter(host: FolderHost) -> None:
    """Every byte of a small stream, which takes a file away."""
    path = Path(host.path("x"))
    old, new = [Row(str(path), b"old")], [Row(str(path), None)]
    host.deliver(old)
    words = manifest(new) + b"place 0 1\nkeep\n"
    is_placed = range(len(words) - len("keep\n"), len(words) - 1)
    for length in range(len(words) - 1):
        before = host.touched()
        states = [answer["state"] for answer in host.speak(words[:length]) if "state" in answer]
        assert states == (["placed", "undone"] if length in is_placed else []), length
        assert length in is_placed or host.touched() == before
        assert (path.read_bytes(), host.litter()) == (b"old", [])
    assert host.speak(words)[-1] == {"state": "kept"}
    assert not path.exists()


class Dialogue:
    """A contact that is spoken with step by step."""

    def __init__(self, host: FolderHost) -> None:
        self.process = subprocess.Popen(
            [host.program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def say(self, words: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(words)
        self.process.stdin.flush()

    def until(self, key: str) -> dict[str, Any]:
        assert self.process.stdout
        for line in self.process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if key in answer:
                return answer
        raise AssertionError(f"it ended before it said {key}")

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(300)
        self.process.stdout.close()


@pytest.fixture
def placed(host: FolderHost) -> Iterator[tuple[FolderHost, Dialogue]]:
    """A contact that has placed a release and waits for a word."""
    host.deliver(release(host, "old"))
    new = release(host, "new")
    dialogue = Dialogue(host)
    dialogue.say(manifest(new) + placing(new))
    assert dialogue.until("state") == {"state": "placed"}
    yield host, dialogue
    dialogue.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_contact_that_is_ended_while_it_waits_undoes_its_change(
    placed: tuple[FolderHost, Dialogue], number: int
) -> None:
    host, dialogue = placed
    os.kill(dialogue.process.pid, number)
    assert dialogue.until("state") == {"state": "undone"}
    assert "conf.d/more.conf" in contents(host)
    assert host.litter() == []


def test_a_contact_that_says_no_more_is_ended_and_undone(host: FolderHost) -> None:
    host.adapt("session_limit=900", "session_limit=5")
    rows = [row(host)]
    dialogue = Dialogue(host)
    dialogue.say(manifest(rows) + placing(rows))
    assert [dialogue.until("state")["state"] for _ in range(2)] == ["placed", "undone"]
    assert host.holds() == {}
    dialogue.close()


def test_nobody_listens_any_more_and_it_is_undone_all_the_same(placed: tuple[FolderHost, Dialogue]) -> None:
    host, dialogue = placed
    assert dialogue.process.stdout
    dialogue.process.stdout.close()
    dialogue.say(b"undo\n")
    dialogue.close()
    assert "conf.d/more.conf" in contents(host)
    assert host.litter() == []


def test_only_one_contact_at_a_time(placed: tuple[FolderHost, Dialogue]) -> None:
    host, dialogue = placed
    host.adapt("flock -w 30 9", "flock -w 0 9") if "busybox" not in host.program.read_text() else None
    for arguments in ((), ("recover",), ("undo",)):
        assert host.speak(b"", *arguments) == [{"error": "another pki-apply is running"}]
    dialogue.say(b"keep\nend\n")
    assert dialogue.until("state") == {"state": "kept"}


def test_a_change_is_undone_at_boot_with_services_down(placed: tuple[FolderHost, Dialogue]) -> None:
    host, dialogue = placed
    kill_session(dialogue.process)
    host.conf.write_text(host.conf.read_text().replace("run note echo", "run note exit 5; echo"))
    assert "conf.d/more.conf" not in contents(host)
    answers = host.speak(b"", "recover")
    assert [answer["status"] for answer in answers[:-1]] == [5]
    assert answers[-1] == {"state": "undone"}
    assert "conf.d/more.conf" in contents(host)
    assert host.litter() == []
    assert host.speak(b"", "recover") == []


def test_crls_that_were_about_to_be_placed_when_it_was_killed_are_placed_at_boot_and_loaded(host: FolderHost) -> None:
    """A revocation that arrived whole is never lost: from the moment at which it is recorded it is only ended."""
    host.deliver([row(host, "x.crl", b"old")])
    settled = 'if [ "$verb" = settle ]; then settle'
    host.adapt(settled, 'if [ "$verb" = settle ]; then kill -9 $$; settle')
    crl = row(host, "x.crl", b"new", reload="note")
    host.speak(manifest([crl]) + placing([crl], "settle") + b"end\n")
    host.adapt("kill -9 $$; settle", "settle")
    assert (Path(host.path("x.crl")).read_bytes(), ran(host)) == (b"old", 0)
    answers = host.speak(b"", "recover")
    assert [answer["ran"] for answer in answers[:-1]] == ["note"]
    assert answers[-1] == {"state": "kept"}
    assert (Path(host.path("x.crl")).read_bytes(), ran(host), host.litter()) == (b"new", 1, [])


def test_a_release_that_was_kept_when_it_was_killed_stays(host: FolderHost) -> None:
    host.deliver([row(host, content=b"old")])
    host.adapt('finish "$1"; send', 'kill -9 $$; finish "$1"; send')
    host.speak(whole([row(host, content=b"new")]))
    host.adapt("kill -9 $$; finish", "finish")
    assert host.speak(b"", "recover") == []
    assert (Path(host.path("good.pem")).read_bytes(), host.litter()) == (b"new", [])
    assert host.speak(b"", "undo")[-1] == {"state": "undone"}
    assert Path(host.path("good.pem")).read_bytes() == b"old"


# -- what cannot be replaced ------------------------------------------------------------------------------------------


def blocked(host: FolderHost, name: str) -> None:
    """Let the script see a mount point that is none; the integration tests have real ones."""
    (host.root / "mountinfo").write_text(f"1 2 0:1 / / rw - x x rw\n3 1 0:1 /x {host.path(name)} rw - x x rw\n")
    if str(host.root / "mountinfo") not in host.program.read_text():
        host.adapt("/proc/self/mountinfo 2>/dev/null", f"{host.root}/mountinfo")


def test_a_release_with_a_target_that_cannot_be_replaced_is_refused_as_a_whole(host: FolderHost) -> None:
    rows = [row(host, "a", b"old", reload="note"), row(host, "b", b"old")]
    host.deliver(rows)
    before = host.holds()
    blocked(host, "b")
    refused = host.speak(whole([row(host, "a", b"new", reload="note"), row(host, "b", b"new")]))[-1]
    assert refused == {
        "state": "refused",
        "why": f"{host.path('b')} is a mount point",
        "said": f"on media: umount {host.path('b')}",
    }
    assert (host.holds(), host.litter(), ran(host)) == (before, [], 1)


def test_the_crls_of_the_same_host_are_placed_and_loaded(host: FolderHost) -> None:
    blocked(host, "b.crl")
    crls = [row(host, name, b"1", reload="note") for name in ("a.crl", "b.crl", "c.crl")]
    answers = host.speak(manifest(crls) + placing(crls, "settle") + b"end\n")
    assert {
        "stuck": host.path("b.crl"),
        "why": "is a mount point",
        "said": f"on media: umount {host.path('b.crl')}",
    } in answers
    assert answers[-1] == {"state": "kept"}
    assert host.holds().keys() == {"a.crl", "c.crl"}
    assert ran(host) == 1
    assert host.litter() == []


def test_an_undo_that_is_stuck_waits_and_holds_back_no_crl(host: FolderHost) -> None:
    host.deliver([row(host, "a", b"old"), row(host, "b", b"old")])
    host.adapt('else mv -fT "$old"', f'else [ "$path" != {host.path("b")} ] && mv -fT "$old"')
    blocked(host, "c")
    new = [row(host, "a", b"new"), row(host, "b", b"new", reload="fails")]
    told = {"stuck": host.path("b"), "why": "could not be restored", "said": f"on media: ls -ld {host.path('b')}"}
    assert host.speak(whole(new))[-2:] == [told, {"state": "stuck"}]
    assert [Path(host.path(name)).read_bytes() for name in "ab"] == [b"old", b"new"]
    every = [row(host, "x.crl", b"1", reload="note"), *new]
    answers = host.speak(manifest(every) + placing(every, "settle", [1]) + placing(every, numbers=[2, 3]))
    [greeting] = [one for one in answers if "pki-apply" in one]
    assert greeting == {"pki-apply": 1, "date": greeting["date"]}
    assert answers.index(told) < answers.index(greeting)
    assert [one["state"] for one in answers if "state" in one] == ["stuck", "kept", "stuck"]
    assert Path(host.path("x.crl")).read_bytes() == b"1"
    host.adapt(f'else [ "$path" != {host.path("b")} ] && mv', "else mv")
    assert {"state": "undone"} in host.speak(manifest(new) + b"end\n")
    assert [Path(host.path(name)).read_bytes() for name in "ab"] == [b"old", b"old"]
    assert host.litter() == []


@pytest.mark.parametrize("odd", [b"\0", b"\x1b[2J", b"\r", b"\x7f"])
def test_permissions_with_control_characters_permit_nothing(host: FolderHost, odd: bytes) -> None:
    with host.conf.open("ab") as conf:
        conf.write(b"run odd true" + odd + b"\n")
    row = Row(host.path("x"), b"x")
    [answer] = host.speak(manifest([row]) + b"end\n")
    assert answer["error"].endswith("pki-apply.conf contains control characters: bootstrap this host again")
    assert not Path(host.path("x")).exists()


def test_permissions_may_hold_letters_of_any_language(host: FolderHost) -> None:
    host.permit("run any true B\u00fccher")
    assert {"looked": True} in host.speak(manifest([Row(host.path("x"), b"x")]) + b"end\n")
