"""Images of single cells, each with what its set says of it: what every layout of single cells is read into."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from myelos import taxonomy
from myelos.datasets.records import Fault, FieldRecord
from myelos.errors import LabelError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
LABEL_COLUMNS = ("fine_code", "label")  # of a manifest, the finest first


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One cell: the image that shows it, and its type.

    cell_type: a name of the taxonomy, a coarse one where the set says no more. source: the set. code: the label in the
    set's own words. mpp: µm per pixel, None where the set does not say. group: the patient or sample, None where
    unknown. box: (x, y, width, height) in pixels where the image is a field; None where the cell is in its middle.
    second: further annotations of the same cell, as types.
    """

    path: Path
    cell_type: str
    source: str = ""
    code: str = ""
    mpp: float | None = None
    group: str | None = None
    box: tuple[float, float, float, float] | None = None
    second: tuple[str, ...] = ()


def read_cells(folder: Path, *, scheme: str | None = None) -> tuple[list[CellRecord], list[Fault]]:
    """All images of class folders, sorted by path. The class is the manifest's, else the name of the folder.

    scheme: the label scheme whose codes the set uses. Classes of unknown meaning are faults, and left out.
    Raises LabelError where no image is usable.
    """
    labels = _manifest(folder)
    source = folder.resolve().name
    cells, faults = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES):
        label = labels.get(path.relative_to(folder).as_posix(), path.parent.name)
        if labels and path.relative_to(folder).as_posix() not in labels:
            continue
        try:
            cells.append(CellRecord(path, taxonomy.resolve(label, scheme), source, label))
        except LabelError as error:
            faults.append(Fault(path, None, "unknown class", str(error)))
    if not cells:
        raise LabelError(
            f"{folder} has no image of a cell whose class is known", remedy="Name the --scheme of its codes"
        )
    return cells, faults


def cells_of_fields(fields: Sequence[FieldRecord]) -> list[CellRecord]:
    """The boxes of annotated fields as single cells; boxes whose type is not stated are left out."""
    return [
        CellRecord(field.path, kind, field.source, kind, None, field.group, (float(x), float(y), float(w), float(h)))
        for field in fields
        for (x, y, w, h), kind in zip(field.boxes, field.types, strict=True)
        if kind is not None
    ]


def _manifest(folder: Path) -> dict[str, str]:
    """Image (relative) → label; empty where there is no manifest with labels."""
    path = folder / "manifest.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    column = next((name for name in LABEL_COLUMNS if rows and name in rows[0]), None)
    return {row["file"]: row[column] for row in rows if row.get("file")} if column else {}
