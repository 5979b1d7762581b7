"""What stands on the page, as rows for the template: tables, galleries, images, and what was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from myelos import taxonomy
from myelos.counting import Count
from myelos.report.images import Embedded
from myelos.report.input import ReportInput
from myelos.wording import number_of

Row = dict[str, Any]


def numbers_of(count: Count) -> dict[str, int]:
    """Number of every type of a count, in the hundred, beside it and unstated."""
    inside = {share.name: share.number for share in count.types}
    return inside | {row.name: row.number for row in (*count.beside, *count.unstated)}


def live_cells(given: ReportInput, most: int) -> list[Row]:
    """Cells of the page, least certain first; beyond `most` the surest are counted without being shown."""
    rows = given.cells.to_pylist()
    for row in rows:
        row["cell_type"] = row["cell_type"] or "not_identifiable"
    rows.sort(key=lambda row: (_certainty(row), row["cell_id"]))
    return rows[:most]


def _certainty(row: Row) -> float:
    known = row["probability"] if row["probability"] is not None else row["score"]
    return -1.0 if known is None else known


def axis_of(count: Count) -> float:
    """The percentage at the right end of the bars."""
    highest = max((share.high or 0.0 for share in (*count.types, *count.lineages)), default=0.0)
    return max(10.0, min(100.0, 10.0 * -(-highest // 10)))


def rows_of(given: ReportInput, types: Mapping[str, Row]) -> list[Row]:
    """Lineages with their types, in the order of maturation; types that were not seen and not known are hidden."""
    count = given.count
    shares, sums = {row.name: row for row in count.types}, {row.name: row for row in count.lineages}
    first = {row.name: row for row in given.first.types} if given.first else {}
    first_sums = {row.name: row for row in given.first.lineages} if given.first else {}
    rows: list[Row] = []
    for lineage in taxonomy.LINEAGES:
        members = [name for name, row in types.items() if row["inside"] and row["lineage"] == lineage]
        if not members:
            continue
        label = taxonomy.LINEAGES[lineage].label
        rows.append({"name": lineage, "label": label, "sum": True, "share": sums.get(lineage), "key": ""})
        rows[-1]["first"] = first_sums.get(lineage)
        for name in members:
            entry = {"name": name, "label": types[name]["label"], "sum": False, "share": shares.get(name)}
            rows.append({**entry, "first": first.get(name), "key": types[name]["key"]})
    return rows


def galleries_of(cells: list[Row], crops: Mapping[str, Embedded], types: Mapping[str, Row], *, shown: int) -> list[Row]:
    """One gallery a type: cells with an image, least certain first."""
    groups: dict[str, list[Row]] = {name: [] for name in types}
    for cell in cells:
        groups[cell["cell_type"]].append(cell)
    return [
        {
            "name": name,
            "label": types[name]["label"],
            "number": len(group),
            "cells": [{**cell, "crop": crops[cell["cell_id"]]} for cell in group if cell["cell_id"] in crops],
            "shown": shown,
        }
        for name, group in groups.items()
        if group
    ]


def fields_of(given: ReportInput, cells: list[Row], pictures: Mapping[str, Embedded]) -> list[Row]:
    """Images with the boxes of their cells and, on slides, the tiles that were read or set aside."""
    boxes: dict[str, list[Row]] = {}
    for cell in cells:
        boxes.setdefault(cell["slide_id"], []).append(cell)
    tiles: dict[str, list[Row]] = {}
    for tile in given.tiles.to_pylist():
        tiles.setdefault(tile["slide_id"], []).append(tile)
    return [
        {
            **slide,
            "picture": pictures[slide["slide_id"]],
            "boxes": boxes.get(slide["slide_id"], []),
            "tiles": tiles.get(slide["slide_id"], []),
        }
        for slide in given.slides.to_pylist()
        if slide["slide_id"] in pictures
    ]


def left_out_of(
    given: ReportInput, cells: list[Row], crops: Mapping[str, Embedded], pictures: Mapping[str, Embedded]
) -> list[str]:
    """What the page does not show, so that nobody takes it for everything."""
    lines = []
    if len(cells) > len(crops):
        hidden = number_of(len(cells) - len(crops), "cell is counted but has", "cells are counted but have")
        lines.append(f"{hidden} no picture here, of {len(given.cells)} in all.")
    if len(given.cells) > len(cells):
        hidden = number_of(len(given.cells) - len(cells), "of the surest cells is", "of the surest cells are")
        lines.append(f"{hidden} counted but cannot be corrected here.")
    if len(given.slides) > len(pictures):
        lines.append(f"Not shown: {len(given.slides) - len(pictures)} of {number_of(len(given.slides), 'image')}.")
    return lines


def aside_of(given: ReportInput) -> list[Row]:
    """Reasons with their numbers: inputs, and fields or tiles."""
    reasons = Counter((row["reason"] or "no reason given", row["detail"] or "") for row in given.set_aside.to_pylist())
    rows = [{"what": "input", "reason": key[0], "detail": key[1], "number": n} for key, n in reasons.items()]
    unit = given.count.unit if given.count.unit != "none" else "field"
    tiles = given.count.evidence.set_aside.items()
    return rows + [{"what": unit, "reason": reason, "detail": "", "number": n} for reason, n in tiles]


def facts_of(run: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The manifest as lines of name and value; long lists are cut."""
    lines: list[tuple[str, str]] = []
    for key, value in run.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            lines += facts_of(value, f"{name}.")
        else:
            text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else value
            lines.append((name, text if len(text) <= 200 else text[:200] + " …"))
    return lines


def changes_of(given: ReportInput, types: Mapping[str, Row]) -> list[Row]:
    def label(name: str | None) -> str:
        return types[name]["label"] if name and name in types else name or ""

    return [
        {**row, "from_label": label(row["from_type"]), "to_label": label(row["to_type"])}
        for row in given.corrections.to_pylist()
    ]
