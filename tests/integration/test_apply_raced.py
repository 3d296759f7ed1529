"""An account that may write in a folder, because pki-apply.conf trusts it, exchanges names there while pki-apply works.

It decides what is in its own folder, and nothing else: files of root's keep owner, mode, content and even their times.
PKI_SAMPLES says how many deliveries are raced with each shell (a thousand take a quarter of an hour).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration import attacker
from tests.support.hosts import FolderHost, Row, Shell, busybox, manifest, placing, whole

SAMPLES = int(os.environ.get("PKI_SAMPLES", "12"))
SEED = 20261129
NOBODY = 65534
ACCOUNT = "nobody:nogroup"
SECRET = b"root:$y$secret:20000::::::\n"
SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
ATTACK = Path(attacker.__file__)


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every account may enter."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest, base: Path) -> Shell:
    return (
        busybox(base / "applets") if request.param == "busybox" else Shell(request.param, f"/usr/bin/{request.param}")
    )


@dataclass(frozen=True)
class CheckContext:
    """A host with a folder of nobody's, and what is root's beside it."""

    host: FolderHost
    victims: Path

    @classmethod
    def new(cls, base: Path, shell: Shell | None) -> CheckContext:
        context = cls(FolderHost.new(base / "host", shell, {"ok": "true", "fails": "exit 3"}), base / "victims")
        context.host.permit("trust nobody", "trust nogroup")
        shutil.copy(ATTACK, base / "attacker.py")
        (base / "attacker.py").chmod(0o644)
        (context.victims / "folder").mkdir(parents=True)
        for folder in (context.victims, context.victims / "folder"):
            folder.chmod(0o755)
        names = ("a.conf", "b.conf", "more.conf", "x.crl", "key", "cert", "new.1", "new.2", "old.1", "old.2", "to.new")
        hidden = [f".{name}.{end}" for name in names for end in ("pki-new", "pki-old", "pki-old.pki-new")]
        for name in ("shadow", *(f"folder/{name}" for name in (*names, *hidden))):
            (context.victims / name).write_bytes(SECRET)
            (context.victims / name).chmod(0o600)
        context.folder.mkdir()
        os.chown(context.folder, NOBODY, NOBODY)
        context.host.deliver(context.release(b"old"))
        os.chown(context.folder / "sub", NOBODY, NOBODY)
        (context.folder / ".evil").mkdir()
        os.chown(context.folder / ".evil", NOBODY, NOBODY)
        for number in range(100):
            os.link(context.victims / "shadow", context.folder / f".evil/shadow-{number}")
        return context

    @property
    def folder(self) -> Path:
        return self.host.etc / "open"

    def row(self, name: str, content: bytes | None, **columns: str) -> Row:
        return Row(f"{self.folder}/{name}", content, **{"owner": ACCOUNT, **columns})

    def release(self, content: bytes) -> list[Row]:
        """Files for nobody and for root, one that comes and goes, and a set."""
        crt = f"{self.folder}/crt"
        return [
            self.row("a.conf", content, mode="0666"),
            self.row("sub/b.conf", content, mode="0666"),
            self.row("sub/more.conf", None if content == b"new" else b"more"),
            self.row("key.pem", content, mode="0600", owner="root:root"),
            self.row("crt/key", content, set=crt),
            self.row("crt/cert", content, set=crt),
        ]

    def streams(self, content: bytes) -> list[tuple[bytes, tuple[str, ...]]]:
        """A delivery that is kept and put back later, one that is undone, one of CRLs, one that takes all away."""
        rows, crl = self.release(content), [self.row("sub/x.crl", content, mode="0666")]
        failing = [*rows[:-1], self.row("crt/cert", content, set=rows[-1].set, reload="fails")]
        gone = [Row(row.path, None, set=row.set, owner=row.owner) for row in rows]
        return [
            (whole(rows), ()),
            (manifest(rows) + b"back\nend\n", ()),
            (whole(failing), ()),
            (manifest(crl) + placing(crl, "settle") + b"end\n", ()),
            (whole(gone), ()),
            (b"", ("undo",)),
        ]

    def speak(self, words: bytes, arguments: Sequence[str] = (), program: Path | None = None) -> bytes:
        done = subprocess.run(
            [program or self.host.program, *arguments], input=words, capture_output=True, timeout=300, check=False
        )
        return done.stdout

    def of_root(self) -> dict[str, tuple[object, ...]]:
        """All that is root's outside of the folder: names, owners, modes, links, times and content."""
        found = {}
        for path in (self.victims, *sorted(self.victims.rglob("*"))):
            seen = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            what: tuple[object, ...] = (seen.st_uid, seen.st_gid, oct(seen.st_mode), seen.st_mtime_ns, content)
            if path.name != "shadow":  # which has other names too
                what = (*what, seen.st_nlink, seen.st_ctime_ns)
            found[str(path.relative_to(self.victims))] = what
        return found

    def exposed(self) -> list[str]:
        """Files in the folder by which nobody could come to what is root's."""
        found = []
        for where, _, names in os.walk(self.folder):
            for path in (Path(where, name) for name in names):
                with suppress(OSError):
                    seen = path.lstat()
                    is_closed = seen.st_uid == 0 and not seen.st_mode & 0o077
                    if path.is_symlink() or not path.is_file() or is_closed:
                        continue
                    if SECRET in path.read_bytes():
                        found.append(str(path))
        return found

    def calm(self) -> None:
        """The account has gone: its folder is empty, and deliveries work as ever."""
        shutil.rmtree(self.folder / ".evil", ignore_errors=True)
        self.host.speak(b"", "recover")
        subprocess.run(["find", self.folder, "-mindepth", "1", "-delete"], check=True)
        self.host.deliver(self.release(b"after"))
        assert (self.folder / "sub/b.conf").read_bytes() == b"after"
        assert self.host.litter() == []


# -- every window, for certain ----------------------------------------------------------------------------------------

MANY = SAMPLES >= 1000
KINDS = attacker.KINDS if MANY else attacker.KINDS[:4]
BEHIND = ("chmod", "ln", "mkdir", "mv", "rm", "sync", "tar") if MANY else ("rm",)
AROUND = (
    "cat",
    "chmod",
    "chown",
    "cp",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "rmdir",
    "stat",
    "sync",
    "tar",
    "wc",
)
AROUND = AROUND if MANY else ("chmod", "mkdir", "mv", "rm")
WINDOW = """\
#!/bin/sh
swap() {{ {attack} {folder} {victims} toggle {kind} 5>&- 7>&- 9>&-; }}
echo x >>{root}/hits
[ ! -e {root}/open ] || {{ /usr/bin/rm -f {root}/open && swap; }}
[ {place} = behind ] || swap
PATH={path} {name} "$@"
code=$?
swap
[ {place} = around ] || echo x >{root}/open
exit $code
"""


def windowed(context: CheckContext, path: str) -> Path:
    """The script once more, which finds programs in a folder of ours first."""
    program = context.host.root / "windowed"
    text = context.host.program.read_text()
    assert text.count(f"PATH={path}\n") == 1
    text = text.replace(f"PATH={path}\n", f"PATH={context.host.root}/windows:{path}\n")
    program.write_text(text.replace("session_limit=900", "session_limit=10"))
    program.chmod(0o755)
    return program


def put_window(context: CheckContext, kind: str, place: str, name: str) -> None:
    """Around each start of a program the account exchanges names and exchanges them back, or behind it until the next one."""
    root = context.host.root
    shutil.rmtree(root / "windows", ignore_errors=True)
    (root / "windows").mkdir()
    attack = " ".join((*AS_NOBODY, "/usr/bin/python3", "-IS", f"{root.parent}/attacker.py"))
    words = {"attack": attack, "folder": context.folder, "victims": context.victims, "root": root, "path": SYSTEM}
    wrapper = root / "windows" / name
    wrapper.write_text(WINDOW.format(kind=f"'{kind}'", place=place, name=name, **words))
    wrapper.chmod(0o755)
    (root / "open").unlink(missing_ok=True)
    (context.folder / ".evil/record").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_names_exchanged_at_any_step_reach_nothing_of_roots(base: Path, kind: str) -> None:
    """The programs that the script starts are its steps; with the system's sh."""
    context = CheckContext.new(base, None)
    program = windowed(context, SYSTEM)
    before, hits = context.of_root(), context.host.root / "hits"
    for place, name in (*(("around", name) for name in AROUND), *(("behind", name) for name in BEHIND)):
        put_window(context, kind, place, name)
        for words, arguments in context.streams(b"new") if MANY else context.streams(b"new")[1:5]:
            context.speak(words, arguments, program)
            assert context.of_root() == before, (kind, place, name)
            assert context.exposed() == [], (kind, place, name)
    assert len(hits.read_text().splitlines()) > 50
    context.calm()


# -- a race -----------------------------------------------------------------------------------------------------------


@contextmanager
def raced(context: CheckContext) -> Iterator[None]:
    """The account exchanges names as fast as it can."""
    command = (
        *AS_NOBODY,
        "/usr/bin/python3",
        "-IS",
        context.host.root.parent / "attacker.py",
        context.folder,
        context.victims,
        "loop",
    )
    process = subprocess.Popen(command)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_race_of_links_reaches_nothing_of_roots(base: Path, shell: Shell) -> None:
    context = CheckContext.new(base, shell)
    chance = random.Random(f"{SEED}-{shell.name}")  # noqa: S311 - no secret hangs on it
    before, ended = context.of_root(), dict.fromkeys(("kept", "placed", "undone", "refused", "stuck"), 0)
    with raced(context):
        for number in range(SAMPLES):
            words, arguments = chance.choice(context.streams(b"new" if number % 2 else b"old"))
            said = context.speak(words, arguments)
            for state in ended:
                ended[state] += f'"state":"{state}"'.encode() in said
            assert context.of_root() == before, number
            assert context.exposed() == [], number
    print(f"{shell.name}: {SAMPLES} deliveries raced; {ended}")
    assert sum(ended.values()) > 0
    context.calm()


# -- what is shown, and which folders are refused ---------------------------------------------------------------------


def test_what_is_shown_is_what_lies_there_and_not_what_a_link_named_a_moment_ago(base: Path) -> None:
    """The account lets its own file be looked at, and a link to what is root's be read, or the other way round."""
    context = CheckContext.new(base, None)
    program, hits = windowed(context, SYSTEM), context.host.root / "hits"
    rows = context.release(b"old" * 50)  # longer than what is secret
    context.host.deliver(rows)
    asked = manifest(rows) + b"show 1\nshow 2\nend\n"
    assert context.speak(asked).count(b"}\noldold") == 2
    for kind in ("names", "folder", "hard links"):
        for place, name in (
            ("around", "head"),
            ("around", "stat"),
            ("behind", "head"),
            ("behind", "grep"),
            ("behind", "stat"),
        ):
            put_window(context, kind, place, name)
            said = context.speak(asked, (), program)
            assert SECRET not in said, (kind, place, name)
            assert said.count(b'{"bytes":') == 2
    assert len(hits.read_text().splitlines()) > 20


@pytest.fixture
def sticky(base: Path, shell: Shell) -> FolderHost:
    return FolderHost.new(base / "host", shell)


def acl(path: Path, *entries: str) -> None:
    subprocess.run(["setfacl", *(word for entry in entries for word in ("-m", entry)), path], check=True)


@pytest.mark.parametrize("has_getfacl", [True, False])
def test_a_folder_in_which_an_acl_lets_an_account_write_is_refused_unless_it_is_trusted(
    base: Path, sticky: FolderHost, has_getfacl: bool
) -> None:
    host, open_folder = sticky, Path(sticky.path("open"))
    (open_folder / "inner").mkdir(parents=True)
    acl(open_folder, "u:nobody:rwx")
    if has_getfacl and (base / "applets").is_dir():
        (base / "applets/getfacl").symlink_to("/usr/bin/getfacl")
    if not has_getfacl:
        host.adapt("command -v getfacl", "command -v no-getfacl-here")
    rows = [Row(host.path("open/inner/x"), b"x")]
    refused = host.speak(whole(rows))[-1]
    assert f"{open_folder} can be written by users other than root (" in refused["why"]
    assert f"on media: chmod go-w {open_folder}" in refused["said"]
    assert list((open_folder / "inner").iterdir()) == []
    if has_getfacl:
        assert (
            f"permit it with 'trust nobody' in {host.conf}: nobody then decides the content of the files"
            in refused["said"]
        )
        host.permit("trust nobody")
        host.deliver(rows)
        host.conf.write_text(host.conf.read_text().replace("trust nobody\n", ""))
    subprocess.run(["chmod", "go-w", open_folder], check=True)
    host.deliver([Row(host.path("open/inner/x"), b"y")])


def test_what_an_acl_hands_down_opens_no_folder_and_no_key_that_is_being_written(
    base: Path, sticky: FolderHost
) -> None:
    """By the ACL of a folder, all that is made in it could be read and written by an account."""
    host, folder = sticky, Path(sticky.path("handed"))
    folder.mkdir(parents=True)
    acl(folder, "d:u:nobody:rwx", "d:m:rwx")
    seen = base / "seen"
    host.adapt('    sum=$(sha256sum <"$open")', f'    stat -c "%a" . . "$open" >>{seen}; sum=$(sha256sum <"$open")')
    rows = [
        Row(host.path("handed/new/key"), b"k", mode="0600"),
        Row(host.path("handed/crt/key"), b"k", mode="0600", set=host.path("handed/crt")),
    ]
    host.deliver(rows)
    assert {mode[-2:] for mode in seen.read_text().split()[::3]} == {"00"}
    for path in (folder / "new", (folder / "crt").resolve()):
        assert not path.stat().st_mode & 0o022
    assert (folder / "new/key").stat().st_mode & 0o777 == 0o600
    host.deliver([Row(row.path, b"other", mode=row.mode, set=row.set) for row in rows])


@pytest.mark.parametrize("of", ["nobody", "root, in a folder that everybody may write"])
def test_a_link_in_a_folder_of_others_leads_nowhere(sticky: FolderHost, of: str) -> None:
    host = sticky
    host.permit("trust nobody", "trust nogroup")
    elsewhere, folder = Path(host.path("elsewhere")), Path(host.path("open"))
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "link").symlink_to(elsewhere)
    if of == "nobody":
        os.chown(folder, NOBODY, NOBODY)
        os.lchown(folder / "link", NOBODY, NOBODY)
    else:
        folder.chmod(0o1777)
    refused = host.speak(whole([Row(host.path("open/link/x"), b"x")]))[-1]
    assert refused["why"] == f"{folder}/link is reached by a link that users other than root can replace"
    assert refused["said"] == f"on media: ls -ld {folder}/link"
    assert list(elsewhere.iterdir()) == []
    (host.etc / "own").symlink_to("elsewhere")
    host.deliver([Row(host.path("own/x"), b"x")])
    assert (elsewhere / "x").read_bytes() == b"x"


def test_the_folder_to_which_a_link_leads_is_held_to_the_same(sticky: FolderHost) -> None:
    host, theirs = sticky, Path(sticky.path("theirs"))
    (theirs / "inner").mkdir(parents=True)
    os.chown(theirs, NOBODY, NOBODY)
    (host.etc / "link").symlink_to(theirs / "inner")
    refused = host.speak(whole([Row(host.path("link/x"), b"x")]))[-1]
    assert f"{theirs} can be written by users other than root (nobody), which" in refused["why"]
    assert refused["said"].splitlines()[0] == f"on media: chown root {theirs}"
