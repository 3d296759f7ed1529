"""Send alerts to ntfy, Matrix, Slack, web hooks and others through Apprise, an optional package."""

from __future__ import annotations

import logging
import re
from importlib import import_module
from typing import Any

from pki.common.errors import PkiError
from pki.common.visible import visible

MENTIONS = re.compile(r"@(?=(?:everyone|here|channel|room|all)\b)", re.IGNORECASE)


def send(name: str, address: str, title: str, body: str) -> None:
    """Send plain text to one service. Raises PkiError if it was not accepted.

    The address contains a token, so no message of Apprise is shown.
    """
    apprise = _apprise()
    log = logging.getLogger("apprise")
    log.propagate, log.handlers = False, [logging.NullHandler()]
    service = apprise.Apprise()
    if not service.add(address):
        raise PkiError(
            f"{name}: is not an address that Apprise supports",
            "examples: ntfy://ntfy.sh/TOPIC, json://HOST/PATH; see docs/how-to/alerts.md",
        )
    if not service.notify(title=unmarked(title), body=unmarked(body), body_format=apprise.NotifyFormat.TEXT):
        raise PkiError(f"{name}: the service did not accept the message", "check the service and its address")


def unmarked(text: str) -> str:
    """Return the text without anything that a service reads as markup: Apprise escapes HTML only.

    A host may have supplied parts of it. `<…>` is a link or notifies everybody in Slack, `](` makes a link in Markdown,
    and `@everyone` notifies everybody elsewhere.
    """
    text = visible(text).replace("<", "\u2039").replace(">", "\u203a").replace("](", "] (")
    return MENTIONS.sub("@ ", text)


def _apprise() -> Any:
    try:
        return import_module("apprise")
    except ImportError:
        raise PkiError(
            "alerts.notify: apprise is not installed",
            "./run pip install --require-hashes -r requirements-notify.lock",
        ) from None
