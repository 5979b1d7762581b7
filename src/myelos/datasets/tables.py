"""Myelos' own tables as a data set: `slides.parquet`, `cells.parquet`, and `names.csv` (`slide_id,file`)."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from myelos.datasets.records import Annotation, Fault, Mark
from myelos.errors import LabelError
from myelos.tables import read_table

NAMES = "names.csv"


def recognise(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("slides.parquet", "cells.parquet"))


def read_names(folder: Path) -> dict[str, str]:
    """slide_id → file, relative to `folder`; raises LabelError where `names.csv` is missing or of another form."""
    path = folder / NAMES
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return {row["slide_id"]: row["file"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise LabelError(
            f"{path} is missing", why="it says which image is which slide", remedy="Write it: slide_id,file"
        ) from None
    except KeyError as error:
        raise LabelError(f"{path} has no column {error}", remedy="Its columns are slide_id,file") from None


def patients(folder: Path) -> dict[str, str]:
    """slide_id → patient, else smear, for slides that have one: what splits keep together."""
    rows = read_table(folder, "slides").to_pylist()
    return {row["slide_id"]: row["patient"] or row["smear"] for row in rows if row["patient"] or row["smear"]}


def sizes(folder: Path) -> dict[Path, tuple[int, int]]:
    """Width and height of every image as the table states it: slides are not decoded to learn it."""
    names = read_names(folder)
    rows = read_table(folder, "slides").to_pylist()
    return {folder / names[row["slide_id"]]: (row["width"], row["height"]) for row in rows if row["slide_id"] in names}


def scan(folder: Path) -> tuple[list[Annotation], list[Fault]]:
    """Annotations and faults of a folder."""
    names = read_names(folder)
    marks: dict[str, list[Mark]] = defaultdict(list)
    for row in read_table(folder, "cells").to_pylist():
        box = (row["x"], row["y"], row["width"], row["height"])
        marks[row["slide_id"]].append(Mark(*box, row["cell_type"], name=row["cell_id"] or ""))
    file = folder / "cells.parquet"
    annotations: list[Annotation] = []
    faults: list[Fault] = []
    for slide_id in read_table(folder, "slides").column("slide_id").to_pylist():
        if slide_id in names:
            annotations.append(Annotation(folder / names[slide_id], file, tuple(marks.pop(slide_id, ()))))
        else:
            faults.append(Fault(folder / NAMES, None, "missing image", f"slide {slide_id} has no file, left out"))
    faults += [Fault(file, None, "missing image", f"slide {slide} is in no table") for slide in sorted(marks)]
    return annotations, faults
