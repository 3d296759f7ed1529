"""The root ceremony."""

from __future__ import annotations

from getpass import getpass
from pathlib import Path

from invoke.context import Context

from pki import store
from pki.ceremony import authorities
from pki.commands.command import command, house_of
from pki.errors import PkiError
from pki.screen import Screen

SHORTEST = 20


@command
def root(context: Context, medium: str, passphrase_file: str = "") -> None:
    """Make the root on --medium DIR (a removable medium), and sign the server and client intermediates.

    The root's passphrase is asked for twice, or read from --passphrase-file. Its key is written to the medium and
    nowhere else; take the medium away afterwards.
    """
    house, screen = house_of(context), Screen()
    folder = Path(medium).resolve()
    if house.inventory.sandbox:
        raise PkiError("pki.yaml says sandbox: true, and the sandbox makes its own root", "take that line out first")
    if not folder.is_dir():
        raise PkiError(f"{folder}: is not a folder", "mount the medium, then name its folder")
    if folder.is_relative_to(house.store.home):
        raise PkiError(f"{folder}: lies in the house itself, where the root's key must never be")
    if (folder / "root-1").exists():
        raise PkiError(f"{folder}/root-1: is there already", "take another medium; a root key is never overwritten")
    with house.store.lock():
        named = house.passphrases.named("root-1")
        passphrase = named.value if named else _passphrase(passphrase_file)
        authorities.make_root(house, folder, passphrase)
        screen.made("authority:root", f"its key is in {folder / 'root-1'}")
        for authority in ("server", "client"):
            authorities.make_intermediate(house, authority, folder, passphrase)
            screen.made(
                f"authority:{authority}", f"its passphrase is in {house.passphrases.source_of(f'{authority}-1')}"
            )
    screen.line("take the medium away and lock it up, then: ./run doit")


def _passphrase(file: str) -> str:
    if file:
        text = (store.read(Path(file)) or b"").decode().strip()
        source = file
    else:
        text, source = getpass("passphrase for the root key: "), "the passphrase"
        if text != getpass("once more: "):
            raise PkiError("the two passphrases differ", "type it again")
    if len(text) < SHORTEST:
        raise PkiError(f"{source}: expected at least {SHORTEST} characters", "six random words, for example")
    return text
