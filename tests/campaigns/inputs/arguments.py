"""Lines that somebody types: every command with its arguments and options, some of them slips."""

from __future__ import annotations

import random

from tests.campaigns.inputs import values

# name → what its arguments may be, in order; options with a value, and those without one
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "plan": ((), (), ("--json",)),
    "status": ((), (), ("--json",)),
    "health": ((), (), ("--json",)),
    "explain": (("name",), (), ("--json",)),
    "renew": (("name",), (), ()),
    "revoke": (("name",), ("--reason",), ("--yes", "--no-replace")),
    "retire": (("name",), (), ("--yes",)),
    "timeline": ((), ("--years",), ("--json", "--no-ceremonies")),
    "schema": (("name",), ("--output",), ()),
    "schedule": ((), (), ("--cron",)),
    "backup": (("path",), ("--passphrase-file",), ()),
    "restore": (("path",), ("--to", "--passphrase-file"), ("--yes",)),
    "init": (("path",), ("--organisation", "--domain", "--network", "--host", "--service", "--client"), ("--yes",)),
    "ca.change-passphrase": (("name",), ("--passphrase-file", "--old-passphrase-file"), ()),
    "client.add": (("name",), ("--email", "--dns", "--uri"), ()),
    "client.export": (
        ("name",),
        ("--format", "--output", "--passphrase-to", "--sheet", "--wifi", "--server"),
        ("--yes", "--openvpn"),
    ),
    "client.installed": (("name",), ("--serial",), ()),
    "client.list": ((), (), ("--json",)),
    "client.revoke": (("name",), ("--reason",), ("--yes",)),
    "ceremony.accept": (("path",), ("--words",), ()),
    "ceremony.verify": (("path",), (), ()),
    "ceremony.request": ((), ("--new", "--revoke", "--destroy"), ("--crls",)),
    "ceremony.sign": (("path",), ("--vault", "--output", "--passphrase-file", "--words"), ()),
    "ceremony.copy": ((), ("--vault", "--to"), ()),
    "deploy.accept-root": (("name",), (), ("--yes",)),
    "deploy.collect": (("path",), (), ()),
    "deploy.diff": (("name",), (), ()),
    "deploy.drift": (("name",), (), ("--json",)),
    "deploy.export": (("path",), ("--ansible-vault-password-file",), ()),
    "deploy.history": (("name",), (), ("--json",)),
    "deploy.push": (("name",), (), ()),
    "deploy.rollback": (("name",), ("--to",), ("--yes",)),
    "deploy.run": (("name",), (), ("--dry-run",)),
    "ledger.accept-loss": ((), ("--without",), ("--yes", "--json")),
    "ledger.import": (("path",), ("--authority",), ("--dry-run", "--json")),
    "ledger.list": ((), ("--name",), ("--json",)),
    "ledger.recover": (("name",), ("--file",), ("--json",)),
    "ledger.show": (("serial",), (), ("--json",)),
    "ledger.verify": ((), (), ("--json",)),
}
GOOD = {
    "name": ("media", "admin", "monitoring", "grafana", "cert:media", "client-1", "legacy", "jellyfin.lab.internal"),
    "path": (
        "b.age",
        "issuance_records",
        "words",
        "project",
        "events",
        "out",
        "new",
        "project/pki.yaml",
        "project/ca/ledger.db",
    ),
    "serial": ("1", "0", "ff", "0x1", "1" * 40),
    "--reason": ("superseded", "key-compromise", "unspecified"),
    "--years": ("1", "2"),
    "--format": ("p12", "pem", "mobileconfig", "chrome-policy", "firefox-policy", "p12-legacy"),
    "--email": ("eve@lab.internal",),
    "--passphrase-file": ("words",),
    "--old-passphrase-file": ("words",),
    "--domain": ("lab.internal",),
    "--client": ("eve=eve@lab.internal",),
    "--network": ("lan=10.0.0.0/24",),
}
DOIT = ("list", "info", "cert:media", "deploy:media", "release", "crl:client-1", "-n", "2", "-v", "--continue", "help")


def line(chance: random.Random) -> list[str]:
    """One command, with arguments of which about every second one is what it should be."""
    if chance.random() < 0.1:
        return [
            "doit",
            *(chance.choice(DOIT) if chance.random() < 0.7 else _odd(chance) for _ in range(chance.randrange(4))),
        ]
    name = chance.choice(sorted(COMMANDS))
    bare, valued, flags = COMMANDS[name]
    words = [_word(chance, kind) for kind in bare if chance.random() < 0.93]
    for option in valued:
        if chance.random() < 0.6:
            words += [option, _word(chance, option)]
    words += [flag for flag in flags if chance.random() < 0.4]
    if chance.random() < 0.1:
        words.insert(chance.randrange(len(words) + 1), _odd(chance))
    return ["invoke", name, *words]


def _word(chance: random.Random, kind: str) -> str:
    good = GOOD.get(kind) or GOOD["path" if kind in {"--to", "--output", "--vault", "--file", "--sheet"} else "name"]
    return chance.choice(good) if chance.random() < 0.55 else _odd(chance)


def _odd(chance: random.Random) -> str:
    """What the system lets anybody type: no NUL, and at most 128 kB."""
    return values.text(chance).replace("\x00", "\x01").replace("\ud800", "\udc80")
