"""What whoever has a deploy key can do on a host, and cannot: each line of docs/explanation/deployment.md, with the real pki-apply."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.deploy import bootstrap, release_roots
from pki.deploy.payload import Payload
from pki.deploy.receipt import Receipt
from pki.deploy.release import File, Release
from tests.support.hosts import ME, FolderHost, Row, Shell, busybox, manifest, placing, whole
from tests.support.projects import START

CONFIG, LEAF, BUNDLE, OLD, SET = (
    "nginx/site.conf",
    "doit-pki/media.pem",
    "doit-pki/roots.pem",
    "nginx/old.conf",
    "dns/tls",
)
STORE = "usr/local/share/ca-certificates/doit-pki-root-1.crt"


@cache
def root(name: str, *, encoding: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(START).not_valid_after(START + timedelta(days=3650))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return made.sign(key, hashes.SHA256()).public_bytes(encoding)


def parcel_of(folder: Path, contents: dict[str, bytes]) -> Payload:
    """A release with these files by their paths; those in a set have one."""
    files = []
    for path, content in contents.items():
        together = path.rpartition("/")[0] if SET in path else ""
        file = File(path, "0644", ME, hashlib.sha256(content).hexdigest(), "", "", "", together)
        file.below(folder / "files").parent.mkdir(parents=True, exist_ok=True)
        file.below(folder / "files").write_bytes(content)
        files.append(file)
    return Payload(Release("media", tuple(files), {}, {}), {file.path: folder for file in files})


class Stolen:
    """A host, and the key that was stolen: what it permits is what bootstrap writes for the files of a release."""

    def __init__(self, folder: Path, *, exact: bool, shell: Shell | None = None) -> None:
        self.host = FolderHost.new(folder / "host", shell, {"reload": "true"})
        self.folder, self.exact = folder, exact
        self.files = {
            CONFIG: b"server {}\n",
            LEAF: b"a certificate\n",
            STORE: root("one"),
            BUNDLE: root("one") + root("two"),
            f"{SET}/key.pem": b"a file of a set\n",
        }
        self.bootstrap()

    def bootstrap(self, *, was: Sequence[str] = (OLD,)) -> None:
        payload = parcel_of(self.folder / "release", {self.host.path(name): text for name, text in self.files.items()})
        if self.exact:  # the configuration of a proxy is in no release then
            files = tuple(file for file in payload.release.files if CONFIG not in file.path)
            payload = replace(payload, release=replace(payload.release, files=files))
        gone = tuple(
            {"path": self.host.path(name), "mode": "0644", "owner": ME, "reload": "", "sha256": "0"} for name in was
        )
        receipt = Receipt("media", "", "", "ssh", gone)
        user, group = ME.split(":")
        said = bootstrap.permissions_text("media", payload, receipt, exact=self.exact)
        self.host.conf.write_text(f"{said}run reload true\ntrust {user}\ntrust {group}\n")

    def place(self, name: str, content: bytes | None, **more: str) -> str:
        """Try to put a file there, or to remove it: `done`, `held`, or the words of the refusal."""
        answers = self.host.speak(whole([Row(self.host.path(name), content, **more)]))
        if error := [one["error"] for one in answers if "error" in one]:
            return str(error[0])
        if [one for one in answers if one.get("is") == "held"]:
            assert {"state": "kept"} not in answers
            return "held"
        return "done" if answers[-1] == {"state": "kept"} else json.dumps(answers)

    def holds(self, name: str) -> bytes | None:
        path = Path(self.host.path(name))
        return path.read_bytes() if path.exists() else None


BUSYBOX = pytest.mark.skipif(shutil.which("busybox") is None, reason="there is no busybox command")


@pytest.fixture(params=["sh", "bash", pytest.param("busybox", marks=BUSYBOX)])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell | None:
    if request.param == "busybox":
        return busybox(tmp_path / "applets")
    return Shell("bash", "/bin/bash") if request.param == "bash" else None


@pytest.fixture
def exact(tmp_path: Path, shell: Shell | None) -> Stolen:
    return Stolen(tmp_path, exact=True, shell=shell)


@pytest.fixture(params=["certificates only", "configuration"])
def either(request: pytest.FixtureRequest, tmp_path: Path, shell: Shell | None) -> Stolen:
    """A key of each kind: what one can do and cannot, the other one can do and cannot."""
    return Stolen(tmp_path, exact=request.param == "certificates only", shell=shell)


@pytest.fixture
def config(tmp_path: Path, shell: Shell | None) -> Stolen:
    return Stolen(tmp_path, exact=False, shell=shell)


def forms(good: bytes, evil: bytes) -> dict[str, bytes]:
    """An evil root, in every form that some reader of trust stores takes, beside the good one or instead of it."""
    body = b"".join(evil.splitlines()[1:-1])
    odd = b"\n".join(body[at : at + 61] for at in range(0, len(body), 61))
    der = x509.load_pem_x509_certificate(evil).public_bytes(serialization.Encoding.DER)
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"\n-----END CERTIFICATE-----\n"
    return {
        "alone": evil,
        "after the good one": good + evil,
        "before the good one": evil + good,
        "after text": good + b"Subject: CN=one\n" + evil,
        "DER": der,
        "DER after the good one": good + der,
        "trusted certificate": good + evil.replace(b" CERTIFICATE-", b" TRUSTED CERTIFICATE-"),
        "X509 certificate": good + evil.replace(b" CERTIFICATE-", b" X509 CERTIFICATE-"),
        "carriage returns": good + evil.replace(b"\n", b"\r\n"),
        "the good one with carriage returns": good.replace(b"\n", b"\r\n"),
        "lower case": good + evil.replace(b"CERTIFICATE", b"certificate"),
        "odd lines": good + begin + odd + end,
        "one line": good + begin + body + end,
        "behind a zero byte": good + b"\0" + evil,
        "without an end of line": good.rstrip(b"\n") + evil,
        "the good one without an end of line": good.rstrip(b"\n"),
        "good one twice": good + good,
        "PKCS #7": good + evil.replace(b" CERTIFICATE-", b" PKCS7-"),
        "nothing": b"",
        "blanks": b" " + good,
    }


FORMS = list(forms(root("one"), root("evil")))


# -- a key for certificates only ---------------------------------------------------------------------------------------


def test_it_can_replace_certificates_and_keys_of_the_release_and_nothing_beside_them(exact: Stolen) -> None:
    assert exact.place(LEAF, b"another certificate and key\n") == "done"
    assert exact.holds(LEAF) == b"another certificate and key\n"
    for name in (CONFIG, "doit-pki/other.pem", "nginx/new.conf", "cron.d/x", f"{SET}/other.pem", f"{LEAF}/below"):
        assert "may not be placed here" in exact.place(name, b"x"), name
        assert exact.holds(name) is None


def test_it_can_place_no_other_file_in_the_folder_of_a_set(exact: Stolen) -> None:
    folder = exact.host.path(SET)
    good = Row(f"{folder}/key.pem", b"one\n", set=folder)
    assert "may not be placed here" in json.dumps(
        exact.host.speak(whole([good, Row(f"{folder}/evil.conf", b"x", set=folder)]))
    )
    assert exact.host.speak(whole([good]))[-1] == {"state": "kept"}
    assert exact.holds(f"{SET}/key.pem") == b"one\n"


@pytest.mark.parametrize("name", [STORE, BUNDLE])
def test_it_can_place_accepted_roots_alone_and_no_content_beside_them(exact: Stolen, name: str) -> None:
    for good in (root("one"), root("two"), root("one") + root("two"), root("two") + root("one")):
        assert exact.place(name, good) == "done"
        assert exact.holds(name) == good
    assert exact.place(name, None) == "done"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [STORE, BUNDLE])
def test_it_can_place_no_root_that_is_not_accepted_in_whatever_form(tmp_path: Path, name: str, form: str) -> None:
    stolen = Stolen(tmp_path, exact=True)
    assert stolen.place(name, root("one")) == "done"
    content = forms(root("one"), root("evil"))[form]
    assert stolen.place(name, content) == "held"
    answers = stolen.host.speak(manifest([Row(stolen.host.path(name), content)]) + placing([Row("x", content)]))
    assert answers[-1]["state"] == "refused", "a number that is held is not placed, asked for or not"
    assert stolen.holds(name) == root("one")


def test_it_cannot_send_another_content_than_the_accepted_one_that_its_manifest_names(exact: Stolen) -> None:
    assert exact.place(STORE, root("one")) == "done"
    path = exact.host.path(STORE)
    digest = {"sha256": hashlib.sha256(root("two")).hexdigest()}
    answers = exact.host.speak(whole([Row(path, root("evil"), more=digest)]))
    assert {"state": "kept"} not in answers
    assert exact.holds(STORE) == root("one")


def test_it_cannot_place_a_root_under_another_name_in_the_folder_of_a_trust_store(exact: Stolen) -> None:
    folder = STORE.rpartition("/")[0]
    assert "may not be placed here" in exact.place(f"{folder}/evil.crt", root("evil"))
    assert exact.place(f"{folder}/doit-pki-root-2.crt", root("evil")) == "held"
    assert exact.place(f"{folder}/doit-pki-root-2.crt", root("one")) == "held"
    assert not Path(exact.host.path(folder)).exists()


def test_what_is_held_back_holds_back_nothing_else(exact: Stolen) -> None:
    new = f"{STORE.rpartition('/')[0]}/doit-pki-root-2.crt"
    rows = [
        Row(exact.host.path(name), text) for name, text in ((LEAF, b"x\n"), (new, root("new")), (STORE, root("one")))
    ]
    for numbers in ((), (1, 3)):
        word = b"needed " if not numbers else b""
        placed = placing(rows, numbers=numbers).replace(b" ", b" ", 1)
        head, _, tar = placed.partition(b"\n")
        verb, blocks, rest = head.split(b" ", 2)
        answers = exact.host.speak(
            manifest(rows) + b" ".join((verb, blocks, word + rest)) + b"\n" + tar + b"keep\nend\n"
        )
        assert [one["is"] for one in answers if "is" in one][1] == "held"
        assert answers[-1]["state"] in {"kept", "same"}, answers
    assert (exact.holds(LEAF), exact.holds(new), exact.holds(STORE)) == (b"x\n", None, root("one"))


def test_it_can_remove_files_and_install_none_that_may_only_be_removed(exact: Stolen) -> None:
    path = Path(exact.host.path(OLD))
    path.parent.mkdir(parents=True)
    path.write_text("server {}\n")
    assert "may not be placed here" in exact.place(OLD, b"server { listen 1; }\n")
    assert path.read_text() == "server {}\n"
    assert exact.place(OLD, None) == "done"
    assert not path.exists()
    assert exact.place(LEAF, b"x") == exact.place(LEAF, None) == "done"
    assert "may not be placed here" in exact.place("passwd", None)


def test_it_can_undo_the_last_change_unless_that_brings_back_a_root_that_is_no_longer_accepted(exact: Stolen) -> None:
    exact.place(STORE, root("one"))
    exact.place(STORE, root("two"))
    rows = [Row(exact.host.path(STORE), root("two"))]
    assert exact.host.speak(manifest(rows) + b"back\nend\n")[-1] == {"state": "undone"}
    assert exact.holds(STORE) == root("one")
    exact.place(STORE, root("two"))
    exact.files |= {STORE: root("two"), BUNDLE: root("two")}
    exact.bootstrap()
    answers = exact.host.speak(manifest(rows) + b"back\nend\n")
    assert "the undo would restore a root that is not accepted on this host" in answers[-1]["error"]
    assert exact.holds(STORE) == root("two")


def test_it_can_run_the_commands_that_are_named_and_no_other(either: Stolen) -> None:
    assert either.place(LEAF, b"one\n", reload="reload") == "done"
    assert "has a command that is not permitted ('-' or 'sh')" in either.place(LEAF, b"two\n", reload="sh")
    assert "invalid command name" in either.place(LEAF, b"two\n", check="true; id")
    assert either.holds(LEAF) == b"one\n"


@pytest.mark.parametrize("mode", ["4755", "2755", "04755", "1777"])
def test_it_can_set_no_mode_that_runs_as_another_account(either: Stolen, mode: str) -> None:
    assert "or mode" in either.place(LEAF, b"x\n", mode=mode)


def test_it_can_replace_client_authorities_and_put_an_old_crl_in_place(either: Stolen) -> None:
    names = ("doit-pki/client-ca.pem", "doit-pki/client-crl.pem")
    crl = b"-----BEGIN X509 CRL-----\n"
    either.files |= dict(zip(names, (b"a client authority\n", crl + b"newer\n"), strict=True))
    either.bootstrap()
    for name, content in zip(names, (root("evil"), crl + b"older\n"), strict=True):
        assert either.place(name, content) == "done"
        assert either.holds(name) == content


def test_it_can_change_owner_and_mode_and_open_no_private_key(either: Stolen) -> None:
    assert either.place(LEAF, b"a certificate\n", mode="0666") == "done"
    assert Path(either.host.path(LEAF)).stat().st_mode & 0o7777 == 0o666
    assert "exposes the key" in either.place(LEAF, b"-----BEGIN PRIVATE KEY-----\n", mode="0644")


def test_it_can_read_what_everybody_can_read_and_of_other_files_the_digest(either: Stolen) -> None:
    path = Path(either.host.path(LEAF))
    path.parent.mkdir(parents=True)
    for folder in list(path.parents)[:-2]:
        if folder.is_dir() and folder.owner() == either.host.root.owner():
            folder.chmod(folder.stat().st_mode | 0o111)
    for content, mode, size in ((b"public\n", 0o644, 7), (b"private\n", 0o600, 0), (b"PRIVATE KEY\n", 0o644, 0)):
        path.write_bytes(content)
        path.chmod(mode)
        said = subprocess.run(
            [either.host.program],
            input=manifest([Row(str(path), b"x")]) + b"show 1\nend\n",
            capture_output=True,
            check=True,
        ).stdout
        assert (b'{"bytes":%d}\n%b' % (size, content[:size])) in said
        assert hashlib.sha256(content).hexdigest().encode() in said
        assert (content in said) == bool(size)
    assert "may not be placed here" in either.place("shadow", b"x")


def test_nothing_is_told_of_a_file_that_is_not_permitted(either: Stolen) -> None:
    """Its digest would confirm a guess of what it holds."""
    secret = Path(either.host.path("other/open"))
    secret.parent.mkdir()
    secret.write_text("guess me\n")
    row = Row(str(secret), b"x")
    answers = either.host.speak(manifest([row]) + b"show 1\nend\n")
    assert [(one["is"], one["sha256"]) for one in answers if "is" in one] == [("denied", "")]
    assert answers[-1] == {"bytes": 0}


def test_it_can_change_neither_what_is_permitted_nor_the_program(either: Stolen) -> None:
    for path in (either.host.conf, either.host.program, either.host.state / "rows", Path("/root/.ssh/authorized_keys")):
        before = path.read_bytes() if path.exists() else None
        assert "may not be placed here" in either.host.speak(whole([Row(str(path), b"x")]))[-1]["why"]
        assert (path.read_bytes() if path.exists() else None) == before or path.name == "rows"


def test_it_can_keep_deliveries_waiting_until_its_time_is_over(either: Stolen) -> None:
    either.host.adapt("session_limit=900", "session_limit=1")
    with subprocess.Popen([either.host.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        assert held.stdin
        held.stdin.write(b"doit-pki 1 media\n")
        held.stdin.flush()
        assert held.wait(300) != 0, "it ends without a word from the one who keeps it waiting"
    either.host.adapt("session_limit=1", "session_limit=900")  # a busy machine may need longer for a delivery
    assert either.place(LEAF, b"x\n") == "done"


# -- a key for configuration -------------------------------------------------------------------------------------------


def test_a_key_for_configuration_can_place_anything_in_the_folders_of_its_files(config: Stolen) -> None:
    for name in (CONFIG, "nginx/new.conf", "nginx/below/any.conf", STORE, BUNDLE):
        assert config.place(name, root("evil")) == "done", name
        assert config.holds(name) == root("evil")


def test_a_key_for_configuration_can_place_another_file_in_a_set_and_any_root_by_undo(config: Stolen) -> None:
    folder = config.host.path(SET)
    rows = [Row(f"{folder}/{name}", b"x\n", set=folder) for name in ("key.pem", "evil.conf")]
    assert config.host.speak(whole(rows))[-1] == {"state": "kept"}
    assert config.holds(f"{SET}/evil.conf") == b"x\n"
    assert config.place(STORE, root("evil")) == config.place(STORE, root("one")) == "done"
    back = config.host.speak(manifest([Row(config.host.path(STORE), root("one"))]) + b"back\nend\n")
    assert back[-1] == {"state": "undone"}
    assert config.holds(STORE) == root("evil")


def test_a_key_for_configuration_can_remove_files_and_place_none_that_may_only_be_removed(config: Stolen) -> None:
    config.bootstrap(was=("other/old.conf",))
    path = Path(config.host.path("other/old.conf"))
    path.parent.mkdir()
    path.write_text("old\n")
    assert "may not be placed here" in config.place("other/old.conf", b"x\n")
    assert config.place("other/old.conf", None) == "done"
    assert config.place(LEAF, b"x\n") == config.place(LEAF, None) == "done"
    assert (path.exists(), config.holds(LEAF)) == (False, None)


def test_a_key_for_configuration_can_place_nothing_outside_of_them(config: Stolen) -> None:
    for name in ("passwd", "cron.d/x", "ssh/sshd_config"):
        assert "may not be placed here" in config.place(name, b"x"), name
    answers = config.host.speak(whole([Row(str(config.host.conf), b"under /\n")]))
    assert "may not be placed here" in answers[-1]["why"]


# -- what bootstrap permits --------------------------------------------------------------------------------------------


def test_roots_are_found_by_their_content_and_by_their_folder(tmp_path: Path) -> None:
    der = root("der", encoding=serialization.Encoding.DER)
    known = {
        "/etc/app/any.pem": root("one"),
        "/etc/app/both.pem": root("one") + root("two"),
        "/srv/www/root.crt": der,
        "/usr/local/share/ca-certificates/text.crt": b"no certificate",
    }
    others = {"/etc/app/key.pem": root("one") + b"-----BEGIN PRIVATE KEY-----\n", "/etc/app/text": b"x" + root("one")}
    found = release_roots.find_roots(parcel_of(tmp_path, known | others))
    assert found.paths == known.keys()
    for content in (*known.values(), root("two"), root("two") + root("one")):
        assert hashlib.sha256(content).hexdigest() in found.digests
    assert len(found.fingerprints) == 3


def test_a_host_that_was_for_configuration_before_keeps_no_permission_to_place_it(tmp_path: Path) -> None:
    stolen = Stolen(tmp_path, exact=True)
    lines = stolen.host.conf.read_text().splitlines()
    assert f"remove {stolen.host.path(OLD)}" in lines
    assert not [line for line in lines if line.startswith("under ")]
    assert not [line for line in lines if line.startswith("file ") and line.endswith((OLD, CONFIG, STORE, BUNDLE))]
