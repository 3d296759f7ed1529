"""Refuse a project that another account can change, before any of its files is read.

The model is git's safe.directory (CVE-2022-24765): pki.yaml decides which programs run, so a command that is typed in
a folder must not run what another account wrote there.
"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pki.common import filesystem
from pki.common.errors import FaultsError, PkiError

PARTS = ("", "pki.yaml", "templates", "ca")
LIST_FILE = ".config/doit-pki/safe-directories"  # in the home folder: one project per line
VARIABLE = "PKI_SAFE_DIRECTORIES"  # projects separated by `:`, or `*` for all: for containers and CI


def check_owner(home: Path) -> None:
    """Raise PkiError where an account that is not trusted owns the project, or every user can write to it.

    The owner must be this account or root; for root under sudo also the account that called sudo. Links are followed.
    A project that is listed as safe may have any owner.
    """
    states = [(path, _state(path)) for path in map(home.joinpath, PARTS)]
    entries = [(path, state) for path, state in states if state]
    faults = list(_world_writable(entries))
    foreign = [(path, state) for path, state in entries if state.st_uid not in _trusted_users()]
    real_path = os.path.realpath(home)
    if foreign and not _is_listed_as_safe(real_path):
        owners = "; ".join(_owners(foreign))
        account = f"this account is {_account(os.geteuid())}"
        faults.append(
            PkiError(f"the project of another account is not read: {owners}; {account}", _command_to_allow(real_path))
        )
    if faults:
        raise FaultsError.of(faults)


def _owners(entries: list[tuple[Path, os.stat_result]]) -> Iterator[str]:
    for owner in dict.fromkeys(state.st_uid for _, state in entries):
        paths = [str(path) for path, state in entries if state.st_uid == owner]
        yield f"{', '.join(paths)} {'belong' if len(paths) > 1 else 'belongs'} to {_account(owner)}"


def _world_writable(entries: list[tuple[Path, os.stat_result]]) -> Iterator[PkiError]:
    """Yield an error where every user can write to the project."""
    paths = [path for path, state in entries if state.st_mode & stat.S_IWOTH]
    if paths:
        hint = f"check for files of other users, then: chmod -R o-w {shlex.join(map(str, paths))}"
        yield PkiError(f"{', '.join(map(str, paths))} can be written by every user of this machine", hint)


def writable_by_others(home: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each path of an accepted project that other users can change, with a phrase and the command to type.

    A group without other members, as with a umask of 002 (user private groups), is accepted silently.
    """
    for path in map(home.joinpath, PARTS):
        state = _state(path)
        group = _group_with_others(state) if state and state.st_mode & stat.S_IWGRP else ""
        if group:
            yield str(path), f"can be written by {group}", f"chmod g-w {shlex.quote(str(path))}"
    for parent in Path(os.path.realpath(home)).parents:
        state = _state(parent)
        if state and state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
            text = f"can be written by every user, who can put another folder in the place of {home}"
            yield str(parent), text, f"chmod o-w {shlex.quote(str(parent))}, or: chmod +t {shlex.quote(str(parent))}"


def _group_with_others(state: os.stat_result) -> str:
    """Return the group of a file, as a phrase; "" if its owner is the only member."""
    try:
        group = grp.getgrgid(state.st_gid)
    except KeyError:
        return f"the group {state.st_gid}"
    owner = _account(state.st_uid)
    is_private = group.gr_name == owner and not set(group.gr_mem) - {owner}
    return "" if is_private else f"the group {group.gr_name}"


# -- who and what is trusted ------------------------------------------------------------------------------------------


def _trusted_users() -> set[int]:
    """Return the user ids whose files are trusted: this account, root, and for root under sudo who called sudo."""
    account, sudo_user = os.geteuid(), os.environ.get("SUDO_UID", "")
    return {account, 0, int(sudo_user)} if account == 0 and sudo_user.isdecimal() else {account, 0}


def _is_listed_as_safe(real_path: str) -> bool:
    """Return whether the environment or the file of this account lists a project as safe.

    Raises PkiError if the file lists the project, but another user can have written the file.
    """
    if _contains(os.environ.get(VARIABLE, "").split(":"), real_path):
        return True
    path = _list_of_account()
    lines = [line.strip() for line in os.fsdecode(filesystem.read_if_possible(path) or b"").split("\n")]
    if not _contains([line for line in lines if not line.startswith("#") and "\0" not in line], real_path):
        return False
    state = _state(path)
    if state and (state.st_uid not in _trusted_users() or state.st_mode & stat.S_IWOTH):
        shown = shlex.quote(str(path))
        raise PkiError(f"{path}: belongs to another account, or every user can write it", f"ls -l {shown}; rm {shown}")
    return True


def _contains(projects: list[str], real_path: str) -> bool:
    """Return whether a list contains a project by any of its paths, or `*` for all projects."""
    return "*" in projects or real_path in map(os.path.realpath, filter(None, projects))


def _list_of_account() -> Path:
    """Return the path of the list of this account. Under sudo, HOME may be that of another account."""
    with suppress(KeyError):
        own = pwd.getpwuid(os.geteuid()).pw_dir
        return Path(own if "SUDO_UID" in os.environ else os.environ.get("HOME") or own, LIST_FILE)
    return Path(os.environ.get("HOME") or "/", LIST_FILE)  # the account is in no user database, as in a container


def _command_to_allow(real_path: str) -> str:
    """Return the command that lists a project as safe, for the shell from which the program was started."""
    is_by_sudo, path = "SUDO_UID" in os.environ, _list_of_account()
    if os.environ.get("HOME") and not is_by_sudo:
        folder, file = f"~/{os.path.dirname(LIST_FILE)}", f"~/{LIST_FILE}"
    else:  # `~` is the home folder of another account, or of none
        folder, file = shlex.quote(str(path.parent)), shlex.quote(str(path))
    command = f"mkdir -p {folder} && echo {shlex.quote(real_path)} >> {file}"
    if is_by_sudo:
        user = "" if os.geteuid() == 0 else f"-u {_account(os.geteuid())} "
        command = f"sudo {user}sh -c {shlex.quote(command)}"
    return f"if you trust its owner: {command}"


# -- files ------------------------------------------------------------------------------------------------------------


def _state(path: Path) -> os.stat_result | None:
    """Return the state of the file to which a path leads; None when it does not exist or cannot be read."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
