"""Held-out cells as a count meets them: found or missed by the detector, kept apart, or named by the classifier.

`evaluate classifier` shows every annotated cell to the classifier, and its matrix knows no missed ones. On annotated
fields the whole way can be measured: how often cells of each type reach the count, and as what. Nothing else tells
how many cells of a type a detector passes over, or takes for something that the classifier cannot name.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from myelos import pipeline, taxonomy
from myelos.classification.evaluate import Aside, figures_of_words, no_class, scheme_classes
from myelos.classification.judging import as_aside
from myelos.datasets.layouts import read_fields
from myelos.datasets.records import Fault, FieldRecord
from myelos.errors import UsageError
from myelos.metrics.matching import match
from myelos.models.types import Classifier, Detector
from myelos.smears.job import Progress
from myelos.tables import read_table

Found = dict[Path, list[dict[str, Any]]]  # rows of `cells` by the file that they lie in


def judge_found(
    folders: Sequence[Path],
    detector: Detector,
    classifier: Classifier,
    *,
    scheme: str | None = None,
    mpp: float | None = None,
    match_stain: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The figures of annotated fields read as `count` reads them with the classifier deciding.

    All fields are one smear. A cell counts as missed where no box of the detector fits it (half of the union), and
    where what it is called is no class of the scheme, such as a mitosis. Set aside, each with its reason: faults of
    the labels, fields that were not read, and cells whose label is no single class of the scheme. Raises UsageError
    where no box is left.
    """
    scheme = scheme or classifier.scheme
    fields, faults = _fields(folders)
    found, unread = _found(
        fields, detector, classifier, mpp=mpp, match_stain=match_stain, threads=threads, progress=progress
    )
    read = [field for field in fields if field.path.resolve() not in unread]
    cells = [(field, *pair) for field in read for pair in _pairs(field, found.get(field.path.resolve(), []))]
    named, nameless = _in_classes(cells, scheme)
    if not named:
        raise UsageError(f"no box is of a class of {scheme}", remedy="Pass fields with typed boxes")
    meant, said = [kind for kind, _ in named], [word for _, word in named]
    return {
        "model": classifier.name,
        "detector": detector.name,
        "stain_matched": match_stain,
        "scheme": scheme,
        "fields": len(read),
        "images": len(named),
        "missed": said.count(None),
        "false": dict(Counter(word for _, kind, word in cells if kind is None)),
        "ece": None,
        "set_aside": [*as_aside(faults), *unread.values(), *nameless],
    } | figures_of_words(meant, said, scheme_classes(scheme))


def _fields(folders: Sequence[Path]) -> tuple[list[FieldRecord], list[Fault]]:
    read = [read_fields(folder) for folder in folders]
    return [field for fields, _ in read for field in fields], [fault for _, faults in read for fault in faults]


def _found(
    fields: Sequence[FieldRecord], detector: Detector, classifier: Classifier, **options: Any
) -> tuple[Found, dict[Path, dict[str, str]]]:
    """The cells of the fields that were read, and the others with their reasons."""
    decides, classifier.decides = classifier.decides, True
    try:
        with TemporaryDirectory() as place:
            paths = [field.path for field in fields]
            result = pipeline.detect(paths, place, model=detector, classifier=classifier, overwrite=True, **options)
            with (Path(place) / "names.csv").open(encoding="utf-8") as file:
                # A copy has the slide_id of the field that it is of, and belongs to no smear.
                names = {row["slide_id"]: Path(row["file"]) for row in csv.DictReader(file) if row["smear"]}
            rows = read_table(Path(place), "cells").to_pylist()
    finally:
        classifier.decides = decides
    found: Found = {}
    for row in rows:
        found.setdefault(names[row["slide_id"]], []).append(row)
    reasons = {item.name: f"{item.reason}: {item.detail}".rstrip(": ") for item in result.set_aside}
    return found, {Path(name).resolve(): {"file": Path(name).name, "reason": why} for name, why in reasons.items()}


def _in_classes(
    cells: Sequence[tuple[FieldRecord, str | None, str | None]], scheme: str
) -> tuple[list[tuple[str, str | None]], Aside]:
    """What each annotated cell is and was called, in the classes of the scheme, and those that are of none."""
    classes = scheme_classes(scheme)
    named: list[tuple[str, str | None]] = []
    nameless: Aside = []
    for field, kind, word in cells:
        if kind and (meant := taxonomy.coarsen(kind, classes)):
            named.append((meant, word and taxonomy.coarsen(word, classes)))
        elif kind:
            nameless.append(no_class(field.path, kind, scheme))
    return named, nameless


def _pairs(field: FieldRecord, rows: Sequence[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    """Type and word of each annotated cell, None for a missed one; then (None, word) of what nobody annotated."""
    boxes = np.array([[row[key] for key in ("x", "y", "width", "height")] for row in rows], float).reshape(-1, 4)
    owner = match(field.boxes, boxes, np.array([row["score"] for row in rows])).truth.tolist()
    words = {truth: str(row["cell_type"]) for truth, row in zip(owner, rows, strict=True) if truth >= 0}
    cells = [(kind or "nucleated_cell", words.get(number)) for number, kind in enumerate(field.types)]
    return cells + [(None, str(row["cell_type"])) for truth, row in zip(owner, rows, strict=True) if truth < 0]
