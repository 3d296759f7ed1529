"""Host keys that ssh refuses, and the command to type, with the names and files of the ssh configuration."""

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
OF_JUMP = "UNKNOWN port"  # in ssh's message about a host behind a jump host
UNUSABLE_FILES = {"/dev/null", "none"}
OFFENDING = re.compile(r"^Offending \S+ key in (/.*):\d+\r?$", re.MULTILINE)
JUMP = re.compile(r"(?:\[([^]]+)]|([^:]+))(?::(\d+))?")  # HOST, HOST:PORT, [ADDRESS]:PORT


def host_key_fault(login: Sequence[str], known_as: str, errors: str) -> tuple[str, str] | None:
    """Return what is wrong with a host key and what to type, None if ssh complained about something else.

    `login` is the ssh command with options and destination; `known_as` is the name in known_hosts where ssh cannot be
    asked. The error output of ssh only selects the case: every name and file in the answer comes from the
    configuration.
    """
    if not any(words in errors for words in (CHANGED, REVOKED, REFUSED)):
        return None
    config = read_configuration(login)
    subject = f"host key of {_known_hosts_name(config) or known_as}"
    if OF_JUMP in errors and config.get("proxyjump", "none") != "none":
        login = jump_login(login, config["proxyjump"])
        config, subject = read_configuration(login), f"host key of jump host {login[-1]}"
        known_as = login[-1]
    accept_line = f"{shlex.join(accept_command(login, config))} true"
    user_files = config.get("userknownhostsfile", "")
    if REVOKED in errors:
        files = user_files or "~/.ssh/known_hosts"
        return (
            f"{subject} is marked as revoked in known_hosts",
            f"give that host another key at its console, or remove the line: grep -n @revoked {files}",
        )
    if user_files in UNUSABLE_FILES:
        return (
            f"{subject} cannot be stored",
            f"name a file in the ssh configuration instead of UserKnownHostsFile {user_files}; then: {accept_line}",
        )
    if CHANGED in errors:
        forget_line = shlex.join(forget_command(config, known_as, errors))
        return (
            f"{subject} is not the one in known_hosts",
            f"if the host was reinstalled, compare the fingerprint at its console, then: {forget_line} && {accept_line}",
        )
    return (
        f"{subject} is not in known_hosts",
        f"compare its fingerprint at its console (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then: {accept_line}",
    )


def read_configuration(login: Sequence[str]) -> Mapping[str, str]:
    """Return ssh's configuration for a connection (`ssh -G`), empty if ssh does not print it."""
    try:
        status, output, _ = run((login[0], "-G", *login[1:]), b"", QUERY_LIMITS)
    except (DisconnectedError, OSError):
        return {}
    return dict(line.split(" ", 1) for line in output.splitlines() if " " in line) if status == 0 else {}


def jump_login(login: Sequence[str], jumps: str) -> tuple[str, ...]:
    """Return the ssh command for the last of some jump hosts, as ProxyJump names them.

    ssh passes on to them the configuration file that it was given, and no other option.
    """
    *earlier, last = jumps.split(",")
    user, _, address = last.removeprefix("ssh://").rpartition("@")
    match = JUMP.fullmatch(address)
    host, port = (match[1] or match[2], match[3]) if match else (address, "")
    options = ["-F", login[login.index("-F") + 1]] if "-F" in login else []
    options += ["-J", ",".join(earlier)] if earlier else []
    options += ["-p", port] if port else []
    options += ["-l", user] if user else []
    return ("ssh", *options, host)


def accept_command(login: Sequence[str], config: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ssh command that asks whether to store the host key, whatever the configuration says."""
    options = ["-o", "StrictHostKeyChecking=ask"] if config.get("stricthostkeychecking") in {"true", "yes"} else []
    options += ["-o", "BatchMode=no"] if config.get("batchmode") == "yes" else []
    options += ["-o", "RemoteCommand=none"] if config.get("remotecommand", "none") != "none" else []
    return (login[0], *options, *login[1:])


def forget_command(config: Mapping[str, str], known_as: str, errors: str) -> tuple[str, ...]:
    """Return the command that removes the keys of a host from the file in which ssh found another key."""
    user_files, global_files = config.get("userknownhostsfile", ""), config.get("globalknownhostsfile", "")
    match = OFFENDING.search(errors)
    file = match[1] if match and match[1] in f"{user_files} {global_files}" else user_files.partition(" ")[0]
    is_default = file in {"", str(Path("~/.ssh/known_hosts").expanduser())}
    sudo = ["sudo"] if os.path.exists(file) and not os.access(file, os.W_OK) else []
    return (*sudo, "ssh-keygen", *(() if is_default else ("-f", file)), "-R", _known_hosts_name(config) or known_as)


def _known_hosts_name(config: Mapping[str, str]) -> str:
    """Return the name of a host in known_hosts: its alias, or the address to which ssh connects; "" if unknown."""
    name, port = config.get("hostname", ""), config.get("port", "22")
    return config.get("hostkeyalias") or (f"[{name}]:{port}" if name and port != "22" else name)
