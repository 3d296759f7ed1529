"""The command ledger.import: issuance records of an adopted CA."""

from __future__ import annotations

from datetime import datetime

from invoke.context import Context

from pki.authority.import_ca import importer
from pki.authority.import_ca.importer import ImportResult
from pki.cli.decorator import command, held_project_of, path_of
from pki.cli.json_output import LedgerImportOutput
from pki.common.counts import counted
from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.config.model import Inventory

SHOWN = 20  # lines about omitted records; the others are only counted


@command
def import_records(
    context: Context, folder: str, authority: str = "", dry_run: bool = False, json: bool = False
) -> None:
    """Import what an adopted CA issued and revoked: from its index.txt and certificates, or from certificates alone.

    FOLDER is that of `openssl ca`, pki/ of easy-rsa, or one with PEM or DER files. A repeated import adds what is new.
    --authority names the authority in pki.yaml if several are adopted; --dry-run only shows what would be recorded.
    --json is for programs.
    """
    path = path_of(context, folder)
    with held_project_of(context) as project:
        name = _adopted(project.inventory, authority)
        if not path.is_dir():
            raise PkiError(f"{folder}: is not a folder", "name the folder with its index.txt or its certificates")
        records = importer.read(project.authorities, project.ledger_view, name, path, folder.rstrip("/"))
        if not dry_run:
            project.ledger.record_adopted_ca(records.issuance_records, at=project.now)
    output = _counts(project.now, name, records, is_dry=dry_run)
    if json:
        output.show()
    else:
        _print(output)


def _adopted(inventory: Inventory, named: str) -> str:
    names = sorted(inventory.authorities.adopted)
    if not names:
        raise PkiError("pki.yaml adopts no authority", "add it: authorities: {legacy: {adopt: ca/legacy}}")
    if named in names or (not named and len(names) == 1):
        return named or names[0]
    raise PkiError(f"{named or '--authority'}: expected one of the adopted authorities", f"defined: {', '.join(names)}")


def _counts(now: datetime, name: str, records: ImportResult, *, is_dry: bool) -> LedgerImportOutput:
    new_certificates = records.issuance_records.certificates
    revoked = {revocation.serial for revocation in records.issuance_records.revocations}
    return LedgerImportOutput(
        at=now,
        authority=name,
        recorded=not is_dry,
        valid=sum(
            certificate.not_after >= now and certificate.serial not in revoked for certificate in new_certificates
        ),
        ended=sum(
            certificate.not_after < now and certificate.serial not in revoked for certificate in new_certificates
        ),
        certificates=len(new_certificates),
        revocations=len(revoked),
        without_certificate=sum(not certificate.pem for certificate in new_certificates),
        known=records.recorded,
        left_out=list(records.left_out),
    )


def _print(output: LedgerImportOutput) -> None:
    screen, name = Screen(), output.authority
    for reason in output.left_out[:SHOWN]:
        screen.line(f"left out: {reason}")
    if len(output.left_out) > SHOWN:
        screen.line(f"left out: {len(output.left_out) - SHOWN} more")
    text = f"{counted(output.certificates, 'certificate')} of {name}: {output.valid} valid, {output.ended} expired"
    text += f"; {counted(output.revocations, 'revocation')}"
    text += f"; {output.without_certificate} from index.txt alone" if output.without_certificate else ""
    text += f"; {output.known} already in the ledger" if output.known else ""
    if not output.recorded:
        screen.due("ledger", text)
        return
    if output.certificates or output.revocations:
        screen.done("imported", "ledger", text)
        screen.line(f"./run doit issues crl:{name} with every revocation")
    else:
        screen.line(f"nothing new: the ledger contains {counted(output.known, 'certificate')} of {name}")
