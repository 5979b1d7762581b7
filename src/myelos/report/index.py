"""The list of several smears counted by one call: a page with links, and one table of all counts."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from myelos.counting import Count, in_order
from myelos.report.files import guarded
from myelos.report.input import RESEARCH_USE
from myelos.tables import write_bytes
from myelos.wording import number_of

Entry = tuple[str, str, Count]  # name of the smear, its folder, its count

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Myelos: {number}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1c1c1c }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }}
td.n {{ text-align: right; font-variant-numeric: tabular-nums }}
.use {{ font-weight: 600 }}
</style></head><body>
<p class="use">{use}</p>
<h1>{number}</h1>
<table><thead><tr><th>Smear</th><th>Cells counted</th><th>Most frequent</th><th>Adequacy</th></tr></thead>
<tbody>
{rows}
</tbody></table>
</body></html>
"""


def write_index(out: Path, entries: Sequence[Entry]) -> Path:
    """Write `index.html` and `counts.csv` (a line per smear, a column per type) and return the page's path."""
    write_bytes(out / "counts.csv", _table(entries).encode())
    rows = "\n".join(_row(*entry) for entry in entries)
    page = _PAGE.format(number=number_of(len(entries), "smear"), use=escape(RESEARCH_USE), rows=rows)
    write_bytes(out / "index.html", page.encode())
    return out / "index.html"


def _row(name: str, folder: str, count: Count) -> str:
    link = f'<a href="{quote(folder)}/report.html">{escape(name)}</a>'
    first = sorted((share for share in count.types if share.number), key=lambda share: -share.number)[:3]
    frequent = ", ".join(f"{escape(share.label)} {share.percent:.0f} %" for share in first)
    sentence = escape(count.adequacy.sentence)
    return f'<tr><td>{link}</td><td class="n">{count.counted}</td><td>{frequent}</td><td>{sentence}</td></tr>'


def _table(entries: Sequence[Entry]) -> str:
    numbers = [_numbers(count) for _, _, count in entries]
    names = in_order({name for found in numbers for name in found})
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["smear", "specimen", "cells", "counted", *names, "research_use"])
    for (name, _, count), found in zip(entries, numbers, strict=True):
        line = [guarded(name), count.specimen, count.cells, count.counted]
        writer.writerow([*line, *(found.get(kind, 0) for kind in names), RESEARCH_USE])
    return sink.getvalue()


def _numbers(count: Count) -> dict[str, int]:
    """Type → number, inside and beside the hundred."""
    inside = {share.name: share.number for share in count.types}
    return inside | {row.name: row.number for row in (*count.beside, *count.unstated)}
