"""A small drawn smear with every part that a report shows, for the tests of the page and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from myelos import taxonomy
from myelos.counting import Evidence, count
from myelos.report import ModelNote, Picture, ReportInput, write
from myelos.tables import table, write_run, write_table

TYPES = ["blast", "myelocyte", "segmented_neutrophil", "lymphocyte", "polychromatic_erythroblast", "not_identifiable"]
HOSTILE = '<img src=x onerror="window.hacked=1">\'</script><script>window.hacked=1</script>'
SIZE = 400


def sample(*, fields: int = 6, per_field: int = 9, title: str = "Smear 7", **other: Any) -> ReportInput:
    """Fields of 400 × 400 with `per_field` cells each, types in turn, certainty rising with the number."""
    slides, cells, tiles, crops, pictures = [], [], [], {}, {}
    for number in range(fields):
        slide = f"{number:012x}"
        image = np.full((SIZE, SIZE, 3), 235, np.uint8)
        for k in range(per_field):
            x, y = 20 + 120 * (k % 3), 20 + 120 * (k // 3)
            kind = TYPES[(k + number) % len(TYPES)]
            colour = taxonomy.cell_type(kind).colour
            bgr = tuple(int(colour[i : i + 2], 16) for i in (5, 3, 1))
            cv2.circle(image, (x + 30, y + 30), 26, bgr, -1)
            cell = f"{slide}-{k + 1}"
            box = {"x": x, "y": y, "width": 60, "height": 60}
            cells.append(
                {"slide_id": slide, "cell_id": cell, **box, "score": 0.9, "cell_type": kind, "tile": 0}
                | {"probability": 0.2 + (k * fields + number) / (1.3 * fields * per_field)}
            )
            crops[cell] = cv2.imencode(".png", image[y : y + 60, x : x + 60])[1].tobytes()
        slides.append({"slide_id": slide, "width": SIZE, "height": SIZE, "kind": "field", "mpp_source": "unknown"})
        tiles.append({"slide_id": slide, "tile": 0, "x": 0, "y": 0, "width": SIZE, "height": SIZE})
        pictures[slide] = Picture(cv2.imencode(".png", image)[1].tobytes(), 1.0)
    tabled = table("cells", cells)
    known = (*TYPES[:-1], "plasma_cell", "megakaryocyte")
    evidence = Evidence(read=fields, set_aside={"out of focus": 1})
    return ReportInput(
        **{
            "title": title,
            "count": count(tabled, specimen="marrow", known=known, evidence=evidence, tested_on=("a drawn set",)),
            "cells": tabled,
            "slides": table("slides", slides),
            "tiles": table("tiles", tiles),
            "set_aside": table("set_aside", [{"input": "DOE^JANE.jpg", "reason": "no smear", "detail": "text"}]),
            "run": {"command": "count", "settings": {"threshold": 0.5}},
            "crops": crops,
            "pictures": pictures,
            "models": (ModelNote("drawn", "ab" * 32, description="knows circles", tested_on=("a drawn set",)),),
            **other,
        }
    )


def finished(out: Path, given: ReportInput) -> Path:
    """A result as a run leaves it: tables, report, and `run.json` last."""
    for name in ("cells", "slides", "tiles", "set_aside"):
        write_table(out, name, getattr(given, name))
    page = write(out, given)
    write_run(out, given.run)
    return page
