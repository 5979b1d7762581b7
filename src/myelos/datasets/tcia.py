"""The single-cell sets of the Munich groups as the Cancer Imaging Archive holds them, and that of Choi et al.

Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer: `CLASS/0001-1000/CLASS_00001.jpg`, small classes without the folder
of thousands. AML-Cytomorphology_LMU: `CLASS/CLASS_0001.tiff` and `annotations.dat`, a line each: image, class, two
annotations of the same image in a second round, `nan` where there is none and `UNC` where no class was given.
AML-Cytomorphology_MLL_Helmholtz: `ENTITY/PATIENT/image_0.tif` and a spreadsheet `metadata_with_data_dictionary.xlsx`, a
row for each patient, or its sheet of patients as a CSV file; labels are of patients, its cells are white cells without
a type. Choi et al. 2017: folders of ten classes.
"""

from __future__ import annotations

import csv
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile

from myelos import taxonomy
from myelos.datasets.cell_labels import SeenCell, meaning
from myelos.datasets.class_folders import MANIFEST, class_folder
from myelos.datasets.records import Fault

_ANNOTATIONS = "annotations.dat"
_METADATA = ("metadata*.csv", "metadata*.xlsx")
_PATIENT, _LABEL, _IMAGES = "patient_id", "bag_label", "instance_count"
_ENTITY = "entity"
_DAMAGED = (BadZipFile, EOFError, KeyError, OSError, ParseError, ValueError, zlib.error)  # what a workbook may raise
_NO_ANNOTATION = {"nan", "UNC", ""}
_MLL_FOLDER = "BM_cytomorphology_data"
_THOUSAND = re.compile(r"^\d+-\d+$")

Rows = list[tuple[int, dict[str, str]]]  # (line, row)
_NAMED = re.compile(r"^([A-Z]{3})_\d{3,}$")


def recognise_mll(folder: Path, images: Sequence[Path]) -> bool:
    """Classes of `mll21` only, of which one has sub-folders of thousands, or the archive's own folder name."""
    if (folder / MANIFEST).exists() or _find(folder, _ANNOTATIONS):
        return False
    named = [path for path in images if _NAMED.match(path.stem)]
    codes = {class_folder(path, folder) for path in named}
    if not codes or not codes <= set(taxonomy.SCHEMES["mll21"].codes):
        return False
    thousands = any(_THOUSAND.match(path.parent.name) for path in named)
    return thousands or any(_MLL_FOLDER in path.parts[-4:] for path in named[:1])


def scan_mll(folder: Path, images: Sequence[Path]) -> tuple[list[SeenCell], list[Fault]]:
    """Every image by the class of its folder; one whose name says another class is a fault and left out."""
    cells, faults = [], []
    for path in images:
        code, named = class_folder(path, folder), _NAMED.match(path.stem)
        if code is None or named is None:
            faults.append(Fault(path, None, "image without a class", "left out"))
        elif named[1] != code:
            faults.append(Fault(path, None, "two classes", f"folder {code}, file name {named[1]}; left out"))
        else:
            cells.append(SeenCell(path, {"folder": code}))
    return cells, faults


def recognise_lmu(folder: Path, images: Sequence[Path]) -> bool:
    return bool(images) and _find(folder, _ANNOTATIONS) is not None


def scan_lmu(folder: Path, images: Sequence[Path]) -> tuple[list[SeenCell], list[Fault]]:
    """Every line of the annotations with its image; what has no line, no image or no class is a fault."""
    table = _find(folder, _ANNOTATIONS)
    assert table is not None
    places = {"/".join(path.parts[-2:]): path for path in images}
    cells, faults = [], []
    for line, text in enumerate(table.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = text.replace(",", " ").split()
        if not words:
            continue
        path = places.pop(words[0], None)
        if path is None or len(words) < 2:
            kind = "missing image" if path is None else "row without a class"
            faults.append(Fault(table, line, kind, words[0]))
            continue
        second = tuple(word for word in words[2:4] if word not in _NO_ANNOTATION)
        cells.append(SeenCell(path, {"annotation": words[1]}, second=second))
    faults += [
        Fault(path, None, "image without a row", f"{_ANNOTATIONS} does not name it; left out")
        for path in places.values()
    ]
    return cells, faults


def recognise_aml(folder: Path, images: Sequence[Path]) -> bool:
    """Folders of entities, in them folders of patients, in them images, and nothing else."""
    return bool(images) and all(_entity(path, folder) for path in images)


def scan_aml(folder: Path, images: Sequence[Path]) -> tuple[list[SeenCell], list[Fault]]:
    """Every image as a white cell of its patient; where the table says otherwise of a patient is a fault."""
    cells = [
        SeenCell(path, {_ENTITY: path.parent.parent.name, "cell": "leukocyte"}, path.parent.name) for path in images
    ]
    return cells, list(_disagreements(folder, cells))


def recognise_choi(folder: Path, images: Sequence[Path]) -> bool:
    """Images in folders that are, in whatever spelling, classes of the scheme and nothing else."""
    if (folder / MANIFEST).exists():
        return False
    names = {class_folder(path, folder) for path in images}
    types = {meaning(name, "choi") if name else None for name in names}
    return len(types) >= 4 and None not in types and bool(types & {"basophilic_erythroblast", "proerythroblast"})


def scan_choi(folder: Path, images: Sequence[Path]) -> tuple[list[SeenCell], list[Fault]]:
    return [SeenCell(path, {"folder": str(class_folder(path, folder))}) for path in images], []


def entity_of(cell: SeenCell) -> str | None:
    """What the set of AML entities says of the cell's patient, in its own words; None for other sets."""
    return cell.labels.get(_ENTITY)


def _find(folder: Path, name: str) -> Path | None:
    """A file of that name, which may be a pattern, in the folder or one below it."""
    found = [*sorted(folder.glob(name)), *sorted(folder.glob(f"*/{name}"))]
    return next((path for path in found if path.is_file()), None)


def _entity(path: Path, folder: Path) -> bool:
    """Whether this is the image of a patient in the folder of an entity."""
    inside = path.relative_to(folder).parts
    return len(inside) >= 3 and inside[-3] in taxonomy.PATIENT_SCHEMES["aml_hehr"].labels


def _disagreements(folder: Path, cells: list[SeenCell]) -> Iterator[Fault]:
    """Patients whose row says another entity or another number of images than there are, or who have no row."""
    table = next((path for name in _METADATA if (path := _find(folder, name))), None)
    if table is None:
        yield Fault(folder / _METADATA[0], None, "missing table", "patients are told apart by their folders alone")
        return
    rows = _rows(table)
    if rows is None:
        yield Fault(table, None, "unreadable table", f"nothing in it has the columns {_PATIENT} and {_LABEL}")
        return
    numbers = Counter((str(cell.group), str(entity_of(cell))) for cell in cells)
    for line, row in rows:
        key = (row.get(_PATIENT, ""), row.get(_LABEL, ""))
        count = numbers.pop(key, 0)
        stated = row.get(_IMAGES) or ""
        if not count:
            yield Fault(table, line, "patient without images", f"{key[0]} of {key[1]}")
        elif stated.isdigit() and int(stated) != count:
            yield Fault(table, line, "other number of images", f"{key[0]}: {stated} stated, {count} there")
    for patient, entity in numbers:
        yield Fault(table, None, "patient without a row", f"{patient} of {entity}")


def _rows(table: Path) -> Rows | None:
    """The patients of a table or of the one sheet of a workbook that has them; None where there are none to read."""
    if table.suffix == ".csv":
        with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return _named(csv.reader(file))
    from openpyxl import load_workbook

    try:
        with closing(load_workbook(table, read_only=True, data_only=True)) as book:
            sheets = (_named(sheet.iter_rows(values_only=True)) for sheet in book.worksheets)
            return next((rows for rows in sheets if rows), None)
    except _DAMAGED:
        return None


def _named(lines: Iterable[Sequence[object]]) -> Rows | None:
    """(line, row by the names of the first line) of each; None where this is no table of patients."""
    written = iter(["" if value is None else str(value).strip() for value in line] for line in lines)
    names = next(written, [])
    if not {_PATIENT, _LABEL} <= set(names):
        return None
    return [(line, dict(zip(names, words, strict=False))) for line, words in enumerate(written, 2) if any(words)]
