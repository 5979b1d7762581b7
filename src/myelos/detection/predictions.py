"""Predictions that any program made, matched with annotated images by file name.

Three forms: a folder with Myelos' own tables (`cells.parquet`, `names.csv`), as `count` and `detect` write it; a JSON
file of COCO results (a list of `image_id`, `category_id`, `bbox`, `score`, numbers as in the COCO file of the truth, or
file names and type names as text); a folder of YOLO text files with the confidence as sixth value of each line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myelos import taxonomy
from myelos.datasets import yolo
from myelos.datasets.records import FieldRecord
from myelos.errors import LabelError
from myelos.tables import read_table

Prediction = tuple[NDArray[np.float64], NDArray[np.float64], list[str | None]]  # boxes (N, 4), scores, types
Row = tuple[Sequence[float], float, str | None]


def read_predictions(
    path: Path, records: Sequence[FieldRecord], *, scheme: str | None = None, truth: Path | None = None
) -> list[Prediction]:
    """One prediction for each record, empty where the program found nothing; boxes in pixels of the image.

    truth: where the COCO file lies whose numbers a COCO result uses. Raises LabelError for an unknown form, for labels
    that the taxonomy does not know, and where not one image of the predictions is among the records.
    """
    if not path.exists():
        raise LabelError(f"{path} does not exist")
    if path.is_dir() and (path / "cells.parquet").is_file():
        rows = _from_tables(path)
    elif path.is_dir():
        rows = _from_yolo(path, records)
    elif path.suffix.lower() == ".json":
        rows = _from_coco(path, truth)
    else:
        raise LabelError(f"{path} is of no known form", remedy="Pass a result folder, COCO results, or YOLO text files")
    known = {_key(record.path.name) for record in records}
    if len(known) < len(records):
        raise LabelError("several annotated images have the same name", remedy="Evaluate their folders one by one")
    if rows and not known & set(rows):
        raise LabelError(
            f"no image of {path} is among the annotated ones", why=f"it has {sorted(rows)[0]}, for example"
        )
    return [_arrays(rows.get(_key(record.path.name), []), scheme) for record in records]


def _key(name: str) -> str:
    """What images are matched by: the file's name without folder and ending."""
    return Path(name.replace("\\", "/")).stem


def _arrays(rows: Sequence[Row], scheme: str | None) -> Prediction:
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    types = [None if row[2] is None else taxonomy.resolve(row[2], scheme) for row in rows]
    return boxes, np.array([row[1] for row in rows], float), types


def _from_tables(folder: Path) -> dict[str, list[Row]]:
    try:
        with (folder / "names.csv").open(newline="", encoding="utf-8-sig") as file:
            names = {row["slide_id"]: _key(row["file"]) for row in csv.DictReader(file) if row["slide_id"]}
    except (OSError, KeyError) as error:
        raise LabelError(f"{folder} has no readable names.csv", why="it says which image is which slide") from error
    rows: dict[str, list[Row]] = {name: [] for name in names.values()}
    for row in read_table(folder, "cells").to_pylist():
        if row["slide_id"] in names:
            box = (row["x"], row["y"], row["width"], row["height"])
            rows[names[row["slide_id"]]].append((box, row["score"], row["cell_type"]))
    return rows


def _from_yolo(folder: Path, records: Sequence[FieldRecord]) -> dict[str, list[Row]]:
    names = yolo.read_names(folder) or yolo.read_names(records[0].path.parent.parent)
    rows: dict[str, list[Row]] = {}
    for record in records:
        found = sorted(folder.rglob(f"{record.path.stem}.txt"))
        if found:
            lines = [line.split() for line in found[0].read_text(encoding="utf-8").splitlines() if line.strip()]
            rows[_key(record.path.name)] = [_yolo_row(line, record, names, found[0]) for line in lines]
    return rows


def _yolo_row(line: Sequence[str], record: FieldRecord, names: Mapping[str, str] | None, path: Path) -> Row:
    try:
        code, (cx, cy, width, height, score) = line[0], map(float, line[1:])
    except ValueError:
        raise LabelError(f"{path} has a line of another form", remedy="class cx cy width height confidence") from None
    box = np.array([cx - width / 2, cy - height / 2, width, height])
    scaled = box * [record.width, record.height, record.width, record.height]
    return scaled.tolist(), score, None if names is None else names.get(code, code)


def _from_coco(path: Path, truth: Path | None) -> dict[str, list[Row]]:
    content = _json(path)
    if not isinstance(content, list):
        raise LabelError(f"{path} holds no COCO results", why="they are a list of image_id, category_id, bbox, score")
    images, categories = _coco_names(truth)
    rows: dict[str, list[Row]] = {}
    for number, entry in enumerate(content):
        try:
            image, kind = entry["image_id"], entry.get("category_id")
            name = _key(str(images.get(image, image)))
            label = None if kind is None else str(categories.get(kind, kind))
            rows.setdefault(name, []).append(([float(v) for v in entry["bbox"]], float(entry["score"]), label))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabelError(
                f"{path}: result {number} cannot be read", why=f"{type(error).__name__}: {error}"
            ) from None
    return rows


def _coco_names(truth: Path | None) -> tuple[dict[Any, str], dict[Any, str]]:
    """Numbers of images and categories → names, of the COCO files at `truth`."""
    images: dict[Any, str] = {}
    categories: dict[Any, str] = {}
    files = [] if truth is None else sorted(truth.rglob("*.json")) if truth.is_dir() else [truth]
    for file in files:
        content = _json(file)
        if isinstance(content, dict) and isinstance(content.get("images"), list):  # other JSON may lie there, too
            images |= {entry["id"]: entry["file_name"] for entry in content["images"]}
            categories |= {entry["id"]: entry["name"] for entry in content.get("categories", [])}
    return images, categories


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelError(f"{path} cannot be read", why=str(error)) from error
