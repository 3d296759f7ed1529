"""What ceremonies are made of: words, shares of a passphrase, the transcript, the look at the machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from zipfile import ZipFile

import pytest
from flit_core.wheel import make_wheel_in
from shamir_mnemonic import Share, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.wordlist import WORDLIST

from pki.ceremony import shares, transcript, words
from pki.ceremony.offline import machine_check
from pki.ceremony.transcript import Record, Transcript
from pki.ceremony.transcript_page import SENTENCES
from pki.common.errors import PkiError
from tests.support.projects import PROJECT, START

DIGEST = hashlib.sha256(b"a request").hexdigest()
OTHER = hashlib.sha256(b"another one").hexdigest()
STEPS = [
    "opened",
    "environment",
    "clocks",
    "deviation",
    "plan",
    "confirmed",
    "key",
    "opened-key",
    "drafted",
    "linted",
    "signed",
    "verified",
    "negative-test",
    "crl",
    "written",
    "exported",
    "destroyed",
    "closed",
    "refused",
]


def refusal(function, *arguments, **options) -> PkiError:
    with pytest.raises(PkiError) as caught:
        function(*arguments, **options)
    return caught.value


# -- words ------------------------------------------------------------------------------------------------------------


def test_a_digest_is_twenty_six_words_of_ten_bits() -> None:
    spoken = words.of_digest(DIGEST)
    assert len(spoken) == 26
    bits = "".join(f"{WORDLIST.index(word):010b}" for word in spoken)
    assert bits == f"{int(DIGEST, 16):0256b}" + "0000"


def test_the_words_are_those_of_the_published_list() -> None:
    assert words.of_digest("0" * 64) == ("academic",) * 26
    assert words.of_digest("f" * 64) == ("zero",) * 25 + ("wisdom",)
    assert len({word[:4] for word in WORDLIST}) == 1024


def test_any_changed_bit_changes_a_word() -> None:
    flipped = {words.of_digest(f"{int(DIGEST, 16) ^ 1 << bit:064x}") for bit in range(256)}
    assert len(flipped | {words.of_digest(DIGEST)}) == 257


@pytest.mark.parametrize("text", ["", "ab", DIGEST + "00", "x" * 64])
def test_what_is_not_a_sha_256_has_no_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        words.of_digest(text)


@pytest.mark.parametrize("separator", [" ", ", ", "-", "\n", " . "])
@pytest.mark.parametrize("shape", [str, str.upper, str.title, lambda word: word[:4], lambda word: word[:5]])
def test_words_agree_however_they_are_typed(separator: str, shape) -> None:
    for count in (8, 9, 26):
        typed = separator.join(shape(word) for word in words.of_digest(DIGEST)[:count])
        assert words.matches(typed, DIGEST), typed
        assert not words.matches(typed, OTHER)


def test_words_agree_with_the_numbers_that_are_printed_before_them() -> None:
    assert words.matches(" ".join(words.numbered_lines(DIGEST)[:2]), DIGEST)
    assert words.matches("\n".join(words.numbered_lines(DIGEST)), DIGEST)


def test_fewer_words_than_asked_do_not_agree() -> None:
    spoken = words.of_digest(DIGEST)
    assert not words.matches("", DIGEST)
    assert [words.mismatch(" ".join(spoken[:count]), DIGEST) for count in (0, 7, 8)] == [
        "8 more words are needed: the first 8 at least",
        "1 more word is needed: the first 8 at least",
        "",
    ]


@pytest.mark.parametrize("place", range(6))
def test_one_wrong_word_is_named_and_the_right_one_is_not_given(place: int) -> None:
    typed = list(words.of_digest(DIGEST)[:6])
    right, typed[place] = typed[place], words.of_digest(OTHER)[place]
    said = words.mismatch(" ".join(typed), DIGEST)
    assert said == f"word {place + 1}, '{typed[place]}', is not word {place + 1} of this digest"
    assert right not in said
    assert not words.matches(" ".join(typed), DIGEST)


def test_words_in_another_order_do_not_agree() -> None:
    a, b, *rest = words.of_digest(DIGEST)[:5]
    assert words.mismatch(" ".join([b, a, *rest]), DIGEST).startswith("word 1,")


@pytest.mark.parametrize(
    ("typed", "meant"), [("academc", "academic"), ("academy", "academic"), ("aca", "academic"), ("zreo", "zero")]
)
def test_a_word_that_is_not_in_the_list_is_named_with_its_neighbour(typed: str, meant: str) -> None:
    assert words.mismatch(f"{typed} acid", DIGEST) == f"word 1, '{typed}', is not in the list (did you mean {meant}?)"


def test_letters_that_are_not_ascii_are_letters_of_a_wrong_word() -> None:
    assert "'académic', is not in the list" in words.mismatch("académic acid", "0" * 64)


def test_more_words_than_a_digest_has_do_not_agree() -> None:
    assert (
        words.mismatch(" ".join([*words.of_digest(DIGEST), "acid"]), DIGEST) == "27 words are too many, a digest has 26"
    )


def test_shown_words_are_numbered_and_fit_a_terminal() -> None:
    lines = words.numbered_lines(DIGEST)
    assert re.findall(r"(\d+) ([a-z]+)", " ".join(lines)) == [
        (str(place), word) for place, word in enumerate(words.of_digest(DIGEST), 1)
    ]
    assert len(lines) == 7
    assert max(map(len, lines)) <= 80
    assert len(words.numbered_lines(DIGEST, columns=1)) == 26


def test_passphrases_are_thirteen_words_and_never_the_same() -> None:
    made = {words.new_passphrase() for _ in range(50)}
    assert len(made) == 50
    assert all(len(one.split("-")) == 13 and all(map(words.complete, one.split("-"))) for one in made)


# -- shares -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_of_three() -> tuple[str, list[str]]:
    return shares.split(2, 3)


def test_any_two_of_three_shares_give_the_passphrase_and_one_does_not(two_of_three) -> None:
    passphrase, made = two_of_three
    assert len(passphrase.split("-")) == 13
    for chosen in [*combinations(made, 2), tuple(reversed(made)), tuple(made)]:
        assert shares.combine(chosen) == passphrase
    for share in made:
        fault = refusal(shares.combine, [share])
        assert fault.message == "1 of 2 shares given: 1 missing"


@pytest.mark.parametrize(("k", "n"), [(2, 2), (3, 5), (16, 16)])
def test_every_rule_needs_as_many_as_it_says(k: int, n: int) -> None:
    passphrase, made = shares.split(k, n)
    assert shares.combine(made[-k:]) == passphrase
    assert refusal(shares.combine, made[: k - 1]).message == f"{k - 1} of {k} shares given: 1 missing"


def test_the_words_of_the_passphrase_are_the_secret_that_other_programs_find(two_of_three) -> None:
    passphrase, made = two_of_three
    entropy = combine_mnemonics(made[:2])
    assert len(entropy) == 16
    assert "-".join(words.of_bytes(entropy)) == passphrase


def test_every_split_has_a_passphrase_of_its_own() -> None:
    assert len({shares.split(2, 2)[0] for _ in range(20)}) == 20


def test_shares_are_combined_without_a_slow_derivation(two_of_three) -> None:
    assert {Share.from_mnemonic(one).iteration_exponent for one in two_of_three[1]} == {0}


def test_shares_may_be_typed_in_capitals_with_numbers_or_four_letters(two_of_three) -> None:
    passphrase, made = two_of_three
    numbered = " ".join(f"{place}. {word.upper()}" for place, word in enumerate(made[0].split(), 1))
    short = ",".join(word[:4] for word in made[2].split())
    assert shares.combine([numbered, short]) == passphrase


def test_a_share_with_any_one_word_replaced_is_refused(two_of_three) -> None:
    made = two_of_three[1]
    for place in range(20):
        typed = made[1].split()
        typed[place] = WORDLIST[(WORDLIST.index(typed[place]) + 1 + 37 * place) % 1024]
        fault = refusal(shares.combine, [made[0], " ".join(typed)])
        assert fault.message.startswith("share 2: has a wrong checksum"), place
        assert fault.hint


def test_two_words_that_changed_places_are_found(two_of_three) -> None:
    made = two_of_three[1]
    for place in range(19):
        typed = made[0].split()
        typed[place], typed[place + 1] = typed[place + 1], typed[place]
        if typed != made[0].split():
            assert "share 1: has a wrong checksum" in refusal(shares.combine, [" ".join(typed), made[1]]).message


def test_a_misspelt_word_is_named_with_its_neighbour(two_of_three) -> None:
    made = two_of_three[1]
    typed = made[1].split()
    typed[6] = "champoin"
    fault = refusal(shares.combine, [made[0], " ".join(typed)])
    assert fault.message == "share 2: word 7, 'champoin', is not in the list (did you mean champion?)"


def test_a_share_with_a_missing_word_is_counted(two_of_three) -> None:
    made = two_of_three[1]
    fault = refusal(shares.combine, [made[0].rpartition(" ")[0], made[1]])
    assert fault.message == "share 1: has 19 words, a share has 20"
    assert refusal(shares.combine, []).message == "no share was given"


def test_the_same_share_twice_is_refused(two_of_three) -> None:
    made = two_of_three[1]
    assert refusal(shares.combine, [made[2], made[2].upper()]).message == "share 2 is the same as share 1"


def test_shares_of_different_ceremonies_are_told_apart(two_of_three) -> None:
    made = foreign = two_of_three[1]
    while foreign[0].split()[0] == made[0].split()[0]:  # an identifier has 15 bits, and this word 10 of them
        foreign = shares.split(2, 3)[1]
    assert refusal(shares.combine, [made[0], foreign[1]]).message == "shares 1 and 2 are of different ceremonies"
    assert "share 1 is of another ceremony" in refusal(shares.combine, [foreign[0], made[1], made[2]]).message


def test_shares_that_only_look_alike_do_not_give_a_wrong_passphrase(two_of_three) -> None:
    """A share of another secret under the same identifier, as an accident of 15 bits or a forger makes it."""
    ours, foreign = (Share.from_mnemonic(made[i]) for i, made in enumerate([two_of_three[1], shares.split(2, 3)[1]]))
    for index in (foreign.index, ours.index):
        forged = Share(ours.identifier, ours.extendable, 0, 0, 1, 1, index, 2, foreign.value).mnemonic()
        fault = refusal(shares.combine, [two_of_three[1][0], forged])
        assert fault.message == "shares 1 and 2 are of different ceremonies"


def test_a_share_of_a_wallet_with_groups_is_refused() -> None:
    [wallet, _] = generate_mnemonics(2, [(2, 3), (2, 3)], b"\0" * 16)
    assert "share 1: belongs to a group of shares" in refusal(shares.combine, wallet[:2]).message


@pytest.mark.parametrize(
    ("text", "rule"), [("2of3", (2, 3)), (" 3 of 5 ", (3, 5)), ("2-of-2", (2, 2)), ("16of16", (16, 16))]
)
def test_rules_are_read(text: str, rule: tuple[int, int]) -> None:
    assert shares.parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1of3", "a single share would open the key"),
        ("0of3", "a single share would open the key"),
        ("4of3", "there are only 3 shares"),
        ("2of17", "at most 16 shares"),
        ("two of three", "is not a share rule"),
        ("2", "is not a share rule"),
        ("", "is not a share rule"),
        ("-2of3", "is not a share rule"),
    ],
)
def test_rules_that_protect_nothing_or_cannot_be_kept_are_refused(text: str, said: str) -> None:
    fault = refusal(shares.parse_rule, text)
    assert said in fault.message
    assert fault.hint


# -- pages ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page holds: its tags in order, what it asks for from elsewhere, its text."""

    EMPTY = frozenset({"meta", "br", "hr"})

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.unclosed: list[str] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()
        self.text = " ".join(" ".join(self.texts).split())
        self.outside += re.findall(r"https?:|@import|url\(|//[a-z]", page.decode())

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.outside += [
            name for name, _ in attributes if name in {"src", "href", "srcset", "action"} or name[:2] == "on"
        ]
        if tag not in self.EMPTY:
            self.unclosed.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data) -> None:
        if self.unclosed[-1:] != ["style"]:
            self.texts.append(data)


def assert_stands_alone(page: Page) -> None:
    assert page.unclosed == []
    assert page.outside == []
    assert not {"script", "img", "link", "iframe", "object", "b2"} & set(page.tags)


def test_cards_say_what_a_custodian_needs(two_of_three) -> None:
    made = two_of_three[1]
    cards = shares.render_cards(made, 2, "Example Lab Root CA 1", "Example Lab", START)
    assert list(cards) == ["share-1-of-3.html", "share-2-of-3.html", "share-3-of-3.html"]
    for number, (share, card) in enumerate(zip(made, cards.values(), strict=True), 1):
        page = Page(card)
        assert_stands_alone(page)
        assert " ".join(f"{place} {word}" for place, word in enumerate(share.split(), 1)) in page.text
        for said in (f"Share {number} of 3", "2 of these 3 cards open the key", "Example Lab Root CA 1", "2026-11-23"):
            assert said in page.text
        for said in ("custodian: name", "signature", "received on", "Do not"):
            assert said in page.text


def test_a_card_holds_one_share_and_not_the_passphrase(two_of_three) -> None:
    passphrase, made = two_of_three
    cards = list(shares.render_cards(made, 2, "root", "lab", START).values())
    for own, other in ((0, 1), (1, 2), (2, 0)):
        rest = " ".join(made[other].split()[4:])
        assert rest not in Page(cards[own]).text
        assert passphrase not in cards[own].decode()


def test_names_on_a_page_are_text_and_never_markup(two_of_three) -> None:
    name = "<b2 onload=x>&amp;\"'"
    for card in shares.render_cards(two_of_three[1], 2, name, name, START).values():
        page = Page(card)
        assert_stands_alone(page)
        assert page.text.count(name) >= 2


def test_the_pages_are_part_of_what_is_installed(tmp_path: Path) -> None:
    with ZipFile(make_wheel_in(PROJECT / "pyproject.toml", tmp_path).file) as wheel:
        assert {"pki/ceremony/pages/card.html", "pki/ceremony/pages/transcript.html"} <= set(wheel.namelist())


# -- the transcript ---------------------------------------------------------------------------------------------------


def ticking(start: datetime = START) -> Iterator[datetime]:
    while True:
        yield start
        start += timedelta(seconds=30)


def begin(path: Path) -> Transcript:
    return Transcript(path, ticking().__next__)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small transcript: three records."""
    path = tmp_path / "transcript.jsonl"
    running = begin(path)
    running.record("opened", operator="Änne", witness="Bo", request=DIGEST)
    running.record("environment", findings=[{"check": "swap", "ok": True}], versions={"python": "3"})
    running.record("closed")
    return path


def test_every_step_is_one_line_that_names_the_hash_of_the_one_before(file: Path) -> None:
    previous = "0" * 64
    for number, line in enumerate(file.read_text().splitlines(), 1):
        tree = json.loads(line)
        said = tree.pop("hash")
        content = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert said == hashlib.sha256(content).hexdigest()
        assert (tree["n"], tree["previous"]) == (number, previous)
        assert sorted(tree) == ["at", "facts", "n", "previous", "step"]
        previous = said
    assert json.loads(file.read_text().splitlines()[0])["at"] == "2026-11-23T06:00:00Z"
    assert begin(file).head == previous


def test_what_was_recorded_is_what_is_loaded(file: Path) -> None:
    loaded = transcript.load(file.read_bytes(), file.name)
    assert [record.step for record in loaded] == ["opened", "environment", "closed"]
    assert loaded[0] == Record(
        1, START, "opened", {"operator": "Änne", "witness": "Bo", "request": DIGEST}, "0" * 64, loaded[0].hash
    )
    assert b"".join(record.line for record in loaded) == file.read_bytes()
    assert begin(file).records == tuple(loaded)


def test_a_changed_bit_in_any_byte_is_found(file: Path) -> None:
    data = file.read_bytes()
    for place in range(len(data)):
        for bit in range(8):
            changed = data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
            fault = refusal(transcript.load, changed, "t")
            assert re.match(r"t:\d: ", fault.message), fault.message


def test_a_byte_more_or_less_anywhere_is_found(file: Path) -> None:
    data = file.read_bytes()
    for place in range(len(data)):
        assert refusal(transcript.load, data[:place] + data[place + 1 :], "t")
        for more in (b" ", b"\n", b"0"):
            assert refusal(transcript.load, data[:place] + more + data[place:], "t")


def test_a_record_that_was_dropped_doubled_or_moved_is_found(file: Path) -> None:
    a, b, c = file.read_bytes().splitlines(keepends=True)
    assert refusal(transcript.load, a + c, "t").message == "t:2: has the number 3, where 2 comes next"
    assert refusal(transcript.load, b + c, "t").message == "t:1: has the number 2, where 1 comes next"
    assert refusal(transcript.load, a + a + b, "t").message == "t:2: has the number 1, where 2 comes next"
    assert refusal(transcript.load, a + c + b, "t").message.startswith("t:2: ")
    assert transcript.load(a + b, "t")[-1].hash != transcript.load(a + b + c, "t")[-1].hash


def sealed(**changes: object) -> bytes:
    """A first record whose hash is right, with some of its parts changed."""
    tree = {"at": "2026-11-23T06:00:00Z", "facts": {}, "n": 1, "previous": "0" * 64, "step": "opened"} | changes
    content = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
    tree |= {"hash": hashlib.sha256(content).hexdigest()}
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def test_the_sealed_record_of_these_tests_is_sound() -> None:
    assert transcript.load(sealed(), "t")[0].step == "opened"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "t: has no record"),
        (b"hello\n", "t:1: is not valid JSON"),
        (b"[]\n", "t:1: is not a record"),
        (b"[" * 100_000 + b"\n", "t:1: is not valid JSON"),
        (b"\xff\n", "t:1: is not valid JSON"),
        (b"\n", "t:1: is not valid JSON"),
        (sealed(colour="red"), "t:1: unknown key 'colour'"),
        (sealed().replace(b'"facts":{},', b""), "t:1: lacks the key 'facts'"),
        (sealed(n=2), "t:1: has the number 2, where 1 comes next"),
        (sealed(n=True), "t:1: n: expected a number"),
        (sealed(n="1"), "t:1: n: expected a number"),
        (sealed(previous="1" * 64), "t:1: the chain is broken at record 1"),
        (sealed(facts=[]), "t:1: facts: expected"),
        (sealed(facts={"days": 1.5}), "t:1: is not valid JSON"),
        (sealed(facts={"days": float("nan")}), "t:1: is not valid JSON"),
        (sealed(step="Opened!"), "t:1: step: expected"),
        (sealed(at="2026-11-23T06:00:00+00:00"), "t:1: at: expected a moment"),
        (sealed(at="2026-11-3T06:00:00Z"), "t:1: at: expected a moment"),
        (sealed(at=1), "t:1: at: expected a moment"),
        (sealed().replace(b'"n":1', b'"n": 1'), "t:1: was changed: its JSON"),
        (sealed().replace(b'"n":1', b'"n":1,"n":1'), "t:1: was changed: its JSON"),
        (sealed().replace(b"opened", b"\\u006fpened"), "t:1: was changed: its JSON"),
        (sealed().replace(b"opened", b"closed"), "t:1: the chain is broken at record 1: its hash"),
        (sealed() + b"x", "t:2: is incomplete"),
        (sealed()[:-1], "t:1: is incomplete"),
        (b"\xef\xbb\xbf" + sealed(), "t:1: is not valid JSON"),
    ],
)
def test_each_fault_of_a_transcript_is_named_with_its_line(data: bytes, said: str) -> None:
    fault = refusal(transcript.load, data, "t")
    assert fault.message.startswith(said)
    assert fault.hint


def test_a_transcript_goes_on_where_it_ended(file: Path) -> None:
    before = file.read_bytes()
    running = begin(file)
    assert running.interrupted == ""
    running.record("opened", again=True)
    assert file.read_bytes().startswith(before)
    assert [record.n for record in transcript.load(file.read_bytes(), "t")] == [1, 2, 3, 4]


def test_a_changed_transcript_is_not_continued(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"Bo", b"Al"))
    before = file.read_bytes()
    assert f"{file}:1: the chain is broken at record 1" in refusal(begin, file).message
    assert file.read_bytes() == before


def test_a_write_killed_at_any_byte_is_told_and_written_down(file: Path) -> None:
    data = file.read_bytes()
    whole = data[: data[:-1].rfind(b"\n") + 1]
    for length in range(len(whole) + 1, len(data)):
        file.write_bytes(data[:length])
        running = begin(file)
        assert running.interrupted == f"{file}: its last write was interrupted, so it goes on after record 2"
        last = transcript.load(file.read_bytes(), "t")[-1]
        assert file.read_bytes().startswith(whole)
        assert (last.n, last.step, last.facts["lost_bytes"]) == (3, "continued", length - len(whole))
        assert last.facts["lost_sha256"] == hashlib.sha256(data[len(whole) : length]).hexdigest()


def test_a_first_write_that_was_killed_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(sealed()[:20])
    assert begin(path).interrupted.endswith("so it begins again")
    assert [record.step for record in transcript.load(path.read_bytes(), "t")] == ["continued"]


def test_a_file_that_is_no_transcript_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("buy milk")
    assert refusal(begin, path).message == f"{path}: is not a transcript"
    assert path.read_text() == "buy milk"


def test_everybody_can_read_a_transcript_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        begin(tmp_path / "new" / "t").record("opened")
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "t").stat().st_mode & 0o777 == 0o644


def test_each_record_is_on_disk_before_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, flushed = tmp_path / "t", []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{handle}").resolve())
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    running = begin(path)
    running.record("opened")
    assert flushed == [path, tmp_path]
    running.record("closed")
    assert flushed == [path, tmp_path, path]


def test_a_write_that_fails_leaves_the_transcript_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, running = file.read_bytes(), begin(file)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        assert refusal(running.record, "signed").message == f"{file}: cannot be written: No space left on device"
    assert file.read_bytes() == before
    assert running.head == transcript.load(before, "t")[-1].hash
    running.record("refused")
    assert transcript.load(file.read_bytes(), "t")[-1].n == 4


def test_two_ceremonies_cannot_write_one_transcript(file: Path) -> None:
    one, other = begin(file), begin(file)
    one.record("signed")
    assert "was changed by another process" in refusal(other.record, "signed").message
    assert [record.n for record in transcript.load(file.read_bytes(), "t")] == [1, 2, 3, 4]


def test_a_transcript_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    assert refusal(begin, tmp_path / "t").message == f"{tmp_path}/t: is a folder, not a file"


def test_moments_are_written_in_utc_and_whole_seconds(tmp_path: Path) -> None:
    late = datetime(2026, 11, 23, 8, 0, 0, 999, tzinfo=timezone(timedelta(hours=2)))
    running = Transcript(tmp_path / "t", lambda: late)
    running.record("opened")
    assert running.records[0].at == START


@pytest.mark.parametrize(
    "facts",
    [
        {"pem": "-----BEGIN EC PRIVATE KEY-----\n"},
        {"deep": [{"list": ["-----BEGIN ENCRYPTED PRIVATE KEY-----"]}]},
        {"PRIVATE KEY": 1},
        {"stick": "AGE-SECRET-KEY-1QQQ"},
        {"text": "the passphrase is zero-yoga-acid-crush!"},
        {"words": ["zero", "yoga", "acid", "crush"]},
        {"text": "ZERO YOGA ACID CRUSH"},
        {"text": "zero yoga\nacid, crush"},
        {"zero": {"yoga": "acid crush"}},
        {"pin": 86420},
    ],
)
def test_a_secret_never_gets_in(file: Path, facts: dict[str, object]) -> None:
    running, before = begin(file), file.read_bytes()
    running.forbid("zero-yoga-acid-crush")
    running.forbid("86420")
    with pytest.raises(ValueError, match="'signed' contains a secret") as caught:
        running.record("signed", **facts)
    assert "zero" not in str(caught.value).lower()
    assert file.read_bytes() == before
    running.record("signed", pem="-----BEGIN CERTIFICATE-----", words="zero yoga", count=8642)
    assert len(running.records) == 4


def test_an_empty_secret_is_our_own_mistake(file: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        begin(file).forbid(" ")


@pytest.mark.parametrize("fact", [1.5, float("nan"), b"x", START, {1, 2}, "\udc80", object()])
def test_facts_that_are_not_json_are_our_own_mistake(file: Path, fact: object) -> None:
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"."):
        begin(file).record("signed", fact=fact)
    assert file.read_bytes() == before


@pytest.mark.parametrize("step", ["", "Opened", "a b", "-a", "a_b", "a\n"])
def test_steps_have_plain_names(file: Path, step: str) -> None:
    with pytest.raises(ValueError, match="name of a step"):
        begin(file).record(step)


def test_versions_name_what_a_ceremony_runs_on(file: Path) -> None:
    said = transcript.versions()
    assert list(said) == ["doit-pki", "python", "cryptography", "openssl", "kernel"]
    assert all(re.search(r"\d+\.\d+", version) for version in said.values())
    begin(file).record("environment", versions=said)


# -- the minutes ------------------------------------------------------------------------------------------------------


@pytest.fixture
def eventful(tmp_path: Path) -> Transcript:
    running = begin(tmp_path / "eventful.jsonl")
    running.record("opened", operator="Anna <b2>", witness="Ben")
    running.record(
        "environment", findings=[asdict(machine_check.MachineCheck("swap", "swap is on", False, "swapoff -a"))]
    )
    running.record("deviation", text="swap is on", reason="the disk is *destroyed* afterwards")
    running.record("signed", name="root-1", certificate="Certificate:\n    Data: <b2>\n```\n", sha256=OTHER)
    running.record("linted", name="root-1", lints=[])
    running.record("closed")
    return running


def test_the_page_tells_the_whole_run(eventful: Transcript) -> None:
    raw = transcript.render_page(
        eventful.records, "Root ceremony", organisation="Example Lab", number=7, request=DIGEST, response=OTHER
    )
    page = Page(raw)
    assert_stands_alone(page)
    for said in (
        "Example Lab",
        "Root ceremony",
        "Ceremony 7",
        "Time 2026-11-23 06:00 to 06:02 UTC",
        "Deviations from the script record 3: swap is on, because: the disk is *destroyed* afterwards",
        "1 2026-11-23 06:00:00 The ceremony was opened by Anna <b2>, before Ben.",
        "3 06:01:00 Deviation: swap is on, because the disk is *destroyed* afterwards.",
        "Certificate: Data: <b2>",
        "lints none",
        f"sha256 {OTHER}",
        eventful.head,
        "Operator name date signature",
        "Witness name date signature",
    ):
        assert said in page.text, said
    assert f"Request {words.first(DIGEST)} {DIGEST}" in page.text
    assert f"Head {eventful.head[:16]}" in page.text
    for digest in (DIGEST, OTHER, eventful.head):
        assert " ".join(f"{place} {word}" for place, word in enumerate(words.of_digest(digest), 1)) in page.text


def test_the_page_can_be_printed_and_follows_a_dark_screen(eventful: Transcript) -> None:
    raw = transcript.render_page(eventful.records, "t", organisation="o").decode()
    for rule in ("@media print", "prefers-color-scheme: dark", 'name="viewport"'):
        assert rule in raw
    assert raw.startswith("<!DOCTYPE html>")


def test_only_what_went_wrong_stands_out(eventful: Transcript) -> None:
    raw = transcript.render_page(eventful.records, "t", organisation="o").decode()
    assert raw.count('<li class="grave">') == 1
    assert raw.count('<tr class="bad">') == 1
    calm = transcript.render_page(eventful.records[:1], "t", organisation="o").decode()
    assert 'class="grave"' not in calm
    assert "Deviations from the script none" in Page(calm.encode()).text


def test_signatures_are_on_the_page_that_says_what_was_made_before_the_technical_record(tmp_path: Path) -> None:
    running = begin(tmp_path / "t")
    running.record("opened", vault="1a2b3c4d")
    running.record("key", name="root-1", kept="encrypted on the drive")
    running.record("signed", name="root-1", issuer="its own key", valid="2026-11-23 to 2036-11-20", sha256=OTHER)
    running.record("signed", name="server-1", issuer=r"CN=Lab\, Root 1,O=Lab", sha256=DIGEST)
    for number in (1, 2):
        running.record("crl", number=number, issuer="root-1", valid="2026-11-23 to 2027-12-18")
    running.record("destroyed", name="root-0/key.pem", reason="its paper is lost")
    signed, record = Page(transcript.render_page(running.records, "t", organisation="o")).text.split(
        "Technical record 1"
    )
    for said in (
        "Vault number 1a2b3c4d",
        "The key of root-1 was made, encrypted on the drive.",
        f"The certificate of root-1, valid 2026-11-23 to 2036-11-20, was signed by its own key. {OTHER}",
        rf"The certificate of server-1 was signed by Lab\, Root 1. {DIGEST}",
        "root-0/key.pem was destroyed, because: its paper is lost.",
        "2 CRLs of root-1 were signed: number 1, valid 2026-11-23 to 2027-12-18; number 2, valid 2026-11-23",
        "envelope seal number who takes it where it is kept drive vault drive copy",
        "Operator name date signature Witness name date signature",
    ):
        assert said in signed, said
    assert "signature" not in record


def test_what_was_typed_wrong_and_refused_is_no_deviation(tmp_path: Path) -> None:
    running = begin(tmp_path / "t")
    running.record("opened")
    running.record("refused", message="word 3, 'acid', is not word 3 of this digest", hint="")
    raw = transcript.render_page(running.records, "t", organisation="o")
    assert "Deviations from the script none" in Page(raw).text
    assert "did nothing, at record 2." in Page(raw).text
    assert b'class="grave"' not in raw
    running.record("continued", after=2, lost_bytes=3, lost_sha256=OTHER)
    said = Page(transcript.render_page(running.records, "t", organisation="o")).text
    assert "record 3: a write was interrupted after record 2, and the ceremony went on" in said


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_a_sentence_of_its_own_even_without_facts(tmp_path: Path, step: str) -> None:
    assert step in SENTENCES
    running = begin(tmp_path / "t")
    running.record(step)
    page = Page(transcript.render_page(running.records, "t", organisation="o"))
    assert re.search(r"06:00:00 [A-Z][a-zA-Z ,'-]+\. Times are UTC", page.text)
    assert "{" not in page.text


def test_a_step_that_nobody_foresaw_is_told_by_its_name(tmp_path: Path) -> None:
    running = begin(tmp_path / "t")
    running.record("coffee-break", minutes=15, ok=True, left=None)
    page = Page(transcript.render_page(running.records, "t", organisation="o"))
    assert "Coffee break. left none minutes 15 ok yes" in page.text


# -- the machine ------------------------------------------------------------------------------------------------------

PREPARED = START
HEADER = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.fixture
def look(tmp_path: Path):
    """The findings about a machine that is fit but for what is given."""

    def looked(*, now=START, last=None, swaps=HEADER, up=()) -> list[machine_check.MachineCheck]:
        (tmp_path / "swaps").write_text(swaps)
        return machine_check.check_machine(now, PREPARED, last, swaps=tmp_path / "swaps", interfaces=lambda: list(up))

    return looked


def wrong(found: list[machine_check.MachineCheck]) -> list[tuple[str, str, str]]:
    return [(finding.check, finding.text, finding.remedy) for finding in found if not finding.ok]


def test_a_machine_that_is_fit_has_one_good_finding_for_each_check(look) -> None:
    assert [(finding.check, finding.ok, finding.remedy) for finding in look()] == [
        ("network", True, ""),
        ("swap", True, ""),
        ("clock", True, ""),
    ]


def test_every_interface_that_is_up_is_found(look) -> None:
    assert wrong(look(up=["eth0", "wlan0"])) == [
        ("network", "the network interface eth0 is up", "ip link set eth0 down"),
        ("network", "the network interface wlan0 is up", "ip link set wlan0 down"),
    ]


def test_swap_is_found(look) -> None:
    swaps = HEADER + "/dev/sda2  partition\t1\t0\t-2\n/swap\\040file  file\t1\t0\t-3\n"
    [(check, text, remedy)] = wrong(look(swaps=swaps))
    assert (check, remedy) == ("swap", "swapoff -a")
    assert "/dev/sda2, /swap\\040file" in text


def test_a_kernel_without_swap_has_it_off(tmp_path: Path) -> None:
    found = machine_check.check_machine(START, PREPARED, None, swaps=tmp_path / "none", interfaces=list)
    assert wrong(found) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (timedelta(hours=-1), ""),
        (timedelta(hours=-1, seconds=-1), "before the request was prepared"),
        (timedelta(days=90), ""),
        (timedelta(days=90, seconds=1), "more than 90 days after"),
        (timedelta(days=-3650), "before the request was prepared"),
    ],
)
def test_a_clock_far_from_the_request_is_found(look, after: timedelta, said: str) -> None:
    found = wrong(look(now=PREPARED + after))
    if not said:
        assert found == []
    else:
        [(check, text, remedy)] = found
        assert check == "clock"
        assert said in text
        assert remedy == machine_check.SET_CLOCK


def test_a_clock_before_the_newest_record_of_the_vault_is_found(look) -> None:
    last = PREPARED + timedelta(days=3)
    assert wrong(look(now=last - timedelta(hours=1), last=last)) == []
    [(check, text, remedy)] = wrong(look(now=last - timedelta(hours=1, seconds=1), last=last))
    assert check == "clock"
    assert "before the newest record, 2026-11-26 06:00" in text
    assert remedy == machine_check.SET_CLOCK


def test_the_hint_for_a_wrong_clock_names_utc_and_offers_no_date() -> None:
    """A date that was offered would be typed as it is: the minute of the request is never the true time."""
    assert "true time, in UTC" in machine_check.SET_CLOCK
    assert 'date -u -s "YYYY-MM-DD HH:MM"' in machine_check.SET_CLOCK
    assert not re.search(r"[0-9]{4}", machine_check.SET_CLOCK)


@pytest.mark.parametrize(
    ("watch", "said"),
    [
        ("06:00", ""),
        ("6:10", ""),
        ("05:50", ""),
        ("06:11", "11 minutes apart"),
        ("08:00", "2 hours apart; is one of the two local time, not UTC?"),
        ("11:32", "5 hours and 32 minutes apart; is one of the two local time, not UTC?"),
        ("23:55", "6 hours and 5 minutes apart; is one of the two local time, not UTC?"),
        ("07:15", "1 hour and 15 minutes apart"),
        ("8am", "'8am' is not a time as HH:MM"),
        ("24:00", "'24:00' is not a time as HH:MM"),
    ],
)
def test_a_watch_and_the_clock_are_held_against_each_other(watch: str, said: str) -> None:
    fault = machine_check.watch_fault(START, watch)
    assert fault.endswith(said)
    assert bool(fault) == bool(said)
    assert ("local time" in fault) == ("local time" in said)


def test_midnight_is_no_gap_between_a_watch_and_the_clock() -> None:
    assert machine_check.watch_fault(START.replace(hour=23, minute=58), "00:03") == ""


def test_the_interfaces_of_this_machine_can_be_asked_without_root() -> None:
    assert "lo" not in machine_check.interfaces_up()
