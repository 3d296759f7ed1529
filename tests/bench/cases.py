"""The benchmarks. Each returns its findings; README.md says what is in each figure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count as count_from
from pathlib import Path

from tests.bench import delivery, measure, mixed, peers, project, revocations, seen
from tests.bench.measure import Cost, Side
from tests.bench.project import PROJECT
from tests.bench.table import Bound, Findings, Row, megabytes, seconds

START_HOSTS = 5
FEW = 10  # the project against which memory is compared
EASYRSA_PAIRS, CFSSL_PAIRS = 10, 50
ENTRIES = 100
SERVICES = 50
MIXED_SERVICES = 1000


@dataclass
class Bench:
    """What the benchmarks share: a temporary folder, the sizes, and the large project, built once."""

    folder: Path
    hosts: int
    say: Callable[[str], None]
    ansible: Path | None = None
    laid: int = 0

    @property
    def many(self) -> int:
        return 10 * self.hosts

    @cached_property
    def large(self) -> tuple[Path, Cost]:
        """The project of ten times the hosts, with the cost of its first build."""
        self.say(f"building {self.many} hosts, once for nothing-to-do and scaling")
        home = project.lay(self.folder / "large", self.many)
        return home, doit(home)

    @cached_property
    def small(self) -> Path:
        """The project of `hosts` hosts, built."""
        home = project.lay(self.folder / "small", self.hosts)
        doit(home)
        return home

    @cached_property
    def few(self) -> tuple[Path, Cost]:
        home = project.lay(self.folder / "few", FEW)
        return home, doit(home)

    def first_build(self, *arguments: str, after: Callable[[Path], None] = lambda _home: None) -> Side:
        """A side that builds a new project of `hosts` hosts each time, which `after` may look at.

        With `arguments`, the project's authorities are made beforehand and not counted, as the peers' are. Nothing is
        removed between rounds: a disk that discards blocks would do so during the next one.
        """

        def build() -> Cost:
            self.laid += 1
            home = project.lay(self.folder / f"first-{self.laid}", self.hosts)
            if arguments:
                doit(home, "authority")
            cost = doit(home, *arguments)
            after(home)
            return cost

        return build


def doit(home: Path, *arguments: str) -> Cost:
    """One run of doit over a project, as a user starts it."""
    return measure.run([sys.executable, "-m", "doit", *arguments], PROJECT, {"PKI_HOME": home})


def first_build(bench: Bench) -> Findings:
    """A whole first build against a bare loop that makes the same pairs and writes as many files as durably."""
    listing, count = bench.folder / "written", 0

    def note(home: Path) -> None:
        nonlocal count
        names = project.written(home)
        count = len(names)
        listing.write_text("\n".join(names) + "\n")

    rounds = count_from(1)

    def loop() -> Cost:
        target = bench.folder / f"bare-{next(rounds)}"
        cost = peers.bare("issue", listing, target)()
        made = sum(1 for path in target.rglob("*") if path.is_file())
        if made != count:
            raise measure.Broken(f"the bare loop wrote {made} files, doit {count}")
        return cost

    ours, bare = measure.in_turn(3, bench.first_build(after=note), loop)
    row = Row(
        f"first build, {bench.hosts} hosts / bare cryptography loop",
        seconds(ours.seconds),
        seconds(bare.seconds),
        ours.seconds / bare.seconds,
        Bound(1.4),
        cpu=ours.cpu / bare.cpu,
    )
    return Findings("first-build", [row], [f"{count} files each, every one written beside, flushed, renamed"])


def per_certificate(bench: Bench) -> Findings:
    """The time for one certificate against easy-rsa and cfssl, as people call them: one process for each pair."""
    easyrsa = peers.easyrsa(bench.folder / "easyrsa", EASYRSA_PAIRS)
    cfssl = peers.cfssl(bench.folder / "cfssl", CFSSL_PAIRS)
    remarks = [
        f"ours: one run over {bench.hosts} hosts divided by {bench.hosts}, its start included; the CAs made beforehand",
        "whole run: also CAs, CRLs, the proxy's configuration, the release and its delivery, for each host",
        f"peers: {EASYRSA_PAIRS} and {CFSSL_PAIRS} pairs, one after the other; their CAs made beforehand, not counted",
    ]
    remarks += ["easy-rsa is left out: apt install easy-rsa"] if easyrsa is None else []
    remarks += ["cfssl is left out: apt install golang-cfssl"] if cfssl is None else []
    others = [
        (name, side, pairs, Bound(factor, at_least=True))
        for name, side, pairs, factor in (
            ("easy-rsa", easyrsa, EASYRSA_PAIRS, 30),
            ("cfssl", cfssl, CFSSL_PAIRS, 3),
        )
        if side is not None
    ]
    sides = [bench.first_build(), bench.first_build("cert"), *(side for _, side, _, _ in others)]
    whole, certs, *theirs = measure.in_turn(3, *sides)
    rows = []
    for what, cost in (("`doit cert`", certs), ("whole run", whole)):
        ours = cost.seconds / bench.hosts
        for (name, _, pairs, bound), cost_of_all in zip(others, theirs, strict=True):
            peer = cost_of_all.seconds / pairs
            kept = f"{name} / {what}, one certificate"
            cpu = (cost_of_all.cpu / pairs) / (cost.cpu / bench.hosts)
            rows.append(Row(kept, seconds(ours), seconds(peer), peer / ours, bound, cpu=cpu))
    return Findings("per-certificate", rows, remarks)


def nothing_to_do(bench: Bench) -> Findings:
    """A run with nothing to do against the least that doit, a content loop and make need."""
    home, _ = bench.large
    hosts, listing = bench.many, bench.folder / "watched"
    listing.write_text("\n".join(_watched(hosts)) + "\n")
    make = peers.gnu_make(home, project.names(hosts), bench.folder / "Makefile")
    others = {
        "bare doit, three empty tasks a host": peers.empty_doit(bench.folder / "empty", hosts),
        "a loop: parse each certificate, stat each target": peers.bare("look", listing, home),
    }
    if make is not None:
        others["GNU make, an explicit rule for each target"] = make
    doit(home)  # the first look after a build fills what is remembered
    ours, *theirs = measure.in_turn(5, lambda: doit(home), *others.values())
    rows = [
        Row(
            f"nothing to do, {hosts} hosts / {name}",
            seconds(ours.seconds),
            seconds(peer.seconds),
            ours.seconds / peer.seconds,
            Bound(1.3) if number == 0 else None,
            cpu=ours.cpu / peer.cpu,
        )
        for number, (name, peer) in enumerate(zip(others, theirs, strict=True))
    ]
    return Findings("nothing-to-do", rows, [] if make else ["GNU make is left out: apt install make"])


def start(bench: Bench) -> Findings:
    """A run with nothing to do over a small project, against the imports that every program of this kind makes."""
    home = project.lay(bench.folder / "start", START_HOSTS)
    doit(home)
    doit(home)  # the first look after a build fills what is remembered
    imports = [sys.executable, "-c", "import doit.doit_cmd, yaml, cryptography.x509"]
    ours, peer = measure.in_turn(11, lambda: doit(home), lambda: measure.run(imports, PROJECT))
    name = f"nothing to do, {START_HOSTS} services / importing doit, yaml and cryptography"
    ratio, cpu = ours.seconds / peer.seconds, ours.cpu / peer.cpu
    return Findings("start", [Row(name, seconds(ours.seconds), seconds(peer.seconds), ratio, Bound(3), cpu=cpu)])


def scaling(bench: Bench) -> Findings:
    """Ten times the hosts: how much longer, and how much memory each host takes."""
    build = bench.first_build()
    before = build()
    large, large_build = bench.large
    small_build = measure.median([before, build(), build()])
    few, few_build = bench.few
    large_idle, small_idle, few_idle = measure.in_turn(
        5, lambda: doit(large), lambda: doit(bench.small), lambda: doit(few)
    )
    rows = [
        _longer(bench, "first build", large_build, small_build),
        _longer(bench, "nothing to do", large_idle, small_idle),
        _larger(bench, "first build", large_build, few_build),
        _larger(bench, "nothing to do", large_idle, few_idle),
    ]
    remark = f"memory: (peak of {bench.many} hosts - peak of {FEW} hosts) / {bench.many - FEW}, of the doit process"
    return Findings("scaling", rows, [remark])


def deliveries(bench: Bench) -> Findings:
    """The delivery phase alone to hosts behind a real sshd, all of them on this machine."""
    return delivery.deliver(bench.folder, min(bench.hosts, delivery.HOSTS), bench.ansible)


def revoked(bench: Bench) -> Findings:
    """A CRL with a hundred entries for each host of a first build: 100 000, unless other sizes are asked for."""
    return revocations.measured(bench.folder, ENTRIES * bench.hosts)


def services(bench: Bench) -> Findings:
    """One look from outside at fifty services behind mutual TLS."""
    return seen.measured(bench.folder / "services", SERVICES)


def mixed_services(bench: Bench) -> Findings:
    """As many services as a first build has hosts, in eleven protocols."""
    return mixed.measured(bench.folder / "mixed", min(bench.hosts, MIXED_SERVICES))


def _longer(bench: Bench, what: str, big: Cost, small: Cost) -> Row:
    name = f"{what}, {bench.many} hosts / {bench.hosts} hosts"
    ratio, cpu = big.seconds / small.seconds, big.cpu / small.cpu
    return Row(name, seconds(big.seconds), seconds(small.seconds), ratio, Bound(11), cpu=cpu)


def _larger(bench: Bench, what: str, big: Cost, few: Cost) -> Row:
    each = (big.peak - few.peak) / (bench.many - FEW) / 1000
    name = f"peak memory for each host, {what}"
    return Row(name, megabytes(big.peak), megabytes(few.peak), each, Bound(30, unit=" kB"), unit=" kB")


def _watched(hosts: int) -> list[str]:
    """Every target of every host."""
    certs = ("tls", "key", "cert", "chain", "fullchain")
    return [
        path
        for host in project.names(hosts)
        for path in (
            *(f"build/certs/{host}/{name}.pem" for name in certs),
            f"build/release/{host}/manifest.json",
            f"build/receipts/{host}.json",
        )
    ]


CASES: dict[str, Callable[[Bench], Findings]] = {
    "first-build": first_build,
    "per-certificate": per_certificate,
    "nothing-to-do": nothing_to_do,
    "start": start,
    "scaling": scaling,
    "delivery": deliveries,
    "revocations": revoked,
    "services": services,
    "mixed-services": mixed_services,
}
