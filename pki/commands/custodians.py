"""Where an operator's secrets come from at a ceremony: generated and typed back, chosen, split into shares, a token's PIN."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from invoke.context import Context

from pki import issue, store, strength, tokens
from pki.ceremony import custody, shares, words
from pki.ceremony.hold import NewKey
from pki.ceremony.sitting import Ceremony
from pki.ceremony.vault import Vault
from pki.commands.asking import TRIES, typed
from pki.commands.command import now_of, passphrase_in, path_of
from pki.errors import PkiError
from pki.issue import PrivateKey
from pki.screen import Screen


@dataclass(frozen=True, slots=True)
class Custody:
    """How a new root's key is to be kept, as the options of a command say it."""

    context: Context
    passphrase_file: str
    own: bool
    shares: str
    cards: str
    token: str

    def __post_init__(self) -> None:
        ways = [bool(self.own), bool(self.shares), bool(self.token), bool(self.passphrase_file and not self.token)]
        if sum(ways) > 1:
            raise PkiError("--own, --shares, --token and --passphrase-file exclude each other", "choose one of them")
        if self.cards and not self.shares:
            raise PkiError("--cards belongs to --shares", "--shares 2of3 --cards DIR")
        if self.shares:
            shares.parse_rule(self.shares)
        if self.token:
            tokens.parse(self.token)


# -- new keys ---------------------------------------------------------------------------------------------------------


def new_key(wanted: Custody, held: Ceremony, name: str, kind: str) -> NewKey:
    """A new root's key, kept as wanted."""
    if wanted.token:
        pin = passphrase_in(wanted.context, wanted.passphrase_file) or typed("PIN of the token: ", hidden=True)
        source = wanted.passphrase_file or "what you typed"
        return custody.in_token(name, kind, tokens.parse(wanted.token), pin, source)
    passphrase, rule = _new_passphrase(wanted, name, held.request.organisation)
    return custody.in_file(issue.new_key(kind), passphrase, rule)


def wrapped(wanted: Custody, name: str, key: PrivateKey) -> NewKey:
    """A key that is there already, under a new passphrase."""
    passphrase, rule = _new_passphrase(wanted, name, "")
    return custody.in_file(key, passphrase, rule)


def _new_passphrase(wanted: Custody, name: str, organisation: str) -> tuple[str, str]:
    """A new passphrase, and the rule of its shares when it is split."""
    if wanted.shares:
        return _split(wanted, name, organisation), wanted.shares
    if wanted.passphrase_file or wanted.own:
        return _chosen(wanted, name), ""
    return _generated(name), ""


def _chosen(wanted: Custody, name: str) -> str:
    given = passphrase_in(wanted.context, wanted.passphrase_file)
    if given is None:
        given = typed(f"passphrase for {name}: ", hidden=True)
        if given != typed("once more: ", hidden=True):
            raise PkiError("the two passphrases differ", "type it again")
    given = words.passphrase(given)  # as `_asked` will take it
    if fault := strength.fault(given):
        raise PkiError(
            f"{wanted.passphrase_file or 'the passphrase'}: {fault}", "six random words, or let it be generated"
        )
    return given


def _generated(name: str) -> str:
    """A passphrase that is shown once, and counts only once it was typed back from paper."""
    passphrase, screen = words.new_passphrase(), Screen()
    if typed(f"the passphrase of {name} will be shown once: paper and pen at hand, nobody behind you? [yes] ") not in {
        "",
        "yes",
        "y",
    }:
        raise PkiError("stopped; nothing was written", "start again when you are ready")
    screen.line("")
    for line in _grid(passphrase.replace("-", " ")):
        screen.line(f"    {line}")
    screen.line("")
    typed("press Enter when it is written down; the screen is cleared then ")
    screen.clear()
    for _ in range(3):
        if words.passphrase(typed("type it back from the paper: ", hidden=True)) == passphrase:
            return passphrase
        screen.line("that is not it; look again")
    raise PkiError("the passphrase was not typed back", "nothing was written; start again, and another one is made")


def _split(wanted: Custody, name: str, organisation: str) -> str:
    """A new passphrase that nobody sees: each custodian gets a share, on a card or on the screen."""
    k, n = shares.parse_rule(wanted.shares)
    passphrase, parts = shares.split(k, n)
    if wanted.cards:
        folder = path_of(wanted.context, wanted.cards)
        pages = shares.cards(parts, k, name, organisation, now_of(wanted.context))
        store.write_all({folder / page: (content, store.SECRET) for page, content in pages.items()})
        Screen().line(f"{n} cards are in {folder}: print them here, hand them out, and destroy the files")
        return passphrase
    screen = Screen()
    for number, part in enumerate(parts, 1):
        typed(f"share {number} of {n}: only its custodian looks now; press Enter ")
        screen.line("")
        for line in _grid(part):
            screen.line(f"    {line}")
        typed("\npress Enter when it is written down; the screen is cleared then ")
        screen.clear()
    return passphrase


def _grid(text: str) -> list[str]:
    """Words in numbered lines, to be written down."""
    cells = [f"{place:>2} {word:<9}" for place, word in enumerate(text.split(), 1)]
    return ["  ".join(cells[start : start + 5]).rstrip() for start in range(0, len(cells), 5)]


# -- keys that are there ----------------------------------------------------------------------------------------------


def opening(
    context: Context, vault: Vault, passphrase_files: list[str], share_files: list[str]
) -> Callable[[str], str]:
    """What asks for a root's passphrase, shares or PIN; each is asked for once.

    A file named as `root-2=FILE` is for that root alone.
    """
    kept: dict[str, str] = {}

    def secret_of(root: str) -> str:
        if root not in kept:
            passphrase_file = (_for(root, passphrase_files) or [""])[0]
            kept[root] = _asked(context, vault, root, passphrase_file, _for(root, share_files))
        return kept[root]

    return secret_of


def _for(root: str, files: list[str]) -> list[str]:
    """The files that are named for a root, or for any root when none is named for it."""
    own = [file.removeprefix(f"{root}=") for file in files if file.startswith(f"{root}=")]
    return own or [file for file in files if not re.match(r"root-[0-9]+=", file)]


def _asked(context: Context, vault: Vault, root: str, passphrase_file: str, share_files: list[str]) -> str:
    if not vault.has_key(root):
        return ""  # nothing could open it, and whoever wants to says so
    rule = custody.rule_of(vault, root)
    if rule is None or passphrase_file:
        given = passphrase_in(context, passphrase_file)
        if vault.token_of(root):  # a wrong PIN is never tried twice: the token would lock itself
            return given if given is not None else typed(f"PIN of the token that holds {root}: ", hidden=True)
        if given is not None:
            return words.passphrase(given)
        return _mended(f"passphrase of {root}: ", lambda text: _tried(vault, root, text))
    if share_files:
        return shares.combine([passphrase_in(context, file) or "" for file in share_files])
    k, _ = rule
    return shares.combine(
        [_mended(f"share {place} of {k} for {root}: ", partial(_checked, place)) for place in range(1, k + 1)]
    )


def _mended(question: str, taken: Callable[[str], str]) -> str:
    """What was typed, as `taken`; a slip is said, and may be mended twice."""
    for _ in range(TRIES - 1):
        given = typed(question, hidden=True)
        try:
            return taken(given)
        except PkiError as error:
            Screen().line(f"{error.message}; look again")
    return taken(typed(question, hidden=True))


def _tried(vault: Vault, root: str, text: str) -> str:
    passphrase = words.passphrase(text)
    vault.open_key(root, passphrase, "the operator")
    return passphrase


def _checked(place: int, share: str) -> str:
    shares.check(place, share)
    return share
