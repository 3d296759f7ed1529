"""Prompts for the secrets of a ceremony: generated or chosen passphrases, shares of custodians, PINs of tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from invoke.context import Context

from pki.ceremony import shares, words
from pki.ceremony.offline import key_storage
from pki.ceremony.offline.session import CeremonySession
from pki.ceremony.offline.steps import NewKey
from pki.ceremony.vault import Vault
from pki.cli.decorator import now_of, passphrase_in, path_of
from pki.cli.prompt import STOPPED, ask, ask_hidden, ask_to_repeat, without_echo
from pki.common import filesystem, passphrase_strength
from pki.common.errors import CancelledError, InputError, PkiError
from pki.common.terminal import Screen, clear_terminal
from pki.x509 import keys, pkcs11
from pki.x509.keys import PrivateKey


@dataclass(frozen=True, slots=True)
class Custody:
    """The options of a command for the storage of a new root's key. Raises PkiError for options that exclude each other."""

    context: Context
    passphrase_file: str
    own: bool
    shares: str
    cards: str
    token: str

    def __post_init__(self) -> None:
        # With --token, --passphrase-file is a file with the PIN, and not a way of its own.
        is_from_file = bool(self.passphrase_file and not self.token)
        if sum([bool(self.own), bool(self.shares), bool(self.token), is_from_file]) > 1:
            raise PkiError("--own, --shares, --token and --passphrase-file exclude each other", "choose one of them")
        if self.cards and not self.shares:
            raise PkiError("--cards is only valid with --shares", "--shares 2of3 --cards DIR")
        if self.shares:
            shares.parse_rule(self.shares)
        if self.token:
            pkcs11.parse(self.token)


# -- new keys ---------------------------------------------------------------------------------------------------------


def make_new_key(custody: Custody, ceremony: CeremonySession, name: str, kind: str) -> NewKey:
    """Create a root's key with the storage that the options ask for."""
    if custody.token:
        pin = passphrase_in(custody.context, custody.passphrase_file) or ask("PIN of the token: ", hidden=True)
        source = custody.passphrase_file or "what you typed"
        ceremony.transcript.settle()  # the token has the key from now on, whatever happens afterwards
        return key_storage.generate_in_token(name, kind, pkcs11.parse(custody.token), pin, source)
    passphrase, rule = _new_passphrase(custody, name, ceremony.request.organisation)
    return key_storage.store_in_file(keys.new_key(kind), passphrase, rule)


def encrypt_again(custody: Custody, name: str, key: PrivateKey) -> NewKey:
    """Return an existing key, encrypted under a new passphrase."""
    passphrase, rule = _new_passphrase(custody, name, "")
    return key_storage.store_in_file(key, passphrase, rule)


def _new_passphrase(custody: Custody, name: str, organisation: str) -> tuple[str, str]:
    """Return a new passphrase, and the share rule when it is split."""
    if custody.shares:
        return _split(custody, name, organisation), custody.shares
    if custody.passphrase_file or custody.own:
        return _chosen(custody, name), ""
    return _generated(name), ""


def _chosen(custody: Custody, name: str) -> str:
    """Return the passphrase from a file, or typed twice."""
    from_file = passphrase_in(custody.context, custody.passphrase_file)
    if from_file is not None:
        return _strong(custody.passphrase_file, from_file)
    with without_echo():
        while True:
            passphrase = ask_hidden(f"passphrase for {name}: ", partial(_strong, "the passphrase"))
            if passphrase == words.passphrase(ask("once more: ", hidden=True)):
                return passphrase
            Screen().line("the two differ; type it again, twice (Ctrl-C stops)")


def _strong(source: str, text: str) -> str:
    """Return a chosen passphrase in the form that `_secret` returns. Raises InputError if it is weak."""
    passphrase = words.passphrase(text)
    if fault := passphrase_strength.find_weakness(passphrase):
        raise InputError(f"{source}: {fault}", "six random words, or let it be generated")
    return passphrase


def _generated(name: str) -> str:
    """Return a new generated passphrase, after the operator typed it back from paper."""
    passphrase = words.new_passphrase()
    question = f"the passphrase of {name} will be shown: paper and pen ready, nobody else looking? [yes] "
    if ask(question).strip() not in {"", "yes", "y"}:
        raise CancelledError(STOPPED, "start again when you are ready")
    _show(passphrase.replace("-", " "))
    ask_to_repeat(
        "type it back from the paper (nothing is shown; Enter alone shows it again): ",
        passphrase,
        lambda: _show(passphrase.replace("-", " ")),
    )
    return passphrase


def _split(custody: Custody, name: str, organisation: str) -> str:
    """Return a new passphrase that nobody sees: each custodian gets a share, on a card or on the screen, and types it back."""
    needed, total = shares.parse_rule(custody.shares)
    passphrase, parts = shares.split(needed, total)
    screen = Screen()
    if custody.cards:
        folder = path_of(custody.context, custody.cards)
        pages = shares.render_cards(parts, needed, name, organisation, now_of(custody.context))
        filesystem.write_all({folder / page: (content, filesystem.SECRET) for page, content in pages.items()})
        screen.line(f"{total} cards are in {folder}: print them here, hand them out, and destroy the files")
    for number, part in enumerate(parts, 1):
        show = partial(_point_to, number, total) if custody.cards else partial(_show, part)
        ask(f"share {number} of {total}: only its custodian looks now; press Enter ")
        if not custody.cards:
            show()
        ask_to_repeat(f"share {number} of {total}, typed back from the card (nothing is shown): ", part, show)
        screen.line(f"share {number} of {total} is right")
    return passphrase


def _point_to(number: int, total: int) -> None:
    Screen().line(f"share {number} of {total} is on its card: type it from there")


def _show(text: str) -> None:
    """Show words until Enter is pressed, then clear the screen."""
    screen = Screen()
    screen.line("")
    for line in _grid(text):
        screen.line(f"    {line}")
    ask("\npress Enter when it is written down; the screen is cleared then ")
    clear_terminal()


def _grid(text: str) -> list[str]:
    """Return words in numbered columns, to be written down."""
    cells = [f"{place:>2} {word:<9}" for place, word in enumerate(text.split(), 1)]
    return ["  ".join(cells[start : start + 5]).rstrip() for start in range(0, len(cells), 5)]


# -- existing keys ----------------------------------------------------------------------------------------------------


def secret_reader(
    context: Context, vault: Vault, passphrase_files: list[str], share_files: list[str]
) -> Callable[[str], str]:
    """Return a function that reads or prompts for the passphrase, shares or PIN of a root, once for each root.

    A file named as `root-2=FILE` is for that root only.
    """
    secrets: dict[str, str] = {}

    def secret_of(root: str) -> str:
        if root not in secrets:
            passphrase_file = next(iter(_files_for(root, passphrase_files)), "")
            secrets[root] = _secret(context, vault, root, passphrase_file, _files_for(root, share_files))
        return secrets[root]

    return secret_of


def _files_for(root: str, files: list[str]) -> list[str]:
    """Return the files that are named for a root; if there are none, those that are for any root."""
    own = [file.removeprefix(f"{root}=") for file in files if file.startswith(f"{root}=")]
    return own or [file for file in files if not re.match(r"root(-peer)?-[0-9]+=", file)]


def _secret(context: Context, vault: Vault, root: str, passphrase_file: str, share_files: list[str]) -> str:
    """Return the passphrase or PIN of a root, from files or prompts."""
    if not vault.has_key(root):
        return ""  # opening the key reports that it is missing
    rule = key_storage.share_rule(vault, root)
    if rule is None or passphrase_file:
        from_file = passphrase_in(context, passphrase_file)
        if vault.token_of(root):  # a PIN is tried once only: repeated wrong PINs lock the token
            return from_file if from_file is not None else ask(f"PIN of the token that holds {root}: ", hidden=True)
        if from_file is not None:
            return words.passphrase(from_file)
        count = words.PASSPHRASE_WORDS if key_storage.is_generated(vault, root) else 0
        return ask_hidden(f"passphrase of {root}: ", lambda text: _tried(vault, root, text), count)
    if share_files:
        return shares.combine([passphrase_in(context, file) or "" for file in share_files])
    needed, _ = rule
    return _combined(vault, root, needed)


def _combined(vault: Vault, root: str, needed: int) -> str:
    """Prompt for the shares of `needed` custodians, and return the passphrase.

    Prompts for all of them again if they do not open the key of the root.
    """
    with without_echo():
        while True:
            typed_shares: list[str] = []
            for place in range(1, needed + 1):
                check = partial(_checked, typed_shares, place)
                typed_shares.append(ask_hidden(f"share {place} of {needed} for {root}: ", check, shares.SHARE_WORDS))
            try:
                return _tried(vault, root, shares.combine(typed_shares))
            except InputError:
                Screen().line(
                    f"these shares do not open {root}; compare the root and the date on the cards (Ctrl-C stops)"
                )


def _tried(vault: Vault, root: str, text: str) -> str:
    """Return the passphrase in its stored form, after it opened the key. Raises InputError."""
    passphrase = words.passphrase(text)
    if fault := key_storage.passphrase_fault(vault, root, passphrase):
        raise InputError(
            f"the passphrase of {root} is wrong: {fault}", "compare it with its paper, and type all of it again"
        )
    vault.open_key(root, passphrase, "the operator")
    return passphrase


def _checked(earlier_shares: list[str], place: int, share: str) -> str:
    """Return a typed share. Raises InputError if it is wrong or does not belong to the earlier shares."""
    try:
        shares.check_share(place, share, earlier_shares)
    except PkiError as error:
        # The number on a card differs from the order in which cards are typed.
        raise InputError(error.what, error.hint, lead=_card(place) if error.lead else "") from None
    return share


def _card(place: int) -> str:
    """Return the name of a card by the order in which it was typed."""
    return f"{('first', 'second', 'third')[place - 1]} card" if place <= 3 else f"card that was typed as number {place}"
