"""Rows of measured figures, and how they are printed: with the machine and its load, without which they mean little.

Speed on a shared machine drifts by tens of per cent. What is compared is therefore measured in turns within one run,
and the ratio is taken turn by turn.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("what", "value", "unit", "beside")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. value: None where it cannot be measured, for the reason in `beside`, else what to compare it with."""

    what: str
    value: float | None
    unit: str
    beside: str = ""

    def cells(self) -> tuple[str, str, str, str]:
        return self.what, "–" if self.value is None else number(self.value), self.unit, self.beside


def number(value: float) -> str:
    """Three significant digits, and no more decimals than that: 1234, 56.7, 0.089."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def in_turns(jobs: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each job measured, in every round; every other round runs backwards, so that none is always first."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats):
        for name in list(jobs)[:: -1 if turn % 2 else 1]:
            found[name].append(jobs[name]())
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds of the ratio within each."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def machine() -> str:
    """When and where, and how busy the machine was before this began."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f} before the run" if hasattr(os, "getloadavg") else "load unknown"
    nice = f"niceness {os.nice(0)}" if hasattr(os, "nice") else "niceness unknown"
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{datetime.date.today()}, {_processor()}, {usable} cores, {load}, {nice}, {system}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def as_text(rows: Sequence[Row]) -> str:
    """Columns of fixed width; figures are set right."""
    lines = [COLUMNS, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    return "\n".join(
        f"{what:<{widths[0]}}  {value:>{widths[1]}}  {unit:<{widths[2]}}  {beside}".rstrip()
        for what, value, unit, beside in lines
    )


def as_markdown(rows: Sequence[Row]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "| --- | ---: | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(row.cells())} |" for row in rows)])


def parser(text: str | None) -> argparse.ArgumentParser:
    """What every part takes, described by its docstring."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="small and few: shows that it runs, not how fast")
    made.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return made


def show(measure: Callable[[], list[Row]], *, markdown: bool) -> None:
    """Run and print one table below the words on the machine."""
    sys.stdout.write(f"{machine()}\n\n")
    sys.stdout.flush()
    rows = measure()
    sys.stdout.write(f"{as_markdown(rows) if markdown else as_text(rows)}\n")
