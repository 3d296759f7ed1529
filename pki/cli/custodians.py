"""Where an operator's secrets come from at a ceremony: generated and typed back, chosen, split into shares, a token's PIN."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from invoke.context import Context

from pki.ceremony import shares, words
from pki.ceremony.offline import key_storage
from pki.ceremony.offline.session import Ceremony
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.vault import Vault
from pki.cli.decorator import now_of, passphrase_in, path_of
from pki.cli.prompt import STOPPED, ask, ask_hidden, ask_to_repeat, without_echo
from pki.common import filesystem, passphrase_strength
from pki.common.errors import CancelledError, InputError, PkiError
from pki.common.terminal import Screen
from pki.x509 import keys, pkcs11
from pki.x509.keys import PrivateKey


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
            pkcs11.parse(self.token)


# -- new keys ---------------------------------------------------------------------------------------------------------


def new_key(wanted: Custody, held: Ceremony, name: str, kind: str) -> NewKey:
    """A new root's key, kept as wanted."""
    if wanted.token:
        pin = passphrase_in(wanted.context, wanted.passphrase_file) or ask("PIN of the token: ", hidden=True)
        source = wanted.passphrase_file or "what you typed"
        held.transcript.settle()  # a token keeps the key that it makes, whatever happens afterwards
        return key_storage.in_token(name, kind, pkcs11.parse(wanted.token), pin, source)
    passphrase, rule = _new_passphrase(wanted, name, held.request.organisation)
    return key_storage.in_file(keys.new_key(kind), passphrase, rule)


def wrapped(wanted: Custody, name: str, key: PrivateKey) -> NewKey:
    """A key that is there already, under a new passphrase."""
    passphrase, rule = _new_passphrase(wanted, name, "")
    return key_storage.in_file(key, passphrase, rule)


def _new_passphrase(wanted: Custody, name: str, organisation: str) -> tuple[str, str]:
    """A new passphrase, and the rule of its shares when it is split."""
    if wanted.shares:
        return _split(wanted, name, organisation), wanted.shares
    if wanted.passphrase_file or wanted.own:
        return _chosen(wanted, name), ""
    return _generated(name), ""


def _chosen(wanted: Custody, name: str) -> str:
    given = passphrase_in(wanted.context, wanted.passphrase_file)
    if given is not None:
        return _strong(wanted.passphrase_file, given)
    with without_echo():
        while True:
            given = ask_hidden(f"passphrase for {name}: ", partial(_strong, "the passphrase"))
            if given == words.passphrase(ask("once more: ", hidden=True)):
                return given
            Screen().line("the two differ; type it again, twice (Ctrl-C stops)")


def _strong(source: str, given: str) -> str:
    """A passphrase that a person chose, as `_asked` will take it."""
    if fault := passphrase_strength.find_weakness(words.passphrase(given)):
        raise InputError(f"{source}: {fault}", "six random words, or let it be generated")
    return words.passphrase(given)


def _generated(name: str) -> str:
    """A passphrase that counts only once it was typed back from paper."""
    passphrase = words.new_passphrase()
    question = f"the passphrase of {name} is going to be shown: paper and pen at hand, nobody behind you? [yes] "
    if ask(question).strip() not in {"", "yes", "y"}:
        raise CancelledError(STOPPED, "start again when you are ready")
    _show(passphrase.replace("-", " "))
    ask_to_repeat(
        "type it back from the paper (nothing is shown; Enter alone shows it again): ",
        passphrase,
        lambda: _show(passphrase.replace("-", " ")),
    )
    return passphrase


def _split(wanted: Custody, name: str, organisation: str) -> str:
    """A new passphrase that nobody sees: each custodian gets a share, on a card or on the screen, and types it back."""
    k, n = shares.parse_rule(wanted.shares)
    passphrase, parts = shares.split(k, n)
    screen = Screen()
    if wanted.cards:
        folder = path_of(wanted.context, wanted.cards)
        pages = shares.cards(parts, k, name, organisation, now_of(wanted.context))
        filesystem.write_all({folder / page: (content, filesystem.SECRET) for page, content in pages.items()})
        screen.line(f"{n} cards are in {folder}: print them here, hand them out, and destroy the files")
    for number, part in enumerate(parts, 1):
        show = partial(_point_to, number, n) if wanted.cards else partial(_show, part)
        ask(f"share {number} of {n}: only its custodian looks now; press Enter ")
        if not wanted.cards:
            show()
        ask_to_repeat(f"share {number} of {n}, typed back from the card (nothing is shown): ", part, show)
        screen.line(f"share {number} of {n} is right")
    return passphrase


def _point_to(number: int, n: int) -> None:
    Screen().line(f"share {number} of {n} stands on its card: type it from there")


def _show(text: str) -> None:
    """Show words until Enter is pressed, then clear the screen."""
    screen = Screen()
    screen.line("")
    for line in _grid(text):
        screen.line(f"    {line}")
    ask("\npress Enter when it is written down; the screen is cleared then ")
    screen.clear()


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
    rule = key_storage.rule_of(vault, root)
    if rule is None or passphrase_file:
        given = passphrase_in(context, passphrase_file)
        if vault.token_of(root):  # a wrong PIN is never tried twice: the token would lock itself
            return given if given is not None else ask(f"PIN of the token that holds {root}: ", hidden=True)
        if given is not None:
            return words.passphrase(given)
        count = words.PASSPHRASE_WORDS if key_storage.is_generated(vault, root) else 0
        return ask_hidden(f"passphrase of {root}: ", lambda text: _tried(vault, root, text), count)
    if share_files:
        return shares.combine([passphrase_in(context, file) or "" for file in share_files])
    return _combined(vault, root, rule[0])


def _combined(vault: Vault, root: str, k: int) -> str:
    """The passphrase that the shares of k custodians give; shares of another root are told, and asked for again."""
    with without_echo():
        while True:
            given: list[str] = []
            for place in range(1, k + 1):
                given.append(
                    ask_hidden(
                        f"share {place} of {k} for {root}: ", partial(_checked, given, place), shares.SHARE_WORDS
                    )
                )
            try:
                return _tried(vault, root, shares.combine(given))
            except InputError:
                Screen().line(
                    f"these shares do not open {root}; compare the root and the date on the cards (Ctrl-C stops)"
                )


def _tried(vault: Vault, root: str, text: str) -> str:
    passphrase = words.passphrase(text)
    if fault := key_storage.slip(vault, root, passphrase):
        raise InputError(f"the passphrase of {root} is wrong: {fault}", "look at its paper, and type all of it again")
    vault.open_key(root, passphrase, "the operator")
    return passphrase


def _checked(given: list[str], place: int, share: str) -> str:
    try:
        shares.check(place, share, given)
    except PkiError as error:
        # A card has a number of its own, which is another one than its place.
        raise InputError(error.what, error.hint, lead=_card(place) if error.lead else "") from None
    return share


def _card(place: int) -> str:
    """A card by when it was typed."""
    return f"{('first', 'second', 'third')[place - 1]} card" if place <= 3 else f"card that was typed as number {place}"
