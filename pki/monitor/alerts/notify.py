"""Other ways to a person (ntfy, Matrix, Slack, webhooks …) through Apprise, an extra that is loaded when it is used."""

from __future__ import annotations

import logging
import re
from importlib import import_module
from typing import Any

from pki.common.errors import PkiError
from pki.common.visible import visible

CALLS = re.compile(r"@(?=(?:everyone|here|channel|room|all)\b)", re.IGNORECASE)


def send(name: str, address: str, title: str, body: str) -> None:
    """Tell one service, in plain text. Its address holds a token, so nothing that Apprise says of it is repeated."""
    apprise = _apprise()
    log = logging.getLogger("apprise")
    log.propagate, log.handlers = False, [logging.NullHandler()]
    service = apprise.Apprise()
    if not service.add(address):
        raise PkiError(
            f"{name}: is no address that Apprise knows",
            "such as ntfy://ntfy.sh/TOPIC or json://HOST/PATH: docs/watching.md",
        )
    if not service.notify(title=unmarked(title), body=unmarked(body), body_format=apprise.NotifyFormat.TEXT):
        raise PkiError(f"{name}: the service did not take the message", "look at the service, and at the address")


def unmarked(text: str) -> str:
    """Return a text in which no service finds markup: Apprise escapes HTML alone, and Slack, Discord and Matrix have more.

    A host may have supplied parts of it. `<…>` is a link or calls everybody in Slack, `](` makes a link in Markdown, and
    `@everyone` calls everybody elsewhere.
    """
    text = visible(text).replace("<", "\u2039").replace(">", "\u203a").replace("](", "] (")
    return CALLS.sub("@ ", text)


def _apprise() -> Any:
    try:
        return import_module("apprise")
    except ImportError:
        raise PkiError(
            "alerts.notify: apprise is not installed",
            "./run pip install --require-hashes -r requirements-notify.lock",
        ) from None
