"""Health of hosts: which one does not answer, is held, is unproven, or was changed by somebody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from pki.deploy.delivery import Delivery
from pki.deploy.proof import PROVEN, UNPROVEN
from pki.deploy.receipt import instant, moment
from pki.deploy.ssh import NEXT_RUN
from pki.memo import token
from pki.watch import bootstraps, waiting_roots
from pki.watch.checks import Check, Level, by_time_left, named
from pki.watch.view import View

DAY = timedelta(days=1)
CRITICAL = 7 * DAY
DRIFT = (" was edited", " was deleted", " becomes a file")
REPAIR = "./run doit puts it right; wishes go into pki.yaml or templates/ (docs/managed-files.md)"


class State(NamedTuple):
    """What receipt, contact and history say of a host that is not simply well; instants as text."""

    host: str
    failing_since: str
    message: str
    ends: str
    unproven: Sequence[Sequence[str]]
    held_since: str


def hosts(view: View) -> Iterator[Check]:
    """Every host answers, follows its releases and is proven; what somebody changed there is said once."""
    troubled = set[str]()
    for state in _states(view):
        troubled.add(state.host)
        yield from _remote(view, state)
    for name in view.run.failed.keys() | view.run.unmet.keys():
        host = name.removeprefix("deploy:")
        if name.startswith("deploy:") and host not in troubled and host in view.plan.deliveries:
            troubled.add(host)
            yield from _failed(view, host)
    yield from _drifted(view)
    for note in (*waiting_roots.notes(view.house, view.plan), *bootstraps.notes(view.house, view.plan)):
        yield Check(note.subject, Level.WARNING, note.text, note.remedy)
    new = [name for name in view.plan.deliveries if name not in troubled and _is_new(view, name)]
    if new:
        text = f"never delivered to: {named(new)}; the next run does it"
        yield Check("hosts", Level.NOTICE, text, "./run doit")
    there = len(view.plan.deliveries) - len(troubled) - len(new)
    if there:
        yield Check("hosts", Level.OK, f"{there} as pki.yaml says")


def _remote(view: View, state: State) -> Iterator[Check]:
    subject = f"deploy:{state.host}"
    if state.failing_since:
        failure, until = view.run.failure(subject), moment(state.ends) if state.ends else None
        level = max(Level.WARNING, by_time_left(until - view.now, CRITICAL, CRITICAL) if until else Level.WARNING)
        text = failure.message if failure else f"could not be brought up to date: {state.message}"
        remedy = (failure.hint if failure else "") or f"./run invoke deploy.run {state.host}"
        if remedy == NEXT_RUN:
            remedy = f"look at the host, then: ./run invoke deploy.run {state.host} --dry-run"
        yield Check(subject, level, text, remedy, since=moment(state.failing_since), until=until)
    if state.held_since:
        text = "is held at an earlier release, and follows no change but CRLs"
        remedy = f"./run invoke deploy.push {state.host}"
        yield Check(f"hold:{state.host}", Level.NOTICE, text, remedy, since=moment(state.held_since))
    seen = {
        one.service for one in view.probes if one.host == state.host
    }  # as it is now, whatever a delivery could reach
    if unproven := [f"{name} {text}" for name, text in state.unproven if text != UNPROVEN or name not in seen]:
        remedy = f"./run invoke deploy.push {state.host}, with the way to it open"
        yield Check(f"proof:{state.host}", Level.NOTICE, "; ".join(unproven), remedy)


def _is_new(view: View, host: str) -> bool:
    """Whether a host has taken nothing yet; after a run it has, or has failed."""
    return view.thorough and not view.house.store.receipt(host).exists()


def _failed(view: View, host: str) -> Iterator[Check]:
    """A host that failed without a contact: a release that is not there, a folder that cannot be written."""
    failure = view.run.failure(f"deploy:{host}")
    if failure and f"deploy:{host}" in view.run.failed:
        yield Check(f"deploy:{host}", Level.WARNING, failure.message, failure.hint or f"./run doit deploy:{host}")


def _states(view: View) -> Sequence[State]:
    """The hosts that are not simply well. Whenever a receipt or a contact is written, its folder changes too."""
    house = view.house
    remote = [one for one in view.plan.deliveries.values() if one.is_remote]
    if not remote:
        return []
    known = token([one.host for one in remote], sorted((house.pins or {}).items()))
    found = house.memo.recall("unwell hosts", known)
    if found is None:
        found = [state for one in remote if any((state := _state(one))[i] for i in (1, 4, 5))]
        folders = [str(house.store.receipt("x").parent), str(house.store.contact("x").parent)]
        house.memo.remember("unwell hosts", known, folders, found)
    return [State(*one) for one in found]


def _state(delivery: Delivery) -> State:
    receipt, contact = delivery.receipt, delivery.contact
    proofs = dict(receipt.proof or {}) if receipt else {}
    return State(
        host=delivery.host,
        failing_since=contact.failing_since,
        message=contact.message,
        ends=receipt.ends if receipt else "",
        unproven=[(name, text) for name, text in proofs.items() if not text.startswith(PROVEN)],
        held_since=instant(pin.since) if (pin := delivery.pinned()) and pin.release else "",
    )


def _drifted(view: View) -> Iterator[Check]:
    """What somebody else changed on a host: of folders also what the next run will find."""
    for name, delivery in view.plan.deliveries.items():
        subject = f"deploy:{name}"
        done = view.run.made.get(subject)
        if done and (phrases := _drift(delivery, done)):
            text = f"was changed by somebody else, and put right: {'; '.join(phrases)}"
            yield Check(f"drift:{name}", Level.NOTICE, text, REPAIR.partition("; ")[2], passing=True)
        elif view.thorough and not delivery.is_remote:
            phrases = _edits(delivery.stale(view.house.memo, view.now))
            if phrases:
                yield Check(f"drift:{name}", Level.NOTICE, f"was changed: {'; '.join(phrases)}", REPAIR)


def _drift(delivery: Delivery, done: Sequence[str]) -> Sequence[str]:
    """Which of the things done on a host put right what it had taken before."""
    if not delivery.is_remote:
        return _edits(done)
    delivered = [note["release"] for note in delivery.history.notes() if note["what"] == "delivered"]
    return done if len(delivered) > 1 and delivered[-1] == delivered[-2] else ()


def _edits(reasons: Sequence[str]) -> Sequence[str]:
    return [reason for reason in reasons if reason.endswith(DRIFT) or " has mode " in reason]
