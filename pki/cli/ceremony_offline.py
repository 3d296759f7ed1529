"""Root ceremonies, the offline side: these run on a machine without a network, with the vault's medium in place."""

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
from pki.ceremony.offline.session import Ceremony
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
    """Make the roots that REQUEST asks for, on the drive --vault DIR. Offline.

    The passphrase is generated, shown once and typed back. Instead: --own (you choose it), --passphrase-file FILE (of
    your choice, in a file), --shares 2of3 (split among custodians; --cards DIR writes cards to print instead of showing
    them), or --token pkcs11:token=NAME?module-path=FILE (made in a token; --passphrase-file holds its PIN). --words are
    the first words of the request's SHA-256; --despite "reason" goes on although the machine is not fit, on record.
    --again "reason" destroys a root that signed nothing, whose paper is lost, and makes another one. The drive is
    mounted at DIR and empty; --folder-as-vault "reason" takes any folder, on record: for virtual machines.
    """
    screen = Screen()
    wanted = Custody(context, passphrase_file, own=own, shares=shares, cards=cards, token=token)
    apart = {"--cards": path_of(context, cards)} if cards else {}
    held = _open(context, request, vault, folder_as_vault, apart, may_begin=True)
    _insist_on_unsigned(held, f"sh run invoke ceremony.sign {request} --vault {vault} --output DIR")
    lost = steps.lost_roots(held) if again else []
    if not again:
        steps.insist_on_missing(held)
    _look(held, now_of(context), despite)
    _confirm(context, held, [*_destroyed(lost, again), *plan_text.roots(held.request)], words)
    try:
        names = steps.make_roots(held, _again(wanted, held, lost, again), lost)
    except PkiError as error:
        raise _with_last_response(error, held, "DIR", folder_as_vault) from None
    for name in names:
        screen.done("created", ArtifactId("authority", name), f"its key is in {held.vault.folder / name}")
    screen.line(f"go on: sh run invoke ceremony.sign {request} --vault {vault} --output DIR")


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

    The passphrase (or the shares, or a token's PIN) is asked for; --passphrase-file FILE and --share-file FILE (once
    for each) read it instead; root-2=FILE is for that root alone. --words, --despite and --folder-as-vault as for
    ceremony.root. The same line once more shows the response and its words again; nothing is signed twice.
    """
    screen, out = Screen(), path_of(context, output)
    path, data = _request(context, request)
    kept = open_vault.on_drive(context, vault, folder_as_vault, {"--output": out})
    open_vault.insist_on_output(out, folder_as_vault)
    if folder := response_export.hand_out_again(kept.vault, data, out, lambda: _transcript(context, kept)):
        screen.line("this request was answered here: its response once more; nothing is signed again")
        return _say_response(
            screen, kept.vault, request_response.load(data, str(path), request_response.Request).destroy, folder
        )
    held = _begin(context, kept, path, data)
    _look(held, now_of(context), despite)
    again = ["show the response to this request once more; nothing is signed again"] if held.answered else []
    _confirm(context, held, again or [*plan_text.signatures(held.request, held.known)], words)
    secret_of = custodians.opening(context, held.vault, passphrase_file, share_file)
    try:
        folder = steps.sign(held, secret_of, out)
    except PkiError as error:
        line = f"sh run invoke ceremony.root {shlex.quote(request)} --vault {shlex.quote(vault)}"
        error = _with_way_out(error, held, f"{line}{_reason(folder_as_vault)}")
        raise _with_last_response(error, held, shlex.quote(output), folder_as_vault) from None
    return _say_response(screen, held.vault, held.request.destroy, folder)


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

    How the new passphrase comes about: as for ceremony.root, with --new-passphrase-file. With --to the whole vault is
    copied, verified, and the old drive is left as it is: destroy it when the new one was tried. --folder-as-vault as
    for ceremony.root.
    """
    apart = {option: path_of(context, folder) for option, folder in {"--cards": cards, "--to": to}.items() if folder}
    kept = open_vault.on_drive(context, vault, folder_as_vault, apart)
    screen, place = Screen(), kept.vault
    target = open_vault.place(context, to, folder_as_vault)[0] if to else place
    wanted = Custody(context, new_passphrase_file, own=own, shares=shares, cards=cards, token="")
    secret_of = custodians.opening(context, place, [passphrase_file] if passphrase_file else [], share_file)
    root_passphrase.change_passphrase(
        place,
        target,
        root,
        secret_of,
        lambda key: custodians.wrapped(wanted, root, key),
        _clock(now_of(context)),
        kept.begin_with,
    )
    screen.done("changed", ArtifactId("authority", root), f"its key has a new passphrase, in {target.folder / root}")
    if to:
        screen.line(f"try the new drive, then destroy the old one: {place.folder}")


@command
def copy(context: Context, vault: str, to: str, despite: str = "", folder_as_vault: str = "") -> None:
    """Make the second drive --to DIR equal to the one at --vault DIR: written, read back, verified. Offline.

    The second drive is empty, or an earlier copy of the same vault. CRLs that were replaced and keys that were destroyed
    are destroyed there too. --despite "reason" gives up records that the second drive alone has, of commands that made
    nothing; the transcript says so. --folder-as-vault as for ceremony.root.
    """
    kept = open_vault.on_drive(context, vault, folder_as_vault, {"--to": path_of(context, to)})
    target, _ = open_vault.place(context, to, folder_as_vault)
    kept.begin()
    screen = Screen()
    head, given_up = drive_copy.copy(kept.vault, target, _clock(now_of(context)), despite)
    if given_up:
        screen.line(f"{given_up}; the line of ceremony.sign once more writes that into the response, then copy again")
    screen.line(f"vault {kept.number} on {target.folder}: {drives.mount_of(target.folder)}")
    screen.line(f"both drives are equal; head {head[:16]}")


# -- what they share --------------------------------------------------------------------------------------------------


def _open(
    context: Context, request: str, vault: str, reason: str, apart: dict[str, Path], *, may_begin: bool = False
) -> Ceremony:
    """A request at its vault. Nothing is written before the drive is known to be the vault, or to be fit to become it."""
    path, data = _request(context, request)
    return _begin(context, open_vault.on_drive(context, vault, reason, apart, may_begin=may_begin), path, data)


def _request(context: Context, request: str) -> tuple[Path, bytes]:
    path = path_of(context, request)
    data = filesystem.read(path)
    if data is None:
        raise PkiError(f"{path}: is not there", "name the request-NNNN.yaml that the online machine wrote")
    return path, data


def _begin(context: Context, kept: open_vault.OnDrive, path: Path, data: bytes) -> Ceremony:
    held = session.opened(kept.vault, data, str(path), _clock(now_of(context)), kept.facts, kept.begin)
    kept.admit(held.transcript)
    if held.transcript.interrupted:
        Screen().line(held.transcript.interrupted)
    return held


def _transcript(context: Context, kept: open_vault.OnDrive) -> Transcript:
    """The transcript of a vault, to be continued."""
    found = Transcript(kept.vault.transcript, _clock(now_of(context)))
    kept.begin_with(found)
    return found


def _insist_on_unsigned(held: Ceremony, line: str) -> None:
    """Raise PkiError, before anything is asked, where the request is answered: its roots are made and have signed."""
    if past := held.answered:
        raise PkiError(
            f"the request is signed already, in ceremony {past.number}: its roots have signed, and are not made again",
            f"go on: {_copy_line(held.vault.folder)}\nthe response and its words once more: {line}",
        )


def _copy_line(folder: Path) -> str:
    """What makes the second drive; the page mounts it as `copy` beside `vault`."""
    to = shlex.quote(str(folder.with_name("copy"))) if folder.name == "vault" else "DIR"
    return f"sh run invoke ceremony.copy --vault {shlex.quote(str(folder))} --to {to}"


def _destroyed(lost: list[str], again: str) -> list[str]:
    """What --again is going to do, for the plan."""
    return [f"DESTROY the key of {name} on this drive, which signed nothing: {again}" for name in lost]


def _again(wanted: Custody, held: Ceremony, lost: list[str], again: str) -> Callable[[str, str], steps.NewKey]:
    """What makes new keys, and destroys those that are lost as soon as nothing more is asked: who stops loses nothing.

    A token has no room for two keys of one name, so there the old one goes first.
    """
    left = bool(lost)

    def discard() -> None:
        nonlocal left
        if left:
            left = False
            files = [wanted.passphrase_file] if wanted.token else []
            secret_of = custodians.opening(wanted.context, held.vault, files, [])
            for name in steps.discard_roots(held, secret_of, again):
                Screen().line(f"the key of {name} that signed nothing is destroyed")

    def new_key(name: str, kind: str) -> steps.NewKey:
        if wanted.token:
            discard()
        made = custodians.new_key(wanted, held, name, kind)
        discard()
        return made

    return new_key


def _clock(start: datetime) -> machine_check.Clock:
    """The time at each step of a ceremony, from the one look at the clock that the door took."""
    began = time.monotonic()
    return lambda: start + timedelta(seconds=int(time.monotonic() - began))


def _look(held: Ceremony, now: datetime, despite: str) -> None:
    """Look whether this machine is fit, and say so."""
    screen, findings = Screen(), machine_check.findings(now, held.request.prepared, held.last_moment)
    for one in findings:
        screen.line(f"{'fit    ' if one.ok else 'NOT FIT'} {one.check}: {one.text}")
    session.environment(held, findings, despite)


def _confirm(context: Context, held: Ceremony, lines: list[str], given: str) -> None:
    """Show the plan in plain words, and ask for the first words of the request's digest and for the witness's watch."""
    screen = Screen()
    screen.line("")
    screen.line(f"{held.request.organisation}, ceremony {held.request.number}; this is about to be done:")
    for line in lines or ["nothing"]:
        screen.line(f"  {line}")
    screen.line("")
    others = _other_digests(held)
    asked = given or ask_first_words("request", "the online machine", held.digest, others)
    session.confirmed(held, lines, asked, others)
    if not given:
        clock = _clock(now_of(context))
        session.clocks(held, *ask_watch_time(clock))


def _other_digests(held: Ceremony) -> dict[str, str]:
    """Digests whose words could be typed for those of the request."""
    kit = filesystem.read(PROGRAM / "SHA256SUMS")
    others = {"the kit": request_response.digest(kit)} if kit is not None else {}
    for past in held.known.history:
        others |= {f"request {past.number}": past.asked, f"the response of ceremony {past.number}": past.digest}
    return {name: digest for name, digest in others.items() if digest != held.digest}


def _with_last_response(error: PkiError, held: Ceremony, out: str, reason: str) -> PkiError:
    """An error about a request of a project that lost the last ceremonies, with the line that hands them out again."""
    if held.known.is_behind(held.request):
        copy = f"sh run invoke ceremony.copy --vault DIR --to {shlex.quote(str(held.vault.folder))}{_reason(reason)}"
        return PkiError(
            error.message, f"nothing was signed; make this drive equal to that of the last ceremony: {copy}"
        )
    if not held.known.is_ahead_of(held.request):
        return error
    line = f"{response_export.line_of_last(held.vault, out)}{_reason(reason)}"
    return PkiError(error.message, f"nothing was signed; its response once more: {line}")


def _reason(folder_as_vault: str) -> str:
    return f" --folder-as-vault {shlex.quote(folder_as_vault)}" if folder_as_vault else ""


def _with_way_out(error: PkiError, held: Ceremony, line: str) -> PkiError:
    """An error about a passphrase, with what helps where its paper is lost and the root signed nothing yet."""
    unused = steps.unused_roots(held)
    if not unused or not (isinstance(error, InputError | CancelledError)):
        return error
    rule = key_storage.rule_of(held.vault, unused[0])
    kept = f" --shares {rule[0]}of{rule[1]}" if rule else ""
    line = f'{line}{kept} --again "the paper is lost"'
    lost = f"is the paper lost? {', '.join(unused)} signed nothing yet, and is made again: {line}"
    return PkiError(error.message, f"{error.hint}\n{lost}" if error.hint else lost)


def _say_response(screen: Screen, vault: Vault, destroyed: Sequence[str], folder: Path) -> None:
    digest = request_response.digest(filesystem.read(folder / "response.yaml") or b"")
    screen.line("")
    screen.line(f"the response is in {folder}; write its first words down, and sign the printed transcript.html")
    screen.line(f"SHA-256 {digest}")
    for line in words.shown(digest):
        screen.line(line)
    screen.line("")
    screen.line(f"make the second drive equal: {_copy_line(vault.folder)}")
    project = (filesystem.read(PROGRAM / "project") or b"").decode(errors="replace").strip()  # in a kit
    line = f"{f'PKI_HOME={shlex.quote(project)} ' if project else ''}./run invoke ceremony.accept {folder.name}"
    screen.line(f"then lock both away; at the online machine: {line}")
    for root in destroyed:
        screen.line(f"the key of {root} was destroyed on this drive; destroy every other copy of it now")


TASKS: dict[str, Any] = {"root": root, "sign": sign, "change-passphrase": change_passphrase, "copy": copy}
