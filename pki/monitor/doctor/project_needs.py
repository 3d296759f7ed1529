"""What pki.yaml of a project needs of this machine: programs, packages, a mail server, the right to write."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pki.common.counts import counted
from pki.common.errors import InventoryError, PkiError
from pki.config import loader
from pki.config.authority_rules import IntermediateRule
from pki.config.ip_addresses import url_host
from pki.config.model import DeliverCommand, Inventory
from pki.config.secret_sources import Secrets
from pki.deploy.ansible.runner import find_program
from pki.monitor.alerts.smtp import PORTS
from pki.monitor.check_result import Level
from pki.monitor.checks.check_machine import textfile_fault
from pki.monitor.doctor.machine import SYSTEMD
from pki.monitor.doctor.observation import MachineObservation, first_line
from pki.monitor.doctor.packages import EXTRAS
from pki.project import safe_directories
from pki.x509.pkcs11 import uri

SECONDS = 5  # for a connection to the mail server


def observe_project(home: Path) -> Iterator[MachineObservation]:
    """Yield what the project in `home` needs. A project of another account is not read further."""
    try:
        safe_directories.check_owner(home)
        config = loader.load(home / "pki.yaml")
    except InventoryError as error:
        text = f"{len(error.faults)} faults, the first one: {error.faults[0]}"
        yield MachineObservation("pki.yaml", text, Level.CRITICAL, "./run invoke plan")
        return
    except PkiError as error:
        yield MachineObservation("project", error.message, Level.CRITICAL, error.hint)
        return
    yield MachineObservation(
        "pki.yaml", f"valid; {counted(len(config.hosts), 'host')}, {counted(len(config.clients), 'client')}"
    )
    for path, text, remedy in safe_directories.writable_by_others(home):
        yield MachineObservation("project", f"{path}: {text}", Level.WARNING, remedy)
    yield from _deliveries(config, home)
    yield from _extras(config)
    yield from _commands(config.secrets, home)
    yield from _alerts(config)
    if config.schedule and not SYSTEMD.is_dir() and not shutil.which("crontab"):
        yield MachineObservation(
            "schedule", "pki.yaml names times, and nothing can start doit then", Level.CRITICAL, "apt install cron"
        )


def _deliveries(config: Inventory, home: Path) -> Iterator[MachineObservation]:
    """Yield ssh, Ansible and the rights that the engine and the transports of the hosts need."""
    remote = [name for name, host in config.hosts.items() if host.deliver == "ssh"]
    if remote:
        version = first_line("ssh", "-V")
        value = version or f"cannot be started; needed for {len(remote)} hosts with deliver: ssh"
        yield MachineObservation(
            "deliver: ssh",
            value,
            Level.OK if version else Level.CRITICAL,
            "" if version else "apt install openssh-client",
        )
    local = [name for name, host in config.hosts.items() if host.deliver == "local"]
    if local or config.deploy.ca == "local":
        is_root = os.geteuid() == 0
        value = "this account is root" if is_root else "this account is not root: it may write only files that it owns"
        yield MachineObservation(
            "deliver: local", value, Level.OK if is_root else Level.NOTICE, "" if is_root else "sudo ./run doit"
        )
    for name, host in config.hosts.items():
        if isinstance(host.deliver, DeliverCommand):
            text = f"{host.deliver.command}: not found, and pki.yaml names it for the host {name}"
            program = shlex.split(host.deliver.command)[0]
            path = _program(program, home)
            remedy = (Level.CRITICAL, f"install {program}, or make it executable") if not path else ()
            yield MachineObservation(f"hosts.{name}.deliver", path or text, *remedy)
    if config.deploy.engine == "ansible":
        try:
            yield MachineObservation("deploy.engine: ansible", find_program(config.deploy.ansible.command))
        except PkiError as error:
            yield MachineObservation("deploy.engine: ansible", error.message, Level.CRITICAL, error.hint)


def _extras(config: Inventory) -> Iterator[MachineObservation]:
    """Yield optional packages that pki.yaml makes necessary, and the PKCS#11 modules that it names."""
    authorities = config.authorities
    rules = {"server": authorities.server, "client": authorities.client}
    rules |= {"peer": authorities.peer} if authorities.peer else {}
    tokens = [rule.token for rule in rules.values() if rule.token]
    needs = {
        "hsm": bool(tokens),
        "notify": bool(config.alerts.notify),
        "postgresql": config.ledger.startswith("postgresql"),
    }
    for name in (name for name, is_needed in needs.items() if is_needed):
        extra = EXTRAS[name]
        value = f"{extra.package}: {'installed' if extra.is_present else 'not installed'}; pki.yaml needs it for {extra.use}"
        yield MachineObservation(f"extra {name}", value, *(() if extra.is_present else (Level.CRITICAL, extra.remedy)))
    for name, rule in rules.items():
        yield from _module(name, rule)


def _module(name: str, rule: IntermediateRule) -> Iterator[MachineObservation]:
    if not rule.token:
        return
    subject = f"authorities.{name}.token"
    try:
        path = uri.parse(rule.token).module_path
    except PkiError as error:
        yield MachineObservation(subject, error.message, Level.CRITICAL, error.hint)
        return
    is_present = os.path.isfile(path)
    value = path if is_present else f"{path}: does not exist"
    yield MachineObservation(
        subject, value, *(() if is_present else (Level.CRITICAL, "install the PKCS#11 module of the token"))
    )


def _commands(secrets: Secrets, home: Path) -> Iterator[MachineObservation]:
    """Yield whether the programs that print passphrases exist; they are not started, because some ask for a PIN."""
    for name, source in secrets.named.items():
        if source.command:
            program = shlex.split(source.command)[0]
            path = _program(program, home)
            value = path or f"{program}: not found, and pki.yaml names it for the passphrase of {name}"
            yield MachineObservation(
                f"secrets.{name}", value, *(() if path else (Level.CRITICAL, f"install {program}"))
            )


def _program(program: str, home: Path) -> str | None:
    """Return the path of a program that is started in the folder of the project, None if there is none."""
    return shutil.which(program if "/" not in program else str(home / program))


def _alerts(config: Inventory) -> Iterator[MachineObservation]:
    """Yield whether the mail server accepts connections, and whether the metrics file can be written."""
    email = config.alerts.email
    if email and email.smtp != "outbox":
        parts = urlsplit(email.smtp)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        server = f"{url_host(host)}:{port}"
        try:
            with socket.create_connection((host, port), SECONDS):
                yield MachineObservation("alerts.email", f"{server} accepts connections; no mail was sent")
        except OSError as error:
            text = f"{server}: {error.strerror or error}: no mail can be sent"
            yield MachineObservation("alerts.email", text, Level.WARNING, f"getent hosts {host}; ss -tn dst {host}")
    elif email:
        yield MachineObservation("alerts.email", "outbox: mails are written to build/report/outbox/, and not sent")
    if textfile := config.metrics.textfile:
        fault = textfile_fault(textfile)
        yield MachineObservation("metrics.textfile", *((fault[0], Level.WARNING, fault[1]) if fault else (textfile,)))
