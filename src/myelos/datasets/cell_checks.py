"""Whether sets of single cells are whole and sound: against their publication, each image, and all images together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from myelos import taxonomy
from myelos.datasets.cells import CellRecord, FoundCells, find_cells
from myelos.datasets.damaged import find_damaged
from myelos.datasets.duplicates import Pair
from myelos.datasets.keypoints import Overlap, OverlapSettings, overlaps
from myelos.datasets.published import CellSet
from myelos.datasets.records import Fault

TWO_LABELS = "two labels"  # the kind of a fault for which nothing is left out
_SAME = {"identical", "whole"}  # kinds of overlap where both images are of one cell
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CellCheck:
    """What was found. missing: against the publication, by folder. overlaps: of `cells`, by their indices.

    contradictions: images of one cell that have two labels of which neither includes the other.
    """

    folders: tuple[Path, ...]
    sets: tuple[FoundCells, ...]
    missing: tuple[list[Fault], ...]
    cells: list[CellRecord] = field(default_factory=list)
    damaged: list[Fault] = field(default_factory=list)
    overlaps: list[Overlap] = field(default_factory=list)
    contradictions: list[Fault] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain lists and dictionaries, as `myelos datasets check --json` prints them."""
        return {
            "sets": [
                {
                    "folder": str(folder),
                    "layout": found.layout,
                    "scheme": found.naming.scheme,
                    "published": found.known.title if found.known else None,
                    "images": len(found.records),
                    "classes": dict(sorted(Counter(record.code for record in found.records).items())),
                    "faults": [_plain(fault) for fault in found.faults],
                    "missing": [fault.detail for fault in missing],
                }
                for folder, found, missing in zip(self.folders, self.sets, self.missing, strict=True)
            ],
            "damaged": [_plain(fault) for fault in self.damaged],
            "overlaps": [
                {
                    "first": str(self.cells[overlap.first].path),
                    "second": str(self.cells[overlap.second].path),
                    "kind": overlap.kind,
                    "share": overlap.share,
                    "detail": overlap.detail,
                }
                for overlap in self.overlaps
            ],
            "contradictions": [_plain(fault) for fault in self.contradictions],
        }


def check_set(
    folder: Path, *, scheme: str | None = None, layout: str | None = None, cache: Path | None = None
) -> list[Fault]:
    """What is wrong with a set's labels, and what it lacks or has more of than its publication says."""
    found = find_cells(folder, scheme=scheme, layout=layout, cache=cache)
    return found.faults + compare_published(folder, found)


def compare_published(folder: Path, found: FoundCells) -> list[Fault]:
    """Numbers of images, people, and image sizes that are not the published ones; empty for unpublished sets."""
    if found.known is None:
        return []
    kind = f"not as published ({found.known.title})"
    return [Fault(folder, None, kind, detail) for detail in _differences(found.records, found.known)]


def check_cells(
    folders: Sequence[Path],
    *,
    scheme: str | None = None,
    cache: Path | None = None,
    settings: OverlapSettings | None = None,
    progress: Progress | None = None,
) -> CellCheck:
    """Read all folders, look for damaged images, then for overlaps and contradicting labels across all of them.

    Raises LabelError where a folder cannot be read as a set of single cells.
    """
    sets = tuple(find_cells(folder, scheme=scheme, cache=cache) for folder in folders)
    missing = tuple(compare_published(folder, found) for folder, found in zip(folders, sets, strict=True))
    everything = [record for found in sets for record in found.records]
    damaged = find_damaged([record.path for record in everything], progress=_stage(progress, "images"))
    bad = {fault.file for fault in damaged}
    cells = [record for record in everything if record.path not in bad]
    found = overlaps([cell.path for cell in cells], settings=settings, progress=_stage(progress, "overlaps"))
    return CellCheck(tuple(folders), sets, missing, cells, damaged, found, contradictions(cells, found))


def contradictions(cells: Sequence[CellRecord], found: Sequence[Overlap | Pair]) -> list[Fault]:
    """Images of one cell with two labels; a coarse label and a finer one of it are no contradiction."""
    faults = []
    for overlap in found:
        first, second = cells[overlap.first], cells[overlap.second]
        related = first.cell_type in taxonomy.ancestors(second.cell_type) or second.cell_type in taxonomy.ancestors(
            first.cell_type
        )
        if overlap.kind in _SAME and not related:
            detail = f"{second.cell_type} here, {first.cell_type} as {first.path}"
            faults.append(Fault(second.path, None, TWO_LABELS, detail))
    return faults


def distinct(cells: Sequence[CellRecord], found: Sequence[Overlap]) -> list[CellRecord]:
    """The cells without those that overlap an earlier one: as Matek et al. 2021 discard them before their split.

    The other way is to keep them on one side of every split: `cell_splits.cell_units(duplicates=…)` takes the labels of
    `keypoints.cell_groups`.
    """
    left_out: set[int] = set()
    for overlap in sorted(found, key=lambda overlap: (overlap.first, overlap.second)):
        if overlap.first not in left_out:
            left_out.add(overlap.second)
    return [cell for index, cell in enumerate(cells) if index not in left_out]


def _differences(records: Sequence[CellRecord], known: CellSet) -> Iterator[str]:
    if not known.images - known.tolerance <= len(records) <= known.images:
        yield f"{known.images} images published, {len(records)} here"
    numbers = Counter(record.code for record in records)
    for code, published in known.classes.items():
        if numbers[code] != published:
            yield f"{code}: {published} published, {numbers[code]} here"
    people = {record.group for record in records} - {None}
    if people and known.people and len(people) != known.people:
        yield f"{known.people} people published, {len(people)} here"
    if known.size:
        other = Counter(size for record in records if (size := _size(record.path)) != known.size)
        for (width, height), count in sorted(other.items()):
            stated = "{} × {}".format(*known.size)
            yield f"{count} images of {width} × {height} pixels, published are {stated}"


def _size(path: Path) -> tuple[int, int]:
    """Width and height; (0, 0) where the file cannot be read, which `find_damaged` says."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0


def _stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return (lambda done, total: progress(name, done, total)) if progress else None


def _plain(fault: Fault) -> dict[str, Any]:
    return {"file": str(fault.file), "line": fault.line, "kind": fault.kind, "detail": fault.detail}
