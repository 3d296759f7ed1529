"""Split a passphrase into shares and combine them (SLIP-39), so that other SLIP-39 programs can combine them too.

The passphrase is 128 random bits as words. The shares have no passphrase of their own.
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

MAX_SHARES = 16
ENTROPY_BYTES = 16
SHARE_WORDS = 20
EXPONENT = 0  # random bits need no key stretching: https://github.com/satoshilabs/slips/blob/master/slip-0039.md
RETYPE = "compare it with its card and type it again"


def parse_rule(text: str) -> tuple[int, int]:
    """Return how many shares are needed and how many there are: "2of3" is (2, 3). Raises PkiError."""
    match = re.fullmatch(r"\s*(\d{1,3})[\s-]*of[\s-]*(\d{1,3})\s*", text)
    if not match:
        raise PkiError(f"'{text}' is not a share rule", "2of3, for example")
    needed, total = int(match[1]), int(match[2])
    if needed < 2:
        raise PkiError(f"{text}: a single share would open the key", "2of3, for example")
    if needed > total:
        raise PkiError(f"{text}: there are only {total} shares", "2of3, for example")
    if total > MAX_SHARES:
        raise PkiError(
            f"{text}: at most {MAX_SHARES} shares are possible",
            f"{min(needed, MAX_SHARES)}of{MAX_SHARES}, for example",
        )
    return needed, total


def split(needed: int, total: int) -> tuple[str, list[str]]:
    """Return a new passphrase and its `total` shares, of which any `needed` restore the passphrase."""
    from shamir_mnemonic import generate_mnemonics  # noqa: PLC0415 - not needed by a run with nothing to do

    if not 2 <= needed <= total <= MAX_SHARES:
        raise ValueError(f"{needed} of {total} shares")
    entropy = secrets.token_bytes(ENTROPY_BYTES)
    [shares] = generate_mnemonics(1, [(needed, total)], entropy, iteration_exponent=EXPONENT)
    return _passphrase(entropy), list(shares)


def combine(shares: Sequence[str]) -> str:
    """Return the passphrase of these shares, each given as words. More shares than needed are permitted.

    Raises PkiError for a misspelt word, a share of another passphrase, or missing shares; it names a share by its position.
    """
    from shamir_mnemonic import MnemonicError, combine_mnemonics  # noqa: PLC0415 - not needed by a run with nothing to do

    if not shares:
        raise PkiError("no share was given", "type the words of each card")
    texts = [_spelt(place, share) for place, share in enumerate(shares, 1)]
    parsed = [_parsed(place, text) for place, text in enumerate(texts, 1)]
    _check_one_passphrase(parsed)
    _check_different_shares(parsed)
    needed = parsed[0].member_threshold
    if len(parsed) < needed:
        raise PkiError(
            f"{len(parsed)} of {needed} shares given: {needed - len(parsed)} missing", "ask another custodian"
        )
    try:
        return _passphrase(combine_mnemonics(texts[:needed]))
    except MnemonicError:
        raise _different_ceremonies_error(range(1, len(parsed) + 1)) from None


def check_share(place: int, share: str, earlier: Sequence[str] = ()) -> None:
    """Raise PkiError when the typed words are not a share, or do not belong to the `earlier` shares."""
    texts = [_spelt(earlier_place, earlier_share) for earlier_place, earlier_share in enumerate(earlier, 1)]
    shares = [_parsed(earlier_place, text) for earlier_place, text in enumerate(texts, 1)]
    shares.append(_parsed(place, _spelt(place, share)))
    _check_one_passphrase(shares)
    _check_different_shares(shares)


def render_cards(shares: Sequence[str], k: int, root: str, organisation: str, created: datetime) -> dict[str, bytes]:
    """Return one printable HTML page for each share, by file name."""
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
                "made": f"{created:%Y-%m-%d}",
            },
        ).encode()
        for number, share in enumerate(shares, 1)
    }


def _passphrase(entropy: bytes) -> str:
    return "-".join(words.of_bytes(entropy))


def _spelt(place: int, share: str) -> str:
    """Return a share with its words complete. Raises PkiError."""
    typed_words = words.split(share)
    if misspelt_words := words.misspelt(typed_words):
        raise PkiError(misspelt_words, RETYPE, lead=f"share {place}")
    if len(typed_words) != SHARE_WORDS:
        raise PkiError(f"has {len(typed_words)} words, a share has {SHARE_WORDS}", RETYPE, lead=f"share {place}")
    return " ".join(words.complete(word) for word in typed_words)


def _parsed(place: int, text: str) -> Any:
    from shamir_mnemonic import MnemonicError, Share  # noqa: PLC0415 - not needed by a run with nothing to do

    try:
        share = Share.from_mnemonic(text)
    except MnemonicError:
        fault = word_correction.share_fault(text.split()) or "it is not a share of 20 words"
        raise PkiError(f"has a wrong checksum: {fault}", RETYPE, lead=f"share {place}") from None
    if share.group_count != 1 or share.member_threshold < 2:
        what = "belongs to a group of shares of another program"
        raise PkiError(what, "find the right card", lead=f"share {place}")
    return share


def _check_one_passphrase(parsed_shares: Sequence[Any]) -> None:
    """Raise PkiError when shares belong to different passphrases: their common parameters differ."""
    parameters = [share.group_parameters() for share in parsed_shares]
    (most_common, count), *others = Counter(parameters).most_common()
    outliers = [place for place, other in enumerate(parameters, 1) if other != most_common]
    if others and count > len(outliers):  # the majority is right
        raise _different_ceremonies_error(outliers)
    if others:
        raise _different_ceremonies_error(range(1, len(parsed_shares) + 1))


def _different_ceremonies_error(places: Sequence[int]) -> PkiError:
    *most, last = map(str, places)
    which = f"shares {', '.join(most)} and {last} are of different ceremonies"
    return PkiError(
        which if most else f"share {last} is of another ceremony than the rest",
        "compare the root and the date on their cards",
    )


def _check_different_shares(parsed_shares: Sequence[Any]) -> None:
    """Raise PkiError when a share was given twice."""
    places: dict[int, int] = {}
    for place, share in enumerate(parsed_shares, 1):
        if share.index in places:
            earlier_place = places[share.index]
            if share.value != parsed_shares[earlier_place - 1].value:
                raise _different_ceremonies_error([earlier_place, place])
            raise PkiError(f"share {place} is the same as share {earlier_place}", "type the words of another card")
        places[share.index] = place
