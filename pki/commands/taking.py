"""Taking in the books of a CA that was run elsewhere."""

from __future__ import annotations

from invoke.context import Context

from pki.commands.command import command, held_house_of, path_of
from pki.errors import PkiError
from pki.house import House
from pki.screen import Screen
from pki.taking import books
from pki.taking.books import Found

SHOWN = 20  # lines about what was left out, before the rest is only counted


@command
def take_in(context: Context, folder: str, authority: str = "", dry_run: bool = False) -> None:
    """Record what an adopted CA issued and revoked: from its index.txt and certificates, or from certificates alone.

    FOLDER is that of `openssl ca`, easy-rsa's pki/, or one with PEM or DER files. Once more takes in only what is new.
    --authority names the authority in pki.yaml when several are adopted; --dry-run only shows what would be recorded.
    """
    path = path_of(context, folder)
    with held_house_of(context) as house:
        name = _adopted(house, authority)
        if not path.is_dir():
            raise PkiError(f"{folder}: is not a folder", "name the folder with its index.txt, or with its certificates")
        found = books.read(house, name, path, folder.rstrip("/"))
        if not dry_run:
            house.ledger.take_in(found.books, at=house.now)
    _tell(house, name, found, is_dry=dry_run)


def _adopted(house: House, named: str) -> str:
    names = sorted(house.inventory.authorities.adopted)
    if not names:
        raise PkiError("pki.yaml adopts no authority", "put it there: authorities: {legacy: {adopt: ca/legacy}}")
    if named in names or (not named and len(names) == 1):
        return named or names[0]
    raise PkiError(
        f"{named or '--authority'}: expected one of the adopted authorities", f"there are: {', '.join(names)}"
    )


def _tell(house: House, name: str, found: Found, *, is_dry: bool) -> None:
    screen = Screen()
    for why in found.left_out[:SHOWN]:
        screen.line(f"left out: {why}")
    if len(found.left_out) > SHOWN:
        screen.line(f"left out: {len(found.left_out) - SHOWN} more")
    new, revoked = found.books.certificates, {one.serial for one in found.books.revocations}
    ended = sum(one.not_after < house.now and one.serial not in revoked for one in new)
    valid = sum(one.not_after >= house.now and one.serial not in revoked for one in new)
    bare = sum(not one.pem for one in new)
    text = f"{len(new)} certificates of {name}: {valid} valid, {ended} ended; {len(revoked)} revocations"
    text += f"; {bare} from index.txt alone" if bare else ""
    text += f"; {found.known} were known" if found.known else ""
    if is_dry:
        screen.due("ledger", text)
        return
    if new or revoked:
        screen.made("ledger", text)
        screen.line(f"./run doit issues crl:{name} with every revocation")
    else:
        screen.line(f"nothing new: the ledger holds {found.known} certificates of {name}")
