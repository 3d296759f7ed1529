"""The door to invoke: take the clock, gather the collections."""

import os
from datetime import UTC, datetime
from pathlib import Path

from invoke import Collection

from pki.commands import ca, ceremony, daily, dev, init, keeping, ledger

ns = Collection()
for name, function in {
    "init": init.init,
    "plan": daily.plan,
    "status": daily.show_status,
    "renew": daily.renew,
    "revoke": daily.revoke,
    "retire": daily.retire,
    "backup": keeping.backup,
    "restore": keeping.restore,
    "schema": daily.schema,
    **dev.TASKS,
}.items():
    ns.add_task(function, name)

ledger_collection = Collection("ledger")
ledger_collection.add_task(ledger.show_list, "list")
ledger_collection.add_task(ledger.show, "show")
ledger_collection.add_task(ledger.verify, "verify")
ns.add_collection(ledger_collection)

ceremony_collection = Collection("ceremony")
ceremony_collection.add_task(ceremony.root, "root")
ns.add_collection(ceremony_collection)

ca_collection = Collection("ca")
ca_collection.add_task(ca.rewrap, "rewrap")
ns.add_collection(ca_collection)

ns.configure(
    {
        "pki_home": os.environ.get("PKI_HOME") or str(Path(__file__).parent.resolve()),
        "pki_called_from": os.environ.get("PKI_CALLED_FROM") or str(Path.cwd()),
        "pki_now": datetime.now(UTC).replace(microsecond=0),
    }
)
