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
NAMED = ".config/doit-pki/safe-directories"  # in the home folder: one project per line
VARIABLE = "PKI_SAFE_DIRECTORIES"  # projects separated by `:`, or `*` for all: for containers and CI


def check_owner(home: Path) -> None:
    """Raise PkiError where an account that is not trusted owns the project, or every user can write to it.

    The owner must be this account or root; for root under sudo also the account that called sudo. Links are followed.
    A project that is listed as safe may have any owner.
    """
    paths = [(path, state) for path in map(home.joinpath, PARTS) if (state := _state(path))]
    faults = list(_world_writable(paths))
    foreign = [(path, state) for path, state in paths if state.st_uid not in _trusted()]
    if foreign and not _is_named(real := os.path.realpath(home)):
        owners = "; ".join(_owners(foreign))
        account = f"this account is {_account(os.geteuid())}"
        faults.append(
            PkiError(f"the project of another account is not read: {owners}; {account}", _command_to_allow(real))
        )
    if faults:
        raise FaultsError.of(faults)


def _owners(entries: list[tuple[Path, os.stat_result]]) -> Iterator[str]:
    for owner in dict.fromkeys(state.st_uid for _, state in entries):
        paths = [str(path) for path, state in entries if state.st_uid == owner]
        yield f"{', '.join(paths)} {'belong' if len(paths) > 1 else 'belongs'} to {_account(owner)}"


def _world_writable(entries: list[tuple[Path, os.stat_result]]) -> Iterator[PkiError]:
    """Yield an error where every user can write to the project."""
    if paths := [path for path, state in entries if state.st_mode & stat.S_IWOTH]:
        hint = f"check for files of other users, then: chmod -R o-w {shlex.join(map(str, paths))}"
        yield PkiError(f"{', '.join(map(str, paths))} can be written by every user of this machine", hint)


def writable_by_others(home: Path) -> Iterator[tuple[str, str, str]]:
    """Yield each path of an accepted project that other users can change, with a phrase and the command to type.

    A group without other members, as with a umask of 002 (user private groups), is accepted silently.
    """
    for path in map(home.joinpath, PARTS):
        state = _state(path)
        if state and state.st_mode & stat.S_IWGRP and (others := _others(state)):
            yield str(path), f"can be written by {others}", f"chmod g-w {shlex.quote(str(path))}"
    for parent in Path(os.path.realpath(home)).parents:
        state = _state(parent)
        if state and state.st_mode & stat.S_IWOTH and not state.st_mode & stat.S_ISVTX:
            text = f"can be written by every user, who can put another folder in the place of {home}"
            yield str(parent), text, f"chmod o-w {shlex.quote(str(parent))}, or: chmod +t {shlex.quote(str(parent))}"


def _others(state: os.stat_result) -> str:
    """Return who can write through the group of a file, as a phrase; "" where that is its owner alone."""
    try:
        group = grp.getgrgid(state.st_gid)
    except KeyError:
        return f"the group {state.st_gid}"
    owner = _account(state.st_uid)
    return "" if group.gr_name == owner and not set(group.gr_mem) - {owner} else f"the group {group.gr_name}"


# -- who and what is trusted ------------------------------------------------------------------------------------------


def _trusted() -> set[int]:
    me, typed = os.geteuid(), os.environ.get("SUDO_UID", "")
    return {me, 0, int(typed)} if me == 0 and typed.isdecimal() else {me, 0}


def _is_named(real: str) -> bool:
    """Return whether the environment or this account's file lists a project, by its real path, as safe."""
    named = os.environ.get(VARIABLE, "").split(":")
    if "*" not in named and real not in map(os.path.realpath, filter(None, named)):
        path = _list_of_account()
        lines = [line.strip() for line in os.fsdecode(filesystem.read_if_possible(path) or b"").split("\n")]
        named = [line for line in lines if line and not line.startswith("#") and "\0" not in line]
        if "*" not in named and real not in map(os.path.realpath, named):
            return False
        state = _state(path)
        if state and (state.st_uid not in _trusted() or state.st_mode & stat.S_IWOTH):
            shown = shlex.quote(str(path))
            raise PkiError(
                f"{path}: belongs to another account, or every user can write it", f"ls -l {shown}; rm {shown}"
            )
    return True


def _list_of_account() -> Path:
    """Return the path of the list of this account. Under sudo, HOME may be that of another account."""
    with suppress(KeyError):
        own = pwd.getpwuid(os.geteuid()).pw_dir
        return Path(own if "SUDO_UID" in os.environ else os.environ.get("HOME") or own, NAMED)
    return Path(os.environ.get("HOME") or "/", NAMED)


def _command_to_allow(real: str) -> str:
    """Return the command that lists a project as safe, for the shell from which the program was started."""
    is_by_sudo, path = "SUDO_UID" in os.environ, _list_of_account()
    is_plain = bool(os.environ.get("HOME")) and not is_by_sudo
    folder, file = (
        (f"~/{os.path.dirname(NAMED)}", f"~/{NAMED}") if is_plain else map(shlex.quote, map(str, (path.parent, path)))
    )
    line = f"mkdir -p {folder} && echo {shlex.quote(real)} >> {file}"
    user = "" if os.geteuid() == 0 else f"-u {_account(os.geteuid())} "
    return f"if you trust its owner: {f'sudo {user}sh -c {shlex.quote(line)}' if is_by_sudo else line}"


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
