"""Facts for status pages of any size, well or troubled, without a project behind them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from pki.monitor.check_result import Finding, Level
from pki.monitor.probes import ProbeResult
from pki.monitor.status_page import render
from pki.monitor.status_page.authorities_section import AuthorityRow, CrlRow
from pki.monitor.status_page.forecast_section import Forecast, ForecastEvent, PlannedGeneration
from pki.monitor.status_page.hosts_section import HostRow
from pki.monitor.status_page.page_data import CertificateRow, PageData
from pki.monitor.status_page.runs_section import ChangeGroup, RunsSection

DAY = timedelta(days=1)
NETWORKS = ("av", "dev", "mgmt", "office")
PROBLEMS = (
    Finding(
        *("cert:web-003", Level.CRITICAL, "5 of 90 days left, renewal starts at 30; cannot be renewed: ca/server/"),
        *(
            "the passphrase from secrets.yaml is wrong: ./run invoke ca.change-passphrase server-1 --old-passphrase-file FILE",
        ),
    ),
    Finding(
        *("deploy:web-001", Level.WARNING, "unreachable for 3 days; its certificate expires in 12 days (timed out)"),
        *("check the host, then: ./run invoke deploy.run web-001 --dry-run",),
    ),
    Finding(
        *("ceremony", Level.WARNING, "a root ceremony is due by 2026-12-20, for the root's owner and a witness"),
        *("./run invoke ceremony.request; see docs/how-to/ceremony.md",),
    ),
    Finding("ca/secrets", Level.CRITICAL, "can be read by others: its mode is 0644", "chmod 600 ca/secrets"),
    Finding("pinned:web-002", Level.NOTICE, "is pinned to an earlier release", "./run invoke deploy.push web-002"),
)
WELL = (
    Finding(
        "authorities", Level.OK, "root-1, server-1, client-1; no ceremony is requested before 2028-03-30 (client-1)"
    ),
    Finding("ledger", Level.OK, "4711 events; hash of the last one: 5f1d09be21ac7e44"),
    Finding("permissions", Level.OK, "11 secret files, all mode 0600"),
)


def facts(count: int, today: date, *, troubled: bool = False) -> PageData:
    """A project with that many hosts, each with one certificate."""
    noon = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    problems = [
        Finding(problem.subject, problem.level, problem.message, problem.remedy, noon - 3 * DAY, noon + 12 * DAY, "run")
        for problem in (PROBLEMS if troubled else ())
    ]
    levels = {problem.subject: problem.level for problem in problems}
    return PageData(
        organisation="Example Lab",
        place="pki.lab.internal, in /srv/pki",
        is_sandbox=False,
        today=today,
        findings=(*problems, *WELL),
        certificates=tuple(sorted((_leaf(n, today, levels) for n in range(count)), key=lambda leaf: str(leaf.end))),
        authorities=_authorities(count, today),
        crls=(
            CrlRow(
                "root-1",
                1795707299,
                today - 90 * DAY,
                today + 300 * DAY,
                0,
                ((today + 270 * DAY, today + 660 * DAY),),
                Level.OK,
            ),
            CrlRow("server-1", 1795710899, today - 2 * DAY, today + 19 * DAY, 3, (), Level.OK),
            CrlRow("client-1", 1795710899, today - 2 * DAY, today + 19 * DAY, 12, (), Level.OK),
        ),
        hosts=tuple(sorted((_host(n, today, levels) for n in range(count)), key=lambda host: -host.level)),
        services=tuple(_service(n, noon, troubled=troubled) for n in range(min(count, 12))),
        ahead=_ahead(today),
        head="5f1d09be21ac7e44b6a1 after 4711 events",
    )


def page(data: PageData, *late: Finding, state: str = "5eed") -> str:
    """The page of a run that made two certificates the day before."""
    done = RunsSection(
        day=data.today,
        result="failed" if late else "ok",
        requested=(),
        failed=tuple((finding.subject, finding.message, finding.remedy) for finding in late),
        blocked=(),
        changed_on=data.today - DAY,
        changed=(ChangeGroup("29 of 90 days left, renewal starts at 30", 2, ("cert:web-004", "cert:web-005")),),
    )
    return render.page(data, [*late, *data.findings], done, state, "06:33").decode()


def _name(number: int) -> str:
    return f"web-{number:03}"


def _leaf(number: int, today: date, levels: dict[str, Level]) -> CertificateRow:
    end = today + timedelta(days=12 + number * 37 % 78)
    level = levels.get(f"cert:{_name(number)}", Level.OK)
    end = today + 5 * DAY if level else end
    renewal = end - 30 * DAY
    state = "renewal is due" if renewal <= today else ""
    return CertificateRow(_name(number), f"network {NETWORKS[number % 4]}", end - 90 * DAY, end, renewal, state, level)


def _host(number: int, today: date, levels: dict[str, Level]) -> HostRow:
    name = _name(number)
    words = {"failing": levels.get(f"deploy:{name}"), "pinned": levels.get(f"pinned:{name}")}
    named = {word: level for word, level in words.items() if level}
    since = today - 3 * DAY if "failing" in named else None
    level = max(named.values(), default=Level.OK)
    way, network = ("ssh", "folder")[number % 5 == 0], NETWORKS[number % 4]
    return HostRow(name, network, way, today - 9 * DAY, today - DAY, since, 2, 2, ", ".join(named), level)


def _service(number: int, noon: datetime, *, troubled: bool) -> ProbeResult:
    wrong = "serves a certificate that ended" if troubled and number == 4 else ""
    name = f"app-{number}.lab.internal"
    return ProbeResult(
        host=_name(number),
        service=f"app-{number}",
        name=name,
        port=443,
        access="mtls",
        wrong=wrong,
        not_after=noon + 40 * DAY,
        version="TLSv1.3",
    )


def _authorities(count: int, today: date) -> tuple[AuthorityRow, ...]:
    old, new = today - 500 * DAY, today - 60 * DAY
    return (
        AuthorityRow(
            "root-1",
            "Example Lab Root CA 1",
            "root-1",
            old,
            old + 3650 * DAY,
            "signs; a successor is requested on 2036-11-24",
            0,
        ),
        AuthorityRow(
            "server-1",
            "Example Lab Server CA 1",
            "root-1",
            old,
            old + 730 * DAY,
            "trusted until it expires; server-2 has replaced it",
            0,
        ),
        AuthorityRow(
            "server-2",
            "Example Lab Server CA 2",
            "root-1",
            new,
            new + 730 * DAY,
            "signs; a successor is requested on 2036-11-24",
            count,
        ),
        AuthorityRow(
            "client-1",
            "Example Lab Client CA 1",
            "root-1",
            old,
            old + 730 * DAY,
            "signs; a successor is requested on 2036-11-24",
            4,
        ),
    )


def _ahead(today: date) -> Forecast:
    held = today + 40 * DAY
    return Forecast(
        until=today + 1825 * DAY,
        events=(
            ForecastEvent(
                today + 20 * DAY, "request", "ceremony", "doit prepares the request: client-2", is_problem=False
            ),
            ForecastEvent(held, "ceremony", "ceremony", "client-2 is created; this day is assumed", is_problem=False),
            ForecastEvent(
                held, "turn", "client-2", "becomes the issuer: 4 client certificates are issued again", is_problem=False
            ),
            ForecastEvent(
                today + 230 * DAY, "gap", "crl:root-1", "no valid CRL: every client is refused", is_problem=True
            ),
        ),
        generations=(
            PlannedGeneration("client-2", held, held + 730 * DAY),
            PlannedGeneration("server-3", today + 480 * DAY, today + 1210 * DAY),
            PlannedGeneration("client-3", today + 530 * DAY, None),
        ),
    )
