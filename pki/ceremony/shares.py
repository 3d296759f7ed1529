"""A passphrase in shares of which some open it: SLIP-39, so that any program that knows it can, without this one.

The passphrase is 128 random bits as words. They are split without a passphrase of their own.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pki.ceremony import word_correction, words
from pki.common.errors import PkiError
from pki.common.templating import Pages

MOST = 16
ENTROPY = 16
SHARE_WORDS = 20
EXPONENT = 0  # random bits need no slow derivation: https://github.com/satoshilabs/slips/blob/master/slip-0039.md
AGAIN = "look at its card and type it again"


def parse_rule(text: str) -> tuple[int, int]:
    """How many shares open the key, of how many: "2of3" is (2, 3)."""
    found = re.fullmatch(r"\s*(\d{1,3})[\s-]*of[\s-]*(\d{1,3})\s*", text)
    if not found:
        raise PkiError(f"'{text}' does not say how many shares of how many", "2of3, for example")
    k, n = int(found[1]), int(found[2])
    if k < 2:
        raise PkiError(f"{text}: one share alone would open the key, so whoever finds one has it", "2of3, for example")
    if k > n:
        raise PkiError(f"{text}: {k} shares of {n} can never come together", "2of3, for example")
    if n > MOST:
        raise PkiError(f"{text}: there can be {MOST} shares at most", f"{min(k, MOST)}of{MOST}, for example")
    return k, n


def split(k: int, n: int) -> tuple[str, list[str]]:
    """A new passphrase and its `n` shares, of which any `k` give it again."""
    from shamir_mnemonic import generate_mnemonics  # noqa: PLC0415 - not for a run with nothing to do

    if not 2 <= k <= n <= MOST:
        raise ValueError(f"{k} of {n} shares")
    entropy = secrets.token_bytes(ENTROPY)
    [shares] = generate_mnemonics(1, [(k, n)], entropy, iteration_exponent=EXPONENT)
    return _passphrase(entropy), list(shares)


def combine(shares: Sequence[str]) -> str:
    """The passphrase of which these are shares, each as its words; more than are needed do no harm.

    Raises PkiError that calls a share by its place in `shares`: what is misspelt, what does not belong, how many are missing.
    """
    from shamir_mnemonic import MnemonicError, combine_mnemonics  # noqa: PLC0415 - not for a run with nothing to do

    if not shares:
        raise PkiError("no share was given", "type the words of each card")
    texts = [_spelt(place, share) for place, share in enumerate(shares, 1)]
    read = [_read(place, text) for place, text in enumerate(texts, 1)]
    _refuse_strangers(read)
    _refuse_twins(read)
    needed = read[0].member_threshold
    if len(read) < needed:
        raise PkiError(f"{len(read)} of {needed} shares given: {needed - len(read)} missing", "ask another custodian")
    try:
        return _passphrase(combine_mnemonics(texts[:needed]))
    except MnemonicError:
        raise _of_different_ceremonies(range(1, len(read) + 1)) from None


def check(place: int, share: str, earlier: Sequence[str] = ()) -> None:
    """Raise PkiError when what was typed cannot be a share, or does not go with `earlier` ones that were checked."""
    texts = [_spelt(before, one) for before, one in enumerate(earlier, 1)]
    read = [_read(before, text) for before, text in enumerate(texts, 1)]
    read.append(_read(place, _spelt(place, share)))
    _refuse_strangers(read)
    _refuse_twins(read)


def cards(shares: Sequence[str], k: int, root: str, organisation: str, made: datetime) -> dict[str, bytes]:
    """One printable HTML page for each share, by its file's name."""
    pages, n = Pages(Path(__file__).parent / "pages"), len(shares)
    return {
        f"share-{number}-of-{n}.html": pages.render(
            "card.html",
            {
                "number": number,
                "k": k,
                "n": n,
                "words": share.split(),
                "root": root,
                "organisation": organisation,
                "made": f"{made:%Y-%m-%d}",
            },
        ).encode()
        for number, share in enumerate(shares, 1)
    }


def _passphrase(entropy: bytes) -> str:
    return "-".join(words.of_bytes(entropy))


def _spelt(place: int, share: str) -> str:
    """A share with its words whole."""
    typed = words.split(share)
    if wrong := words.misspelt(typed):
        raise PkiError(wrong, AGAIN, lead=f"share {place}")
    if len(typed) != SHARE_WORDS:
        raise PkiError(f"has {len(typed)} words, a share has {SHARE_WORDS}", AGAIN, lead=f"share {place}")
    return " ".join(words.whole(word) for word in typed)


def _read(place: int, text: str) -> Any:
    from shamir_mnemonic import MnemonicError, Share  # noqa: PLC0415 - not for a run with nothing to do

    try:
        read = Share.from_mnemonic(text)
    except MnemonicError:
        fault = word_correction.in_share(text.split()) or "it is no share of 20 words"
        raise PkiError(f"has a wrong checksum: {fault}", AGAIN, lead=f"share {place}") from None
    if read.group_count != 1 or read.member_threshold < 2:
        what = "was not made here: it belongs to a group of shares"
        raise PkiError(what, "look for the right card", lead=f"share {place}")
    return read


def _refuse_strangers(read: Sequence[Any]) -> None:
    """Shares of one split have all but their index and their value in common."""
    families = [share.group_parameters() for share in read]
    (family, size), *others = Counter(families).most_common()
    strangers = [place for place, other in enumerate(families, 1) if other != family]
    if others and size > len(strangers):
        raise _of_different_ceremonies(strangers)
    if others:
        raise _of_different_ceremonies(range(1, len(read) + 1))


def _of_different_ceremonies(places: Sequence[int]) -> PkiError:
    *most, last = map(str, places)
    which = f"shares {', '.join(most)} and {last} are of different ceremonies"
    return PkiError(
        which if most else f"share {last} is of another ceremony than the rest",
        "compare the root and the date on their cards",
    )


def _refuse_twins(read: Sequence[Any]) -> None:
    """No two shares have one index: twice the same card says nothing more."""
    seen: dict[int, int] = {}
    for place, share in enumerate(read, 1):
        if share.index in seen:
            before = seen[share.index]
            if share.value != read[before - 1].value:
                raise _of_different_ceremonies([before, place])
            raise PkiError(f"share {place} is share {before} once more", "type the words of another card")
        seen[share.index] = place
