"""Commands for root ceremonies on the offline machine: root, sign, change-passphrase and copy."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from invoke.context import Context

from pki.ceremony import drives, plan_text, request_response, words
from pki.ceremony.offline import (
    drive_copy,
    key_storage,
    machine_check,
    response_export,
    root_passphrase,
    session,
    steps,
)
from pki.ceremony.offline.session import CeremonySession
from pki.ceremony.transcript import Transcript
from pki.ceremony.vault import Vault
from pki.cli import custodians, open_vault
from pki.cli.custodians import Custody
from pki.cli.decorator import command, command_with, now_of, path_of
from pki.cli.prompt import ask_first_words, ask_watch_time
from pki.common import filesystem
from pki.common.errors import CancelledError, InputError, PkiError
from pki.common.program_files import PROGRAM
from pki.common.terminal import Screen
from pki.config.identifiers import ArtifactId


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
    again: str = "",
    folder_as_vault: str = "",
) -> None:
    """Create the roots that REQUEST asks for, on the drive --vault DIR. Offline.

    The passphrase is generated, shown once and typed back. Instead: --own (you choose it), --passphrase-file FILE (you
    choose it, in a file), --shares 2of3 (split among custodians; --cards DIR writes cards to print instead of showing
    them), or --token pkcs11:token=NAME?module-path=FILE (created in a token; --passphrase-file has its PIN). --words are
    the first words of the request's SHA-256; --despite "reason" continues although a check of the machine failed.
    --again "reason" destroys a root that signed nothing, whose paper is lost, and creates another one. The drive is
    mounted at DIR and empty; --folder-as-vault "reason" permits any folder, for virtual machines. The transcript records
    each reason.
    """
    screen = Screen()
    custody = Custody(context, passphrase_file, own=own, shares=shares, cards=cards, token=token)
    other_folders = {"--cards": path_of(context, cards)} if cards else {}
    ceremony = _open(context, request, vault, folder_as_vault, other_folders, may_begin=True)
    sign_command = f"sh run invoke ceremony.sign {request} --vault {vault} --output DIR"
    _check_unsigned(ceremony, sign_command)
    lost = steps.replaceable_roots(ceremony) if again else []
    if not again:
        steps.check_roots_to_make(ceremony)
    _check_machine(ceremony, now_of(context), despite)
    _confirm(context, ceremony, [*_destruction_lines(lost, again), *plan_text.root_lines(ceremony.request)], words)
    try:
        names = steps.make_roots(ceremony, _key_creator(custody, ceremony, lost, again), lost)
    except PkiError as error:
        raise _with_last_response(error, ceremony, "DIR", folder_as_vault) from None
    for name in names:
        screen.done("created", ArtifactId("authority", name), f"its key is in {ceremony.vault.folder / name}")
    _print_command(screen, "continue:", sign_command)


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
    folder_as_vault: str = "",
) -> None:
    """Sign what REQUEST asks for with the roots on --vault DIR; the response goes to --output DIR. Offline.

    It prompts for the passphrase (or the shares, or a token's PIN); --passphrase-file FILE and --share-file FILE (once
    for each) read it instead; root-2=FILE is for that root only. --words, --despite and --folder-as-vault as for
    ceremony.root. The same command again shows the response and its words again; nothing is signed twice.
    """
    screen, out = Screen(), path_of(context, output)
    path, data = _request(context, request)
    opened_vault = open_vault.open_vault(context, vault, folder_as_vault, {"--output": out})
    open_vault.check_output_folder(out, folder_as_vault)
    if folder := response_export.write_response_again(
        opened_vault.vault, data, out, lambda: _transcript(context, opened_vault)
    ):
        screen.line("this request was answered already: its response is shown again; nothing is signed again")
        return _show_response(
            screen, opened_vault.vault, request_response.load(data, str(path), request_response.Request).destroy, folder
        )
    ceremony = _begin(context, opened_vault, path, data)
    _check_machine(ceremony, now_of(context), despite)
    lines = [*plan_text.signature_lines(ceremony.request, ceremony.contents)]
    if ceremony.answered:
        lines = ["show the response to this request once more; nothing is signed again"]
    _confirm(context, ceremony, lines, words)
    secret_of = custodians.secret_reader(context, ceremony.vault, passphrase_file, share_file)
    try:
        folder = steps.sign(ceremony, secret_of, out)
    except PkiError as error:
        line = f"sh run invoke ceremony.root {shlex.quote(request)} --vault {shlex.quote(vault)}"
        error = _with_hint_for_lost_paper(error, ceremony, f"{line}{_reason(folder_as_vault)}")
        raise _with_last_response(error, ceremony, shlex.quote(output), folder_as_vault) from None
    return _show_response(screen, ceremony.vault, ceremony.request.destroy, folder)


@command_with(many=("share_file",))
def change_passphrase(
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
    folder_as_vault: str = "",
) -> None:
    """Give a root's key on --vault DIR a new passphrase (or new shares); with --to DIR, on a new drive. Offline.

    The new passphrase is generated or chosen as for ceremony.root, with --new-passphrase-file. With --to, the whole vault
    is copied and verified, and the old drive is unchanged: destroy it after you have tried the new one. --folder-as-vault
    as for ceremony.root.
    """
    folders = {"--cards": cards, "--to": to}
    other_folders = {option: path_of(context, folder) for option, folder in folders.items() if folder}
    opened_vault = open_vault.open_vault(context, vault, folder_as_vault, other_folders)
    screen, old_vault = Screen(), opened_vault.vault
    target = old_vault
    if to:
        target, _ = open_vault.vault_folder(context, to, folder_as_vault)
    custody = Custody(context, new_passphrase_file, own=own, shares=shares, cards=cards, token="")
    secret_of = custodians.secret_reader(context, old_vault, [passphrase_file] if passphrase_file else [], share_file)
    root_passphrase.change_passphrase(
        old_vault,
        target,
        root,
        secret_of,
        lambda key: custodians.encrypt_again(custody, root, key),
        _clock(now_of(context)),
        opened_vault.begin_with,
    )
    screen.done("changed", ArtifactId("authority", root), f"its key has a new passphrase, in {target.folder / root}")
    if to:
        screen.line(f"try the new drive, then destroy the old one: {old_vault.folder}")


@command
def copy(context: Context, vault: str, to: str, despite: str = "", folder_as_vault: str = "") -> None:
    """Make the second drive --to DIR equal to the one at --vault DIR: written, read back, verified. Offline.

    The second drive is empty, or an earlier copy of the same vault. CRLs that were replaced and keys that were destroyed
    are destroyed there too. --despite "reason" gives up records that only the second drive has, of commands that created
    nothing; the transcript records the reason. --folder-as-vault as for ceremony.root.
    """
    opened_vault = open_vault.open_vault(context, vault, folder_as_vault, {"--to": path_of(context, to)})
    target, _ = open_vault.vault_folder(context, to, folder_as_vault)
    opened_vault.begin()
    screen = Screen()
    head, given_up = drive_copy.copy_vault(opened_vault.vault, target, _clock(now_of(context)), despite)
    if given_up:
        screen.line(f"{given_up}; repeat ceremony.sign, which writes that into the response, then copy again")
    screen.line(f"vault {opened_vault.number} on {target.folder}: {drives.mount_of(target.folder)}")
    screen.line(f"both drives are equal; head {head[:16]}")


# -- shared parts -----------------------------------------------------------------------------------------------------


def _open(
    context: Context, request: str, vault: str, reason: str, other_folders: dict[str, Path], *, may_begin: bool = False
) -> CeremonySession:
    """Open a session for a request. Nothing is written before the drive is known to be a vault, or fit to become one."""
    path, data = _request(context, request)
    return _begin(
        context, open_vault.open_vault(context, vault, reason, other_folders, may_begin=may_begin), path, data
    )


def _request(context: Context, request: str) -> tuple[Path, bytes]:
    path = path_of(context, request)
    data = filesystem.read(path)
    if data is None:
        raise PkiError(f"{path}: does not exist", "name the request-NNNN.yaml that the online machine wrote")
    return path, data


def _begin(context: Context, opened_vault: open_vault.MountedVault, path: Path, data: bytes) -> CeremonySession:
    ceremony = session.open_session(
        opened_vault.vault, data, str(path), _clock(now_of(context)), opened_vault.facts, opened_vault.begin
    )
    opened_vault.admit(ceremony.transcript)
    if ceremony.transcript.interrupted:
        Screen().line(ceremony.transcript.interrupted)
    return ceremony


def _transcript(context: Context, opened_vault: open_vault.MountedVault) -> Transcript:
    """Return the transcript of a vault, to be continued."""
    transcript = Transcript(opened_vault.vault.transcript, _clock(now_of(context)))
    opened_vault.begin_with(transcript)
    return transcript


def _check_unsigned(ceremony: CeremonySession, sign_command: str) -> None:
    """Raise PkiError, before any prompt, when the request is answered: its roots exist and have signed."""
    if past := ceremony.answered:
        raise PkiError(
            f"the request is signed already, in ceremony {past.number}: its roots exist and are not replaced",
            f"continue: {_copy_line(ceremony.vault.folder)}\nto show the response and its words again: {sign_command}",
        )


def _print_command(screen: Screen, before: str, command: str) -> None:
    screen.line(f"{before} {command}", narrow=f"{before}\n  {command}")


def _copy_line(folder: Path) -> str:
    """Return the command for the second drive, which the printed steps mount as `copy` beside `vault`."""
    to = shlex.quote(str(folder.with_name("copy"))) if folder.name == "vault" else "DIR"
    return f"sh run invoke ceremony.copy --vault {shlex.quote(str(folder))} --to {to}"


def _destruction_lines(lost: list[str], again: str) -> list[str]:
    """Return the plan's lines for --again."""
    return [f"DESTROY the key of {name} on this drive, which signed nothing: {again}" for name in lost]


def _key_creator(
    custody: Custody, ceremony: CeremonySession, lost: list[str], again: str
) -> Callable[[str, str], steps.NewKey]:
    """Return a function that creates a key, and destroys the `lost` roots after the last prompt.

    So an operator who stops at a prompt loses nothing. But a token cannot have two keys of one name, so there the old key
    is destroyed before the new one is created.
    """
    is_discarded = not lost

    def discard() -> None:
        nonlocal is_discarded
        if not is_discarded:
            is_discarded = True
            files = [custody.passphrase_file] if custody.token else []
            secret_of = custodians.secret_reader(custody.context, ceremony.vault, files, [])
            for name in steps.discard_roots(ceremony, secret_of, again):
                Screen().line(f"the key of {name} that signed nothing is destroyed")

    def new_key(name: str, kind: str) -> steps.NewKey:
        if custody.token:
            discard()
        key = custodians.make_new_key(custody, ceremony, name, kind)
        discard()
        return key

    return new_key


def _clock(start: datetime) -> machine_check.Clock:
    """Return a clock that continues from `start`, the time at which the command began."""
    began = time.monotonic()
    return lambda: start + timedelta(seconds=int(time.monotonic() - began))


def _check_machine(ceremony: CeremonySession, now: datetime, despite: str) -> None:
    """Check this machine, show the results, and stop when it is not fit."""
    screen, findings = Screen(), machine_check.check_machine(now, ceremony.request.prepared, ceremony.last_moment)
    for finding in findings:
        screen.line(f"{'fit    ' if finding.ok else 'NOT FIT'} {finding.check}: {finding.text}")
    session.check_machine_is_fit(ceremony, findings, despite)


def _confirm(context: Context, ceremony: CeremonySession, lines: list[str], words_option: str) -> None:
    """Show the plan, and prompt for the first words of the request's digest and for the time on the witness's watch."""
    screen = Screen()
    screen.line(f"\nceremony {ceremony.request.number} of {ceremony.request.organisation} will now:")
    for line in plan_text.in_paragraphs(lines or ["do nothing"]):
        screen.line(f"  {line}".rstrip())
    screen.line("")
    others = _other_digests(ceremony)
    typed_words = words_option or ask_first_words("request", "the online machine", ceremony.digest, others)
    session.confirm_request(ceremony, lines, typed_words, others)
    if not words_option:  # without a terminal nobody reads a watch
        clock = _clock(now_of(context))
        session.compare_clocks(ceremony, *ask_watch_time(clock))


def _other_digests(ceremony: CeremonySession) -> dict[str, str]:
    """Return digests that could be mistaken for that of the request, by name."""
    kit = filesystem.read(PROGRAM / "SHA256SUMS")
    others = {"the kit": request_response.digest(kit)} if kit is not None else {}
    for past in ceremony.contents.history:
        others |= {
            f"request {past.number}": past.request_digest,
            f"the response of ceremony {past.number}": past.response_digest,
        }
    return {name: digest for name, digest in others.items() if digest != ceremony.digest}


def _with_last_response(error: PkiError, ceremony: CeremonySession, out: str, reason: str) -> PkiError:
    """Return the error, with a hint when the project lost the last ceremonies, or the vault is an older drive."""
    if ceremony.contents.is_behind(ceremony.request):
        copy = (
            f"sh run invoke ceremony.copy --vault DIR --to {shlex.quote(str(ceremony.vault.folder))}{_reason(reason)}"
        )
        return PkiError(
            error.message, f"nothing was signed; make this drive equal to that of the last ceremony: {copy}"
        )
    if not ceremony.contents.is_ahead_of(ceremony.request):
        return error
    line = f"{response_export.last_response_command(ceremony.vault, out)}{_reason(reason)}"
    return PkiError(error.message, f"nothing was signed; to write the last response again: {line}")


def _reason(folder_as_vault: str) -> str:
    """Return the option --folder-as-vault for a command in a hint."""
    return f" --folder-as-vault {shlex.quote(folder_as_vault)}" if folder_as_vault else ""


def _with_hint_for_lost_paper(error: PkiError, ceremony: CeremonySession, root_command: str) -> PkiError:
    """Return an error about a passphrase, with a hint for the case that its paper is lost and the root signed nothing."""
    unused = steps.unused_roots(ceremony)
    is_about_passphrase = isinstance(error, InputError | CancelledError)
    if not unused or not is_about_passphrase:
        return error
    option = ""
    if rule := key_storage.share_rule(ceremony.vault, unused[0]):
        needed, total = rule
        option = f" --shares {needed}of{total}"
    command = f'{root_command}{option} --again "the paper is lost"'
    hint = f"is the paper lost? {', '.join(unused)} signed nothing yet and can be created again: {command}"
    return PkiError(error.message, f"{error.hint}\n{hint}" if error.hint else hint)


def _show_response(screen: Screen, vault: Vault, destroyed: Sequence[str], folder: Path) -> None:
    digest = request_response.digest(filesystem.read(folder / "response.yaml") or b"")
    screen.line("")
    screen.line(f"the response is in {folder}; write its first words down, and sign the printed transcript.html")
    screen.line(f"SHA-256 {digest}")
    for line in words.numbered_lines(digest):
        screen.line(line)
    screen.line("")
    _print_command(screen, "make the second drive equal:", _copy_line(vault.folder))
    command = f"{_run_on_online_machine()} invoke ceremony.accept {folder.name}"
    _print_command(screen, "then lock both away; on the online machine:", command)
    for root in destroyed:
        screen.line(f"the key of {root} was destroyed on this drive; destroy every other copy of it now")


def _run_on_online_machine() -> str:
    """Return how commands begin on the online machine, which a file in the kit says; older kits name only the project."""
    project_and_run = (filesystem.read(PROGRAM / "project") or b"").decode(errors="replace").splitlines()
    if not project_and_run:  # not a kit
        return "./run"
    if len(project_and_run) == 1:
        return f"PKI_HOME={shlex.quote(project_and_run[0])} ./run"
    return project_and_run[1]


TASKS: dict[str, Any] = {"root": root, "sign": sign, "change-passphrase": change_passphrase, "copy": copy}
