"""The confirmation by the user, at a terminal, of a clock that nothing else confirms."""

from __future__ import annotations

import sys
from datetime import datetime

from pki.common.errors import PkiError
from pki.common.terminal import Screen
from pki.project.clock_guard import CONFIRM, MOMENT, ClockGuard
from pki.project.layout import Store
from pki.project.ledger_view import LedgerView


def confirm(store: Store, now: datetime, ledger_view: LedgerView, clock: ClockGuard) -> None:
    """Ask whether the clock is right, and record the answer "yes" in the ledger: then this run and later ones may sign.

    Asks and records nothing if the clock is not in doubt. Raises PkiError without a terminal, and after any other answer
    than "yes".
    """
    if not sys.stdin.isatty():
        raise PkiError("the clock must be confirmed at a terminal", f"log in and type: {CONFIRM}")
    screen, verdict = Screen(), clock.verdict
    if verdict.may_sign:
        why = f"it is right: {verdict.confirmation}" if verdict.confirmation else "the ledger does not contradict it"
        screen.line(f"{verdict.reading}; {why}; nothing to confirm")
        return
    screen.line(f"{verdict.reading}; {'; '.join(verdict.statements)}")
    if _answer(f"is it {now:%A}, {now:{MOMENT}} UTC now? (yes or no) ") not in {"yes", "y"}:
        raise PkiError("the clock was not confirmed; nothing was done", "set it right: timedatectl status")
    clock.confirm()  # for this process; the record below is for later runs
    with store.lock():
        detail = f"{now:{MOMENT}} UTC, last event {verdict.last:{MOMENT}} UTC" if verdict.last else ""
        ledger_view.ledger.record_decision("project", "clock-confirmed", detail, now)
        ledger_view.ledger.close()
    screen.line("recorded in the ledger")


def _answer(question: str) -> str:
    """Return the user's answer in lower case; "" if the user types Ctrl-C or Ctrl-D."""
    try:
        return input(question).strip().lower()
    except (EOFError, KeyboardInterrupt):
        return ""
