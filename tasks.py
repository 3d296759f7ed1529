"""Entry point of invoke: read the clock, and collect the commands by group."""

import os
from datetime import UTC, datetime
from pathlib import Path

from invoke import Collection

from pki.cli import (
    accept_root_command,
    ansible_commands,
    backup_commands,
    ca_commands,
    ceremony_offline,
    ceremony_online,
    client_commands,
    client_export,
    daily_commands,
    demo_command,
    deploy_commands,
    developer_commands,
    explain_command,
    health_command,
    import_command,
    init_command,
    ledger_commands,
    revoke_command,
    schedule_command,
    timeline_command,
)

ns = Collection()
for name, function in {
    "init": init_command.init,
    "plan": daily_commands.plan,
    "status": daily_commands.show_status,
    "health": health_command.show_health,
    "renew": daily_commands.renew,
    "revoke": revoke_command.revoke,
    "retire": revoke_command.retire,
    "explain": explain_command.explain,
    "backup": backup_commands.backup,
    "restore": backup_commands.restore,
    "schedule": schedule_command.schedule,
    "schema": daily_commands.schema,
    "timeline": timeline_command.show_timeline,
    **developer_commands.TASKS,
}.items():
    ns.add_task(function, name)

for title, tasks in {
    "ledger": {**ledger_commands.TASKS, "import": import_command.import_records},
    "ca": {"change-passphrase": ca_commands.change_passphrase},
    "client": {**client_commands.TASKS, "export": client_export.export},
    "deploy": {**deploy_commands.TASKS, **ansible_commands.TASKS, "accept-root": accept_root_command.accept_root},
    "demo": {"vlans": demo_command.vlans},
    "ceremony": {**ceremony_online.TASKS, **ceremony_offline.TASKS},
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
