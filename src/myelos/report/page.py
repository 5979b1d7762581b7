"""`report.html`: one file that opens without a network, prints well, and in which cells can be corrected.

The page carries its numbers as data and counts them live by the rules of `counting.py`. Its content security policy
allows the embedded style and script by their hashes and images from data URIs, nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import myelos
from myelos import taxonomy
from myelos.counting import Count, in_order, is_inside
from myelos.metrics.blind import UNSTATED, USUAL
from myelos.metrics.shares import NESTED
from myelos.report.contents import (
    Row,
    aside_of,
    axis_of,
    changes_of,
    facts_of,
    fields_of,
    galleries_of,
    left_out_of,
    live_cells,
    numbers_of,
    rows_of,
)
from myelos.report.images import Embedded, ImageSettings, embed_crops, embed_pictures, size
from myelos.report.input import RESEARCH_USE, ReportInput
from myelos.report.keys import assign
from myelos.report.opinions import disagreement_of
from myelos.report.single_file import asset, embedded_json
from myelos.report.single_file import render as filled
from myelos.wording import number_of


@dataclass(frozen=True)
class PageSettings:
    """shown: cells of a type that are seen before "show all". live: cells that can be corrected in the page."""

    shown: int = 24
    live: int = 50_000
    images: ImageSettings = field(default_factory=ImageSettings)


def render(given: ReportInput, settings: PageSettings | None = None) -> str:
    """The page as HTML."""
    settings = settings or PageSettings()
    types = _legend(given)
    style = asset("report.css") + _colours(types)
    script = asset("statistics.js") + asset("report.js")
    cells = live_cells(given, settings.live)
    crops, pictures = _images(given, cells, settings.images)
    return filled(
        "report.html.jinja",
        style=style,
        script=script,
        filters={"number": _number, "chance": _chance, "between": _between, "number_of": number_of},
        given=given,
        count=given.count,
        research_use=RESEARCH_USE,
        version=myelos.__version__,
        data=_data(given, types, cells),
        types=types,
        label=lambda name: taxonomy.cell_type(name).label,
        short=lambda name: taxonomy.cell_type(name).short,
        blasts=next((row for row in given.count.lineages if row.name == "blasts"), None),
        rows=rows_of(given, types),
        corrected=any(share.deciding.method == NESTED for share in given.count.types),
        least=given.count.settings.adequacy.minimum(given.count.specimen),
        axis=axis_of(given.count),
        galleries=galleries_of(cells, crops, types, shown=settings.shown),
        fields=fields_of(given, cells, pictures),
        differ=disagreement_of(given.opinions, given.cells),
        left_out=left_out_of(given, cells, crops, pictures),
        aside=aside_of(given),
        facts=facts_of(given.run),
        changes=changes_of(given, types),
    )


def _colours(types: Mapping[str, Row]) -> str:
    return "".join(f".c-{name}{{--c:{row['colour']}}}\n" for name, row in types.items())


def _legend(given: ReportInput) -> dict[str, Row]:
    """Every type that a cell of this page may have, in the order of a report."""
    count = given.count
    seen = {name or "not_identifiable" for name in given.cells["cell_type"].to_pylist()}
    names = seen | set(count.known or ()) | set(USUAL[count.specimen]) | {"not_identifiable", "artefact"}
    names |= set(numbers_of(count))
    if given.first is not None:
        names |= {share.name for share in given.first.types}
    names = {taxonomy.cell_type(name).name for name in names}
    ordered = [*in_order(names - set(UNSTATED)), *(name for name in UNSTATED if name in names)]
    keys = assign(ordered)
    myeloid, erythroid = _ratio_types(count), taxonomy.ratio_types("erythroid")
    return {
        name: {
            "label": taxonomy.cell_type(name).label,
            "short": taxonomy.cell_type(name).short,
            "colour": taxonomy.cell_type(name).colour,
            "lineage": taxonomy.cell_type(name).lineage,
            "inside": is_inside(name, count.specimen),
            "unstated": name in UNSTATED,
            "ratio": "m" if name in myeloid else "e" if name in erythroid else "",
            "key": keys[name],
        }
        for name in ordered
    }


def _ratio_types(count: Count) -> frozenset[str]:
    optional = {"monocytic": count.settings.monocytes_in_ratio, "blasts": count.settings.blasts_in_ratio}
    added = {name for name in taxonomy.ratio_types("optional") if optional[taxonomy.cell_type(name).lineage]}
    return taxonomy.ratio_types("myeloid") | added


def _images(
    given: ReportInput, cells: list[Row], settings: ImageSettings
) -> tuple[dict[str, Embedded], dict[str, Embedded]]:
    """Crops first, within their share where pictures need the rest."""
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(cell["cell_type"], []).append(cell["cell_id"])
    most = settings.most_bytes * (settings.crop_share if given.pictures else 1.0)
    crops = embed_crops(given.crops, groups.values(), settings, most_bytes=most)
    ordered = {
        slide: given.pictures[slide] for slide in given.slides["slide_id"].to_pylist() if slide in given.pictures
    }
    return crops, embed_pictures(ordered, settings, most_bytes=settings.most_bytes - size(crops))


def _data(given: ReportInput, types: Mapping[str, Row], cells: list[Row]) -> str:
    """What the script counts with, as JSON that cannot end its element."""
    count = given.count
    every = Counter(name or "not_identifiable" for name in given.cells["cell_type"].to_pylist())
    if not len(given.cells):  # a tally has numbers and no cells
        every.update(numbers_of(count))
    content = {
        "base": fingerprint(given),
        "title": given.title,
        "researchUse": RESEARCH_USE,
        "level": count.settings.shares.level,
        "axis": axis_of(count),
        "leastErythroid": count.settings.minimum_erythroid,
        "marrow": count.specimen == "marrow",
        "types": types,
        "lineages": {name: lineage.label for name, lineage in taxonomy.LINEAGES.items()},
        "groups": {row.name: sorted(taxonomy.narrower(row.name)) for row in count.thresholds},
        "rest": dict(every - Counter(cell["cell_type"] for cell in cells)),
        "cells": [
            [cell["cell_id"], cell["slide_id"], cell["x"], cell["y"], cell["width"], cell["height"], cell["cell_type"]]
            for cell in cells
        ],
    }
    return embedded_json(content)


def fingerprint(given: ReportInput) -> str:
    """Names the cells that a file of corrections was made for."""
    columns = zip(given.cells["cell_id"].to_pylist(), given.cells["cell_type"].to_pylist(), strict=True)
    return hashlib.sha256(json.dumps(sorted(columns, key=str)).encode()).hexdigest()[:16]


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _between(low: float | None, high: float | None, digits: int = 1) -> str:
    return "–" if low is None or high is None else f"{low:.{digits}f} – {high:.{digits}f}"


def _chance(value: float | None) -> str:
    """A probability in per cent that never claims certainty."""
    if value is None:
        return "–"
    return "< 0.1 %" if value < 0.001 else "> 99.9 %" if value > 0.999 else f"{100 * value:.1f} %"
