"""What a benchmark found, as a table: ours, the peer's, the ratio, the bound and whether it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

NARROWEST = 110


@dataclass(frozen=True, slots=True)
class Bound:
    """`factor` that a ratio must not exceed, or with `at_least` not fall short of."""

    factor: float
    at_least: bool = False
    unit: str = "x"

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.factor:g}{self.unit}"

    def verdict(self, ratio: float) -> str:
        kept = ratio >= self.factor if self.at_least else ratio <= self.factor
        return "within" if kept else "over"


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; without a bound it is there for information. `cpu` is the ratio of processor times."""

    what: str
    ours: str
    peer: str
    ratio: float
    bound: Bound | None = None
    unit: str = "x"
    cpu: float | None = None

    def cells(self) -> tuple[str, ...]:
        ratio, cpu = f"{self.ratio:.1f}{self.unit}", f"{self.cpu:.1f}x" if self.cpu else ""
        verdict = self.bound.verdict(self.ratio) if self.bound else "for information"
        return (self.what, self.ours, self.peer, ratio, cpu, str(self.bound or ""), verdict)


@dataclass(frozen=True, slots=True)
class Findings:
    """The rows of one benchmark, with remarks on what is in them and what had to be left out."""

    title: str
    rows: Sequence[Row]
    remarks: list[str] = field(default_factory=list)


def show(findings: Findings, console: Console) -> None:
    """Print one benchmark's table and remarks."""
    table = Table(title=findings.title, title_justify="left", title_style="bold")
    for name in ("what", "ours", "peer", "ratio", "cpu", "bound", "verdict"):
        table.add_column(name, justify="left" if name in {"what", "verdict"} else "right")
    for row in findings.rows:
        style = "red" if row.bound and row.bound.verdict(row.ratio) == "over" else None
        table.add_row(*row.cells(), style=style)
    console.print(table)
    for remark in findings.remarks:
        console.print(f"  {remark}", highlight=False, markup=False)
    console.print()


def console() -> Console:
    """Standard output, wide enough for a table when it is a file or a pipe."""
    found = Console(highlight=False)
    return found if found.is_terminal and found.width >= NARROWEST else Console(highlight=False, width=NARROWEST)


def seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.5 else f"{value * 1000:.2f} ms"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.1f} MB"
