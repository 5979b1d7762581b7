"""Images of single cells in class folders: `<folder>/…/<class>/<image>`, with a manifest or without."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from myelos import taxonomy
from myelos.datasets.records import Fault
from myelos.errors import LabelError

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}
LABEL_COLUMNS = ("fine_code", "label")  # of a manifest, the finest first


@dataclass(frozen=True, slots=True)
class CellImage:
    """One image with the type of the cell in its middle."""

    path: Path
    cell_type: str


def read_cells(folder: Path, *, scheme: str | None = None) -> tuple[list[CellImage], list[Fault]]:
    """All images of class folders, sorted by path. The class is the manifest's, else the name of the folder.

    scheme: the label scheme whose codes the set uses. Classes of unknown meaning are faults, and left out.
    Raises LabelError where no image is usable.
    """
    labels = _manifest(folder)
    cells, faults = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES):
        label = labels.get(path.relative_to(folder).as_posix(), path.parent.name)
        if labels and path.relative_to(folder).as_posix() not in labels:
            continue
        try:
            cells.append(CellImage(path, taxonomy.resolve(label, scheme)))
        except LabelError as error:
            faults.append(Fault(path, None, "unknown class", str(error)))
    if not cells:
        raise LabelError(
            f"{folder} has no image of a cell whose class is known", remedy="Name the --scheme of its codes"
        )
    return cells, faults


def _manifest(folder: Path) -> dict[str, str]:
    """Image (relative) → label; empty where there is no manifest with labels."""
    path = folder / "manifest.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    column = next((name for name in LABEL_COLUMNS if rows and name in rows[0]), None)
    return {row["file"]: row[column] for row in rows if row.get("file")} if column else {}
