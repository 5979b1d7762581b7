"""Which layout a folder of single cells has, and what it says of its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from myelos.datasets import class_folders, parquet_cells, tcia
from myelos.datasets.cell_labels import SeenCell
from myelos.datasets.images import find_images
from myelos.datasets.records import Fault
from myelos.errors import LabelError

Recognise = Callable[[Path, Sequence[Path]], bool]
Scan = Callable[[Path, Sequence[Path]], tuple[list[SeenCell], list[Fault]]]


@dataclass(frozen=True, slots=True)
class CellLayout:
    """recognise, scan: of a folder and the images in it. unpack: to a folder of image files first, where they are none.

    rank: the layout of the highest rank that fits is taken; the layout is unclear where two of one rank fit.
    """

    recognise: Recognise
    scan: Scan
    rank: int = 1
    unpack: Callable[[Path, Path | None], Path] | None = None


CELL_LAYOUTS: dict[str, CellLayout] = {
    "tcia-mll": CellLayout(tcia.recognise_mll, tcia.scan_mll),
    "tcia-lmu": CellLayout(tcia.recognise_lmu, tcia.scan_lmu),
    "tcia-aml": CellLayout(tcia.recognise_aml, tcia.scan_aml),
    "choi": CellLayout(tcia.recognise_choi, tcia.scan_choi),
    "parquet": CellLayout(parquet_cells.recognise, class_folders.scan, unpack=parquet_cells.unpack),
    "class-folders": CellLayout(class_folders.recognise, class_folders.scan, rank=0),  # what the others are, too
}


def find_cell_layout(folder: Path) -> str:
    """The name of a folder's layout; raises LabelError, with what was seen, where none fits or several do."""
    if not folder.is_dir():
        raise LabelError(f"{folder} is no folder", remedy="Pass a folder of images of single cells")
    images = find_images(folder)
    fitting = [name for name, layout in CELL_LAYOUTS.items() if layout.recognise(folder, images)]
    highest = max((CELL_LAYOUTS[name].rank for name in fitting), default=0)
    found = [name for name in fitting if CELL_LAYOUTS[name].rank == highest]
    if len(found) == 1:
        return found[0]
    why = f"it looks like {' and '.join(found)}" if found else f"it holds {seen(folder)}"
    raise LabelError(
        f"the layout of {folder} is unclear",
        why=why,
        remedy=f"Known are {', '.join(CELL_LAYOUTS)}; docs/data.md describes them",
    )


def scan(folder: Path, layout: str, *, cache: Path | None = None) -> tuple[list[SeenCell], list[Fault]]:
    """All images of a folder of that layout, sorted by path, with their words; and what is wrong with them.

    cache: where images that lie in tables are written as files, `cells` inside the folder where None.
    """
    if layout not in CELL_LAYOUTS:
        raise LabelError(f"there is no layout {layout!r}", remedy=f"Choose one of {', '.join(CELL_LAYOUTS)}")
    entry = CELL_LAYOUTS[layout]
    place = entry.unpack(folder, cache) if entry.unpack else folder
    cells, faults = entry.scan(place, find_images(place))
    return sorted(cells, key=lambda cell: cell.path), faults


def seen(folder: Path) -> str:
    """What a folder holds, in words: numbers of files by their two outermost folders and kind."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kinds = Counter(("/".join(path.parts[:-1][:2]) or ".", path.suffix.lower() or path.name) for path in files)
    parts = [f"{count} {kind} in {place}/" for (place, kind), count in sorted(kinds.items())]
    return ", ".join(parts[:12]) + (", …" if len(parts) > 12 else "") if parts else "nothing"
