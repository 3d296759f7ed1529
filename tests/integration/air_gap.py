"""Two machines that share nothing but a stick: clones of this repository, each without a network."""

from __future__ import annotations

import base64
import os
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from shamir_mnemonic import combine_mnemonics

from pki.ceremony import kit_unpacking, words
from tests.integration.conftest import run
from tests.support.projects import PROJECT
from tests.support.scripts import Printed

ALONE = ("unshare", "-n") if os.geteuid() == 0 else ("unshare", "-Urn")
PATIENCE = 900  # seconds: the first run from a kit installs forty wheels
KEPT = ("PATH", "HOME", "LANG", "SOFTHSM2_CONF")
PROJECT_FOLDER = (
    *("--yes", "--organisation", "Gap Lab", "--domain", "lab.internal", "--network", "lan=192.168.1.0/24"),
    *("--host", "web,network=lan,address=192.168.1.10,proxy=nginx", "--publish", "http://pki.lab.internal=web"),
    *("--service", "web/wiki=http://127.0.0.1:3000,mtls", "--service", "web/blog=http://127.0.0.1:3001,tls"),
    *("--client", "admin=admin@lab.internal"),
)


@dataclass(frozen=True)
class Machine:
    """A machine with a folder of its own and the program in it; what it runs sees no network."""

    folder: Path
    program: Path
    project: str = ""
    more: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, ok: bool = True) -> str:
        """Start `sh run …` where a person would: in the machine's folder."""
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | self.more
        if self.project:
            environment["PKI_HOME"] = str(self.folder / self.project)
        line = (*ALONE, "sh", self.program / "run", *command)
        return run(*line, cwd=self.folder, env=environment, ok=ok, timeout=PATIENCE)

    def at_terminal(self, *command: str | Path) -> Terminal:
        """Start `sh run invoke …` at a terminal."""
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | self.more
        return Terminal((*ALONE, "sh", self.program / "run", "invoke", *command), self.folder, environment)

    def invoke(self, *command: str | Path, ok: bool = True) -> str:
        return self.run("invoke", *command, ok=ok)


def clone(folder: Path) -> Path:
    """A clone of this repository as it was committed; the environment is ours, for making one takes ten seconds."""
    run("git", "clone", "--quiet", PROJECT, folder / "doit-pki")
    (folder / "doit-pki/.venv").symlink_to(sys.prefix)
    return folder / "doit-pki"


def machine(folder: Path, project: str = "") -> Machine:
    folder.mkdir()
    return Machine(folder, clone(folder), project)


def words_in(said: str) -> str:
    """The first eight words of the digest that was shown last."""
    shown = said.rpartition("SHA-256 ")[2]
    return " ".join(re.findall(r"\b[1-8] ([a-z]+)", " ".join(shown.split("\n", 3)[1:3])))


def digest_in(said: str) -> str:
    return re.findall(r"SHA-256 .*?([0-9a-f]{64})", said)[-1]


def despite_swap() -> list[str]:
    """The machine that runs the tests may swap; nothing else about it is excused."""
    swaps = Path("/proc/swaps").read_text().splitlines()[1:]
    return ["--despite", "swap of the machine that runs the tests"] if swaps else []


def folder_as_vault() -> list[str]:
    """Where the vault is a folder of the machine that runs the tests."""
    return ["--folder-as-vault", "a folder of the machine that runs the tests"]


# -- who holds the root's key -----------------------------------------------------------------------------------------


def forms_of(key: ec.EllipticCurvePrivateKey) -> list[bytes]:
    """How a private key can lie in a file: in DER, in PEM, its bare number in bytes and digits."""
    plain = serialization.NoEncryption()
    number = key.private_numbers().private_value.to_bytes(48, "big")
    forms = [number, number.hex().encode(), number.hex().upper().encode()]
    for kind in (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL):
        der = key.private_bytes(serialization.Encoding.DER, kind, plain)
        forms += [der, base64.b64encode(der)]
        forms += key.private_bytes(serialization.Encoding.PEM, kind, plain).splitlines()[2:-2]
    return forms


def secrets_of(vault: Path, passphrase: str) -> list[bytes]:
    """All that would give the root away: its key, plain and as it lies in the vault, and the words that open it."""
    kept = (vault / "root-1/key.pem").read_bytes()
    pem = kept[kept.index(b"-----BEGIN") :]
    key = serialization.load_pem_private_key(pem, passphrase.encode())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = x509.load_pem_x509_certificate((vault / "root-1/cert.pem").read_bytes())
    assert key.public_key() == certificate.public_key()
    body = [line for line in pem.splitlines() if b"-----" not in line]
    return [*forms_of(key), *body, base64.b64decode(b"".join(body)), *spellings(passphrase)]


def combined(shares: list[str]) -> str:
    """The passphrase that SLIP-39 shares give, by those who wrote the standard; its 128 bits as words."""
    return "-".join(words.of_bytes(combine_mnemonics(shares)))


def spellings(words: str) -> list[bytes]:
    listed = re.split(r"[ -]", words)
    return [separator.join(listed).encode() for separator in ("-", " ", "", "\n")]


def holders(needles: Iterable[bytes], *folders: Path) -> set[Path]:
    """Every file below some folders in which one of the needles lies; links are not followed."""
    found, sought = set(), list(needles)
    assert all(len(needle) >= 12 for needle in sought)
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and any(needle in path.read_bytes() for needle in sought):
                found.add(path)
    return found


def keys_below(*folders: Path) -> set[bytes]:
    """The public halves of all private keys that lie below some folders; one under a passphrase is a fault."""
    found = set()
    for path in holders([b"PRIVATE KEY-----"], *folders):
        for pem in re.findall(
            rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*-----\n", path.read_bytes(), re.DOTALL
        ):
            found.add(_der(serialization.load_pem_private_key(pem, None).public_key()))
    return found


def key_of(certificate: Path) -> bytes:
    return _der(x509.load_pem_x509_certificate(certificate.read_bytes()).public_key())


def _der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# -- from the kit -----------------------------------------------------------------------------------------------------


def unpacked(kit: Path, folder: Path, digest: str, count: int) -> Path:
    """The kit on the laptop's own disk, by the very lines of CEREMONY.txt; `digest` and `count` are on the paper."""
    items = Printed((kit / "CEREMONY.txt").read_text()).items.values()
    printed = {line.strip() for item in items for command in item.commands for line in command.splitlines()}
    said = ""
    for lines in (kit_unpacking.LIST, ("cd ~/kit", *kit_unpacking.FILES, *kit_unpacking.CHECKS)):
        assert {line.strip() for line in lines} - {"cd ~/kit"} <= printed
        text = "\n".join(["set -e", *lines]).replace("/mnt/exchange", str(kit.parent))
        said += subprocess.run(
            ["sh", "-c", text], env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True, check=True
        ).stdout
    assert said == f"{digest}  SHA256SUMS\nwhole\n{count}\n"
    return folder / "kit"


def count_in(said: str) -> int:
    """How many files the paper of a kit names."""
    return int(re.findall(r"^([0-9]+) files$", said, re.MULTILINE)[0])


# -- at a terminal ----------------------------------------------------------------------------------------------------


class Terminal:
    """A person at a terminal, who reads what is shown and types; `shown` is all that a camera would have seen."""

    def __init__(self, command: Iterable[str | Path], folder: Path, environment: dict[str, str]) -> None:
        self.keyboard, self._screen = os.openpty()  # the screen is kept: it stays when the command ends
        self.process = os.fork()
        if not self.process:
            os.login_tty(self._screen)
            os.chdir(folder)
            line = [str(part) for part in command]
            os.execvpe(line[0], line, environment)  # noqa: S606 - that is what a terminal does
        self.shown, self.seen = "", 0
        self.status: int | None = None

    def see(self, text: str) -> str:
        """Read until a text is shown behind what was seen before; returns all that is shown since then."""
        start, end = self.seen, time.monotonic() + PATIENCE
        while text not in self.shown[start:]:
            assert time.monotonic() < end, self.shown
            assert self._read(), f"{text!r} was not shown: {self.shown}"
        self.seen = self.shown.index(text, start) + len(text)
        return self.shown[start:]

    def type(self, line: str) -> None:
        os.write(self.keyboard, f"{line}\n".encode())

    def press(self, key: bytes) -> None:
        os.write(self.keyboard, key)

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._screen)[3] & termios.ECHO)

    def end(self) -> int:
        """Read until the command has ended; returns its exit status."""
        while self._read():
            pass
        assert self.status is not None
        return self.status

    def close(self) -> None:
        for handle in (self._screen, self.keyboard):
            os.close(handle)

    def _read(self) -> bool:
        """Take what is shown; whether there may be more."""
        if select.select([self.keyboard], [], [], 0.2)[0]:
            self.shown += os.read(self.keyboard, 1 << 16).decode(errors="replace").replace("\r\n", "\n")
            return True
        if self.status is None:
            ended, status = os.waitpid(self.process, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if ended else None
            return True  # what was shown last may still come
        return False
