"""Single cells of several folders together: sets of cell images, and the typed boxes of annotated fields."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from myelos.datasets.cells import CellRecord, cells_of_fields, read_cells
from myelos.datasets.layouts import LAYOUTS, read_fields
from myelos.datasets.records import Fault


def read_cell_sets(folders: Sequence[Path], *, scheme: str | None = None) -> tuple[list[CellRecord], list[Fault]]:
    """All cells whose type is known, and everything that is wrong; raises LabelError where a folder has none.

    scheme: the label scheme whose codes the sets use, where they do not tell.
    """
    records: list[CellRecord] = []
    faults: list[Fault] = []
    for folder in folders:
        if any(layout.recognise(folder) for layout in LAYOUTS.values()):
            fields, bad = read_fields(folder)
            found = cells_of_fields(fields)
        else:
            found, bad = read_cells(folder, scheme=scheme)
        records, faults = records + found, faults + bad
    return records, faults
