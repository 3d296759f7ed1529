"""Host keys that ssh refuses, and the line to type: it acts on the names and files that the ssh configuration gives."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from pki.deploy.process import DisconnectedError, Limits, run

QUERY_LIMITS = Limits(10.0, 10.0)  # seconds for `ssh -G`, which opens no connection
CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
REVOKED = "REVOKED HOST KEY DETECTED"
REFUSED = "Host key verification failed"
OF_JUMP = "UNKNOWN port"  # what ssh says of a connection that it has through another ssh
UNUSABLE_FILES = {"/dev/null", "none"}
OFFENDING = re.compile(r"^Offending \S+ key in (/.*):\d+\r?$", re.MULTILINE)
JUMP = re.compile(r"(?:\[([^]]+)]|([^:]+))(?::(\d+))?")  # HOST, HOST:PORT, [ADDRESS]:PORT


def host_key_fault(login: Sequence[str], known_as: str, complaint: str) -> tuple[str, str] | None:
    """Return what is wrong with a host key and what to type, or None where ssh complained about something else.

    `login` is the client with its options and its destination, as a person types it; `known_as` is what known_hosts
    calls the host where ssh cannot be asked for it. The complaint only selects: every name and file in the answer is
    from the configuration here.
    """
    if not any(words in complaint for words in (CHANGED, REVOKED, REFUSED)):
        return None
    said, subject = read_configuration(login), "its host key"
    if OF_JUMP in complaint and said.get("proxyjump", "none") != "none":
        login = jump_login(login, said["proxyjump"])
        said, subject = read_configuration(login), f"the host key of its jump host {login[-1]}"
        known_as = login[-1]
    accept = f"{shlex.join(accept_command(login, said))} true"
    users = said.get("userknownhostsfile", "")
    if REVOKED in complaint:
        files = users or "~/.ssh/known_hosts"
        return (
            f"{subject} is marked as revoked here",
            f"give that host another key at its console; the line that revokes it: grep -n @revoked {files}",
        )
    if users in UNUSABLE_FILES:
        return (
            f"{subject} cannot be kept here",
            f"name a file in the ssh configuration, where it says UserKnownHostsFile {users}; then: {accept}",
        )
    if CHANGED in complaint:
        forget = shlex.join(forget_command(said, known_as, complaint))
        return (
            f"{subject} is not the one that is known here",
            f"if the host was set up again, compare the fingerprint at its console, then: {forget} && {accept}",
        )
    return (
        f"{subject} is not known here",
        f"compare its fingerprint at its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: {accept}",
    )


def read_configuration(login: Sequence[str]) -> Mapping[str, str]:
    """Return what ssh's configuration says of a connection, by `ssh -G`; empty where ssh does not say it."""
    try:
        status, said, _ = run((login[0], "-G", *login[1:]), b"", QUERY_LIMITS)
    except (DisconnectedError, OSError):
        return {}
    return dict(line.split(" ", 1) for line in said.splitlines() if " " in line) if status == 0 else {}


def jump_login(login: Sequence[str], jumps: str) -> tuple[str, ...]:
    """Return how a person logs in to the last of some jump hosts, as ProxyJump names them.

    ssh hands on to them the configuration file that it was given, and no other option.
    """
    *before, last = jumps.split(",")
    user, _, place = last.removeprefix("ssh://").rpartition("@")
    match = JUMP.fullmatch(place)
    host, port = (match[1] or match[2], match[3]) if match else (place, "")
    options = ["-F", login[login.index("-F") + 1]] if "-F" in login else []
    options += ["-J", ",".join(before)] if before else []
    options += ["-p", port] if port else []
    options += ["-l", user] if user else []
    return ("ssh", *options, host)


def accept_command(login: Sequence[str], said: Mapping[str, str]) -> tuple[str, ...]:
    """Return the login with which ssh asks whether a host key is right, whatever the configuration says."""
    options = ["-o", "StrictHostKeyChecking=ask"] if said.get("stricthostkeychecking") in {"true", "yes"} else []
    options += ["-o", "BatchMode=no"] if said.get("batchmode") == "yes" else []
    options += ["-o", "RemoteCommand=none"] if said.get("remotecommand", "none") != "none" else []
    return (login[0], *options, *login[1:])


def forget_command(said: Mapping[str, str], known_as: str, complaint: str) -> tuple[str, ...]:
    """Return the command that removes the keys of a host from the file in which ssh met another one."""
    users, every = said.get("userknownhostsfile", ""), said.get("globalknownhostsfile", "")
    met = OFFENDING.search(complaint)
    file = met[1] if met and met[1] in f"{users} {every}" else users.partition(" ")[0]
    is_usual = file in {"", str(Path("~/.ssh/known_hosts").expanduser())}
    closed = ["sudo"] if os.path.exists(file) and not os.access(file, os.W_OK) else []
    return (*closed, "ssh-keygen", *(() if is_usual else ("-f", file)), "-R", _known_hosts_name(said) or known_as)


def _known_hosts_name(said: Mapping[str, str]) -> str:
    """Return what known_hosts calls a host: its alias, or the address under which ssh connects."""
    name, port = said.get("hostname", ""), said.get("port", "22")
    return said.get("hostkeyalias") or (f"[{name}]:{port}" if name and port != "22" else name)
