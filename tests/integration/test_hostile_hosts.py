"""One of three hosts is hostile or broken: the others are delivered, memory stays small, and the run ends by itself.

A program called ssh stands first on PATH. For two hosts it starts the real pki-apply, for the third what a test says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.ansible_runner import runner
from tests.support.hosts import ME, FolderHost
from tests.support.projects import PROJECT

__all__ = ["runner"]

MEMORY = 300_000  # kB that no process of a run may have
GOOD = ("one", "two")
INVENTORY = """\
organisation: Example
templates: {{without: all}}
domains: [lab.internal]
publish: {{url: "http://pki.lab.internal", host: one}}
sandbox: true
networks: {{lan: 192.0.2.0/24}}
alerts: {{email: {{to: admin@lab.internal, from: pki@lab.internal}}}}
deploy: {{progress_timeout: 2s, host_timeout: 6s, {engine}}}
hosts:
  one: {{network: lan, deliver: ssh}}
  bad: {{network: lan, deliver: ssh}}
  two: {{network: lan, deliver: ssh}}
"""
TEMPLATE = """\
# deploy-target: {root}/{{{{ host.name }}}}/etc/app.conf
# deploy-hosts: all
# deploy-owner: {owner}
generation {number}
"""
CRL = """\
# deploy-target: {root}/{{{{ host.name }}}}/etc/client.crl
# deploy-hosts: all
# deploy-owner: {owner}
# deploy-artifact: crl-pem:client
"""
SSH = """\
#!/bin/sh
for word; do case $word in
    one | two) exec {root}/$word/pki-apply ;;
    bad) exec sh {root}/answers ;;
esac; done
echo "no such host: $*" >&2
exit 255
"""
MEASURED = """\
import resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(done.returncode)
"""
# What a host may not do to whoever reads of it: escape sequences, overstriking, C1 controls, text in another order.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Said:
    """What a run said and left, and the most memory that one of its processes had, in kB."""

    status: int
    text: str
    memory: int


@dataclass(frozen=True)
class Three:
    """The project at `home`, its hosts in folders below `root`, and what the third one answers."""

    home: Path
    root: Path

    def write(self, number: int) -> None:
        """Something new for every host."""
        values = {"root": self.root, "owner": ME, "number": number}
        (self.home / "templates/app.conf").write_text(TEMPLATE.format(**values))

    def answers(self, script: str) -> None:
        (self.root / "answers").write_text(script)

    def run(self, *command: str) -> Said:
        """Run a command of ours to its end: that it comes to it is what is tested."""
        measured = self.root / "memory"
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(measured), sys.executable, "-m", *command],
            cwd=PROJECT,
            env={
                **os.environ,
                "PATH": f"{self.root}/bin:{os.environ['PATH']}",
                "PKI_HOME": str(self.home),
                "PKI_CALLED_FROM": str(self.home),
            },
            capture_output=True,
            timeout=300,
            check=False,
        )
        text = (done.stdout + done.stderr).decode(errors="surrogateescape")
        assert "Traceback" not in text, text
        return Said(done.returncode, text, int(measured.read_text()))

    def generation(self, host: str) -> int:
        path = self.root / host / "etc/app.conf"
        return int(path.read_text().split()[-1]) if path.exists() else 0

    def left(self) -> Iterator[tuple[str, str]]:
        """Every text that a run leaves for people."""
        places = ("report", "history/bad/log.jsonl", "contacts/bad.json", "ansible/outcomes")
        for place in places:
            path = self.home / "build" / place
            for one in (path, *path.rglob("*")):
                if one.is_file():
                    text = one.read_text(errors="surrogateescape")
                    yield str(one), text
                    if one.suffix in {".json", ".jsonl"}:
                        for line in text.splitlines() if one.suffix == ".jsonl" else [text]:
                            yield str(one), "\n".join(_texts(json.loads(line)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


@pytest.fixture(scope="module", params=["builtin", "ansible"])
def three(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, runner: Path) -> Iterator[Three]:
    folder = tmp_path_factory.mktemp("hostile")
    made = Three(folder / "home", folder / "hosts")
    (made.home / "templates").mkdir(parents=True)
    (made.root / "bin").mkdir(parents=True)
    (made.root / "bin/ssh").write_text(SSH.format(root=made.root))
    (made.root / "bin/ssh").chmod(0o755)
    engine = f"engine: ansible, ansible: {{command: {runner}, serial: 100%, max_fail_percentage: 100}}"
    engine = "engine: builtin" if request.param == "builtin" else engine
    (made.home / "pki.yaml").write_text(INVENTORY.format(engine=engine))
    (made.home / "templates/client.crl").write_text(CRL.format(root=made.root, owner=ME))
    for name in (*GOOD, "bad"):
        FolderHost(made.root / name, name)
        FolderHost.new(made.root / name).conf.write_text(
            f"host {name}\nunder {made.root}/{name}/etc\ntrust {ME.split(':')[0]}\ntrust {ME.split(':')[1]}\n"
        )
    made.write(1)
    made.answers(f"exec {made.root}/bad/pki-apply")
    said = made.run("doit")
    assert said.status == 0, said.text
    assert [made.generation(name) for name in (*GOOD, "bad")] == [1, 1, 1]
    yield made
    shutil.rmtree(folder)


HELLO = """echo '{"pki-apply":1}'"""
SAME = """awk -F '\\t' 'NR > 1 && /^end/ { exit } NR > 1 { printf "{\\"n\\":%s,\\"is\\":\\"same\\",\\"sha256\\":\\"%s\\",\\"path\\":\\"%s\\"}\\n", $1, $5, $9 }'; echo '{"looked":true}'"""
HOSTILE: dict[str, tuple[str, str]] = {
    "endless zeros": ("exec cat /dev/zero", "sent a line of more than 65536 bytes"),
    "endless lines": ("exec yes Welcome", "the login shell of"),
    "endless answers": ("""exec yes '{"state":"same"}'""", "sent more than 120 answers"),
    "endless answers after the greeting": (f"""{HELLO}; exec yes '{{"looked":true}}'""", ""),
    "endless complaints": ("yes >&2 & exec sleep 60", "sent no answer for 2 s"),
    "silence": ("exec sleep 60", "sent no answer for 2 s"),
    "a byte now and then": ("while printf x; do sleep 0.3; done", "sent no answer for 2 s"),
    "an answer now and then": (
        """while echo '{"state":"undone"}'; do sleep 1; done""",
        "took longer than 6 s in all",
    ),
    "64 MiB in a line": (f"{HELLO}; head -c 67108864 /dev/zero | tr '\\0' a; echo", "sent a line of more than"),
    "64 MiB before it begins": ("head -c 67108864 /dev/zero | tr '\\0' '\\n'", "the login shell of"),
    "half a line": ("""printf '{"pki-apply":1'; exec sleep 60""", "sent no answer for 2 s"),
    "half a line and the end": ("""printf '{"pki-apply":1'""", ""),
    "nothing at all": ("exit 0", "the login shell of the deployment account on bad ended with 0 before pki-apply"),
    "a state that nobody knows": (
        f"""{HELLO}; cat >/dev/null & echo '{{"n":1,"is":"fine","sha256":"","path":"/x"}}'; sleep 60""",
        "invalid answer, not from pki-apply",
    ),
    "another digest": (f"{HELLO}; " + SAME.replace("$5", '$5 "" ').replace('%s\\",\\"path', '0%.63s\\",\\"path'), ""),
    "escape sequences": (
        r"""printf '\033]0;owned\007\033[2J\302\233\342\200\256evil\r\n'; exec sleep 60""",
        r"\x1b]0;owned\x07\x1b[2J\x9b\u202eevil\r",
    ),
    "escape sequences in an answer": (
        r"""printf '%s\n' '{"error":"\u001b[2J\u009b\u202eowned\u2028"}'; exec sleep 60""",
        r"\x1b[2J\x9b\u202eowned\u2028",
    ),
    "escape sequences among complaints": (
        r"""printf 'ssh: \033[2J\302\233owned\n' >&2; exit 255""",
        r"ssh: \x1b[2J\x9bowned",
    ),
    "numbers without end": (
        r"""printf '{"pki-apply":'; head -c 60000 /dev/zero | tr '\0' 9; echo '}'; exec sleep 60""",
        "",
    ),
    "brackets without end": ("""head -c 60000 /dev/zero | tr '\\0' '['; echo; exec sleep 60""", ""),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_others_are_delivered_and_nothing_grows(three: Three, kind: str) -> None:
    script, message = HOSTILE[kind]
    before = three.generation("one")
    three.answers(script)
    three.write(before + 1)
    said = three.run("doit")
    three.answers(f"exec {three.root}/bad/pki-apply")
    assert said.status in {1, 2}, said.text
    assert [three.generation(name) for name in GOOD] == [before + 1] * 2, said.text
    assert three.generation("bad") <= before
    assert "failed    deploy:bad" in said.text
    assert message in said.text
    assert said.memory < MEMORY
    assert not CONTROLS.search(said.text), CONTROLS.findall(said.text)
    for where, text in three.left():
        assert not CONTROLS.search(text), (where, CONTROLS.findall(text))
        assert len(text) < 1 << 20, where
    assert three.run("doit").status == 0
    assert three.generation("bad") == before + 1
