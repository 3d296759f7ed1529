"""What is wrong with one file below templates/ stops only the releases that would use it, and is said all at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from pki.common import limited_process, template_delimiters
from pki.common.errors import FaultsError, PkiError
from pki.common.file_headers import LARGEST
from pki.common.limited_process import Begin, LimitedProcess, LimitExceededError
from pki.common.template_folders import TemplateFolders
from pki.common.template_names import UnknownValue
from pki.common.templating import Templates
from pki.deploy.managed_files import Library
from pki.monitor import forecast
from pki.monitor.checks.check_context import LastRun
from pki.monitor.report import health_report, status_table
from tests.support.commands import said_by
from tests.support.projects import PROJECT, Home

pytestmark = pytest.mark.usefixtures("rendered_in_a_child")

HEAD = "# deploy-target: /etc/x/{}\n# deploy-hosts: media\n"


def add(home: Home, body: str, name: str = "one.conf", head: str = HEAD) -> None:
    home.write(f"templates/{name}", head.replace("{}", name) + body)


def library(home: Home) -> Library:
    """All managed files as a run reads them, without anything else of a run."""
    from pki.deploy.managed_file_reader import read_library  # noqa: PLC0415 - used here alone

    project = home.project()
    said = project.inventory
    return read_library(project.templates, {"inventory": said}, said.hosts, said.networks, project.cache)


def fault_of(home: Home, name: str = "one.conf") -> str:
    [file] = [file for file in library(home).files if file.name == name]
    assert file.fault is not None
    return file.fault.message


def release_fault(home: Home) -> str:
    """What the release of media fails with, rendered as a run renders it."""
    report = home.doit("release:media")
    assert set(report.failed) == {"release:media"}, report.failed
    return report.failed["release:media"]


def lost(home: Home) -> dict[str, str]:
    return {one.name: one.fault.message for one in library(home).unassigned}


def delivered(home: Home, host: str) -> dict[str, bytes]:
    root = home.path / "build/hosts" / host
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are reached soon."""
    monkeypatch.setattr(limited_process, "SECONDS", 0.2)
    monkeypatch.setattr(limited_process, "MEMORY", 64 << 20)


# -- what is found before anything is rendered ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("\n{{ host.name | uper }}\n", "templates/one.conf:4: unknown filter 'uper' (did you mean upper?)"),
        ("{% if host is nowhere %}x{% endif %}", "templates/one.conf:3: unknown test 'nowhere'"),
        (
            "{% block a %}{% endblock %}\n{% block a %}{% endblock %}",
            "templates/one.conf:4: block 'a' is defined twice",
        ),
        ("{% include 'none.conf' %}", "templates/one.conf:3: templates/none.conf does not exist"),
        ("\n{% extends 'none.conf' %}", "templates/one.conf:4: templates/none.conf does not exist"),
        ("{% if %}", "templates/one.conf:3: Expected an expression, got 'end of statement block'"),
        (
            "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
            "templates/one.conf:3: nests, calls or includes itself without end",
        ),
    ],
    ids=["filter", "test", "block", "include", "extends", "syntax", "depth"],
)
def test_a_mistake_is_found_with_file_and_line_when_the_file_is_read(home: Home, body: str, said: str) -> None:
    add(home, body)
    assert fault_of(home) == said


def test_all_mistakes_of_a_template_and_of_what_it_takes_in_are_said_at_once(home: Home) -> None:
    add(home, "{{ host.name | uper }}\n{{ host.name | lowre }}\n{% include 'part' %}")
    home.write("templates/part", "{{ 1 | nothing_like_it }}")
    assert fault_of(home).splitlines() == [
        "templates/one.conf:3: unknown filter 'uper' (did you mean upper?)",
        "templates/one.conf:4: unknown filter 'lowre' (did you mean lower?)",
        "templates/part:1: unknown filter 'nothing_like_it'",
    ]


def test_a_file_that_may_be_missing_is_no_mistake(home: Home) -> None:
    add(home, "{% include 'none.conf' ignore missing %}body")
    assert home.doit("release:media").status == 0


def test_all_mistakes_in_the_headers_of_a_file_are_said_at_once(home: Home) -> None:
    home.write("templates/one.conf", f"{HEAD}# deploy-mod: 1\n# deploy-target: /etc/y\n# deploy-owner:\nx\n")
    assert [line.partition(": ")[0] for line in fault_of(home).splitlines()] == [
        "templates/one.conf:3",
        "templates/one.conf:4",
        "templates/one.conf:5",
    ]


def test_nothing_of_a_template_is_computed_while_it_is_read(home: Home) -> None:
    """Constants least of all, which Jinja2's optimizer would compute."""
    add(home, "{{ 7 ** (7 ** 10) }}{{ 'a' * 10 ** 11 }}{{ 'a' | center(99999999999) }}{% set x = 9 ** 9 ** 9 %}")
    started = time.process_time()
    assert [file.fault for file in library(home).files if file.name == "one.conf"] == [None]
    assert time.process_time() - started < 5


# -- text of other languages in which Jinja2 finds its own marks --------------------------------------------------------

SCRIPT = "#!/bin/sh\n# deploy-target: /usr/local/bin/hook\n# deploy-hosts: media\n"
RAW = "(write a literal {{, {% or {# in a {% raw %} block), then: ./run doit"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo ${#list}\n", "templates/hook:4: {# begins a comment of the template, but no #} ends it"),
        ("awk '{# count\nn++ }'\n", "templates/hook:4: {# begins a comment of the template, but no #} ends it"),
        ("\nprintf '{%s}' x\n", "templates/hook:5: Encountered unknown tag 's'."),
        ("docker ps --format '{{.Names}}'\n", "templates/hook:4: unexpected '.'"),
        ("x='{% raw %}'\n", "templates/hook:4: Missing end of raw directive"),
        ("echo '{{instance}}'\n", "templates/hook:4: 'instance' is undefined"),
    ],
)
def test_marks_of_another_language_are_named_with_what_to_write(home: Home, body: str, said: str) -> None:
    home.write("templates/hook", SCRIPT + body)
    message, _, hint = release_fault(home).partition(" → ")
    assert message == said
    assert hint.endswith(RAW)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("echo ${#list}\necho lost\necho ${x#}\n", ["1 to 3"]),
        ("echo ${#list} ${x#}\n", ["1"]),
        ("#!/usr/bin/awk -f\n{# first\nn++ #}\n", ["2 to 3"]),
        ("a\n{%- if true %}b{% endif %}\n{#IFNAME} and {#FSNAME#}\n{#1#}", ["3", "4"]),
        ("{% raw %}${#list} ${x#}{% endraw %}", []),
        ("{# one\ntwo #}\nx\n", []),
        ("{#- tight -#}\n#!/bin/sh\n", []),
        ("#!/bin/sh\n{# in one line #}\n", []),
        ("{{ '${#x} #}' }}\n", []),
        ("$ {# cost #}", []),
    ],
)
def test_lines_that_a_comment_takes_out_by_mistake_are_found(text: str, lines: list[str]) -> None:
    assert (
        list(template_delimiters.find_swallowed_lines(text, Templates(TemplateFolders(Path("/nowhere"))).lex)) == lines
    )


def test_what_a_comment_cuts_out_of_a_script_is_noted(home: Home) -> None:
    body = "echo ${#list}\necho lost\necho ${x#}\n"
    home.write("templates/hook", SCRIPT + body)
    assert [(note.subject, note.text) for note in home.plan().actions_required] == [
        ("templates/hook", "line 4 to 6: {# begins a template comment: everything up to #} is left out")
    ]
    home.write("templates/hook", f"{SCRIPT}{{% raw %}}{body}{{% endraw %}}\n")
    assert list(home.plan().actions_required) == []
    assert home.doit("release:media").failed == {}
    assert home.read("build/release/media/files/usr/local/bin/hook").decode() == SCRIPT + body


# -- what is found when it is rendered --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{{ nothing }}", "templates/one.conf:3: 'nothing' is undefined"),
        ("\n{{ nothing(1) }}", "templates/one.conf:4: 'nothing' is undefined"),
        ("{{ 1 + 'a' }}", "templates/one.conf:3: unsupported operand type(s) for +: 'int' and 'str' (TypeError)"),
        ("{{ 1 / 0 }}", "templates/one.conf:3: division by zero (ZeroDivisionError)"),
        ("{{ {}['a'] }}", "templates/one.conf:3: the value 'a' does not exist"),
        ("{{ host.adress }}", "templates/one.conf:3: the value 'adress' does not exist (did you mean address?)"),
        ("{{ inventory.nothing }}", "templates/one.conf:3: the value 'nothing' does not exist"),
        (
            "{{ inventory.publish.hots }}",
            "templates/one.conf:3: the value 'hots' does not exist (did you mean host?)",
        ),
        ("\n{% include 'one.conf' %}", "templates/one.conf:4: nests, calls or includes itself without end"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}",
            "templates/one.conf:3: nests, calls or includes itself without end",
        ),
        ("{{ 'a' * 10 ** 11 }}", f"templates/one.conf:3: {limited_process.TOO_LARGE}"),
        ("\n{{ 'a' | center(99999999999) }}", f"templates/one.conf:4: {limited_process.TOO_LARGE}"),
        (
            "{% set n = namespace(x='aa') %}\n{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
            f"templates/one.conf:4: {limited_process.TOO_LARGE}",
        ),
        ("\n\n{% for i in range(10 ** 10) %}{% endfor %}", f"templates/one.conf:5: {limited_process.TOO_LONG}"),
        ("\n{{ 7 ** (7 ** 10) }}", f"templates/one.conf:4: {limited_process.TOO_LONG}"),
        ("{{ artifact('tls:nobody') }}", "templates/one.conf:1: deploy-artifact: unknown artifact 'tls:nobody'"),
    ],
    ids=lambda value: value[:30].replace("\n", " ") if isinstance(value, str) else None,
)
@pytest.mark.usefixtures("quickly")
def test_a_mistake_is_found_with_file_and_line_when_the_template_is_rendered(home: Home, body: str, said: str) -> None:
    add(home, body)
    message = release_fault(home).partition(" → ")[0]
    assert message == said


@pytest.mark.usefixtures("quickly")
def test_all_mistakes_of_all_templates_of_a_host_are_said_at_once_whatever_they_are(home: Home) -> None:
    add(home, "{{ nothing }}", "a")
    add(home, "{% for i in range(10 ** 10) %}{% endfor %}", "b")
    add(home, "{{ host.name | uper }}", "c")
    add(home, "{{ 'a' * 10 ** 11 }}", "d")
    add(home, "good", "e")
    (home.path / "templates/f").write_bytes(HEAD.replace("{}", "f").encode() + b"caf\xe9")
    said = release_fault(home).partition(" → ")[0].splitlines()
    assert sorted(line.partition(": ")[0] for line in said) == [
        "templates/a:3",
        "templates/b:3",
        "templates/c:3",
        "templates/d:3",
        "templates/f",
    ]


@pytest.mark.usefixtures("quickly")
def test_a_template_that_exceeded_its_limits_is_not_tried_again_for_every_host(home: Home) -> None:
    add(home, "{% for i in range(10 ** 10) %}{% endfor %}", head="# deploy-target: /etc/x\n# deploy-hosts: all\n")
    started = time.process_time(), os.times().children_user
    report = home.doit("release")
    assert {"release:media", "release:forge", "release:monitoring"} == set(report.failed)
    assert all(limited_process.TOO_LONG in text for text in report.failed.values())
    assert os.times().children_user - started[1] < 3 * 0.2 + 2


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("bomb", ["{{ 7 ** (7 ** 10) }}", "{{ 'a' * 10 ** 11 }}", "{{ nothing }}", "{{ 1 | uper }}"])
def test_a_header_is_rendered_within_the_same_limits(home: Home, bomb: str) -> None:
    add(home, "x", "a", head=f"# deploy-target: /etc/{bomb}\n# deploy-hosts: media\n")
    add(home, "", "b", head=f"# deploy-target: /etc/b\n# deploy-hosts: media\n# deploy-artifact: tls:{bomb}\n")
    add(home, "x", "c", head=f"# deploy-target: /etc/c\n# deploy-hosts: {bomb}\n")
    report = home.doit()
    assert set(report.failed) == {"release:media", "template:c"}
    assert {line.partition(":")[0] for line in report.failed["release:media"].partition(" → ")[0].splitlines()} == {
        "templates/a",
        "templates/b",
    }
    assert report.failed["template:c"].startswith("templates/c:2: deploy-hosts: ")


def test_a_loop_in_deploy_hosts_is_rendered_once_for_each_pki_yaml(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = "{% for name in inventory.hosts %}{{ name }},{% endfor %}"
    add(home, "x", head=f"# deploy-target: /etc/x\n# deploy-hosts: {hosts}\n")
    report = home.doit()
    assert {"deploy:media", "deploy:forge", "deploy:monitoring"} <= report.made.keys()
    monkeypatch.setattr(LimitedProcess, "ask", lambda *_: pytest.fail("something was rendered"))
    assert home.doit().made == {}


def test_a_run_with_nothing_to_do_renders_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LimitedProcess, "ask", lambda *_: pytest.fail("something was rendered"))
    assert home.doit().made == {}


# -- files of which nobody can tell for which hosts they are ----------------------------------------------------------


def put_link(path: Path) -> None:
    path.symlink_to("/nonexistent")


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (put_link, "templates/one.conf: is a link to /nonexistent: No such file or directory"),
        (os.mkfifo, "templates/one.conf: is not a regular file"),
        (lambda path: path.symlink_to("/tmp"), "templates/one.conf: is a link to a folder, which is not followed"),  # noqa: S108
        (lambda path: path.symlink_to("one.conf"), "templates/one.conf: is a link to one.conf: Too many levels of"),
        (lambda path: path.write_text("# deploy-hosts: medai\nx"), "templates/one.conf:1: deploy-target is missing\n"),
        (
            lambda path: path.write_text("# deploy-target: /x\n# deploy-hosts: ,"),
            "templates/one.conf:2: deploy-hosts: names",
        ),
        (
            lambda path: path.write_text("# deploy-target: /x\n" + "x" * LARGEST),
            "templates/one.conf: is larger than 4 MB",
        ),
    ],
    ids=["dangling link", "FIFO", "link to a folder", "link to itself", "selector", "no selector", "large"],
)
def test_a_file_that_cannot_be_read_fails_the_run_and_no_release(home: Home, put: object, said: str) -> None:
    put(home.path / "templates/one.conf")  # type: ignore[operator]
    home.edit("127.0.0.1:8096", "127.0.0.1:8097")
    report = home.doit()
    assert report.status in {1, 2}
    assert set(report.failed) == {"template:one.conf"}
    assert report.failed["template:one.conf"].startswith(said)
    assert {"release:media", "deploy:media"} <= report.made.keys()


def test_a_large_file_that_is_not_managed_is_passed_over(home: Home) -> None:
    home.write("templates/notes", "x" * (LARGEST + 10))
    assert home.doit().status == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text().replace("deploy-hosts", "deploy-host")),
        lambda path: path.write_text(path.read_text().replace("proxy:caddy", "proxy:cady")),
        lambda path: (path.unlink(), put_link(path)),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (shutil.rmtree(path.parent), put_folder(path.parent)),
        lambda path: shutil.rmtree(path.parent.parent),
    ],
    ids=["header", "selector", "link", "FIFO", "folder", "templates"],
)
def test_what_a_host_has_of_a_file_that_cannot_be_read_stays_there(home: Home, damage: object) -> None:
    before = delivered(home, "media")
    damage(home.path / "templates/caddy/Caddyfile")  # type: ignore[operator]
    report = home.doit(days=61)
    assert "release:media" in report.failed
    assert {"cert:media", "crl:client-1"} <= report.made.keys()
    assert "cleanup:build" not in report.made
    assert delivered(home, "media") == before


def put_folder(path: Path) -> None:
    """A link to a folder elsewhere, in the place of a folder."""
    path.symlink_to("/tmp")  # noqa: S108


def test_the_only_file_of_a_host_can_be_unreadable_and_the_host_keeps_it(home: Home) -> None:
    """Without it nothing is for that host, which would look like one that is to be withdrawn."""
    for path in (home.path / "templates").rglob("*"):
        if path.is_file():
            path.unlink()
    add(home, "x", head="# deploy-target: /etc/x\n# deploy-hosts: media\n")
    assert home.doit().status == 0
    before = delivered(home, "media")
    assert "etc/x" in before
    home.edit("deploy-hosts: media", "deploy-hosts: medai", "templates/one.conf")
    report = home.doit()
    assert set(report.failed) == {"template:one.conf", "release:media"}
    assert delivered(home, "media") == before


def test_a_host_without_a_manifest_keeps_what_it_took(home: Home) -> None:
    """Nobody can tell whether a file that cannot be read is among that."""
    (home.path / "build/release/media/manifest.json").unlink()
    put_link(home.path / "templates/one.conf")
    report = home.doit()
    assert set(report.failed) == {"template:one.conf", "release:media"}


CNF = "# deploy-target: /etc/printer.cnf\n# deploy-hosts: ca\n[ req ]\ndistinguished_name = dn\nprompt = no\n[ dn ]\nCN = printer.lab.internal\n"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(CNF.replace("CN =", "CN")),
        lambda path: path.write_text(CNF.replace("deploy-hosts: ca", "deploy-hosts: cb")),
        lambda path: (path.unlink(), put_link(path)),
    ],
    ids=["content", "header", "link"],
)
def test_a_certificate_stays_while_the_file_that_declares_it_cannot_be_read(home: Home, damage: object) -> None:
    home.write("templates/printer.cnf", CNF)
    home.write("templates/key", "# deploy-target: /etc/p.pem\n# deploy-hosts: media\n# deploy-artifact: tls:printer\n")
    assert home.doit().status == 0
    before, media = home.read("build/certs/printer/tls.pem"), delivered(home, "media")
    damage(home.path / "templates/printer.cnf")  # type: ignore[operator]
    report = home.doit(days=61)
    assert home.read("build/certs/printer/tls.pem") == before
    assert "templates/printer.cnf" in " ".join(report.failed.values())
    assert not [note for note in report.data["notes"] if note["subject"] == "cert:printer"]
    assert {"cert:media", "deploy:monitoring"} <= report.made.keys()
    assert delivered(home, "media")["etc/p.pem"] == media["etc/p.pem"]


def test_declarations_that_expand_without_end_are_refused(home: Home) -> None:
    doubling = "a = xx\n" + "a = $a$a\n" * 60
    home.write("templates/printer.cnf", CNF.replace("[ req ]", f"[ req ]\n{doubling}"))
    assert "the expanded value exceeds 65536 characters" in fault_of(home, "printer.cnf")
    home.write("templates/blank.cnf", CNF.replace("[ req ]", "\n" * 200_000 + "[ req ]"))
    started = time.process_time()
    library(home)
    assert time.process_time() - started < 5


def test_what_is_wrong_with_a_file_that_no_host_uses_is_a_note(home: Home) -> None:
    add(home, "{{ 1 | uper }}", head="# deploy-target: /etc/x\n# deploy-hosts: proxy:traefik\n")
    report = home.doit()
    assert report.status == 0
    assert [(note["subject"], note["text"]) for note in report.data["notes"]] == [
        ("templates/one.conf", "templates/one.conf:3: unknown filter 'uper' (did you mean upper?)")
    ]


# -- everything else goes on, and tells it ----------------------------------------------------------------------------


@pytest.fixture
def broken(home: Home) -> Home:
    """A home with a template of media that is wrong in two places, and a link that leads nowhere."""
    add(home, "{{ host.name | uper }}\n{{ host.name | lowre }}\n")
    put_link(home.path / "templates/nginx/extra.conf")
    return home


def test_a_run_renews_publishes_and_delivers_all_that_does_not_depend_on_it(broken: Home) -> None:
    report = broken.doit(days=61)
    assert set(report.failed) == {"release:media", "template:nginx/extra.conf"}
    assert [one["name"] for one in report.data["blocked"]] == ["deploy:media"]
    assert {"cert:media", "crl:client-1", "crl:server-1", "deploy:forge", "deploy:monitoring"} <= report.made.keys()
    page = broken.read("build/report/status.html").decode()
    assert "templates/nginx/extra.conf: is a link to /nonexistent" in page
    assert "unknown filter &#39;lowre&#39;" in page or "unknown filter 'lowre'" in page


@pytest.mark.parametrize("command", ["plan", "status", "health", "explain media"])
def test_every_command_that_looks_works_and_tells_it(
    broken: Home, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken.doit()
    said = said_by(capsys, *command.split(), pki_home=str(broken.path), pki_now=broken.moment())
    assert said.error == "" or command == "health"
    if command != "explain media":
        assert "templates/one.conf:3: unknown filter 'uper'" in said.out
    if command in {"plan", "health"}:
        assert "templates/one.conf:4: unknown filter 'lowre'" in said.out
        assert "templates/nginx/extra.conf: is a link to /nonexistent" in said.out


def test_each_mistake_has_a_line_of_its_own_on_the_screen(broken: Home, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    broken.doit()
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("failed    release:media"))
    assert lines[first + 1].strip() == "templates/one.conf:4: unknown filter 'lowre' (did you mean lower?)"
    assert lines[first + 2].strip() == "→ fix the template, then: ./run doit"


# -- the process that renders -----------------------------------------------------------------------------------------


def work(what: str, begin: Begin) -> int:
    begin(f"piece {what}")
    if what == "loop":
        while True:
            pass
    if what == "raise":
        raise PkiError("wrong", "fix it")
    if what == "exit":
        os._exit(3)
    return os.getpid()


@pytest.mark.usefixtures("quickly")
def test_a_process_that_exceeded_its_limits_is_replaced() -> None:
    process = LimitedProcess(work)
    first = process.ask("a")
    assert first == process.ask("b") != os.getpid()
    with pytest.raises(LimitExceededError, match="piece loop: takes more than 10 s") as caught:
        process.ask("loop")
    assert caught.value.frames[0][0] == __file__
    assert process.ask("c") != first
    with pytest.raises(PkiError, match="wrong"):
        process.ask("raise")
    with pytest.raises(LimitExceededError, match="its process ended with exit status 3"):
        process.ask("exit")
    process.end()


def test_what_fails_beside_the_work_is_said_and_the_next_piece_gets_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = LimitedProcess(lambda _what, _begin: threading.Lock())
    with pytest.raises(RuntimeError, match="TypeError: cannot pickle"):
        lost.ask("")
    process = LimitedProcess(work)
    with monkeypatch.context() as patch:
        patch.setattr("resource.setrlimit", lambda *_: int("many"))
        with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
            process.ask("a" * (1 << 20))
    assert process.ask("b")
    process.end()


def test_a_process_needs_no_standard_input_and_is_content_with_a_lower_limit_of_memory() -> None:
    """Nothing of the process that forks it is closed either: a question to a person may follow."""
    code = (
        "import resource, sys; from tests.deploy.test_template_faults import LimitedProcess, limited_process, work; sys.stdin = object()\n"
        "most = limited_process._size() + limited_process.MEMORY // 2; resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        "print(LimitedProcess(work).ask('a'))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, check=False, capture_output=True, text=True, timeout=300
    )
    assert ended.stdout.strip().isdigit(), ended.stderr


def test_a_process_and_its_descriptors_end_with_what_they_belong_to() -> None:
    def asked() -> int:
        return LimitedProcess(work).ask("a")

    asked()
    before = len(os.listdir("/proc/self/fd"))
    child = asked()
    assert len(os.listdir("/proc/self/fd")) == before
    assert not Path(f"/proc/{child}").exists()


def test_errors_travel_from_the_process_with_all_their_lines() -> None:
    def fail(_what: str, _begin: Begin) -> str:
        raise FaultsError.of([PkiError("a", "x"), PkiError("b", "x"), PkiError("a", "x"), PkiError("c")])

    process = LimitedProcess(fail)
    with pytest.raises(FaultsError) as caught:
        process.ask("")
    assert (caught.value.message, caught.value.hint) == ("a\nb\nc", "x")
    process.end()


def test_looks_at_a_broken_home_raise_nothing(broken: Home) -> None:
    project, plan = broken.project(), broken.plan()
    assert [artifact.id for artifact, _ in forecast.due_artifacts(plan)][:2] == [
        "template:nginx/extra.conf",
        "release:media",
    ]
    assert list(status_table.StatusTable(project).rows(plan))
    assert health_report.run_checks(project, plan, LastRun(), (), (), (), thorough=True)


# -- the folder itself ------------------------------------------------------------------------------------------------


def test_a_project_that_never_had_templates_can_run_again_and_a_lost_folder_is_still_noticed(fresh: Home) -> None:
    shutil.rmtree(fresh.path / "templates")
    report = fresh.doit()
    assert report.failed == {}
    assert "release:media" in report.made
    assert (fresh.path / "templates").is_dir()
    again = fresh.doit()
    assert (again.failed, again.made) == ({}, {})
    (fresh.path / "templates").rmdir()
    assert fresh.doit().failed["release:media"].startswith("templates/ is missing")
    assert not (fresh.path / "templates").exists()


def test_private_names_of_a_value_are_not_suggested() -> None:
    class Container:
        _parts = 1
        address = "10.0.0.1"

    def message(name: str) -> str:
        with pytest.raises(UndefinedError) as error:
            str(UnknownValue(obj=Container(), name=name))
        return str(error.value)

    assert message("adress") == "the value 'adress' does not exist (did you mean address?)"
    assert message("parts") == "the value 'parts' does not exist"
    assert message("init__") == "the value 'init__' does not exist"
