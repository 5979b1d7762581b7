"""The truth of a glass, streamed to Parquet in row groups while the slide is painted.

`cells.parquet` has the columns of the table `cells` and those below; cells are numbered block by block. Dust is in it,
too, as artefacts of grade 6, so that a detector's false alarms can be told apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import myelos
from myelos import tables
from myelos.phantom.features import split
from myelos.phantom.glass.block import Truth
from myelos.phantom.glass.crowd import Cells
from myelos.phantom.glass.faults import Dust
from myelos.phantom.glass.grades import NO_CELL
from myelos.phantom.glass.layout import GlassSettings, Layout
from myelos.slides.fingerprint import fingerprint, slide_id

ROWS = 4_000  # of a row group; what waits for it are Python objects, some 4 kB a cell
DAMAGE = ("intact", "ragged", "naked_nucleus", "smudged")

CELL_TRUTH = pa.schema(
    [
        *tables.SCHEMAS["cells"],
        ("outline", pa.list_(pa.float32())),  # x y in level-0 px, of what is seen
        ("damage", pa.string()),  # one of DAMAGE, null for what is no cell
        ("touching", pa.bool_()),  # another nucleated cell
        ("sharpness", pa.float32()),  # blur in focus by blur here: 1 in focus, to 0
        ("grade", pa.int8()),  # 1 to 6, see `grades`
        ("features", pa.string()),  # of features.FEATURES, joined by +
        ("sprite", pa.int32()),  # which rendered cell, and in which pose
        ("mirrored", pa.bool_()),
        ("angle", pa.float32()),
        ("scale", pa.float32()),
    ]
)


class CellTruth:
    """Rows in the order in which they come; `finish` gives them the slide's name, which is known only then."""

    def __init__(self, folder: Path, types: tuple[str, ...]) -> None:
        self.folder, self.types, self.count = folder, types, 0
        self.by_type: dict[str, int] = {}
        self._waiting: list[dict[str, Any]] = []
        self._path = folder / f".cells.parquet.{os.getpid()}.stream.tmp"
        self._writer = pq.ParquetWriter(self._path, CELL_TRUTH, compression="zstd")

    def add(self, cells: Cells, truth: Truth) -> None:
        """What was seen of `cells`, whose numbers follow each other without a gap."""
        if not truth.numbers:
            return
        chosen = cells[np.array(truth.numbers) - int(cells["number"][0])]
        columns = {name: chosen[name].tolist() for name in ("sprite", "mirrored", "angle", "scale", "touching")}
        for i in np.lexsort((np.array(truth.boxes)[:, 0], np.array(truth.boxes)[:, 1])).tolist():
            kind, features = split(self.types[int(chosen["kind"][i])])
            damage = 3 if kind == "smudge_cell" else int(chosen["damage"][i])
            region = int(chosen["region"][i])
            row = {"cell_type": kind, "region": region if region >= 0 else None, "damage": DAMAGE[damage]}
            row |= {"outline": truth.outlines[i], "sharpness": truth.sharpness[i], "grade": truth.grades[i]}
            row["features"] = "+".join(features)
            self._add(truth.boxes[i], row | {name: values[i] for name, values in columns.items()})

    def add_dust(self, dust: Iterable[Dust], size: tuple[int, int]) -> None:
        for speck in dust:
            x1, y1, x2, y2 = speck.box()
            x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(size[0])), min(y2, float(size[1]))
            if x2 > x1 and y2 > y1:
                self._add((x1, y1, x2 - x1, y2 - y1), {"cell_type": "artefact", "grade": NO_CELL})

    def _add(self, box: tuple[float, float, float, float], row: dict[str, Any]) -> None:
        places = dict(zip(("x", "y", "width", "height"), box, strict=True))
        self._waiting.append({"score": 1.0, "probability": 1.0} | places | row)
        self.by_type[row["cell_type"]] = self.by_type.get(row["cell_type"], 0) + 1
        self.count += 1
        if len(self._waiting) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, CELL_TRUTH))
        self._waiting = []

    def finish(self, name: str) -> None:
        """Write `cells.parquet` with the slide's opaque name."""
        self._flush()
        self._writer.close()
        final = self.folder / f".cells.parquet.{os.getpid()}.tmp"
        source = pq.ParquetFile(self._path)
        done = 0
        with pq.ParquetWriter(final, CELL_TRUTH, compression="zstd") as writer:
            for group in range(source.num_row_groups):
                rows = source.read_row_group(group)
                numbers = [f"{name}-{done + i}" for i in range(rows.num_rows)]
                done += rows.num_rows
                rows = rows.set_column(0, CELL_TRUTH.field("slide_id"), pa.array([name] * rows.num_rows, pa.string()))
                writer.write_table(rows.set_column(1, CELL_TRUTH.field("cell_id"), pa.array(numbers, pa.string())))
        source.close()
        final.replace(self.folder / "cells.parquet")
        self._path.unlink()

    def discard(self) -> None:
        self._writer.close()
        self._path.unlink(missing_ok=True)


def write_truth(folder: Path, path: Path, settings: GlassSettings, layout: Layout, cells: CellTruth) -> dict[str, Any]:
    """All tables of a slide whose file or folder is written, and what its `run.json` is to tell."""
    mark = fingerprint(path)
    name = slide_id(mark)
    cells.finish(name)
    regions = [
        {"slide_id": name, "region": number, "kind": region.kind, "area_mm2": region.area_mm2(settings.mpp)}
        | {"polygon": [float(v) for v in region.polygon.ravel()]}
        for number, region in enumerate(layout.regions)
    ]
    tables.write_table(folder, "regions", regions)
    row: dict[str, Any] = {"slide_id": name, "fingerprint": mark, "specimen": settings.specimen, "kind": "slide"}
    row |= {"width": settings.width, "height": settings.height, "mpp": settings.mpp, "mpp_source": "file"}
    row |= {"mpp_uncertainty": 0.0, "stain": settings.stain, "scanner": settings.scanner}
    tables.write_table(folder, "slides", [row])
    run = {"made_by": "myelos phantom slide", "version": myelos.__version__, "synthetic": True, "seed": settings.seed}
    return run | {"cells": cells.count, "cells_by_type": cells.by_type, "settings": asdict(settings)}
