"""Single cells in folders named after their class, with a manifest that says more or without."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from myelos import taxonomy
from myelos.datasets.cell_labels import SeenCell
from myelos.datasets.layouts import LAYOUTS
from myelos.datasets.records import Fault

MANIFEST = "manifest.csv"
_COLUMNS = ("fine_code", "label", "class", "cell_type")  # of a manifest, the finest first
_PATIENTS = ("patient_id", "sample_id", "patient", "group")
_CORRUPT = "corrupt"  # a folder of images that are kept to show what damage looks like
_THOUSAND = re.compile(r"^\d+-\d+$")  # the large classes of the Munich set lie in sub-folders of thousands
_PREFIX = re.compile(r"^([A-Za-z]+)_\w+$")  # BNE_12345: the Barcelona set says finer codes in its file names


def recognise(folder: Path, images: Sequence[Path]) -> bool:
    """Whether the manifest says classes, or images lie in folders, and no labels of fields lie beside them."""
    if any(layout.recognise(folder) for layout in LAYOUTS.values()):
        return False
    if (folder / MANIFEST).is_file() and any(_said(row) for row in _rows(folder).values()):
        return True
    return any(class_folder(path, folder) is not None for path in images)


def scan(folder: Path, images: Sequence[Path]) -> tuple[list[SeenCell], list[Fault]]:
    """All images with what the manifest, the folder and the file name call them; images set aside are faults."""
    rows = _rows(folder) if (folder / MANIFEST).is_file() else {}
    stated = any(_said(row) for row in rows.values())
    cells, faults = [], list(_missing(folder, rows))
    for path in images:
        place = path.relative_to(folder).as_posix()
        row = rows.get(place, {})
        if row.get("intact", "").lower() == "no" or _CORRUPT in path.relative_to(folder).parts[:-1]:
            faults.append(Fault(path, None, "damaged image", "its set says so; left out"))
        elif stated and not row:
            faults.append(Fault(path, None, "image without a row", f"{MANIFEST} does not name it; left out"))
        else:
            group = next((row[name] for name in _PATIENTS if row.get(name)), None)
            cells.append(SeenCell(path, _labels(path, folder, row), group))
    return cells, faults


def class_folder(path: Path, folder: Path) -> str | None:
    """The name of the folder that says the class: the innermost that is no range of numbers; None at the top."""
    names = [part for part in path.relative_to(folder).parts[:-1] if not _THOUSAND.match(part)]
    return names[-1] if names else None


def _labels(path: Path, folder: Path, row: Mapping[str, str]) -> dict[str, str]:
    labels = _said(row)
    if labels:
        return labels
    name = class_folder(path, folder) or (folder.name if path.parent == folder else None)
    prefix = _PREFIX.match(path.stem)
    if prefix and name in taxonomy.SCHEMES["pbc8"].codes and prefix[1] in taxonomy.SCHEMES["pbc13"].codes:
        labels["file name"] = prefix[1]
    if name is not None:
        labels["folder"] = name
    return labels


def _said(row: Mapping[str, str]) -> dict[str, str]:
    return {column: row[column] for column in _COLUMNS if row.get(column)}


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / MANIFEST).open(newline="", encoding="utf-8-sig", errors="replace") as file:
        return {row["file"]: row for row in csv.DictReader(file) if row.get("file")}


def _missing(folder: Path, rows: Mapping[str, Mapping[str, str]]) -> Iterator[Fault]:
    for line, (place, row) in enumerate(rows.items(), 2):
        if _said(row) and not (folder / place).is_file():
            yield Fault(folder / MANIFEST, line, "missing image", place)
