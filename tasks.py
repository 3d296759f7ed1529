"""The door to invoke: take the clock, gather the collections."""

import os
from datetime import UTC, datetime
from pathlib import Path

from invoke import Collection

from pki.commands import ca, ceremony, daily, demo, deploy, dev, fleet, init, keeping, ledger, taking, vault

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

for title, tasks in {
    "ledger": {"list": ledger.show_list, "show": ledger.show, "verify": ledger.verify, "import": taking.take_in},
    "ca": {"rewrap": ca.rewrap},
    "deploy": {
        "bootstrap": deploy.bootstrap,
        "collect": fleet.collect,
        "diff": deploy.diff,
        "drift": deploy.drift,
        "export": fleet.export,
        "history": deploy.show_history,
        "push": deploy.push,
        "rollback": deploy.rollback,
        "run": deploy.run,
    },
    "demo": {"vlans": demo.vlans},
    "ceremony": {
        "request": ceremony.request,
        "rehearse": ceremony.rehearse,
        "kit": ceremony.kit,
        "root": vault.root,
        "sign": vault.sign,
        "accept": ceremony.accept,
        "verify": ceremony.verify,
        "rewrap": vault.rewrap,
    },
}.items():
    collection = Collection(title)
    for name, function in tasks.items():
        collection.add_task(function, name)
    ns.add_collection(collection)

ns.configure(
    {
        "pki_home": os.environ.get("PKI_HOME") or str(Path(__file__).parent.resolve()),
        "pki_called_from": os.environ.get("PKI_CALLED_FROM") or str(Path.cwd()),
        "pki_now": datetime.now(UTC).replace(microsecond=0),
    }
)
