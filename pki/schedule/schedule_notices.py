"""Notices before and after the schedule is installed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from pki.common.notice import Notice
from pki.schedule import systemd
from pki.schedule.job import DEFAULT_TIMES, Job, missed

DOCS = "docs/how-to/schedule.md"


def notices(job: Job, present: dict[str, tuple[str, ...] | None], *, by_systemd: bool) -> Iterator[Notice]:
    """Yield the notices about a job.

    `present` contains the times at which each scheduler of this machine runs the job already; None where it does not.
    """
    if not job.config.schedule:
        yield Notice(
            "schedule",
            f"pki.yaml names no times; the default is {DEFAULT_TIMES[0]}",
            f"for another time, write in pki.yaml: schedule: [{DEFAULT_TIMES[0]}]",
        )
    yield from _times(job, present)
    yield from _account(job)
    yield from _secrets(job, by_systemd=by_systemd)
    if job.is_local and by_systemd:
        yield Notice(
            "service",
            "deploys files on this machine (local), so the service is not confined",
            f"read {DOCS}, which explains how to avoid that",
        )


def _times(job: Job, present: dict[str, tuple[str, ...] | None]) -> Iterator[Notice]:
    reinstall = "./run invoke schedule --install"
    for scheduler, times in present.items():
        if times is None:
            continue
        if tuple(sorted(times)) != job.times:
            present_times = ", ".join(times) or "other times"
            yield Notice(
                "schedule", f"{scheduler} runs doit at {present_times}, pki.yaml says {', '.join(job.times)}", reinstall
            )
        for host in missed(job.config, times):
            window = job.config.hosts[host].window
            yield Notice(f"host:{host}", f"no run of {scheduler} starts in its window {window}", reinstall)
    if sum(1 for times in present.values() if times is not None) > 1:
        yield Notice(
            "schedule", f"{' and '.join(present)} both run doit", "./run invoke schedule --remove, then --install"
        )


def _account(job: Job) -> Iterator[Notice]:
    if job.user == "root":
        text = f"doit runs as root, because {job.home} belongs to root"
        if job.is_local:
            yield Notice("account", text, f"read {DOCS}")
        else:
            change = f"chown -R ACCOUNT: {shlex.quote(str(job.home))}"
            yield Notice("account", f"{text}; a separate account is enough", f"{change} ({DOCS})")


def _secrets(job: Job, *, by_systemd: bool) -> Iterator[Notice]:
    for name, source in job.config.secrets.named.items():
        if name in {"root", "backup"}:  # not used by runs
            continue
        where = f"secrets.{name}"
        if source.prompt or source.fd is not None or source.env:
            yield Notice(
                where, f"{source.description} is not available in a scheduled run", f"use another source: {DOCS}"
            )
        elif source.credential and not by_systemd:
            yield Notice(where, f"{source.description} is available only under systemd", "--systemd, or another source")
    for name in job.credentials if by_systemd else ():
        if not (systemd.SEALED / name).exists() and not (systemd.OPEN / name).exists():
            seal = f"systemd-ask-password -n | systemd-creds encrypt --name={name} - {systemd.SEALED / name}"
            yield Notice("service", f"will not start while the credential {name} is missing", seal)
