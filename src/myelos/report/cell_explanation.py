"""Why cells were named as they were, for people and for programs: one page, figures, and JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import myelos
from myelos import taxonomy
from myelos.report import cell_figures as figures
from myelos.report.input import RESEARCH_USE
from myelos.report.single_file import asset, data_uri, render
from myelos.tables import write_bytes, write_json

if TYPE_CHECKING:
    from myelos.explanation.cells import ExplainedCell, ExplainSettings, Explanation

PAGE, FACTS = "explanation.html", "explanation.json"
_SHOWN = 6  # types of a cell that stand on the page


def write_explanation(out: Path, found: Explanation, *, model: str, settings: ExplainSettings) -> dict[str, Any]:
    """Write `explanation.html`, `explanation.json`, `figure_5.png`, `sanity_maps.png`, `sanity_curves.png` and the
    pictures of every cell in `cells/`. Returns what stands in the JSON file."""
    crops = [cell.crop for cell in found.cells]
    pictures = {
        "figure_5": figures.figure_five(found.cells),
        "sanity_maps": figures.sanity_maps(found.sanity, crops),
        "sanity_curves": figures.sanity_curves(found.sanity),
    }
    for name, content in pictures.items():
        write_bytes(out / f"{name}.png", content)
    for number, cell in enumerate(found.cells, 1):
        for name, content in _pictures(cell).items():
            write_bytes(out / "cells" / f"{number:03d}_{name}.png", content)
    write_bytes(out / PAGE, page(found, pictures, model=model, settings=settings).encode())
    facts = as_json(found, model=model, settings=settings)
    write_json(out / FACTS, facts)
    return facts


def as_json(found: Explanation, *, model: str, settings: ExplainSettings) -> dict[str, Any]:
    """Everything but the maps themselves, which are pictures."""
    return {
        "model": model,
        "research_use": RESEARCH_USE,
        "settings": asdict(settings),
        "cells": [
            {
                "cell": number,
                "labelled": cell.truth,
                "predicted": cell.predicted,
                "probabilities": {
                    name: round(float(share), 6) for name, share in zip(found.types, cell.probabilities, strict=True)
                },
                "share_on_the_cell": cell.focus,
                "neighbours": _neighbours(cell, found),
            }
            for number, cell in enumerate(found.cells, 1)
        ],
        "disc": found.disc,
        "sanity": found.sanity.summary(),
    }


def _neighbours(cell: ExplainedCell, found: Explanation) -> list[dict[str, Any]]:
    if found.among is None:
        return []
    return [
        {"cell_id": found.among.ids[one.place], "type": found.among.types[one.place], "cosine": round(one.cosine, 4)}
        for one in cell.neighbours
    ]


def page(found: Explanation, pictures: dict[str, bytes], *, model: str, settings: ExplainSettings) -> str:
    """The page as HTML."""
    summary = found.sanity.summary()
    methods = list(figures.NAMES)
    uris: dict[str, Any] = {name: data_uri(png, "png") for name, png in pictures.items() if name != "figure_5"}
    return render(
        "cell_explanation.html.jinja",
        style=asset("cell_explanation.css"),
        model=model,
        version=myelos.__version__,
        research_use=RESEARCH_USE,
        smooth=settings.smooth_grad,
        disc=found.disc,
        cells=[_cell(cell, found) for cell in found.cells],
        among=len(found.among) if found.among else 0,
        checked=len(found.sanity.edges[methods[0]]),
        verdict=verdict(summary),
        methods=list(figures.NAMES.values()),
        stages=[{"name": stage["name"], "numbers": [stage[name] for name in methods]} for stage in summary["stages"]],
        edges=[summary["edges"][name] for name in methods],
        note="Which file each cell is stands in names.csv beside this page.",
        **uris,
    )


def verdict(summary: dict[str, Any]) -> str:
    """What the check says, in numbers."""
    last = summary["stages"][-1]
    parts = [f"{label} {last[name]['rank']:.2f}" for name, label in figures.NAMES.items()]
    return (
        f"With every weight random, the rank correlation with the maps shown here is {' and '.join(parts)}; "
        "1 would mean that the map does not depend on what was learned."
    )


def _cell(cell: ExplainedCell, found: Explanation) -> dict[str, Any]:
    pictures = _pictures(cell)
    order = cell.probabilities.argsort()[::-1][:_SHOWN]
    types = [taxonomy.cell_type(found.types[index]) for index in order]
    return {
        "truth": taxonomy.cell_type(cell.truth).label if cell.truth else None,
        "predicted": taxonomy.cell_type(cell.predicted).label,
        "wrong": bool(cell.truth) and cell.predicted not in taxonomy.narrower(str(cell.truth)),
        "crop": data_uri(pictures["image"], "png"),
        "maps": [
            {"name": label, "image": data_uri(pictures[name], "png"), "focus": cell.focus[name]}
            for name, label in figures.NAMES.items()
        ],
        "types": [
            {"label": kind.label, "colour": kind.colour, "share": float(cell.probabilities[index])}
            for kind, index in zip(types, order, strict=True)
        ],
        "neighbours": [
            {
                "label": taxonomy.cell_type(found.among.types[one.place]).label,
                "id": found.among.ids[one.place],
                "cosine": one.cosine,
                "image": data_uri(found.among.thumbnails[one.place], "jpeg"),
            }
            for one in cell.neighbours
            if found.among is not None
        ],
    }


def _pictures(cell: ExplainedCell) -> dict[str, bytes]:
    maps = {name: figures.as_picture(name, cell.maps[name], cell.crop) for name in figures.NAMES}
    return {name: figures.png(picture) for name, picture in {"image": cell.crop, **maps}.items()}
