"""The same report for a count that was made by hand or by another program."""

from __future__ import annotations

from pathlib import Path

from myelos import counting, tables
from myelos.datasets.tally import read_annotations
from myelos.report.input import ReportInput
from myelos.report.write import write
from myelos.slides.fingerprint import fingerprint
from myelos.smears.record import manifest_of_file


def report_elsewhere(path: Path, out: Path, *, specimen: str, overwrite: bool) -> counting.Count:
    """A tally (`cell_type,count`) or QuPath annotations → report, tables and `run.json` in `out`."""
    tables.refuse_finished(out, overwrite=overwrite)
    cells = None
    if path.suffix.lower() == ".csv":
        counted = counting.from_tally(path, specimen=specimen)
    else:
        counted, cells = counting.from_geojson(path, specimen=specimen), read_annotations(path)
    tables.prepare(out, overwrite=overwrite)
    stored = {} if cells is None else {"cells": cells}
    for name, table in stored.items():
        tables.write_table(out, name, table)
    run = manifest_of_file("count", fingerprint(path), specimen)
    write(out, ReportInput(title=f"{specimen.capitalize()} count made elsewhere", count=counted, run=run, **stored))
    tables.write_run(out, run)
    return counted
