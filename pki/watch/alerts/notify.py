"""Other ways to a person (ntfy, Matrix, Slack, webhooks …) through Apprise, an extra that is loaded when it is used."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

from pki.errors import PkiError


def send(name: str, address: str, title: str, body: str) -> None:
    """Tell one service. Its address holds a token, so nothing that Apprise says of it is repeated."""
    apprise = _apprise()
    log = logging.getLogger("apprise")
    log.propagate, log.handlers = False, [logging.NullHandler()]
    service = apprise.Apprise()
    if not service.add(address):
        raise PkiError(
            f"{name}: is no address that Apprise knows",
            "such as ntfy://ntfy.sh/TOPIC or json://HOST/PATH: docs/watching.md",
        )
    if not service.notify(title=title, body=body):
        raise PkiError(f"{name}: the service did not take the message", "look at the service, and at the address")


def _apprise() -> Any:
    try:
        return import_module("apprise")
    except ImportError:
        raise PkiError(
            "alerts.notify: apprise is not installed",
            "./run pip install --require-hashes -r requirements-notify.lock",
        ) from None
