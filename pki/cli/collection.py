"""The collection of all commands, by group."""

from __future__ import annotations

from datetime import datetime

from invoke.collection import Collection

from pki.cli import (
    accept_root_command,
    ansible_commands,
    backup_commands,
    ca_commands,
    ceremony_offline,
    ceremony_online,
    check_command,
    client_commands,
    client_export,
    daily_commands,
    demo_command,
    deploy_commands,
    developer_commands,
    doctor_command,
    drift_command,
    explain_command,
    health_command,
    import_command,
    init_command,
    ledger_commands,
    ledger_restore,
    recipe_commands,
    revoke_command,
    schedule_command,
    template_commands,
    timeline_command,
)
from pki.common.program_files import IS_INSTALLED

COMMANDS = {
    "check": check_command.check,
    "doctor": doctor_command.doctor,
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
}
GROUPS = {
    "ledger": {
        **ledger_commands.TASKS,
        "import": import_command.import_records,
        "restore": ledger_restore.restore_database,
    },
    "ca": {"change-passphrase": ca_commands.change_passphrase},
    "client": {**client_commands.TASKS, "export": client_export.export},
    "deploy": {
        **deploy_commands.TASKS,
        **ansible_commands.TASKS,
        "drift": drift_command.drift,
        "accept-root": accept_root_command.accept_root,
    },
    "recipe": recipe_commands.TASKS,
    "templates": template_commands.TASKS,
    "demo": {"vlans": demo_command.vlans},
    "ceremony": {**ceremony_online.TASKS, **ceremony_offline.TASKS},
}


def collect(home: str, called_from: str, now: datetime) -> Collection:
    """Return the commands, for the project in `home`; what a user types is relative to `called_from`."""
    collection = Collection()
    for name, function in (COMMANDS if IS_INSTALLED else {**COMMANDS, **developer_commands.TASKS}).items():
        collection.add_task(function, name)
    for title, tasks in GROUPS.items():
        group = Collection(title)
        for name, function in tasks.items():
            group.add_task(function, name)
        collection.add_collection(group)
    collection.configure({"pki_home": home, "pki_called_from": called_from, "pki_now": now})
    return collection
