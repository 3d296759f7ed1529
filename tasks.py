"""The door to invoke: take the clock, gather the collections."""

import os
from datetime import UTC, datetime
from pathlib import Path

from invoke import Collection

from pki.commands import (
    accept_root,
    ca,
    ceremony,
    client,
    daily,
    demo,
    deploy,
    dev,
    explaining,
    export,
    fleet,
    health,
    init,
    keeping,
    ledger,
    revoking,
    schedule,
    taking,
    timeline,
    vault,
)
from pki.pipeline.delivery_targets import clock_evidence

ns = Collection()
for name, function in {
    "init": init.init,
    "plan": daily.plan,
    "status": daily.show_status,
    "health": health.check,
    "renew": daily.renew,
    "revoke": revoking.revoke,
    "retire": revoking.retire,
    "explain": explaining.explain,
    "backup": keeping.backup,
    "restore": keeping.restore,
    "schedule": schedule.schedule,
    "schema": daily.schema,
    "timeline": timeline.show_timeline,
    **dev.TASKS,
}.items():
    ns.add_task(function, name)

for title, tasks in {
    "ledger": {**ledger.TASKS, "import": taking.take_in},
    "ca": {"rewrap": ca.rewrap},
    "client": {**client.TASKS, "export": export.export},
    "deploy": {**deploy.TASKS, **fleet.TASKS, "accept-root": accept_root.accept_root},
    "demo": {"vlans": demo.vlans},
    "ceremony": {**ceremony.TASKS, **vault.TASKS},
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
        "pki_evidence": clock_evidence,
    }
)
