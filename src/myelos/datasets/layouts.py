"""Which layout a folder has, and its annotated images as records, with all faults of its labels."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from myelos.datasets import coco, qupath, tables, voc, yolo
from myelos.datasets.assembly import Assembler
from myelos.datasets.duplicates import repeats
from myelos.datasets.images import probe
from myelos.datasets.records import Annotation, Fault, FieldRecord
from myelos.errors import LabelError

Scan = Callable[[Path, bool], tuple[list[Annotation], list[Fault]]]


@dataclass(frozen=True, slots=True)
class Layout:
    """recognise: whether a folder has this layout. scan: (folder, labels are codes of a scheme) → annotations."""

    recognise: Callable[[Path], bool]
    scan: Scan


LAYOUTS: dict[str, Layout] = {
    "myelos": Layout(tables.recognise, lambda folder, _coded: tables.scan(folder)),
    "yolo": Layout(yolo.recognise, lambda folder, coded: yolo.scan(folder, coded=coded)),
    "voc": Layout(voc.recognise, lambda folder, _coded: voc.scan(folder)),
    "coco": Layout(coco.recognise, lambda folder, coded: coco.scan(folder, coded=coded)),
    "qupath": Layout(qupath.recognise, lambda folder, _coded: qupath.scan(folder)),
}

_MANIFEST = "manifest.csv"
_SAMPLE = re.compile(r"^[A-Za-z]-([0-9A-Za-z]+)_\d+$")  # class letter, sample, frame: the Chulalongkorn fields


def find_layout(folder: Path) -> str:
    """The name of a folder's layout; raises LabelError, with what was seen, where none fits or several do."""
    if not folder.is_dir():
        raise LabelError(f"{folder} is no folder", remedy="Pass a folder of annotated images to --data")
    found = [name for name, layout in LAYOUTS.items() if layout.recognise(folder)]
    if found[:1] == ["myelos"]:  # its tables say it; exports may lie beside them
        return "myelos"
    if len(found) == 1:
        return found[0]
    why = f"labels of {' and '.join(found)} lie side by side" if found else f"it holds {_seen(folder)}"
    raise LabelError(
        f"the layout of {folder} is unclear", why=why, remedy=f"Name one of {', '.join(LAYOUTS)}, or keep one kind only"
    )


def read_fields(
    folder: Path, *, layout: str | None = None, scheme: str | None = None, keep_untyped: bool = False
) -> tuple[list[FieldRecord], list[Fault]]:
    """All annotated images of a folder, sorted by path, and everything that is wrong with their labels.

    layout: one of `LAYOUTS`, found where None. scheme: the label scheme whose codes the files use. keep_untyped: boxes
    of unknown classes are kept without a type. Raises LabelError where the layout is unclear or nothing is usable.
    """
    layout = layout or find_layout(folder)
    if layout not in LAYOUTS:
        raise LabelError(f"there is no layout {layout!r}", remedy=f"Choose one of {', '.join(LAYOUTS)}")
    annotations, faults = LAYOUTS[layout].scan(folder, scheme is not None)
    own = tables.sizes(folder) if layout == "myelos" else {}
    assembler = Assembler(scheme, keep_untyped, size=lambda path: own.get(path) or probe(path))
    place = _Places(folder, layout)
    found = [
        assembler.record(annotation, place.source(annotation.image), place.group(annotation.image))
        for annotation in sorted(annotations, key=lambda annotation: annotation.image)
    ]
    records = [record for record in found if record is not None]
    if not records:
        raise LabelError(
            f"{folder} has no annotated image that can be used",
            why="; ".join(str(fault) for fault in [*faults, *assembler.faults][:3]) or f"it holds {_seen(folder)}",
        )
    return records, faults + assembler.faults


def read_sets(
    folders: Sequence[Path], *, scheme: str | None = None, keep_untyped: bool = False
) -> tuple[list[FieldRecord], list[Fault]]:
    """Several folders together; images that repeat or nearly repeat each other, across all of them, are faults too."""
    records: list[FieldRecord] = []
    faults: list[Fault] = []
    for folder in folders:
        more, bad = read_fields(folder, scheme=scheme, keep_untyped=keep_untyped)
        records += more
        faults += bad
    return records, faults + repeats(records)


class _Places:
    """Where an image of a folder came from, by the folder's name, its manifest, or the image's name."""

    def __init__(self, folder: Path, layout: str) -> None:
        self._folder = folder
        self._rows = _manifest(folder)
        self._patients: dict[Path, str] = {}
        if layout == "myelos":
            names = tables.read_names(folder)
            people = tables.patients(folder)
            self._patients = {folder / names[slide]: patient for slide, patient in people.items() if slide in names}

    def source(self, image: Path) -> str:
        origin = self._row(image).get("origin")
        name = self._folder.resolve().name
        return f"{name}/{origin}" if origin else name

    def group(self, image: Path) -> str | None:
        by_name = _SAMPLE.match(image.stem)
        row = self._row(image)
        stated = row.get("patient_id") or row.get("sample_id") or self._patients.get(image)
        return stated or (by_name[1] if by_name else None)

    def _row(self, image: Path) -> dict[str, str]:
        if not image.is_relative_to(self._folder):
            return {}
        return self._rows.get(image.relative_to(self._folder).as_posix(), {})


def _manifest(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / _MANIFEST
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return {row["file"]: row for row in csv.DictReader(file) if row.get("file")}


def _seen(folder: Path) -> str:
    """What a folder holds, in words: numbers of files by folder and kind."""
    files = (path for path in folder.rglob("*") if path.is_file())
    kinds = Counter((path.parent.relative_to(folder).as_posix(), path.suffix.lower() or path.name) for path in files)
    parts = [f"{count} {kind} in {place}/" for (place, kind), count in sorted(kinds.items())]
    return ", ".join(parts[:12]) + (", …" if len(parts) > 12 else "") if parts else "nothing"
