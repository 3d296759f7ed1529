"""Bringing a host up to its release: whether it must be, and doing it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pki.deploy import receipt as receipts
from pki.deploy import release as releases
from pki.deploy.folder import FolderTransport
from pki.deploy.receipt import taken
from pki.deploy.transport import Transport
from pki.errors import PkiError
from pki.memo import Memo
from pki.store import Store


@dataclass(frozen=True, slots=True)
class Delivery:
    """One host and its release in the store."""

    host: str
    store: Store

    @property
    def transport(self) -> Transport:
        return FolderTransport(self.store.host_root(self.host))

    def stale(self, memo: Memo) -> list[str]:
        """Why the host must be delivered to: it never was, holds another release, or drifted from what it took."""
        name = f"deploy:{self.host}"
        if memo.recall(name, ""):
            return []
        folder, path, transport = self.store.release(self.host), self.store.receipt(self.host), self.transport
        receipt, release = receipts.load(path), releases.load(folder)
        if receipt is None:
            return ["was never delivered to"]
        if release is None:
            return ["its release is not there"]
        wanted = {file.path: taken(file) for file in release.files}
        has = {file["path"]: dict(file) for file in receipt.files}
        reasons = [f"{path} is new" for path in wanted if path not in has]
        reasons += [f"{path} changed" for path in wanted if path in has and has[path] != wanted[path]]
        reasons += [f"{path} is no longer wanted" for path in has if path not in wanted]
        reasons += transport.drift(receipt)
        if not reasons and (watched := transport.watched(receipt)):
            memo.remember(name, "", [str(folder / "manifest.json"), str(path), *watched], True)
        return reasons

    def deliver(self, now: datetime) -> None:
        """Deliver the release and keep the receipt."""
        folder, path = self.store.release(self.host), self.store.receipt(self.host)
        release = releases.load(folder)
        if release is None:
            raise PkiError("its release is not there", "run doit")
        receipts.save(path, self.transport.deliver(release, folder, receipts.load(path), now))
