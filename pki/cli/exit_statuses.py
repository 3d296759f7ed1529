"""The exit statuses of the commands: those that every command has, and those of its own."""

from __future__ import annotations

from pki.common.child_processes import STOPPED

Statuses = dict[int, str]

DOIT: Statuses = {
    0: "everything is up to date, and no finding is critical",
    1: "a task failed, or a finding is critical; the last lines name it",
    2: "as 1; doit itself ends with this status when a task has an error",
    3: "nothing was done: pki.yaml is invalid, the command line is wrong, or there is no project",
    STOPPED: "stopped with Ctrl-C",
}
COMMANDS: Statuses = {
    0: "done",
    1: "failed, refused, or typed wrongly: the last lines say why, and what to type",
    3: "nothing was done: pki.yaml is invalid",
    STOPPED: "stopped with Ctrl-C",
}
REVOCATION: Statuses = {
    0: "every service refuses the certificate, or no service uses it",
    1: "something failed, or a service still accepts the certificate",
    2: "revoked and published, but not every service could be verified",
}
OWN: dict[str, Statuses] = {  # command → statuses whose meaning differs from that in COMMANDS
    "plan": {0: "everything is up to date", 2: "something is to do, or the ledger is lost"},
    "health": {
        0: "all OK",
        1: "something could not be checked, or pki.yaml is invalid",
        2: "notice: action required some day",
        3: "warning: action required soon",
        4: "critical: action required now",
    },
    "check": {0: "no faults", 1: "a certificate or release cannot be made, or a template has a fault"},
    "doctor": {
        0: "nothing is missing",
        2: "the worst finding is a notice",
        3: "the worst finding is a warning",
        4: "a finding is critical",
    },
    "timeline": {0: "no problem is expected", 2: "a problem is expected"},
    **dict.fromkeys(("revoke", "retire", "client.revoke"), REVOCATION),
    "deploy.drift": {0: "no drift", 1: "a host could not be compared", 2: "drift"},
    "ledger.verify": {0: "the ledger is intact", 1: "the ledger is damaged, or older than seen before"},
    "ceremony.verify": {0: "every hash and signature is correct", 1: "a fault was found"},
}
