"""Hosts that are delivered to by ssh, and what is known of them."""

from __future__ import annotations

from typing import Any

import pytest

from pki.deploy.contact import Contact
from pki.deploy.receipt import load as receipt_of
from pki.deploy.receipt import save as keep_receipt
from pki.deploy.verification import VERIFIED
from tests.support.projects import START, Home


@pytest.fixture
def remote(home: Home) -> Home:
    """The project with `media` behind ssh: it took its release, by its receipt, and answered this morning."""
    home.edit("network: av\n", "network: av\n    deliver: ssh\n")
    project = home.project()
    taken = receipt_of(project.store.receipt("media"))
    assert taken is not None
    keep_receipt(project.store.receipt("media"), _with(taken, transport="ssh", verification={"jellyfin": VERIFIED}))
    Contact().succeeded(START).save(project.store.contact("media"))
    return home


def _with(receipt: Any, **changes: Any) -> Any:
    return type(receipt)(**{name: changes.get(name, getattr(receipt, name)) for name in receipt.__dataclass_fields__})
