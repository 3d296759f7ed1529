"""The printed script: what a reader finds on each page, and that the program knows what the page says of it."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import tasks
from pki.ceremony import printing, words
from pki.ceremony.online.make_request import RequestOptions
from pki.ceremony.policy import VaultContents
from pki.ceremony.script import render_script
from pki.common import passphrase_strength
from tests.support.ceremonies import RealHome, real_home
from tests.support.projects import PROJECT
from tests.support.scripts import Item, Printed

PROJECT_FOLDER = "/srv/the project"
KINDS = ("first", "new intermediate", "destroyed root")
OF_TOOLS = {  # what other programs say, or what a person types
    *("lo", "Proceed anyway?", "done", "is mounted", "is mounted; will not make a filesystem here", "whole", "vault"),
    *("copy", "command not found", "No such file or directory", "cannot create directory", "FAILED", "ERROR"),
    *("Input/output error", "Read-only file system", "sh run"),
    *("can't find LABEL=…", "target is busy", "No idea what … is", "ceremony.request", "ceremony.kit"),
}
NO_LONGER = r"\b(stick|medium|laptop|house|rewrap|mend|rung|ladder|handover)s?\b"


@pytest.fixture(scope="module")
def printed_by_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Printed, str]]:
    """The script of each kind of ceremony, with the digest of its request."""
    home, made = real_home(tmp_path_factory.mktemp("script")), {}
    wishes = (
        RequestOptions(),
        RequestOptions(generations=("server",)),
        RequestOptions(generations=("root",)),
        RequestOptions(destroy=("root-1",)),
    )
    for day, (kind, options) in enumerate(
        zip(("first", "new intermediate", "", "destroyed root"), wishes, strict=True)
    ):
        if kind:
            made[kind] = printed(home, options, day, hsm=kind == "first")
        if day < len(wishes) - 1:
            home.ceremony(options, days=day)
    return made


def printed(home: RealHome, options: RequestOptions, days: float, *, hsm: bool) -> tuple[Printed, str]:
    asked = home.ask(options, days)
    known = VaultContents(home.vault.roots(), home.vault.history())
    text = render_script(asked.request, asked.digest, known, "Python 3.11 on x86_64", hsm=hsm, project=PROJECT_FOLDER)
    return Printed(text.decode()), asked.digest


@pytest.fixture(params=KINDS)
def page(request: pytest.FixtureRequest, printed_by_kind: dict[str, tuple[Printed, str]]) -> Printed:
    return printed_by_kind[request.param][0]


@pytest.fixture
def first(printed_by_kind: dict[str, tuple[Printed, str]]) -> Printed:
    return printed_by_kind["first"][0]


# -- paper ------------------------------------------------------------------------------------------------------------


def test_every_page_fits_on_paper_and_has_its_number(page: Printed) -> None:
    assert not [line for line in page.text.splitlines() if len(line.strip("\f")) > printing.COLUMNS]
    for number, lines in enumerate(page.pages, 1):
        assert len(lines) <= printing.ROWS
        assert lines[0].endswith(f" page {number} of {len(page.pages)}")
        assert lines[0].startswith("ROOT CEREMONY ")
        assert len(lines) > 10, "a page with next to nothing"
    assert len(page.pages) <= 17


def test_nothing_of_the_template_is_left_on_the_page(page: Printed) -> None:
    assert not re.search(r"[{}]|%%|\n\n\n", page.text)
    assert not [line for line in page.lines if line.endswith(" ")]


def test_a_step_is_on_one_page_unless_it_is_longer_than_one() -> None:
    short, long = ["a", "", "b"], [f"{n}\n" for n in range(printing.ROWS)]
    text = "\n".join(["x"] * (printing.ROWS - 5) + ["%%", *short, "%%", *long])
    pages = [page.splitlines()[3:] for page in printing.paginate(text, "T").split("\f")]
    assert pages[1][:3] == short
    assert [line for page in pages for line in page if line.isdigit()] == [str(n) for n in range(printing.ROWS)]
    assert all(page[0] and page[-1] for page in pages)


@pytest.mark.parametrize("line", ["x" * 200, "word " * 40, "  two " + "y" * 90, "", "é" * 79])
def test_a_line_that_is_too_long_for_paper_is_broken_and_keeps_its_text(line: str) -> None:
    broken = printing.wrap_line(line, "    ")
    assert all(len(part) <= printing.COLUMNS for part in broken)
    assert re.sub(r"\s", "", "".join(broken)) == re.sub(r"\s", "", line)


def test_a_long_title_leaves_room_for_the_number_of_the_page() -> None:
    [line, *_] = printing.paginate("x", "ROOT CEREMONY 1 OF " + "Long Name " * 20).splitlines()
    assert len(line) == printing.COLUMNS
    assert line.endswith("…  page 1 of 1")


# -- what it says -----------------------------------------------------------------------------------------------------


def test_the_page_names_the_request_by_digest_and_words_and_says_what_it_asks(
    printed_by_kind: dict[str, tuple[Printed, str]],
) -> None:
    page, digest = printed_by_kind["first"]
    assert digest in re.sub(r"\s", "", page.text)
    assert all(line in page.text for line in words.numbered_lines(digest))
    assert page.text.count("make root-1, “Example Lab Root CA 1”") == 2, "on the first page, and at its step"


def test_every_step_says_what_is_about_to_be_done_and_its_lines_are_numbered(page: Printed) -> None:
    assert [step.number for step in page.steps] == list(range(1, 11))
    for step in page.steps:
        assert "About to be done:" in " ".join(step.lines), step.title
        assert [item.number for item in step.items] == [f"{step.number}.{n}" for n in range(1, len(step.items) + 1)]


def test_every_reference_leads_to_a_line_or_a_page(page: Printed) -> None:
    text = page.text
    for number in set(re.findall(r"(?<![\d.])(\d{1,2}\.\d)(?![\d.])", text)) - {"3.11"}:
        if number not in page.items:
            assert number in {"6.1", "6.2"}, f"{number} is not a line of this script"
    for title in set(re.findall(r'(?:page|pages|and|below|Have) "([A-Z][A-Z ]+)"', text)):
        if title not in {"PAPER OF THE PASSPHRASE", "CARD OF SHARE"} or "6.1" in page.items:
            assert f"\n{title}" in text, title


def test_terms_are_explained_in_eight_lines_and_each_of_them_is_used(page: Printed) -> None:
    lines = [line for line in page.section("THE TERMS, IN EIGHT LINES") if line]
    assert len(lines) == 8
    steps = " ".join(line for step in page.steps for line in step.lines)
    named = [re.split(r" {2,}", line.strip())[0] for line in lines]
    assert named == [
        *("online machine", "offline machine", "drives", "kit", "request", "words", "passphrase", "transcript"),
    ]
    for term in (*named, "exchange", "vault", "copy", "response", "cards", "head"):
        assert re.search(rf"\b{term}\b", steps), term


@pytest.mark.parametrize("kind", KINDS)
def test_one_thing_has_one_name(printed_by_kind: dict[str, tuple[Printed, str]], kind: str) -> None:
    """The words of a digest may be any."""
    page, digest = printed_by_kind[kind]
    found = {word.lower() for word in re.findall(NO_LONGER, page.text, flags=re.IGNORECASE)}
    assert not found - set(re.findall("[a-z]+", str(words.numbered_lines(digest))))


def test_there_is_room_for_all_that_is_to_be_written_down(page: Printed) -> None:
    for item in page.items.values():
        for text in item.of("WRITE"):
            assert "____" in text or "the table THE ENVELOPES" in text or text.endswith("response"), (item.number, text)
    table = page.section("THE ENVELOPES")
    for what in ("drive vault", "drive copy", "paper with the passphrase", "card of share 1", "vault number"):
        assert re.search(rf"{what}.* ____", "\n".join(table)), what


def test_secrets_are_seen_by_one_person_and_the_others_are_told_when_to_look_again(first: Printed) -> None:
    for number in ("6.1", "6.3", "7.2"):
        item = first.items[number]
        labels = [label for label, _ in item.parts]
        assert labels.index("AWAY") < len(labels) - 1 - labels[::-1].index("ANSWER"), number
        assert "look again" in item.of("SAY")[-1], number
    assert "CUSTODIANS" in " ".join(first.lines)


def test_script_of_a_later_ceremony_makes_no_root_and_formats_nothing(
    printed_by_kind: dict[str, tuple[Printed, str]],
) -> None:
    later, _ = printed_by_kind["new intermediate"]
    typed = "\n".join(command for item in later.items.values() for command in item.commands)
    assert "ceremony.root" not in typed
    assert "mkfs" not in typed
    assert "The envelopes of ceremony 1" in later.text
    assert "Earlier CRLs of root-1 are replaced" in later.text
    assert "CARD OF SHARE" not in later.text


def test_script_says_where_else_a_key_that_is_destroyed_must_be_destroyed(
    printed_by_kind: dict[str, tuple[Printed, str]],
) -> None:
    page, _ = printed_by_kind["destroyed root"]
    assert "The key of root-1 was destroyed on vault and on copy. Destroy every" in page.text


@pytest.mark.parametrize("kind", KINDS)
def test_trouble_of_making_a_root_is_on_the_page_only_where_one_is_made(
    printed_by_kind: dict[str, tuple[Printed, str]], kind: str
) -> None:
    page, _ = printed_by_kind[kind]
    making = (
        "IN STEP 6, THE ROOT KEY",
        "Step 3 formats it",
        "--again",
        "will not make a filesystem here",
        "--cards /dev/shm",
    )
    assert [what in page.text for what in making] == [kind == "first"] * len(making)
    for what in (
        "IN STEP 7, THE SIGNATURES",
        "`no drive is mounted there`",
        "THE WORDS OF THE REQUEST ARE NOT ACCEPTED",
    ):
        assert page.text.count(what) == 1, what


def test_trouble_of_drives_folders_and_repeated_lines_leads_on(page: Printed) -> None:
    at = page.lines.index("TROUBLE, SORTED BY STEP")
    text = " ".join(line.strip() for line in page.lines[at:])
    for what in (
        *("SHOWS NOTHING AT ALL cd ~/kit", "`Input/output error`", "`is newer than`", ": exists already`"),
        *("Step 8 again, all of it", "`has no response.yaml`"),
    ):
        assert what in text, what


def test_exchange_drive_has_the_label_that_the_lines_to_mount_it_name(page: Printed) -> None:
    assert "mkfs.ext4 -L exchange" in " ".join(page.section("THE MATERIALS"))
    assert "mount LABEL=exchange /mnt/exchange" in page.items["10.1"].of("FIX")[0]


def test_network_card_without_a_cable_is_not_taken_for_one_that_is_off(page: Printed) -> None:
    """The program refuses every card with the flag UP, which `ip` shows in <…>, whatever its state is called."""
    assert "Look into <…>" in page.items["2.2"].of("SCREEN")[0]
    assert "LOWERLAYERDOWN" in page.items["2.2"].of("SCREEN")[0]


def test_passphrase_of_the_backup_comes_from_a_line_whose_output_is_strong_enough(page: Printed) -> None:
    [answer] = page.items["10.6"].of("ANSWER")
    line = answer.splitlines()[-1]
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=300)
    assert re.fullmatch(r"[A-Z2-7]{24}\n", done.stdout)
    assert passphrase_strength.find_weakness(done.stdout.strip()) == ""


def test_trouble_is_sorted_by_step_and_names_what_goes_wrong(first: Printed) -> None:
    at = first.lines.index("TROUBLE, SORTED BY STEP")
    titles = [line for line in first.lines[at:] if line.startswith("IN ")]
    steps = [int(found[0]) for line in titles if (found := re.findall(r"\d+", line))]
    assert steps == sorted(steps) == [2, 3, 5, 6, 7, 8, 10]
    text = " ".join(first.lines[at:]).upper()
    for what in ("LOST", "WRONG DRIVE", "NOT MOUNTED", "NOT WRITTEN DOWN", "KILLED", "CLOCK", "PASSPHRASE"):
        assert what in text, what


# -- the program ------------------------------------------------------------------------------------------------------


def commands(page: Printed) -> list[str]:
    """Everything that the page has typed to the program: in its lines, and in what it says of trouble."""
    text = page.text.replace("\\\n", " ")
    return re.findall(r"invoke (?:ceremony|backup)\S*[^\n]*", text)


def test_every_command_of_the_page_and_its_options_exist(page: Printed) -> None:
    contexts = {context.name: context for context in tasks.ns.to_contexts()}
    typed = commands(page)
    assert len(typed) >= 6
    for line in typed:
        _, name, *rest = shlex.split(line)
        options = [word for word in rest if word.startswith("--")]
        assert name in contexts, line
        assert not [option for option in options if option not in contexts[name].flags], line


def test_every_message_that_the_page_quotes_is_one_of_the_program(page: Printed) -> None:
    sources = "\n".join(path.read_text() for path in sorted((PROJECT / "pki").rglob("*.py")))
    quoted = set(re.findall(r"`([^`]+)`", page.text.replace("\n", " "))) - OF_TOOLS
    unknown = [text for text in quoted if not all(part.strip() in sources for part in _constant_parts(text))]
    assert not unknown


def _constant_parts(text: str) -> list[str]:
    """What of a message does not depend on the ceremony."""
    return [part for part in re.split(r"…|/mnt/\S+|\b\d+\b|root-\d+|response-\d+", text) if part.strip()]


def test_the_last_step_names_the_project_as_the_shell_reads_it(first: Printed) -> None:
    [_, accept] = first.items["10.2"].commands
    assert shlex.split(accept)[:4] == [f"PKI_HOME={PROJECT_FOLDER}", "./run", "invoke", "ceremony.accept"]


def test_alternatives_and_what_is_only_for_a_token_are_there_when_they_are_wanted(tmp_path: Path) -> None:
    without, _ = printed(real_home(tmp_path), RequestOptions(), 0, hsm=False)
    for what in ("--token", "PIN"):
        assert what not in without.text
    assert [number for number in without.items if number.startswith(("5.", "6."))] == [
        *("5.1", "5.2", "5.3", "5.4", "6.1", "6.2", "6.3"),
    ]
    assert "its key is in" in without.items["6.3"].of("SCREEN")[0]


def test_items_are_read_as_they_stand() -> None:
    text = "H\n=\n\nSTEP 1  A NAME          time ____\n\n  1.1 [ ] TYPE    a \\\n                    b\n          SCREEN  c\n"
    [step] = Printed(text).steps
    assert step.items == [Item("1.1", [("TYPE", ["a \\", "  b"]), ("SCREEN", ["c"])])]
