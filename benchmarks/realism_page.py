"""A page with real and rendered cells, fields and a slide side by side, written on the reader's machine.

The real images stay there: nothing of them is in the repository.
"""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.realism_cells import ANALYSER, ANY, TYPES, CellSettings, Images, Tell, portrait, real_crops
from benchmarks.realism_fields import FIELDS
from myelos.datasets.cells import CellRecord
from myelos.datasets.records import FieldRecord
from myelos.detection.prepare import read_rgb, spread
from myelos.imaging.crops import window
from myelos.phantom.cells import cell_rng
from myelos.phantom.dataset import encode
from myelos.phantom.fields import render_field
from myelos.phantom.glass.layout import GlassSettings
from myelos.phantom.glass.writing import write_glass
from myelos.slides import open_slide
from myelos.tables import write_bytes
from myelos.training.crops import plain

STRIP = 9  # cells in a row
SHARP = CellSettings(side=128, mpp=0.14)  # what the page shows of a cell: 18 µm
SEED = 77
GLASS = GlassSettings(24576, 10240, mpp=1.0, seed=3)
SIZE = (400, 300)  # of a field on the page, 50 × 37.5 µm as in BCCD
STYLE = "body{font:15px sans-serif;margin:2em;max-width:1200px}img{display:block;margin:2px 0;max-width:100%}"


def write_page(
    path: Path,
    cells: Mapping[str, Sequence[CellRecord]],
    fields: Mapping[str, Sequence[FieldRecord]],
    tell: Tell,
) -> None:
    """Real cells and fields are of the half for tuning, so that the other stays unseen."""
    parts = ["<h1>Real and synthetic, side by side</h1>"]
    parts += [
        "<p>Real cells and fields are of the half of the files that the rendering was tuned on.</p><h2>Cells</h2>"
    ]
    for done, kind in enumerate(TYPES, 1):
        own = [record for record in cells["tune"] if record.cell_type == kind]
        real = [plain(crop, SHARP.side) for crop in real_crops(spread(own, STRIP), SHARP, _silent)]
        parts += [f"<h3>{kind}</h3>", _shown(real, "real")]
        parts += [_shown(rendered_cells(kind, STRIP, analyser=True), "synthetic, as by the same analyser")]
        parts += [_shown(rendered_cells(kind, STRIP, analyser=False), "synthetic, any stain and camera")]
        tell("cells", done, len(TYPES), -1.0)
    real = [cv2.resize(read_rgb(one.path), SIZE, interpolation=cv2.INTER_AREA) for one in spread(fields["tune"], 6)]
    made = rendered_fields(6)
    for first in (0, 3):
        parts += ["<h2>Fields</h2>" if not first else "", _shown(real[first : first + 3], "real (BCCD)")]
        parts += [_shown(made[first : first + 3], "synthetic")]
    tell("painting a slide", 0, 1, -1.0)
    parts += ["<h2>A slide</h2><p>No real marrow slide is free to show here.</p>", _shown([overview()], "synthetic")]
    tell("painting a slide", 1, 1, -1.0)
    text = f"<!doctype html><meta charset='utf-8'><title>Realism</title><style>{STYLE}</style>{''.join(parts)}"
    write_bytes(path, text.encode())


def rendered_cells(kind: str, count: int, *, analyser: bool) -> list[Images]:
    base = ANALYSER if analyser else ANY
    found = [portrait(kind, i, base, SHARP, seed=SEED) for i in range(count)]
    return [window(one, (one.shape[1] / 2, one.shape[0] / 2), 1.0, SHARP.side) for one in found]


def rendered_fields(count: int) -> list[Images]:
    given = replace(FIELDS, width=SIZE[0], height=SIZE[1], mpp=0.125, composition="blood_even", pool_seed=SEED)
    return [render_field(given, cell_rng(SEED, "page", i), centre=TYPES[i % len(TYPES)]).rgb for i in range(count)]


def overview(width: int = 1200) -> Images:
    """The overview of a whole synthetic glass."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "glass.tif"
        write_glass(path, GLASS, threads=1)
        with open_slide(path) as slide:
            return slide.overview(width)


def write_pictures(folder: Path, tell: Tell) -> None:
    """`cells.jpg`, `fields.jpg` and `slide.jpg` for the documentation: nothing but synthetic images."""
    rows = []
    for done, kind in enumerate(TYPES, 1):
        for analyser in (True, False):
            strip = _strip(rendered_cells(kind, STRIP, analyser=analyser))
            rows.append(cv2.resize(strip, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA))
        tell("cells", done, len(TYPES), -1.0)
    write_bytes(folder / "cells.jpg", _jpeg(np.vstack(rows), 75))
    write_bytes(folder / "fields.jpg", _jpeg(_strip(rendered_fields(3)), 75))
    write_bytes(folder / "slide.jpg", _jpeg(overview(900), 75))


def _strip(images: Sequence[Images]) -> Images:
    gap = np.full((images[0].shape[0], 3, 3), 255, np.uint8)
    return np.hstack([part for image in images for part in (image, gap)])


def _jpeg(rgb: Images, quality: int) -> bytes:
    return encode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _shown(images: Sequence[Images], title: str) -> str:
    code, words = base64.b64encode(_jpeg(_strip(images), 90)).decode(), html.escape(title)
    return f"<div>{words}<img alt='{words}' src='data:image/jpeg;base64,{code}'></div>"


def _silent(_what: str, _done: int, _total: int, _left: float) -> None:
    return
