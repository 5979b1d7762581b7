"""Images of single cells, each with what its set says of it: what every layout of single cells is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from myelos.datasets import tcia
from myelos.datasets.cell_labels import Naming, SeenCell, find_naming, meaning
from myelos.datasets.cell_layouts import find_cell_layout, scan
from myelos.datasets.published import CellSet, of_scheme
from myelos.datasets.records import Fault, FieldRecord
from myelos.errors import LabelError


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One cell: the image that shows it, and its type.

    cell_type: a name of the taxonomy, a coarse one where the set says no more. source: the set. code: the label in the
    set's own words, of the patient where the set labels patients. mpp: µm per pixel, None where the set does not say.
    group: the patient or sample, None where unknown. box: (x, y, width, height) in pixels where the image is a field;
    None where the cell is in its middle. second: further annotations of the same cell, as types.
    """

    path: Path
    cell_type: str
    source: str = ""
    code: str = ""
    mpp: float | None = None
    group: str | None = None
    box: tuple[float, float, float, float] | None = None
    second: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundCells:
    """A folder of single cells as it was read. naming: what says the class. known: the published set it is (a part of).

    faults: what is wrong with its labels, and what was left out for it.
    """

    layout: str
    naming: Naming
    known: CellSet | None
    records: list[CellRecord]
    faults: list[Fault]


def read_cells(
    folder: Path, *, scheme: str | None = None, layout: str | None = None, cache: Path | None = None
) -> tuple[list[CellRecord], list[Fault]]:
    """All cells of a folder, sorted by path, and everything that is wrong with their labels.

    scheme: whose codes the set uses, found where None and clear. layout: one of `CELL_LAYOUTS`, found where None.
    cache: where images that lie in Parquet tables are written as files, `cells` inside the folder where None. Images of
    unknown class, and those that the set calls damaged, are faults and left out. Raises LabelError where the layout or
    the meaning of the classes is unclear, or no image is usable.
    """
    found = find_cells(folder, scheme=scheme, layout=layout, cache=cache)
    return found.records, found.faults


def find_cells(
    folder: Path, *, scheme: str | None = None, layout: str | None = None, cache: Path | None = None
) -> FoundCells:
    """As `read_cells`, with how the folder was read."""
    layout = layout or find_cell_layout(folder)
    seen, faults = scan(folder, layout, cache=cache)
    try:
        naming = find_naming(seen, scheme)
    except LabelError as error:
        raise LabelError(f"{folder}: {error.what}", why=error.why, remedy=error.remedy) from None
    known = of_scheme("aml_hehr" if layout == "tcia-aml" else naming.scheme, layout)
    source = known.name if known and layout.startswith("tcia") else folder.resolve().name
    records = []
    for cell in seen:
        record = _record(cell, naming, known, source)
        if record is not None:
            records.append(record)
        else:
            word = cell.labels.get(naming.key)
            faults.append(Fault(cell.path, None, "unknown class", f"{word} in {naming.scheme or 'no scheme'}"))
    return FoundCells(layout, naming, known, records, faults)


def _record(cell: SeenCell, naming: Naming, known: CellSet | None, source: str) -> CellRecord | None:
    """The cell with the meaning of its words; None where its class has none."""
    word = cell.labels.get(naming.key)
    kind = meaning(word, naming.scheme) if word is not None else None
    if word is None or kind is None:
        return None
    second = tuple(filter(None, (meaning(other, naming.scheme) for other in cell.second)))
    code = tcia.entity_of(cell) or word
    return CellRecord(cell.path, kind, source, code, _mpp(cell.path, known), cell.group, None, second)


def _mpp(path: Path, known: CellSet | None) -> float | None:
    """The published µm per pixel, where the image has the published size: a resized copy has another."""
    if known is None or known.size is None:
        return known.mpp if known else None
    try:
        with Image.open(path) as image:
            return known.mpp if image.size == known.size else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def cells_of_fields(fields: Sequence[FieldRecord]) -> list[CellRecord]:
    """The boxes of annotated fields as single cells; boxes whose type is not stated are left out."""
    return [
        CellRecord(field.path, kind, field.source, kind, None, field.group, (float(x), float(y), float(w), float(h)))
        for field in fields
        for (x, y, w, h), kind in zip(field.boxes, field.types, strict=True)
        if kind is not None
    ]
