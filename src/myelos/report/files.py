"""The report for programs: JSON, CSV, and GeoJSON that QuPath opens. Each carries the research-use sentence."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

import myelos
from myelos import taxonomy
from myelos.counting import Count
from myelos.errors import ResultError
from myelos.report.input import RESEARCH_USE, ReportInput
from myelos.tables import write_bytes, write_json

FORMAT = "myelos-report-1"
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_FORMULA = tuple("=+-@\t\r")  # a spreadsheet would run a cell that starts with one of these


def as_json(given: ReportInput) -> dict[str, Any]:
    """The content of `report.json`, as `docs/report.schema.json` describes it."""
    return {
        "format": FORMAT,
        "research_use": RESEARCH_USE,
        "version": myelos.__version__,
        "title": given.title,
        "synthetic": given.synthetic,
        "forced": given.forced,
        "warnings": list(given.warnings),
        "count": given.count.as_dict(),
        "first_count": None if given.first is None else given.first.as_dict(),
        "corrections": len(given.corrections),
        "slides": given.slides.to_pylist(),
        "set_aside": [_without_name(row) for row in given.set_aside.to_pylist()],
        "models": [vars(model) | {"tested_on": list(model.tested_on)} for model in given.models],
    }


def _without_name(row: dict[str, Any]) -> dict[str, Any]:
    """File names of people's slides stay out of what is passed on."""
    return {key: value for key, value in row.items() if key != "input"}


def guarded(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def as_csv(count: Count) -> str:
    """One line a type, lineage, and kind beside the count; percentages of 100, empty where undefined."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    deciding = ["deciding_percent", "deciding_low", "deciding_high"]
    bootstrap = ["bootstrap_low", "bootstrap_high"]
    writer.writerow(
        [
            "part",
            "name",
            "label",
            "number",
            "percent",
            "low",
            "high",
            *bootstrap,
            *deciding,
            "decided_by",
            "per_hundred",
        ]
    )
    for part, shares in (("type", count.types), ("lineage", count.lineages)):
        for share in shares:
            numbers = (share.percent, share.low, share.high, share.bootstrap_low, share.bootstrap_high)
            decides = (share.deciding.value, share.deciding.low, share.deciding.high)
            line = [part, guarded(share.name), guarded(share.label), share.number, *map(_short, (*numbers, *decides))]
            writer.writerow([*line, share.deciding.method, ""])
    for part, rows in (("beside", count.beside), ("unstated", count.unstated)):
        for row in rows:
            empty = [""] * 9
            line = [part, guarded(row.name), guarded(row.label), row.number, *empty, _short(row.per_hundred)]
            writer.writerow(line)
    ends = [""] * 10
    writer.writerow(["total", "counted", "Cells counted", count.counted, *ends])
    writer.writerow(["note", "research_use", RESEARCH_USE, "", *ends])
    return sink.getvalue()


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def as_geojson(cells: pa.Table) -> dict[str, Any]:
    """Cells as QuPath detections, coordinates in level-0 pixels."""
    return {"type": "FeatureCollection", "research_use": RESEARCH_USE, "features": list(_features(cells))}


def _features(cells: pa.Table) -> Iterator[dict[str, Any]]:
    for row in cells.to_pylist():
        kind = taxonomy.cell_type(row["cell_type"] or "not_identifiable")
        x1, y1 = row["x"], row["y"]
        x2, y2 = x1 + row["width"], y1 + row["height"]
        measured = {"score": row["score"], "probability": row["probability"]}
        yield {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]]]},
            "properties": {
                "objectType": "detection",
                "name": row["cell_id"],
                "slide_id": row["slide_id"],
                "classification": {"name": kind.name, "color": _rgb(kind.colour)},
                "measurements": {name: value for name, value in measured.items() if value is not None},
            },
        }


def _rgb(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]


def write_files(out: Path, given: ReportInput) -> None:
    """`report.json`, `counts.csv`, `cells.geojson` and, for several images, `geojson/<slide_id>.geojson` each.

    Raises ResultError for a slide_id that is no plain name: it becomes the name of a file.
    """
    slides = given.cells["slide_id"].to_pylist()
    names = sorted(set(slides))
    unfit = [name for name in names if not _PLAIN.fullmatch(name)]
    if unfit:
        raise ResultError(f"the slide_id {unfit[0]!r} is no plain name", why="it would name a file of the report")
    write_json(out / "report.json", as_json(given))
    write_bytes(out / "counts.csv", as_csv(given.count).encode())
    if not len(given.cells):
        return
    write_json(out / "cells.geojson", as_geojson(given.cells))
    if len(names) > 1:
        for name in names:
            part = given.cells.filter(pa.array([slide == name for slide in slides]))
            write_json(out / "geojson" / f"{name}.geojson", as_geojson(part))
