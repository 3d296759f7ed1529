"""Bringing a host up to its release: whether it must be, and doing it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from pki.deploy import receipt as receipts
from pki.deploy import release as releases
from pki.deploy.receipt import taken
from pki.deploy.transport import Transport
from pki.errors import PkiError
from pki.memo import Memo


def stale(host: str, folder: Path, receipt_path: Path, transport: Transport, memo: Memo) -> list[str]:
    """Why a host must be delivered to: never was, holds another release, or drifted from what it took."""
    name = f"deploy:{host}"
    if memo.recall(name, ""):
        return []
    receipt = receipts.load(receipt_path)
    if receipt is None:
        return ["was never delivered to"]
    release = releases.load(folder)
    if release is None:
        return ["its release is not there"]
    wanted = {file.path: taken(file) for file in release.files}
    has = {file["path"]: dict(file) for file in receipt.files}
    reasons = [f"{path} is new" for path in wanted if path not in has]
    reasons += [f"{path} changed" for path in wanted if path in has and has[path] != wanted[path]]
    reasons += [f"{path} is no longer wanted" for path in has if path not in wanted]
    reasons += transport.drift(receipt)
    if not reasons and (watched := transport.watched(receipt)):
        memo.remember(name, "", [str(folder / "manifest.json"), str(receipt_path), *watched], True)
    return reasons


def deliver(folder: Path, receipt_path: Path, transport: Transport, now: datetime) -> None:
    """Deliver the release in `folder` and keep the receipt."""
    release = releases.load(folder)
    if release is None:
        raise PkiError("its release is not there", "run doit")
    receipts.save(receipt_path, transport.deliver(release, folder, receipts.load(receipt_path), now))
