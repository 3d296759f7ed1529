"""Deliveries over ssh, that phase alone: against bare loops over the same client, and against programs of the same kind."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from pki.deploy.protocol import manifest_rows, tar_stream
from pki.deploy.ssh import Transport
from tests.bench import deliverers, measure
from tests.bench.measure import Broken, Cost
from tests.bench.project import PROJECT
from tests.bench.table import Bound, Findings, Row, seconds
from tests.bench.targets import Targets, targets

HOSTS, WIDTH, ROUNDS = 50, 10, 5


class Rounds:
    """The two phases of a delivery, and for each the loop that does the least that is needed."""

    def __init__(self, made: Targets) -> None:
        self._made = made
        self._streams = made.folder / "streams"
        self._streams.mkdir()
        self._names = made.folder / "names"
        self._names.write_text("".join(f"{name}\n" for name in made.names))
        self._round = 0
        self._sent: dict[str, dict[str, str]] = {}
        self._pack()

    def changed(self) -> Cost:
        """Deliver new certificates and a new configuration to every host."""
        self._round += 1
        self._made.change(f"round {self._round}")
        doit(self._made, "release")
        self._pack()
        cost = doit(self._made, "-n", str(WIDTH), "deploy")
        self._check(len(self._made.names))
        return cost

    def piped(self) -> Cost:
        """The same files in a bare loop: no look before, no test, no way back."""
        return self._loop(f"mkdir -p {self._made.folder}/bare/{{}} && tar -xC {self._made.folder}/bare/{{}}", "{}.tar")

    def unchanged(self) -> Cost:
        """Look whether every host still holds its release."""
        self._made.look_due()
        cost = doit(self._made, "-n", str(WIDTH), "deploy")
        self._check(0)
        return cost

    def true(self) -> Cost:
        return self._loop("true", "/dev/null")

    def _loop(self, command: str, stream: str) -> Cost:
        client = Transport(host="", name="{}", config=str(self._made.free)).ssh_command()
        line = f"exec {shlex.join(client)} {shlex.quote(command)} <{stream}"
        each = ["xargs", "-a", self._names, "-P", str(WIDTH), "-I{}", "sh", "-c", line]
        return measure.run(each, self._streams)

    def _pack(self) -> None:
        """Write the streams of all files that differ from those sent before."""
        for name in self._made.names:
            payload = self._made.payload(name)
            before, digests = self._sent.get(name, {}), {file.path: file.sha256 for file in payload.release.files}
            rows = [row for row in manifest_rows(payload, []) if before.get(row.file.path) != row.file.sha256]
            (self._streams / f"{name}.tar").write_bytes(tar_stream(rows, payload))
            self._sent[name] = digests

    def _check(self, delivered: int) -> None:
        """Every host must have been looked at, and as many as should be must have been changed."""
        report = json.loads((self._made.home / "build/report/status.json").read_text())
        count, contacts = len(report["changed"]), list(self._contacts())
        if report["failed"] or count != delivered or set(contacts) != {report["at"]}:
            raise Broken(
                f"{count} of {delivered} delivered, {contacts.count(report['at'])} looked at: {report['failed']}"
            )

    def _contacts(self) -> Iterator[str]:
        for name in self._made.names:
            yield json.loads((self._made.home / "build/contacts" / f"{name}.json").read_text())["checked_at"]


def deliver(folder: Path, hosts: int, given: Path | None) -> Findings:
    """Deliveries to so many hosts; `given` is an environment with ansible and pyinfra."""
    with targets(folder / "delivery", hosts) as made:
        doit(made, "release")
        made.permit()
        doit(made, "-n", str(WIDTH))
        rounds = Rounds(made)
        changed, piped, unchanged, true = measure.in_turn(
            ROUNDS, rounds.changed, rounds.piped, rounds.unchanged, rounds.true
        )
        rows = [
            _row(f"{hosts} hosts changed / a loop that pipes the same tar", changed, piped, Bound(1.5)),
            _row(f"{hosts} hosts unchanged / the same loop of true", unchanged, true, Bound(1.3)),
        ]
        programs = deliverers.programs(folder / "deliverers", given)
        others = (("ansible's copy loop", deliverers.ansible), ("pyinfra's files.put", deliverers.pyinfra))
        remarks = [f"{WIDTH} at once; {len(made.payload(made.names[0]).release.files)} files each, of which 3 change"]
        for name, other in others:
            side = other(made, programs, WIDTH) if programs else None
            if side is None:
                remarks.append(f"{name} is left out: name an environment that has it by --ansible DIR")
            else:
                ours, theirs = measure.in_turn(1, rounds.changed, side)
                rows.append(_row(f"{name} / {hosts} hosts changed", theirs, ours, Bound(5, at_least=True)))
    return Findings("delivery", rows, remarks)


def doit(made: Targets, *arguments: str) -> Cost:
    return measure.run([sys.executable, "-m", "doit", *arguments], PROJECT, {"PKI_HOME": made.home})


def _row(what: str, one: Cost, other: Cost, bound: Bound) -> Row:
    """The first named stands above the line; with a bound that is a least factor it is the peer."""
    ours, peer = (other, one) if bound.at_least else (one, other)
    return Row(
        what, seconds(ours.seconds), seconds(peer.seconds), one.seconds / other.seconds, bound, cpu=one.cpu / other.cpu
    )
