"""Taking in the books of a CA that was run elsewhere."""

from __future__ import annotations

from invoke.context import Context

from pki.authority.import_ca import importer
from pki.authority.import_ca.importer import ImportResult
from pki.cli.decorator import command, held_project_of, path_of
from pki.cli.json_output import LedgerImportOutput
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.project.project import Project

SHOWN = 20  # lines about what was left out, before the rest is only counted


@command
def take_in(context: Context, folder: str, authority: str = "", dry_run: bool = False, json: bool = False) -> None:
    """Record what an adopted CA issued and revoked: from its index.txt and certificates, or from certificates alone.

    FOLDER is that of `openssl ca`, easy-rsa's pki/, or one with PEM or DER files. Once more takes in only what is new.
    --authority names the authority in pki.yaml when several are adopted; --dry-run only shows what would be recorded.
    --json is for programs.
    """
    path = path_of(context, folder)
    with held_project_of(context) as project:
        name = _adopted(project, authority)
        if not path.is_dir():
            raise PkiError(f"{folder}: is not a folder", "name the folder with its index.txt, or with its certificates")
        found = importer.read(project, name, path, folder.rstrip("/"))
        if not dry_run:
            project.ledger.take_in(found.issuance_records, at=project.now)
    told = _counted(project, name, found, is_dry=dry_run)
    told.show() if json else _tell(told)


def _adopted(project: Project, named: str) -> str:
    names = sorted(project.inventory.authorities.adopted)
    if not names:
        raise PkiError("pki.yaml adopts no authority", "put it there: authorities: {legacy: {adopt: ca/legacy}}")
    if named in names or (not named and len(names) == 1):
        return named or names[0]
    raise PkiError(
        f"{named or '--authority'}: expected one of the adopted authorities", f"there are: {', '.join(names)}"
    )


def _counted(project: Project, name: str, found: ImportResult, *, is_dry: bool) -> LedgerImportOutput:
    new, revoked = found.issuance_records.certificates, {one.serial for one in found.issuance_records.revocations}
    return LedgerImportOutput(
        at=project.now,
        authority=name,
        recorded=not is_dry,
        valid=sum(one.not_after >= project.now and one.serial not in revoked for one in new),
        ended=sum(one.not_after < project.now and one.serial not in revoked for one in new),
        certificates=len(new),
        revocations=len(revoked),
        without_certificate=sum(not one.pem for one in new),
        known=found.recorded,
        left_out=list(found.left_out),
    )


def _tell(told: LedgerImportOutput) -> None:
    screen, name = Screen(), told.authority
    for why in told.left_out[:SHOWN]:
        screen.line(f"left out: {why}")
    if len(told.left_out) > SHOWN:
        screen.line(f"left out: {len(told.left_out) - SHOWN} more")
    text = f"{told.certificates} certificates of {name}: {told.valid} valid, {told.ended} ended; {told.revocations} revocations"
    text += f"; {told.without_certificate} from index.txt alone" if told.without_certificate else ""
    text += f"; {told.known} were known" if told.known else ""
    if not told.recorded:
        screen.due("ledger", text)
        return
    if told.certificates or told.revocations:
        screen.made("ledger", text)
        screen.line(f"./run doit issues crl:{name} with every revocation")
    else:
        screen.line(f"nothing new: the ledger holds {told.known} certificates of {name}")
