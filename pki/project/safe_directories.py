"""Whose project it is: one that another account can change is refused before anything of it is read.

The model is git's safe.directory (CVE-2022-24765): whoever writes pki.yaml decides what programs run, so a command that
is typed in a folder must not run what its owner put there.
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
NAMED = ".config/doit-pki/safe-directories"  # in the home folder: one project on each line
VARIABLE = "PKI_SAFE_DIRECTORIES"  # projects with `:` between them, or `*` for any: in containers and CI


def check_owner(home: Path) -> None:
    """Raise PkiError where another account owns a project that is not named as safe, or every user can write it.

    The owner is this account, root or, as root under sudo, the account that typed it. Links are followed.
    """
    found = [(path, state) for path in map(home.joinpath, PARTS) if (state := _state(path))]
    faults = list(_open(found))
    foreign = [(path, state) for path, state in found if state.st_uid not in _trusted()]
    if foreign and not _is_named(real := os.path.realpath(home)):
        said = "; ".join(_owners(foreign))
        this = f"this account is {_account(os.geteuid())}"
        faults.append(PkiError(f"the project of another account is not read: {said}; {this}", _allow(real)))
    if faults:
        raise FaultsError.of(faults)


def _owners(found: list[tuple[Path, os.stat_result]]) -> Iterator[str]:
    for owner in dict.fromkeys(state.st_uid for _, state in found):
        paths = [str(path) for path, state in found if state.st_uid == owner]
        yield f"{', '.join(paths)} {'belong' if len(paths) > 1 else 'belongs'} to {_account(owner)}"


def _open(found: list[tuple[Path, os.stat_result]]) -> Iterator[PkiError]:
    if paths := [path for path, state in found if state.st_mode & stat.S_IWOTH]:
        hint = f"look at what others may have put there, then: chmod -R o-w {shlex.join(map(str, paths))}"
        yield PkiError(f"{', '.join(map(str, paths))} can be written by every user of this machine", hint)


def writable_by_others(home: Path) -> Iterator[tuple[str, str, str]]:
    """What others can change of a project that is read all the same: its path, a phrase after it, and what to type.

    A group in which nobody else is, as a umask of 002 presumes (user private groups), is quiet.
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
    """Who may write through the group of a file, as a phrase; empty when that is its owner alone."""
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
    """Whether a project, by its real path, is named as safe by the environment or by this account's file."""
    named = os.environ.get(VARIABLE, "").split(":")
    if "*" not in named and real not in map(os.path.realpath, filter(None, named)):
        path = _file()
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


def _file() -> Path:
    """The file of this account, whose home folder sudo may have left out of HOME."""
    with suppress(KeyError):
        own = pwd.getpwuid(os.geteuid()).pw_dir
        return Path(own if "SUDO_UID" in os.environ else os.environ.get("HOME") or own, NAMED)
    return Path(os.environ.get("HOME") or "/", NAMED)


def _allow(real: str) -> str:
    """What to type to name a project as safe for this account, in the shell from which it was started."""
    is_by_sudo, path = "SUDO_UID" in os.environ, _file()
    is_plain = bool(os.environ.get("HOME")) and not is_by_sudo
    folder, file = (
        (f"~/{os.path.dirname(NAMED)}", f"~/{NAMED}") if is_plain else map(shlex.quote, map(str, (path.parent, path)))
    )
    line = f"mkdir -p {folder} && echo {shlex.quote(real)} >> {file}"
    user = "" if os.geteuid() == 0 else f"-u {_account(os.geteuid())} "
    return f"if you trust its owner: {f'sudo {user}sh -c {shlex.quote(line)}' if is_by_sudo else line}"


# -- files ------------------------------------------------------------------------------------------------------------


def _state(path: Path) -> os.stat_result | None:
    """The state of what a path leads to; None when nothing is there, or it cannot be seen."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _account(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
