"""The table that a run prints, with the machine it ran on and the figures it was to reach."""

import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.harness.places import TESTS

from .load import Load, Publishing

COLUMNS = ["granary", "nginx", "pypiserver", "devpi", "quetz"]


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{number(seconds * 1000)} ms"


def microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"


def mebibytes(size: float) -> str:
    return f"{number(size / (1 << 20))} MiB"


def cell(value: object) -> str:
    """A measured value as it stands in the table."""
    match value:
        case None:
            return "–"
        case Load(rate=rate, p50=p50, p99=p99):
            return f"{number(rate)}/s ({duration(p50)}, {duration(p99)})"
        case Publishing():
            return f"{number(value.rate)}/s ({duration(value.quantile(0.5))}, {duration(value.quantile(0.99))})"
        case _:
            return str(value)


def rate_of(value: object) -> float | None:
    """What two servers are compared by."""
    if isinstance(value, Load | Publishing):
        return value.rate
    return None


@dataclass
class Goal:
    """A figure to reach, and whether this run reached it."""

    text: str
    measured: str
    met: bool


@dataclass
class Report:
    """Rows as they come in; printed as they come, so that a run can be watched."""

    mode: str
    rows: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def row(self, what: str, **values: object) -> None:
        """One measurement of one or more servers."""
        self.rows.append((what, values))
        print(f"{what}: " + "; ".join(f"{name} {cell(value)}" for name, value in values.items()), flush=True)

    def goal(self, text: str, measured: str, met: bool) -> None:
        self.goals.append(Goal(text, measured, met))
        print(f"  {'reached' if met else 'MISSED'}: {text}: {measured}", flush=True)

    def ratio_goal(self, text: str, ours: float, theirs: float, least: float, unit: str = "×") -> None:
        """A goal of being at least so many times as fast."""
        ratio = ours / theirs
        shown = f"{ratio:.0%}" if unit == "%" else f"{number(ratio)} ×"
        self.goal(text, shown, ratio >= least)

    def note(self, text: str) -> None:
        self.notes.append(text)
        print(f"  note: {text}", flush=True)

    def markdown(self) -> str:
        columns = [name for name in COLUMNS if any(name in values for _, values in self.rows)]
        peers = [name for name in columns if name != "granary"]
        head = ["", *columns, *(f"granary ÷ {peer}" for peer in peers)]
        lines = [f"Run of {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `make bench BENCH={self.mode}`, on {machine()}.", "",
                 "Rates are requests a second, in brackets the median and the 99th percentile of the time that one took.", "",
                 "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        for what, values in self.rows:
            ours = rate_of(values.get("granary"))
            ratios = []
            for peer in peers:
                theirs = rate_of(values.get(peer))
                ratios.append(f"{number(ours / theirs)} ×" if ours and theirs else "")
            cells = [cell(values[name]) if name in values else "" for name in columns]
            lines.append("| " + " | ".join([what, *cells, *ratios]) + " |")
        lines += ["", "| figure to reach | measured | |", "| --- | --- | --- |"]
        lines += [f"| {goal.text} | {goal.measured} | {'reached' if goal.met else '**missed**'} |" for goal in self.goals]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def machine() -> str:
    """The machine and what was compared, in one line."""
    cpu = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    nginx = subprocess.run(["/usr/sbin/nginx", "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    pins = {peer: version for peer in ("pypiserver", "devpi-server", "quetz-server") for file in (TESTS / "peers").glob("*.txt")
            for line in file.read_text().splitlines() for name, _, version in [line.partition("==")] if name == peer}
    peers = ", ".join([f"nginx {nginx}", *(f"{peer} {version}" for peer, version in pins.items())])
    return f"{cpu}, {os.cpu_count()} cores shared by the servers, their database and the load, {memory:.0f} GiB, Linux {platform.release()}; {peers}"
