"""Root ceremonies, the offline side: these run on a machine without a network, with the vault's medium in place."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from invoke.context import Context

from pki import store
from pki.ceremony import bundle, hold, machine, plan, rewrapping, sitting, words
from pki.ceremony.sitting import Ceremony
from pki.ceremony.vault import Vault
from pki.commands import custodians
from pki.commands.asking import first_words
from pki.commands.command import command, command_with, home_of, now_of, path_of
from pki.commands.custodians import Custody
from pki.errors import PkiError
from pki.screen import Screen


@command
def root(
    context: Context,
    request: str,
    vault: str,
    words: str = "",
    despite: str = "",
    passphrase_file: str = "",
    own: bool = False,
    shares: str = "",
    cards: str = "",
    token: str = "",
) -> None:
    """Make the roots that REQUEST asks for, on the medium --vault DIR. Offline.

    The passphrase is generated, shown once and typed back. Instead: --own (you choose it), --passphrase-file FILE (of
    your choice, in a file), --shares 2of3 (split among custodians; --cards DIR writes cards to print instead of showing
    them), or --token pkcs11:token=NAME?module-path=FILE (made in a token; --passphrase-file holds its PIN). --words are
    the first words of the request's SHA-256; --despite "reason" goes on although the machine is not fit, on record.
    """
    screen = Screen()
    custody = Custody(context, passphrase_file, own=own, shares=shares, cards=cards, token=token)
    held = _open(context, request, vault)
    _look(held, now_of(context), despite)
    _confirm(held, [*plan.roots(held.request)], words)
    made = hold.make_roots(held, lambda name, kind: custodians.new_key(custody, held, name, kind))
    for name in made:
        screen.made(f"authority:{name}", f"its key is in {held.vault.folder / name}")
    screen.line("go on: ./run invoke ceremony.sign")


@command_with(many=("passphrase_file", "share_file"))
def sign(
    context: Context,
    request: str,
    vault: str,
    output: str,
    passphrase_file: list[str],
    share_file: list[str],
    words: str = "",
    despite: str = "",
) -> None:
    """Sign what REQUEST asks for with the roots on --vault DIR; the response goes to --output DIR. Offline.

    The passphrase (or the shares, or a token's PIN) is asked for; --passphrase-file FILE and --share-file FILE (once
    for each) read it instead; root-2=FILE is for that root alone. --words and --despite as for ceremony.root.
    """
    screen = Screen()
    held = _open(context, request, vault)
    _look(held, now_of(context), despite)
    again = ["write the response to this request once more; nothing is signed again"] if held.answered else []
    _confirm(held, again or [*plan.signatures(held.request, held.known)], words)
    secret_of = custodians.opening(context, held.vault, passphrase_file, share_file)
    folder = hold.sign(held, secret_of, path_of(context, output))
    _say_response(screen, held, folder)


@command_with(many=("share_file",))
def rewrap(
    context: Context,
    vault: str,
    share_file: list[str],
    root: str = "root-1",
    to: str = "",
    passphrase_file: str = "",
    new_passphrase_file: str = "",
    own: bool = False,
    shares: str = "",
    cards: str = "",
) -> None:
    """Give a root's key on --vault DIR a new passphrase (or new shares); with --to DIR, on a new medium. Offline.

    How the new passphrase comes about: as for ceremony.root, with --new-passphrase-file. With --to the whole vault is
    copied, verified, and the old medium is left as it is: destroy it when the new one was tried.
    """
    screen, place = Screen(), _vault(context, vault)
    custody = Custody(context, new_passphrase_file, own=own, shares=shares, cards=cards, token="")
    secret_of = custodians.opening(context, place, [passphrase_file] if passphrase_file else [], share_file)
    target = _vault(context, to) if to else place
    rewrapping.rewrap(
        place,
        target,
        root,
        secret_of,
        lambda key: custodians.wrapped(custody, root, key),
        _clock(now_of(context)),
    )
    screen.made(f"authority:{root}", f"its key has a new passphrase, in {target.folder / root}")
    if to:
        screen.line(f"try the new medium, then destroy the old one: {place.folder}")


# -- what they share --------------------------------------------------------------------------------------------------


def _open(context: Context, request: str, vault: str) -> Ceremony:
    path, place = path_of(context, request), _vault(context, vault)
    data = store.read(path)
    if data is None:
        raise PkiError(f"{path}: is not there", "name the request-NNNN.yaml that the online side wrote")
    held = sitting.opened(place, data, str(path), _clock(now_of(context)))
    if held.transcript.interrupted:
        Screen().line(held.transcript.interrupted)
    return held


def _vault(context: Context, folder: str) -> Vault:
    """The vault that an operator names, which is never in the house."""
    place = Vault(path_of(context, folder))
    if place.folder.resolve().is_relative_to(home_of(context).resolve()):
        raise PkiError(f"{place.folder}: lies in the house itself, where a root's key must never be", "mount a medium")
    return place


def _clock(start: datetime) -> machine.Clock:
    """The time at each step of a ceremony, from the one look at the clock that the door took."""
    began = time.monotonic()
    return lambda: start + timedelta(seconds=int(time.monotonic() - began))


def _look(held: Ceremony, now: datetime, despite: str) -> None:
    """Look whether this machine is fit, and say so."""
    screen, findings = Screen(), machine.findings(now, held.request.prepared, held.last_moment)
    for one in findings:
        screen.line(f"{'fit    ' if one.ok else 'NOT FIT'} {one.check}: {one.text}")
    sitting.environment(held, findings, despite)


def _confirm(held: Ceremony, lines: list[str], given: str) -> None:
    """Show the plan in plain words, and ask for the first words of the request's digest."""
    screen = Screen()
    screen.line("")
    screen.line(f"{held.request.organisation}, ceremony {held.request.number}; this is about to be done:")
    for line in lines or ["nothing"]:
        screen.line(f"  {line}")
    screen.line("")
    asked = given or first_words("request", "the online side", held.digest)
    sitting.confirmed(held, lines, asked)


def _say_response(screen: Screen, held: Ceremony, folder: Path) -> None:
    digest = bundle.digest(store.read(folder / "response.yaml") or b"")
    screen.line("")
    screen.line(f"the response is in {folder}; write its first words down, and sign the printed transcript.html")
    screen.line(f"SHA-256 {digest}")
    for line in words.shown(digest):
        screen.line(line)
    screen.line("")
    screen.line(
        f"copy the vault to its second medium, lock both away; at the online machine: ./run invoke ceremony.accept {folder.name}"
    )
    for root in held.request.destroy:
        screen.line(f"the key of {root} was destroyed on this medium; destroy every other copy of it now")


TASKS: dict[str, Any] = {"root": root, "sign": sign, "rewrap": rewrap}
