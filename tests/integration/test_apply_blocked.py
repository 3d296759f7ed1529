"""Targets that no rename can replace, made with real mounts and attributes: refused beforehand, and CRLs never wait for them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import FolderHost, Row, Shell, busybox, manifest, placing, whole

COMMANDS = {"ok": "true", "fails": "exit 3"}


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    if request.param == "busybox":
        made = busybox(tmp_path / "applets")
        (tmp_path / "applets/lsattr").symlink_to("/usr/bin/lsattr")  # which few builds of it have
        return made
    return Shell(request.param, f"/usr/bin/{request.param}")


@pytest.fixture
def host(tmp_path: Path, shell: Shell) -> Iterator[FolderHost]:
    made = FolderHost.new(tmp_path / "host", shell, COMMANDS)
    made.permit(f"run note echo ran >>{made.root}/ran")
    made.deliver([Row(made.path(name), b"old") for name in ("a", "d/b", "z")])
    yield made
    while mounts := [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(tmp_path) in line
    ]:
        subprocess.run(["umount", mounts[-1]], check=True)
    subprocess.run(["chattr", "-R", "-ia", str(made.root)], check=False, capture_output=True)


def typed(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def mounted(host: FolderHost, name: str = "d/b") -> None:
    (host.root / "source").write_text("mounted")
    typed("mount", "--bind", str(host.root / "source"), host.path(name))


def read_only(host: FolderHost) -> None:
    typed("mount", "--bind", host.path("d"), host.path("d"))
    typed("mount", "-o", "remount,bind,ro", host.path("d"))


def folder(host: FolderHost) -> None:
    Path(host.path("d/b")).unlink()
    Path(host.path("d/b/inner")).mkdir(parents=True)


@dataclass(frozen=True)
class Block:
    """Something in the way of `d/b`: what is said of it, and the command that is named."""

    put: Callable[[FolderHost], None]
    why: str
    command: str


BLOCKS = {
    "a mount point": Block(mounted, "{0} is a mount point", "umount {0}"),
    "an immutable file": Block(lambda h: typed("chattr", "+i", h.path("d/b")), "{0} is immutable", "chattr -i {0}"),
    "a file to append to": Block(lambda h: typed("chattr", "+a", h.path("d/b")), "{0} is append-only", "chattr -a {0}"),
    "an immutable folder": Block(
        lambda h: typed("chattr", "+i", h.path("d")), "{0} is in a folder that is immutable", "chattr -i {1}"
    ),
    "a folder to append to": Block(
        lambda h: typed("chattr", "+a", h.path("d")), "{0} is in a folder that is append-only", "chattr -a {1}"
    ),
    "a read-only file system": Block(read_only, "{0} is on a read-only file system", "mount -o remount,rw {1}"),
    "a folder": Block(folder, "{0} is a folder on the host", "mv {0} {0}.old"),
}


def paths(host: FolderHost) -> tuple[str, str]:
    return host.path("d/b"), host.path("d")


def rows(host: FolderHost, content: bytes | None = b"new") -> list[Row]:
    """A release in whose middle the file is."""
    return [Row(host.path("a"), b"new", reload="note"), Row(host.path("d/b"), content), Row(host.path("z"), b"new")]


def reloads(host: FolderHost) -> int:
    log = host.root / "ran"
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize("content", [b"new", None], ids=["replaced", "taken away"])
@pytest.mark.parametrize("kind", BLOCKS)
def test_a_release_is_refused_before_any_file_is_swapped_and_the_command_that_is_named_helps(
    host: FolderHost, kind: str, content: bytes | None
) -> None:
    block = BLOCKS[kind]
    block.put(host)
    before = host.holds()
    answers = host.speak(whole(rows(host, content)))
    assert answers[-1]["state"] == "refused", answers
    assert answers[-1]["why"] == block.why.format(*paths(host))
    assert answers[-1]["said"] == f"on media: {block.command.format(*paths(host))}"
    assert (host.holds(), host.litter(), reloads(host)) == (before, [], 0)
    typed("sh", "-c", answers[-1]["said"].removeprefix("on media: "))
    host.deliver(rows(host, content))
    assert Path(host.path("a")).read_bytes() == b"new"
    assert (Path(host.path("d/b")).read_bytes() if content else None) == content


@pytest.mark.parametrize("kind", BLOCKS)
def test_crls_are_placed_and_loaded_all_but_the_one_that_cannot_be(host: FolderHost, kind: str) -> None:
    block = BLOCKS[kind]
    block.put(host)
    crls = rows(host)
    answers = host.speak(manifest(crls) + placing(crls, "settle") + b"end\n")
    [told] = [answer for answer in answers if "stuck" in answer]
    assert f"{told['stuck']} {told['why']}" == block.why.format(*paths(host))
    assert told["said"] == f"on media: {block.command.format(*paths(host))}"
    assert answers[-1] == {"state": "kept"}
    assert [Path(host.path(name)).read_bytes() for name in "az"] == [b"new", b"new"]
    assert reloads(host) == 1
    assert host.litter() == []
    typed("sh", "-c", told["said"].removeprefix("on media: "))
    assert host.speak(manifest(crls) + placing(crls, "settle", [2]) + b"end\n")[-1] == {"state": "kept"}
    assert Path(host.path("d/b")).read_bytes() == b"new"


def test_every_target_that_is_in_the_way_is_named_at_once(host: FolderHost) -> None:
    mounted(host)
    typed("chattr", "+i", host.path("a"))
    refused = host.speak(whole(rows(host)))[-1]
    assert refused["why"] == f"{host.path('a')} is immutable; {host.path('d/b')} is a mount point"
    assert refused["said"] == f"on media: chattr -i {host.path('a')}\non media: umount {host.path('d/b')}"


def test_a_set_in_a_folder_that_is_immutable_is_refused(host: FolderHost) -> None:
    pair = [Row(host.path(f"d/crt/{name}"), b"1", set=host.path("d/crt")) for name in ("key", "cert")]
    host.deliver(pair)
    typed("chattr", "+i", host.path("d"))
    refused = host.speak(whole([Row(row.path, b"2", set=row.set) for row in pair]))[-1]
    assert refused["why"] == f"{host.path('d/crt')} is in a folder that is immutable"
    assert Path(host.path("d/crt/key")).read_bytes() == b"1"


def test_a_new_folder_in_one_that_is_immutable_is_refused(host: FolderHost) -> None:
    typed("chattr", "+i", host.path("d"))
    refused = host.speak(whole([Row(host.path("d/more/x"), b"x")]))[-1]
    assert refused["said"] == f"on media: chattr -i {host.path('d')}"


def test_a_mount_point_behind_a_link_to_a_folder_with_odd_characters_is_seen(host: FolderHost) -> None:
    odd = host.etc / "a b\\c\td"
    odd.mkdir()
    (odd / "x").write_text("old")
    (host.etc / "plain").symlink_to(odd.name)
    (host.root / "source").write_text("mounted")
    typed("mount", "--bind", str(host.root / "source"), str(odd / "x"))
    refused = host.speak(whole([Row(host.path("plain/x"), b"new")]))[-1]
    assert refused["why"] == f"{host.path('plain/x')} is a mount point"
    typed("umount", host.path("plain/x"))


@pytest.mark.parametrize("kind", ["a mount point", "an immutable file", "a file to append to"])
def test_it_is_seen_without_lsattr_and_without_proc_too(host: FolderHost, kind: str) -> None:
    host.adapt("lsattr -d", "no-lsattr-here -d")
    host.adapt("/proc/self/mountinfo", "/no/proc")
    BLOCKS[kind].put(host)
    before = host.holds()
    refused = host.speak(whole(rows(host)))[-1]
    assert refused["why"] == f"{host.path('d/b')} cannot be replaced"
    assert (host.holds(), host.litter()) == (before, [])


# -- an undo that is stuck --------------------------------------------------------------------------------------------


def stuck(host: FolderHost, content: bytes | None = b"new") -> list[dict[str, Any]]:
    """A change is placed, then somebody mounts something over one of its files, and it is to be undone."""
    (host.root / "source").write_text("mounted")
    target, marker = host.path("d/b"), host.root / "mounted"
    (host.root / "mounts").write_text(
        f"[ -e {marker} ] || {{ touch {target} {marker} && mount --bind {host.root}/source {target}; }}; exit 4\n"
    )
    host.permit(f"run mounts sh {host.root}/mounts")
    return host.speak(whole([*rows(host, content)[:-1], Row(host.path("z"), b"new", reload="mounts")]))


def test_an_undo_that_is_stuck_puts_back_the_others_and_names_the_file_and_the_command(host: FolderHost) -> None:
    answers = stuck(host)
    told = {"stuck": host.path("d/b"), "why": "is a mount point", "said": f"on media: umount {host.path('d/b')}"}
    assert answers[-2:] == [told, {"state": "stuck"}]
    assert [Path(host.path(name)).read_bytes() for name in "az"] == [b"old", b"old"]
    assert host.speak(b"", "recover")[-2:] == [told, {"state": "stuck"}]
    assert host.speak(b"", "undo")[-1] == {"error": "an earlier change is not undone yet"}


def test_a_stuck_undo_holds_back_the_next_release_and_no_crl(host: FolderHost) -> None:
    told = stuck(host)[-2]
    crl = Row(host.path("client.crl"), b"2", reload="note")
    before = reloads(host)
    every = [crl, *rows(host)]
    answers = host.speak(manifest(every) + placing(every, "settle", [1]) + placing(every, numbers=[2, 3, 4]))
    greeted = next(number for number, one in enumerate(answers) if "pki-apply" in one)
    assert told in answers[:greeted]
    assert [answer["state"] for answer in answers[greeted:] if "state" in answer] == ["kept", "stuck"]
    assert Path(crl.path).read_bytes() == b"2"
    assert reloads(host) == before + 1
    assert [Path(host.path(name)).read_bytes() for name in "az"] == [b"old", b"old"]
    typed("sh", "-c", told["said"].removeprefix("on media: "))
    host.deliver(rows(host))
    assert Path(host.path("d/b")).read_bytes() == b"new"
    assert host.litter() == []
    assert not (host.state / "stuck").exists()


def test_a_crl_placed_meanwhile_is_not_taken_back_by_the_undo_that_was_stuck(host: FolderHost) -> None:
    """The release took the CRL's file away; its undo, late, would put back the old one."""
    stuck(host, None)
    assert (host.state / "stuck").is_dir()
    typed("umount", host.path("d/b"))
    crl = [Row(host.path("d/b"), b"newer")]
    host.adapt("    retry_stuck\n    send", "    send")  # as if it had been mounted until after the greeting
    assert host.speak(manifest(crl) + placing(crl, "settle") + b"end\n")[-1] == {"state": "kept"}
    host.adapt("    recover\n    send", "    recover\n    retry_stuck\n    send")
    host.speak(manifest(crl) + b"end\n")
    assert Path(host.path("d/b")).read_bytes() == b"newer"
    assert not (host.state / "stuck").exists()


def test_a_file_that_was_never_replaced_needs_no_undo(host: FolderHost) -> None:
    """Something is mounted after the files were staged: the rename fails, and what is below it is as it was."""
    (host.root / "source").write_text("mounted")
    host.adapt('    swap 2>>"$txn/log"', f'    mount --bind {host.root}/source {host.path("d/b")}; swap 2>>"$txn/log"')
    answers = host.speak(whole(rows(host)))
    assert answers[-1] == {"state": "undone"}
    typed("umount", host.path("d/b"))
    assert [Path(host.path(name)).read_bytes() for name in ("a", "d/b", "z")] == [b"old"] * 3
    assert host.litter() == []
