"""What somebody should know before, or after, the clock is set."""

from __future__ import annotations

from collections.abc import Iterator

from pki.pipeline.desired_state import Note
from pki.schedule import systemd
from pki.schedule.job import USUAL, Errand, missed

DOCS = "docs/schedule.md"


def remarks(errand: Errand, present: dict[str, tuple[str, ...] | None], *, by_systemd: bool) -> Iterator[Note]:
    """`present` says at which times each way runs the errand on this machine already, None where it does not."""
    if not errand.said.schedule:
        yield Note("schedule", f"pki.yaml names no times; {USUAL[0]} it is", "schedule: [06:00] in pki.yaml")
    yield from _times(errand, present)
    yield from _account(errand)
    yield from _secrets(errand, by_systemd=by_systemd)
    if errand.is_local and by_systemd:
        yield Note(
            "service",
            "places files on this machine, as pki.yaml says (local): nothing of the machine is closed to it",
            f"{DOCS} says what that means, and how to have it otherwise",
        )


def _times(errand: Errand, present: dict[str, tuple[str, ...] | None]) -> Iterator[Note]:
    again = "./run invoke schedule --install"
    for way, times in present.items():
        if times is None:
            continue
        if tuple(sorted(times)) != errand.times:
            said = ", ".join(times) or "times that are not ours"
            yield Note("schedule", f"{way} runs doit at {said}, pki.yaml says {', '.join(errand.times)}", again)
        for host in missed(errand.said, times):
            window = errand.said.hosts[host].window
            yield Note(f"host:{host}", f"its window {window} is never met by the runs of {way}", again)
    if sum(1 for times in present.values() if times is not None) > 1:
        yield Note(
            "schedule", f"{' and '.join(present)} both run doit", "./run invoke schedule --remove, then --install"
        )


def _account(errand: Errand) -> Iterator[Note]:
    if errand.user == "root":
        why = "" if errand.is_local else f"; an account of its own is enough: chown -R ACCOUNT: {errand.home}"
        yield Note("account", f"doit runs as root, because {errand.home} belongs to root", f"{DOCS}{why}")


def _secrets(errand: Errand, *, by_systemd: bool) -> Iterator[Note]:
    for name, source in errand.said.secrets.named.items():
        if name in {"root", "backup"}:  # which no run opens
            continue
        where = f"secrets.{name}"
        if source.prompt or source.fd is not None or source.env:
            yield Note(
                where,
                f"{source.description} has nothing to say to a run that nobody started",
                f"another source: {DOCS}",
            )
        elif source.credential and not by_systemd:
            yield Note(where, f"{source.description} is there under systemd only", "--systemd, or another source")
    for name in errand.credentials if by_systemd else ():
        if not (systemd.SEALED / name).exists() and not (systemd.OPEN / name).exists():
            seal = f"systemd-ask-password -n | systemd-creds encrypt --name={name} - {systemd.SEALED / name}"
            yield Note("service", f"will not start while the credential {name} is not there", seal)
