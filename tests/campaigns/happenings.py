"""What happens in the years of a simulation, each by a function of its name: what the steps of a trial say."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pki.ceremony import request_response, words
from pki.common.errors import ErrorCode, PkiError
from pki.deploy.folder import FolderTransport
from tests.campaigns import person

if TYPE_CHECKING:
    from tests.campaigns.simulation import Simulation

EXTRA = (
    "  spare-{0}:\n    network: dev\n    address: 10.20.0.{1}\n    proxy: nginx\n    services:\n"
    '      wiki-{0}: {{upstream: "http://127.0.0.1:3000", access: tls}}\n'
)
SERVICE = '      radio-{0}: {{upstream: "http://127.0.0.1:81{0}", access: mtls}}\n'
REVOKED = re.compile(r"(?m)^revoked +\S+ +serial ([0-9a-f]+)")


def miss(one: Simulation, day: int, days: int) -> None:
    one.missed_until = max(one.missed_until, day + days)


def kill(one: Simulation, _day: int, change: int) -> None:
    one.kill = change


def full(one: Simulation, day: int, days: int, left: int) -> None:
    one.full_until, one.full_left = day + days, left


def read_only(one: Simulation, day: int, days: int, folder: str) -> None:
    one.locked_until, one.locked = day + days, folder


def clock(one: Simulation, day: int, days: int, ahead: int) -> None:
    one.clock_until, one.clock_ahead = day + days, ahead


def delete_build(one: Simulation, _day: int) -> None:
    """Delete build/; the hosts are elsewhere."""
    kept = one.place / "hosts"
    shutil.move(one.home.path / "build/hosts", kept)
    shutil.rmtree(one.home.path / "build")
    (one.home.path / "build").mkdir()
    shutil.move(kept, one.home.path / "build/hosts")
    one.is_disturbed = True


def flip(one: Simulation, day: int, file: float, bit: float, silent: int) -> None:
    roots = (one.home.path / "build", one.home.path / "ca")
    files = sorted(path for root in roots for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    files = [path for path in files if path.stat().st_size]
    path = files[int(file * len(files))]
    data, before = bytearray(path.read_bytes()), path.stat()
    where = int(bit * 8 * len(data))
    data[where // 8] ^= 1 << where % 8
    with path.open("r+b") as handle:
        handle.write(data)
    if silent:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    one.note(day, f"flipped bit {where} of {path.relative_to(one.home.path)}")
    where_to = path.relative_to(one.home.path)
    one.fault = one.damage = f"flip {where_to}"
    one.ledger_damaged = day if path.name.startswith("ledger.db") else one.ledger_damaged
    one.is_disturbed = True
    if where_to.is_relative_to("build/hosts"):  # the host was damaged by others, until a run gets there
        one.broken.add(where_to.parts[2].removeprefix(".").removesuffix(".files"))


def copy(one: Simulation, _day: int) -> None:
    """Put a copy of ca/ aside."""
    shutil.rmtree(one.place / "copy", ignore_errors=True)
    shutil.copytree(one.home.path / "ca", one.place / "copy", symlinks=True)


def copy_back(one: Simulation, _day: int) -> None:
    """Copy it back."""
    if (one.place / "copy").exists():
        shutil.rmtree(one.home.path / "ca")
        shutil.copytree(one.place / "copy", one.home.path / "ca", symlinks=True)
        one.fault = one.damage = "old ca"
        one.is_disturbed = True


def host_down(one: Simulation, day: int, days: int, which: int) -> None:
    names = [name for name in one.deployed.names() if name != one.deployed.publisher]
    name = names[which % len(names)]
    one.down[name] = max(one.down.get(name, 0), day + days)
    one.behind.add(name)


def host(one: Simulation, _day: int, which: int) -> None:
    _toggle(one, EXTRA.format(which, 100 + which), "  media:\n")
    one.is_disturbed = True


def service(one: Simulation, _day: int, which: int) -> None:
    _toggle(one, SERVICE.format(which), "      loki:")
    one.is_disturbed = True


def _toggle(one: Simulation, lines: str, before: str) -> None:
    text = (one.home.path / "pki.yaml").read_text(encoding="utf-8")
    changed = text.replace(lines, "") if lines in text else text.replace(before, lines + before, 1)
    (one.home.path / "pki.yaml").write_text(changed, encoding="utf-8")


def revoke(one: Simulation, day: int, which: int, reason: str) -> None:
    files = sorted([*one.home.path.glob("build/certs/*/tls.pem"), *one.home.path.glob("ca/clients/*/tls.pem")])
    if not files or one.fault or day < one.missed_until or day < one.clock_until:
        return
    path = files[which % len(files)]
    one.today = day
    name = path.parent.name
    status, said = one.person.types(["revoke", name, "--reason", reason, "--yes"], one.now_of(day), one.evidence)
    one.is_disturbed = True
    one.note(day, f"revoke {name}: {status} {said}")
    learn_revoked(one, said)


HAPPENINGS: dict[str, Callable[..., None]] = {
    "miss": miss,
    "kill": kill,
    "full": full,
    "readonly": read_only,
    "clock": clock,
    "build": delete_build,
    "flip": flip,
    "copy": copy,
    "old": copy_back,
    "down": host_down,
    "host": host,
    "service": service,
    "revoke": revoke,
}


# -- what else happens ------------------------------------------------------------------------------------------------


def learn_revoked(one: Simulation, said: str) -> None:
    """Remember what a command said that it revoked: it stays on its CRL until the certificate ends, and no longer."""
    for serial in (int(found, 16) for found in REVOKED.findall(said)):
        one.deployed.revoked[serial] = one.chain.certificate(serial)
        one.figures["revoked"] += 1


def accept_again(one: Simulation, day: int) -> None:
    """Bring the last response of the vault once more, which knows of ceremonies that an older `ca/` lacks."""
    with person.unattended():
        response = one.home.answer_again(day)
    spoken = words.first(request_response.digest((response / "response.yaml").read_bytes()))
    said = one.typed(day, ["invoke", "ceremony.accept", str(response), "--words", spoken])
    for following in person.printed(said):  # a backup is from before the ceremony, or has been tried
        if "ceremony.request" in following:
            one.typed(day, following)
    one.figures["ceremonies accepted again"] += 1
    one.asked.clear()
    one.run(day)
    one.back_up(day)


def let_hosts_be_down(patch: pytest.MonkeyPatch, down: dict[str, int]) -> None:
    """Refuse what goes to a host that is down, as a connection would."""
    deliver: Callable[..., Any] = FolderTransport.deliver

    def reached(self: FolderTransport, *arguments: Any) -> Any:
        if self._root.name in down:
            raise PkiError(f"{self._root.name} does not answer", "", ErrorCode.UNREACHABLE)
        return deliver(self, *arguments)

    patch.setattr(FolderTransport, "deliver", reached)
